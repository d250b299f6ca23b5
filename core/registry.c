/*
 * Registrations: a slot each, named by a token of slot and generation, so that an event of a registration that
 * is over can be told from its successor's. Holds the interest that is wanted and the one the backend has.
 */
#include "internal.h"

#include <string.h>

/* As strict as any type that a backend may keep in its state. Visual C++ has no max_align_t in C. */
typedef union strictest {
    long long integer;
    long double number;
    void *pointer;
    void (*function)(void);
} strictest;

static size_t aligned(size_t size, size_t alignment) {
    return (size + alignment - 1) / alignment * alignment;
}

/* A type's size is a multiple of its alignment, so that a small state can do with less. */
static size_t alignment_for(size_t state_size) {
    size_t alignment = _Alignof(strictest);
    while (state_size % alignment != 0) alignment /= 2;
    return alignment;
}

void p2pi_registry_init(p2pi_registry *registry, size_t io_state_size) {
    memset(registry, 0, sizeof *registry);
    size_t alignment = alignment_for(io_state_size);
    registry->state_offset = aligned(offsetof(p2pi_entry, held) + sizeof(uint8_t), alignment);
    size_t end = registry->state_offset + io_state_size;
    if (end < sizeof(p2pi_entry)) end = sizeof(p2pi_entry);
    if (alignment < _Alignof(p2pi_entry)) alignment = _Alignof(p2pi_entry);
    registry->stride = aligned(end, alignment);
}

void p2pi_registry_fini(p2pi_registry *registry) {
    for (size_t i = 0; i < registry->chunk_count; i++) p2pi_free(registry->chunks[i]);
    p2pi_free(registry->chunks);
    p2pi_free(registry->listed);
}

static int grow_lists(p2pi_registry *registry) {
    if (registry->chunk_count == registry->chunk_capacity) {
        size_t capacity = registry->chunk_capacity == 0 ? 8 : registry->chunk_capacity * 2;
        uint8_t **chunks = p2pi_realloc(registry->chunks, capacity * sizeof *chunks);
        if (chunks == NULL) return P2P_ERR_NO_MEMORY;
        registry->chunks = chunks;
        registry->chunk_capacity = capacity;
    }
    size_t slots = registry->size + P2PI_ENTRIES_PER_CHUNK;
    uint32_t *listed = p2pi_realloc(registry->listed, slots * sizeof *listed);
    if (listed == NULL) return P2P_ERR_NO_MEMORY;
    registry->listed = listed;
    return P2P_OK;
}

static void add_free(p2pi_registry *registry, size_t slot) {
    registry->listed[registry->size - ++registry->free_count] = (uint32_t)slot;
}

/* Only when no slot is free: the list of free ones, at the end, is empty and need not move. */
static int grow(p2pi_registry *registry) {
    if (grow_lists(registry) < 0) return P2P_ERR_NO_MEMORY;
    uint8_t *chunk = p2pi_alloc_zeroed(P2PI_ENTRIES_PER_CHUNK * registry->stride);
    if (chunk == NULL) return P2P_ERR_NO_MEMORY;
    registry->chunks[registry->chunk_count++] = chunk;
    registry->size += P2PI_ENTRIES_PER_CHUNK;
    size_t slot = registry->size;
    for (size_t i = 0; i < P2PI_ENTRIES_PER_CHUNK; i++) {
        slot--;
        p2pi_registry_at(registry, slot)->io.token = (uint64_t)1 << 32 | slot;
        add_free(registry, slot);
    }
    return P2P_OK;
}

p2pi_entry *p2pi_registry_add(p2p_event_loop_t *loop, p2pi_kind kind, void *owner) {
    p2pi_registry *registry = &loop->registry;
    if (registry->free_count == 0 && grow(registry) < 0) return NULL;
    p2pi_entry *entry = p2pi_registry_at(registry, registry->listed[registry->size - registry->free_count--]);
    uint64_t token = entry->io.token;
    memset(entry, 0, registry->stride);
    entry->io.token = token;
    entry->io.handle = P2P_INVALID_HANDLE;
    entry->io.state = (uint8_t *)entry + registry->state_offset;
    entry->loop = loop;
    entry->owner = owner;
    entry->kind = (uint8_t)kind;
    return entry;
}

/* The next generation; 0 is skipped, so that no token is ever 0. */
static uint64_t next_token(uint64_t token) {
    token += (uint64_t)1 << 32;
    return token >> 32 == 0 ? token + ((uint64_t)1 << 32) : token;
}

void p2pi_registry_remove(p2pi_entry *entry) {
    p2pi_connection_leave(entry);
    entry->owner = NULL;
    entry->kind = P2PI_GONE;
    if ((entry->flags & (P2PI_ENTRY_DIRTY | P2PI_ENTRY_DETACHING)) != 0) return; /* again when that is over */
    entry->io.token = next_token(entry->io.token);
    entry->kind = P2PI_FREE;
    add_free(&entry->loop->registry, (uint32_t)entry->io.token);
}

