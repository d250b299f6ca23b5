/* Registrations: slots, tokens, wanted and held interest. An entry is a registered socket or watch. */
#ifndef P2PI_REGISTRY_H
#define P2PI_REGISTRY_H

#include <p2pnet/backend.h>
#include <p2pnet/event_loop.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum p2pi_kind {
    P2PI_FREE, /* the slot is in the free list */
    P2PI_GONE, /* its owner is gone; waits for DETACHED, or to leave the dirty list */
    P2PI_FRESH, /* registered, without a handle so far */
    P2PI_CONNECTION,
    P2PI_LISTENER,
    P2PI_DATAGRAM,
    P2PI_WATCH
} p2pi_kind;

#define P2PI_ENTRY_DIRTY 0x01u     /* in loop->dirty */
#define P2PI_ENTRY_ATTACHED 0x02u  /* the backend knows it */
#define P2PI_ENTRY_DETACHING 0x04u /* DETACHED is still to come */
#define P2PI_ENTRY_CLOSE 0x08u     /* close the handle then */
#define P2PI_ENTRY_RECV 0x10u      /* emulation: recv_start is in force, for a connection */
#define P2PI_ENTRY_ACCEPT 0x20u    /* emulation: accept_start is in force */
#define P2PI_ENTRY_WRITE 0x40u     /* emulation: the owner's request waits for writability */

typedef struct p2pi_entry {
    p2p_io io;
    p2p_event_loop_t *loop;
    void *owner;
    uint8_t kind;         /* p2pi_kind */
    uint8_t flags;        /* P2PI_ENTRY_* */
    uint8_t wanted, held; /* P2P_IN | P2P_OUT: what is to be, what the backend last accepted */
    uint16_t share_turn, share; /* completing backends: how much of that turn's budgets is used */
} p2pi_entry;

#define P2PI_ENTRIES_PER_CHUNK 64u

typedef struct p2pi_registry {
    uint8_t **chunks; /* entries never move: p2p_io's address is promised to the backend */
    size_t chunk_count, chunk_capacity;
    size_t size;                /* slots: ENTRIES_PER_CHUNK times chunk_count */
    size_t state_offset, stride; /* bytes from an entry to the backend's state, and to the next entry */
    /* `size` slot numbers: from the front those whose interest is to be told, from the back free ones. None is both. */
    uint32_t *listed;
    uint32_t dirty_count, free_count;
} p2pi_registry;

void p2pi_registry_init(p2pi_registry *registry, size_t io_state_size);
void p2pi_registry_fini(p2pi_registry *registry);
p2pi_entry *p2pi_registry_add(p2p_event_loop_t *loop, p2pi_kind kind, void *owner);
void p2pi_registry_remove(p2pi_entry *entry);
/* For walking: slots 0 to registry->size - 1; kind tells which are in use. */
static inline p2pi_entry *p2pi_registry_at(const p2pi_registry *registry, size_t slot) {
    uint8_t *chunk = registry->chunks[slot / P2PI_ENTRIES_PER_CHUNK];
    return (p2pi_entry *)(void *)(chunk + slot % P2PI_ENTRIES_PER_CHUNK * registry->stride);
}
/* The entry of a token, NULL when it is another's by now; its kind and flags tell whether it is in use. */
static inline p2pi_entry *p2pi_registry_look_up(const p2pi_registry *registry, uint64_t token) {
    size_t slot = (uint32_t)token;
    if (slot >= registry->size) return NULL;
    p2pi_entry *entry = p2pi_registry_at(registry, slot);
    return entry->io.token == token ? entry : NULL;
}
/* The same, NULL when it is gone. */
static inline p2pi_entry *p2pi_registry_find(const p2pi_registry *registry, uint64_t token) {
    p2pi_entry *entry = p2pi_registry_look_up(registry, token);
    return entry != NULL && entry->owner != NULL ? entry : NULL;
}

/* Let the backend see the entry's handle for the first time. */
int p2pi_entry_attach(p2pi_entry *entry, p2p_handle_t handle, uint32_t io_flags);
/* Make the backend forget the handle and free the entry; then close the handle if asked to. Without closing it the
 * bytes that the backend had received are the owner's. */
void p2pi_entry_detach(p2pi_entry *entry, bool close_handle);
/* The backend's last word on a detached entry. */
void p2pi_entry_detached(p2pi_registry *registry, uint64_t token);
/* Detach, and give the owner an entry with a new token and no handle. When the backend defers the detach and there is
 * no memory for another entry, it is the same one, and not ready before DETACHED. */
p2pi_entry *p2pi_entry_renew(p2pi_entry *entry, bool close_handle);
/* Whether a handle can be attached to the entry, or to another one that takes its place; else NO_MEMORY. */
int p2pi_entry_ready(p2pi_entry **entry);
/* The next entry whose interest is to be told, NULL when there is none. */
p2pi_entry *p2pi_registry_next_dirty(p2pi_registry *registry);
/* Ask for interest; the backend hears of it before the next wait, or by p2pi_entry_apply. */
void p2pi_entry_want(p2pi_entry *entry, uint32_t mask);
int p2pi_entry_apply(p2pi_entry *entry); /* sets p2p_last_error on failure */

#endif
