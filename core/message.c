/* Message objects, and sending and receiving them. In a loop it is connection.c's and output.c's work; outside
 * one the calls go straight to the system here. */
#include "internal.h"

#include <string.h>

#define LENGTH_MAX (UINT32_MAX - 64u) /* so that a frame and its bookkeeping stay within 32 bits */
_Static_assert(sizeof(p2pi_message) <= 64, "what a message adds to its payload");
_Static_assert(offsetof(p2pi_message, payload) == offsetof(p2pi_message, header) + P2P_FRAME_HEADER_SIZE,
               "header and payload are one piece");

/* ---- spare ones ---------------------------------------------------------------------------------- */

static _Thread_local p2pi_message_pool *pool_here; /* of the loop that runs in this thread */

void p2pi_messages_enter(p2pi_message_pool *pool) {
    pool->outer = pool_here;
    pool_here = pool;
}

void p2pi_messages_leave(p2pi_message_pool *pool) {
    pool_here = pool->outer;
}

void p2pi_messages_fini(p2pi_message_pool *pool) {
    if (pool_here == pool) p2pi_messages_leave(pool); /* a forked child frees the loop in whose callback it is */
    while (pool->count > 0) p2pi_free(pool->spare[--pool->count]);
}

static inline p2pi_message *take_spare(p2pi_message_pool *pool, uint32_t length) {
    if (pool->count == 0) return NULL;
    p2pi_message *message = pool->spare[pool->count - 1];
    if (message->capacity < length) return NULL;
    pool->count--;
    return message;
}

/* A little longer than asked for, where it may become a spare one: then it serves for more lengths. */
static p2pi_message *allocate(uint32_t length) {
    size_t capacity = length <= P2PI_SPARE_SIZE ? (length + 63u) & ~63u : length;
    p2pi_message *message = p2pi_alloc(sizeof *message + capacity);
    if (message == NULL) return NULL;
    message->capacity = capacity;
    message->public_part.data = message->payload;
    return message;
}

static inline void release(p2pi_message *message) {
    p2pi_message_pool *pool = pool_here;
    if (pool == NULL || pool->count == P2PI_MESSAGE_SPARES || message->capacity > P2PI_SPARE_SIZE) {
        p2pi_free(message);
    } else {
        pool->sent_last = NULL;
        pool->spare[pool->count++] = message;
    }
}

/* ---- message objects ----------------------------------------------------------------------------- */

P2PI_UNUSUAL static p2p_message_t *not_created(int error) {
    p2pi_fail(error);
    return NULL;
}

static inline void begin(p2pi_message *message, uint32_t length) {
    message->public_part.length = length;
    atomic_init(&message->references, 1u);
    p2pi_frame_header(message->header, length);
}

p2p_message_t *p2p_message_create(const void *data, uint32_t length) {
    if (length > LENGTH_MAX) return not_created(P2P_ERR_TOO_LONG);
    p2pi_message *message = pool_here == NULL ? NULL : take_spare(pool_here, length);
    if (message == NULL) message = allocate(length);
    if (message == NULL) return not_created(P2P_ERR_NO_MEMORY);
    begin(message, length);
    if (data != NULL)
        p2pi_frame_copy(message->payload, data, length);
    else
        memset(message->payload, 0, length);
    return &message->public_part;
}

p2p_message_t *p2pi_message_cut(p2p_message_t *message, uint32_t length) {
    p2pi_message *m = p2pi_message_of(message);
    p2pi_message *smaller = p2pi_realloc(m, sizeof *m + length);
    if (smaller != NULL) {
        m = smaller;
        m->capacity = length;
    }
    m->public_part.length = length;
    m->public_part.data = m->payload;
    p2pi_frame_header(m->header, length);
    return &m->public_part;
}

void p2p_message_free(p2p_message_t *message) {
    if (message == NULL) return;
    p2pi_message *m = p2pi_message_of(message);
    if (atomic_fetch_sub_explicit(&m->references, 1u, memory_order_acq_rel) == 1u) release(m);
}

/* ---- outside a loop ------------------------------------------------------------------------------ */

/* Write what is queued. Blocking sockets come back when all is written. */
int p2pi_message_write_out(p2p_socket_t *sock) {
    const p2p_sys_ops *sys = p2pi_sys();
    while (sock->out.first != NULL) {
        p2p_iov iov[P2PI_IOV_MAX];
        uint32_t count = p2pi_outbox_gather(&sock->out, iov, P2PI_IOV_MAX);
        int64_t written = sys->sendv(sock->handle, iov, count, sock->want_nonblocking);
        if (written < 0) {
            int error = p2pi_fail_os(sys, written);
            if (error != P2P_ERR_WOULD_BLOCK) {
                sock->output_error = (int8_t)error;
                sock->lost = p2pi_output_bytes(sock);
                p2pi_outbox_clear(&sock->out, NULL);
            }
            return error;
        }
        p2pi_outbox_consume(&sock->out, NULL, (size_t)written);
    }
    return P2P_OK;
}