int p2pi_entry_attach(p2pi_entry *entry, p2p_handle_t handle, uint32_t io_flags) {
    p2p_event_loop_t *loop = entry->loop;
    entry->io.handle = handle;
    entry->io.flags = io_flags;
    int result = loop->ops.attach(loop->backend, &entry->io);
    if (result < 0) return p2pi_fail_os(loop->sys, result);
    entry->flags |= P2PI_ENTRY_ATTACHED;
    return P2P_OK;
}

/* Whether the backend still refers to the entry, and the handle stays open until it does not. */
static bool forget_handle(p2pi_entry *entry, bool close_handle) {
    p2p_event_loop_t *loop = entry->loop;
    bool attached = (entry->flags & P2PI_ENTRY_ATTACHED) != 0;
    entry->flags &= (uint8_t) ~(P2PI_ENTRY_ATTACHED | P2PI_ENTRY_RECV | P2PI_ENTRY_ACCEPT | P2PI_ENTRY_WRITE);
    entry->wanted = entry->held;
    if (attached && loop->ops.detach(loop->backend, &entry->io) == P2P_DEFERRED) {
        entry->flags |= P2PI_ENTRY_DETACHING;
        if (close_handle) entry->flags |= P2PI_ENTRY_CLOSE;
        p2pi_batch_settle(loop, entry);
    } else if (close_handle && entry->io.handle != P2P_INVALID_HANDLE && (entry->flags & P2PI_ENTRY_DETACHING) == 0) {
        loop->sys->close(entry->io.handle);
    }
    return (entry->flags & P2PI_ENTRY_DETACHING) != 0;
}

void p2pi_entry_detach(p2pi_entry *entry, bool close_handle) {
    forget_handle(entry, close_handle);
    p2pi_registry_remove(entry);
}

/* As if it were new, for the owner that it has. */
static void refresh(p2pi_entry *entry) {
    const p2pi_registry *registry = &entry->loop->registry;
    entry->io.token = next_token(entry->io.token);
    entry->io.handle = P2P_INVALID_HANDLE;
    entry->io.flags = 0;
    memset(entry->io.state, 0, registry->stride - registry->state_offset);
}

void p2pi_entry_detached(p2pi_registry *registry, uint64_t token) {
    size_t slot = (uint32_t)token;
    p2pi_entry *entry = slot < registry->size ? p2pi_registry_at(registry, slot) : NULL;
    if (entry == NULL || entry->io.token != token || (entry->flags & P2PI_ENTRY_DETACHING) == 0) return;
    if ((entry->flags & P2PI_ENTRY_CLOSE) != 0) entry->loop->sys->close(entry->io.handle);
    entry->flags &= (uint8_t) ~(P2PI_ENTRY_DETACHING | P2PI_ENTRY_CLOSE);
    if (entry->kind == P2PI_GONE)
        p2pi_registry_remove(entry);
    else if (entry->kind == P2PI_FRESH)
        refresh(entry); /* p2pi_entry_renew had no other one */
    /* else it is settled, and goes on being removed */
}

p2pi_entry *p2pi_entry_renew(p2pi_entry *entry, bool close_handle) {
    bool deferred = forget_handle(entry, close_handle);
    p2pi_connection_leave(entry);
    entry->kind = P2PI_FRESH;
    entry->wanted = entry->held = 0;
    p2pi_entry *other = deferred ? p2pi_registry_add(entry->loop, P2PI_FRESH, entry->owner) : NULL;
    if (other != NULL) {
        p2pi_registry_remove(entry);
        return other;
    }
    if (!deferred) refresh(entry);
    return entry;
}

int p2pi_entry_ready(p2pi_entry **entry) {
    if (((*entry)->flags & P2PI_ENTRY_DETACHING) != 0) *entry = p2pi_entry_renew(*entry, false);
    return ((*entry)->flags & P2PI_ENTRY_DETACHING) != 0 ? p2pi_fail(P2P_ERR_NO_MEMORY) : P2P_OK;
}

void p2pi_entry_want(p2pi_entry *entry, uint32_t mask) {
    entry->wanted = (uint8_t)mask;
    if (entry->wanted == entry->held || (entry->flags & P2PI_ENTRY_DIRTY) != 0) return;
    entry->flags |= P2PI_ENTRY_DIRTY;
    p2pi_registry *registry = &entry->loop->registry;
    registry->listed[registry->dirty_count++] = (uint32_t)entry->io.token;
}

p2pi_entry *p2pi_registry_next_dirty(p2pi_registry *registry) {
    if (registry->dirty_count == 0) return NULL;
    p2pi_entry *entry = p2pi_registry_at(registry, registry->listed[--registry->dirty_count]);
    entry->flags &= (uint8_t)~P2PI_ENTRY_DIRTY;
    return entry;
}

int p2pi_entry_apply(p2pi_entry *entry) {
    if (entry->wanted == entry->held) return P2P_OK;
    p2p_event_loop_t *loop = entry->loop;
    int result = loop->ops.set_interest(loop->backend, &entry->io, entry->held, entry->wanted);
    if (result < 0) {
        entry->wanted = entry->held; /* nothing changed; asking again next turn would be a spin */
        return p2pi_fail_os(loop->sys, result);
    }
    entry->held = entry->wanted;
    return P2P_OK;
}
