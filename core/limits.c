/*
 * How many connections a loop has: all of them, those of one peer address, and those accepted that have not sent a
 * whole message yet. Each is counted from its registration on until it is over.
 */
#include "internal.h"

#include <string.h>

/* A peer address that has connections. */
struct p2pi_address {
    p2pi_address *next; /* in its bucket */
    uint32_t connections;
    uint8_t key_length, key[P2P_ADDRESS_KEY_SIZE];
};

#define FIRST_BUCKETS 64u

void p2pi_limits_init(p2p_event_loop_t *loop) {
    p2pi_list_init(&loop->limits.resting);
    p2pi_list_init(&loop->limits.half_open);
    loop->limits.seed = (uint64_t)loop->now_ns ^ (uintptr_t)loop;
}

/* ---- all ---------------------------------------------------------------------------------------------------- */

void p2pi_connection_enter(p2pi_entry *entry) {
    entry->kind = P2PI_CONNECTION;
    entry->loop->limits.connections++;
}

void p2pi_connection_leave(p2pi_entry *entry) {
    p2p_event_loop_t *loop = entry->loop;
    if (entry->kind != P2PI_CONNECTION) return;
    loop->limits.connections--;
    if (loop->options.max_connections == 0 || p2pi_connections_full(loop)) return;
    p2pi_link *link;
    while ((link = p2pi_list_pop(&loop->limits.resting)) != NULL)
        p2pi_socket_tell(P2PI_CONTAINER(link, p2pi_listener, resting)->socket, P2PI_TELL_INPUT);
}

/* ---- those of an address -------------------------------------------------------------------------------------- */

static uint32_t bucket_of(const p2pi_limits *limits, const uint8_t *key, uint8_t length) {
    uint64_t hash = 0xCBF29CE484222325u ^ limits->seed; /* FNV-1a; peers can't know where they land */
    for (uint8_t i = 0; i < length; i++) hash = (hash ^ key[i]) * 0x100000001B3u;
    return (uint32_t)(hash >> 32 ^ hash) & (limits->bucket_count - 1);
}

/* Where the pointer to it is, or would be. */
static p2pi_address **place_of(const p2pi_limits *limits, const uint8_t *key, uint8_t length) {
    p2pi_address **place = &limits->buckets[bucket_of(limits, key, length)];
    while (*place != NULL && ((*place)->key_length != length || memcmp((*place)->key, key, length) != 0))
        place = &(*place)->next;
    return place;
}

/* Without memory for more buckets the chains are longer. */
static void grow(p2pi_limits *limits) {
    uint32_t before = limits->bucket_count, count = before == 0 ? FIRST_BUCKETS : before * 2;
    p2pi_address **old = limits->buckets, **buckets = p2pi_alloc_zeroed(count * sizeof(p2pi_address *));
    if (buckets == NULL) return;
    limits->buckets = buckets;
    limits->bucket_count = count;
    for (uint32_t i = 0; i < before; i++) {
        for (p2pi_address *address = old[i], *next; address != NULL; address = next) {
            next = address->next;
            address->next = NULL;
            *place_of(limits, address->key, address->key_length) = address;
        }
    }
    p2pi_free(old);
}

/* Where nobody is counted there is no table. */
static void drop_empty(p2pi_limits *limits) {
    if (limits->address_count > 0) return;
    p2pi_free(limits->buckets);
    limits->buckets = NULL;
    limits->bucket_count = 0;
}

p2pi_address *p2pi_address_enter(p2pi_limits *limits, const uint8_t *key, uint8_t length) {
    if (limits->address_count == limits->bucket_count) grow(limits);
    p2pi_address **place = limits->bucket_count > 0 ? place_of(limits, key, length) : NULL;
    if (place != NULL && *place == NULL) {
        *place = p2pi_alloc_zeroed(sizeof **place);
        if (*place == NULL) {
            drop_empty(limits);
            return NULL;
        }
        (*place)->key_length = length;
        memcpy((*place)->key, key, length);
        limits->address_count++;
    }
    if (place == NULL) return NULL;
    (*place)->connections++;
    return *place;
}

void p2pi_address_leave(p2pi_limits *limits, p2pi_address *address) {
    if (--address->connections > 0) return;
    p2pi_address **place = place_of(limits, address->key, address->key_length);
    *place = address->next;
    p2pi_free(address);
    limits->address_count--;
    drop_empty(limits);
}

