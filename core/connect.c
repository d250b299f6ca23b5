/*
 * Connecting by name, in a loop: a lookup, then the addresses in turn, a quarter of a second apart or as soon as one
 * fails, until one connects (RFC 8305, "Happy Eyeballs"). Each address is tried by a private socket of its own, which
 * is registered like any other and counted nowhere but among the loop's connections; the first to connect leaves its
 * registration and handle to the user's socket. Here is also what tells a connection to itself.
 */
#include "resolver.h"

#include <string.h>

#define ATTEMPT_DELAY_NS (250 * P2P_NS_PER_MS) /* RFC 8305, section 8 */

struct p2pi_connect {
    p2p_socket_t *socket;
    p2pi_lookup *lookup;
    p2p_timer_t *stagger;
    p2p_socket_t *attempts[P2PI_ADDRESSES_MAX]; /* under way */
    uint32_t attempt_count;
    uint32_t next, count;  /* addresses of the lookup: to be tried next, in all */
    int error;             /* what is told when all have failed */
    p2pi_state state_before;
};

/* Nobody is told anything of them. */
const p2p_socket_callbacks_t p2pi_attempt_callbacks = { .size = sizeof p2pi_attempt_callbacks };

/* ---- connections to oneself ------------------------------------------------------------------------------------ */

/*
 * Who connects to a port of this machine from which outgoing connections are made, and where nobody listens, may be
 * given that very port, and TCP then connects the socket with itself. Closed by a reset, it does not keep the port from
 * whoever is to listen there.
 */
int p2pi_connect_check_self(const p2p_sys_ops *sys, p2p_handle_t handle, const p2p_address_t *target) {
    p2p_address_t local, peer;
    char local_text[P2P_ADDRESS_TEXT_SIZE], peer_text[P2P_ADDRESS_TEXT_SIZE];
    if (sys->local_address(handle, &local) < 0) return P2P_OK;
    if (target != NULL && sys->address_port(&local) != sys->address_port(target)) return P2P_OK;
    if (sys->peer_address(handle, &peer) < 0) return P2P_OK;
    if (sys->address_format(&local, local_text, sizeof local_text) < 0) return P2P_OK;
    if (sys->address_format(&peer, peer_text, sizeof peer_text) < 0) return P2P_OK;
    if (strcmp(local_text, peer_text) != 0) return P2P_OK;
    sys->set_option(handle, P2P_SYS_RESET_ON_CLOSE, 1);
    return P2P_ERR_REFUSED;
}

/* ---- addresses --------------------------------------------------------------------------------------------------- */

/* An address's length tells its family. */
static bool same_family(const p2p_address_t *a, const p2p_address_t *b) {
    return a->length == b->length;
}

void p2pi_connect_interleave(p2p_address_t *addresses, uint32_t count) {
    for (uint32_t at = 1; at < count; at++) {
        uint32_t other = at;
        while (other < count && same_family(&addresses[other], &addresses[at - 1])) other++;
        if (other == count) return;
        p2p_address_t moved = addresses[other];
        memmove(&addresses[at + 1], &addresses[at], (other - at) * sizeof moved);
        addresses[at] = moved;
    }
}

/* A socket that is bound has one handle, which can try one address: the first of its family. */
static int keep_one(p2pi_connect *c) {
    const p2p_sys_ops *sys = c->socket->loop->sys;
    p2p_address_t local, *addresses = c->lookup->addresses;
    int result = sys->local_address(c->socket->handle, &local);
    if (result < 0) return p2pi_fail_os(sys, result);
    for (uint32_t i = 0; i < c->count; i++) {
        if (!same_family(&addresses[i], &local)) continue;
        addresses[0] = addresses[i];
        c->count = 1;
        return P2P_OK;
    }
    return P2P_ERR_NOT_SUPPORTED;
}

/* ---- attempts ---------------------------------------------------------------------------------------------------- */

static void end_attempt(p2pi_connect *c, p2p_socket_t *attempt) {
    uint32_t at = 0;
    while (c->attempts[at] != attempt) at++;
    c->attempts[at] = c->attempts[--c->attempt_count];
    attempt->closing = true;
    attempt->resetting = true;
    p2pi_socket_finish(attempt);
}

static void release(p2pi_connect *c) {
    c->socket->extras->connect = NULL;
    p2pi_lookup_drop(c->lookup);
    p2p_timer_free(c->stagger);
    while (c->attempt_count > 0) end_attempt(c, c->attempts[0]);
    p2pi_free(c);
}

static p2p_socket_t *attempt_new(p2pi_connect *c) {
    p2p_event_loop_t *loop = c->socket->loop;
    p2p_socket_t *attempt = p2pi_socket_new(P2P_TCP, P2P_INVALID_HANDLE, P2PI_STATE_FRESH);
    if (attempt == NULL) return NULL;
    attempt->entry = p2pi_registry_add(loop, P2PI_FRESH, attempt);
    if (attempt->entry == NULL) {
        p2pi_socket_destroy(attempt);
        return NULL;
    }
    attempt->loop = loop;
    attempt->callbacks.set = &p2pi_attempt_callbacks;
    attempt->user_data = c;
    c->attempts[c->attempt_count++] = attempt;
    return attempt;
}

/* A handle with the user's options; of a bound socket its own, which has them. */
static int attempt_open(p2p_socket_t *attempt, p2p_socket_t *sock, const p2p_address_t *address) {
    if (sock->handle == P2P_INVALID_HANDLE) {
        int result = p2pi_socket_open(attempt, address);
        return result < 0 ? result : p2pi_options_apply(sock, attempt->handle);
    }
    attempt->handle = sock->handle;
    attempt->is_nonblocking = sock->is_nonblocking;
    sock->handle = P2P_INVALID_HANDLE;
    return P2P_OK;
}