int p2pi_message_usable(p2p_socket_t *sock) {
    if (sock->type != P2P_TCP || sock->state == P2PI_STATE_LISTENING) return P2P_ERR_INVALID;
    if (sock->state == P2PI_STATE_CONNECTING) {
        if (sock->loop != NULL) return P2P_OK;
        return p2p_socket_connect(sock, NULL, 0); /* asks how the attempt stands */
    }
    return sock->state == P2PI_STATE_CONNECTED ? P2P_OK : P2P_ERR_NOT_CONNECTED;
}

static int send_now(p2p_socket_t *sock, const void *data, uint32_t length, p2pi_message *message) {
    int result = p2pi_socket_sync_mode(sock);
    if (result < 0) return result;
    result = p2pi_message_write_out(sock); /* the rest of an earlier message goes first */
    if (result < 0) return result;
    result = message != NULL ? p2pi_outbox_refer(&sock->out, message)
                             : p2pi_outbox_copy(&sock->out, NULL, data, length);
    if (result < 0) return result;
    result = p2pi_message_write_out(sock);
    return result == P2P_ERR_WOULD_BLOCK ? P2P_OK : result; /* taken; the rest is kept */
}

int p2pi_message_send_now(p2p_socket_t *sock, const void *data, uint32_t length, p2pi_message *message) {
    int result = send_now(sock, data, length, message);
    return result < 0 && result != p2p_last_error() ? p2pi_fail(result) : result;
}

/* Receive exactly what the frame under way still needs: bytes behind it stay in the system. */
static int read_frame(p2p_socket_t *sock, uint32_t *length) {
    const p2p_sys_ops *sys = p2pi_sys();
    for (;;) {
        const p2pi_inbox *inbox = sock->in.inbox;
        size_t missing = 0, room = 0;
        p2pi_frame_status status = p2pi_frame_inspect(inbox == NULL ? NULL : inbox->data + inbox->head,
                                                      p2pi_inbox_length(sock), sock->message_limit,
                                                      length, &missing);
        if (status == P2PI_FRAME_WHOLE) return P2P_OK;
        if (status == P2PI_FRAME_TOO_LONG) return P2P_ERR_TOO_LONG;
        if (sock->end != 0) return sock->end;
        uint8_t *place = p2pi_inbox_room(sock, missing, &room);
        if (place == NULL) return P2P_ERR_NO_MEMORY;
        int64_t got = sys->recv(sock->handle, place, room, sock->want_nonblocking);
        if (got > 0) {
            sock->in.inbox->tail += (uint32_t)got;
            continue;
        }
        if (got < 0) return p2pi_fail_os(sys, got);
        return p2pi_inbox_length(sock) > 0 ? P2P_ERR_TRUNCATED : P2P_ERR_CLOSED;
    }
}

static bool is_end(int error) {
    return error != P2P_ERR_WOULD_BLOCK && error != P2P_ERR_NO_MEMORY;
}

static p2p_message_t *recv_now(p2p_socket_t *sock) {
    uint32_t length = 0;
    if (p2pi_socket_sync_mode(sock) < 0) return NULL;
    int result = read_frame(sock, &length);
    if (result < 0) {
        if (p2pi_inbox_length(sock) == 0) p2pi_inbox_release(sock);
        if (is_end(result)) sock->end = (int8_t)result;
        if (p2p_last_error() != result) p2pi_fail(result);
        return NULL;
    }
    p2pi_inbox *inbox = sock->in.inbox;
    p2p_message_t *message = p2p_message_create(inbox->data + inbox->head + P2P_FRAME_HEADER_SIZE, length);
    if (message != NULL) p2pi_inbox_consume(sock, (size_t)length + P2P_FRAME_HEADER_SIZE);
    return message;
}

P2PI_APART static p2p_message_t *recv_otherwise(p2p_socket_t *socket) {
    if (socket != NULL && socket->type == P2P_UDP) return p2pi_datagram_take(socket);
    int result = socket == NULL ? P2P_ERR_INVALID : p2pi_message_usable(socket);
    if (result < 0) {
        p2pi_fail(result);
        return NULL;
    }
    return socket->loop != NULL ? p2pi_connection_take(socket) : recv_now(socket);
}

/* What was announced at hand, by p2pi_connection_received_pulled, has a short way into a spare message. */
p2p_message_t *p2p_message_recv(p2p_socket_t *socket) {
    p2p_event_loop_t *loop = socket == NULL ? NULL : socket->loop;
    if (loop == NULL || !loop->input.at_hand || loop->input.socket != socket) return recv_otherwise(socket);
    uint32_t length = loop->input.size;
    p2pi_message *message = take_spare(&loop->messages, length);
    if (message == NULL) return recv_otherwise(socket);
    const uint8_t *payload = loop->input.data + P2P_FRAME_HEADER_SIZE;
    loop->input.at_hand = false;
    loop->input.data = payload + length;
    loop->stats.messages_in++;
    begin(message, length);
    p2pi_frame_copy(message->payload, payload, length);
    return &message->public_part;
}