uint32_t p2pi_address_connections(const p2pi_limits *limits, const uint8_t *key, uint8_t length) {
    const p2pi_address *address = limits->bucket_count > 0 ? *place_of(limits, key, length) : NULL;
    return address == NULL ? 0 : address->connections;
}

/* 0: it has none that counts, or none any more. */
static uint8_t peer_key(const p2p_event_loop_t *loop, p2p_handle_t handle, uint8_t key[P2P_ADDRESS_KEY_SIZE]) {
    p2p_address_t peer;
    if (loop->sys->address_key == NULL || loop->sys->peer_address(handle, &peer) < 0) return 0;
    int length = loop->sys->address_key(&peer, key);
    return length > 0 ? (uint8_t)length : 0;
}

bool p2pi_address_full(const p2p_event_loop_t *loop, p2p_handle_t handle) {
    uint8_t key[P2P_ADDRESS_KEY_SIZE];
    uint32_t limit = loop->options.max_connections_per_address;
    uint8_t length = limit == 0 ? 0 : peer_key(loop, handle, key);
    return length > 0 && p2pi_address_connections(&loop->limits, key, length) >= limit;
}

static int enter_address(p2p_socket_t *sock) {
    uint8_t key[P2P_ADDRESS_KEY_SIZE];
    uint8_t length = peer_key(sock->loop, sock->handle, key);
    if (length == 0) return P2P_OK;
    sock->extras->address = p2pi_address_enter(&sock->loop->limits, key, length);
    return sock->extras->address == NULL ? P2P_ERR_NO_MEMORY : P2P_OK;
}

/* ---- half-open ones ------------------------------------------------------------------------------------------- */

/* Whoever takes long makes room for whoever comes: those who send something at once always get through. */
static int half_open_begin(p2p_socket_t *sock) {
    p2pi_limits *limits = &sock->loop->limits;
    if (limits->half_open_count == sock->loop->options.max_half_open) {
        p2pi_link *oldest = limits->half_open.next;
        p2p_socket_t *ended = P2PI_CONTAINER(oldest, p2pi_extras, half_open)->socket;
        p2pi_connection_end(ended, P2P_ERR_LIMIT);
        p2pi_socket_tell(ended, P2PI_TELL_INPUT);
    }
    sock->held |= P2PI_HELD_HALF_OPEN;
    sock->extras->socket = sock;
    p2pi_list_append(&limits->half_open, &sock->extras->half_open);
    limits->half_open_count++;
    if ((sock->held & P2PI_HELD_PAUSED) != 0) return P2P_OK; /* its time comes with resuming */
    return p2pi_deadline_begin(sock, P2P_DEADLINE_READ); /* nothing is begun, and yet it must end */
}

/* It has sent a whole message, or is over. */
void p2pi_half_open_done(p2p_socket_t *sock) {
    if ((sock->held & P2PI_HELD_HALF_OPEN) == 0) return;
    sock->held &= (uint8_t)~P2PI_HELD_HALF_OPEN;
    p2pi_list_remove(&sock->extras->half_open);
    sock->extras->socket = NULL;
    p2pi_socket_drop_extras(sock);
    sock->loop->limits.half_open_count--;
}

/* ---- an accepted connection's registration ---------------------------------------------------------------------- */

int p2pi_limits_enter(p2p_socket_t *sock) {
    const p2p_event_loop_options_t *options = &sock->loop->options;
    bool by_address = options->max_connections_per_address != 0;
    if (!sock->accepted || (!by_address && options->max_half_open == 0)) return P2P_OK;
    if (p2pi_socket_extras(sock) == NULL) return p2pi_fail(P2P_ERR_NO_MEMORY);
    if (by_address && enter_address(sock) < 0) return p2pi_fail(P2P_ERR_NO_MEMORY);
    return options->max_half_open != 0 && sock->end == 0 ? half_open_begin(sock) : P2P_OK;
}

void p2pi_limits_leave(p2p_socket_t *sock) {
    p2pi_half_open_done(sock);
    if (sock->extras == NULL || sock->extras->address == NULL) return;
    p2pi_address_leave(&sock->loop->limits, sock->extras->address);
    sock->extras->address = NULL;
    p2pi_socket_drop_extras(sock);
}