static int attempt_start(p2pi_connect *c, const p2p_address_t *address) {
    p2p_socket_t *attempt = attempt_new(c);
    if (attempt == NULL) return P2P_ERR_NO_MEMORY;
    int result = attempt_open(attempt, c->socket, address);
    if (result == P2P_OK) result = p2pi_connecting_begin(attempt, address);
    if (result < 0) end_attempt(c, attempt);
    return result;
}

/* The first address is the one that the system prefers, unless the machine does not have its family at all. */
static void note_error(int *kept, int error) {
    if (*kept == P2P_OK || *kept == P2P_ERR_NOT_SUPPORTED) *kept = error;
}

/* Try the next address; give up when there is none, and none is being tried. */
static void advance(p2pi_connect *c) {
    p2p_timer_stop(c->stagger);
    while (c->next < c->count) {
        int result = attempt_start(c, &c->lookup->addresses[c->next++]);
        if (result == P2P_OK) {
            if (c->next < c->count) p2p_timer_start(c->stagger, ATTEMPT_DELAY_NS, 0);
            return;
        }
        note_error(&c->error, result);
    }
    if (c->attempt_count == 0) p2pi_connecting_failed(c->socket, c->error); /* releases all this */
}

static void on_stagger(p2p_timer_t *timer, void *user_data) {
    (void)timer;
    advance(user_data);
}

/* The two change places, which no backend needs to hear of. */
static void succeed(p2pi_connect *c, p2p_socket_t *attempt) {
    p2p_socket_t *sock = c->socket;
    p2pi_entry *fresh = sock->entry;
    sock->entry = attempt->entry;
    sock->entry->owner = sock;
    attempt->entry = fresh;
    fresh->owner = attempt;
    sock->handle = attempt->handle;
    sock->is_nonblocking = attempt->is_nonblocking;
    attempt->handle = P2P_INVALID_HANDLE;
    p2pi_options_apply(sock, sock->handle); /* those set since; one that is too late now stays as it is */
    release(c);
    p2pi_connecting_succeeded(sock);
}

void p2pi_connect_attempt_ended(p2p_socket_t *attempt) {
    p2pi_connect *c = attempt->user_data;
    int error = attempt->connect_error != 0 ? attempt->connect_error : attempt->end;
    if (error == 0) {
        succeed(c, attempt);
        return;
    }
    note_error(&c->error, error);
    end_attempt(c, attempt);
    advance(c);
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static void fix_peer(p2pi_connect *c) {
    p2p_socket_t *sock = c->socket;
    for (; c->next < c->count; c->next++) {
        int result = p2pi_socket_connect_now(sock, &c->lookup->addresses[c->next]);
        if (result == P2P_OK) {
            release(c);
            p2pi_deadline_stop(sock, P2P_DEADLINE_CONNECT);
            p2pi_socket_tell(sock, P2PI_TELL_CONNECT);
            return;
        }
        note_error(&c->error, result);
    }
    p2pi_connecting_failed(sock, c->error);
}

static void on_addresses(void *owner) {
    p2pi_connect *c = owner;
    p2p_socket_t *sock = c->socket;
    int result = c->lookup->result;
    if (result >= 0) c->count = (uint32_t)result;
    if (result >= 0 && sock->type == P2P_UDP) {
        fix_peer(c);
        return;
    }
    if (result >= 0 && sock->handle != P2P_INVALID_HANDLE) result = keep_one(c);
    if (result < 0) {
        p2pi_connecting_failed(sock, result);
        return;
    }
    p2pi_connect_interleave(c->lookup->addresses, c->count);
    advance(c);
}

int p2pi_connect_start(p2p_socket_t *sock, const char *name, uint16_t port) {
    p2p_event_loop_t *loop = sock->loop;
    p2pi_extras *extras = p2pi_socket_extras(sock);
    p2pi_connect *c = extras == NULL ? NULL : p2pi_alloc_zeroed(sizeof *c);
    if (c == NULL) return p2pi_fail(P2P_ERR_NO_MEMORY);
    c->socket = sock;
    c->state_before = (p2pi_state)sock->state;
    c->stagger = p2pi_timer_create_private(loop, on_stagger, c);
    if (c->stagger != NULL && p2pi_deadline_start(sock, P2P_DEADLINE_CONNECT) == P2P_OK)
        c->lookup = p2pi_lookup_start(loop, name, port, (p2p_socket_type_t)sock->type, on_addresses, c);
    if (c->lookup == NULL) {
        p2pi_deadline_stop(sock, P2P_DEADLINE_CONNECT);
        p2p_timer_free(c->stagger);
        p2pi_free(c);
        return p2p_last_error();
    }
    extras->connect = c;
    if (sock->type == P2P_TCP) p2pi_connecting_reset(sock); /* the others go on as they are until then */
    return P2P_OK;
}

bool p2pi_connect_cancel(p2p_socket_t *sock) {
    p2pi_connect *c = sock->extras == NULL ? NULL : sock->extras->connect;
    if (c == NULL) return false;
    if (sock->type == P2P_TCP)
        sock->state = (uint8_t)(sock->handle == P2P_INVALID_HANDLE ? P2PI_STATE_FRESH : c->state_before);
    release(c);
    return true;
}
