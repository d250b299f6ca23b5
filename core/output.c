/*
 * Message mode, the output side. What a turn queued on a socket leaves in one write: straight from the
 * stage, or as a request to the backend, which completes by OP_DONE. No user callback runs from here: what there
 * is to tell is left to the next turn.
 */
#include "internal.h"

#include <string.h>

#define WRITE_AT_ONCE 16384u /* from this length on copying costs more than a call for each message */

void p2pi_output_schedule(p2p_socket_t *sock) {
    if (sock->request != NULL && !sock->request->is_connect) sock->request->op.flags = 0; /* it is waited for */
    if (sock->out.queued == 0 || sock->state != P2PI_STATE_CONNECTED || sock->request != NULL) return;
    if (!p2pi_link_used(&sock->flush)) p2pi_list_append(&sock->loop->flush, &sock->flush);
}

/* ---- queueing ------------------------------------------------------------------------------------------- */

/* Move what is staged, if anything is, to chunks: it has to stay, or something has to come behind it. */
static int unstage(p2p_socket_t *sock) {
    p2pi_stage *stage = &sock->loop->stage;
    if (stage->last == sock) stage->last = NULL;
    if (p2pi_outbox_staged(&sock->out) == 0) return P2P_OK;
    return p2pi_outbox_unstage(&sock->out, &sock->loop->chunks, stage->data);
}

static inline bool may_begin(const p2p_socket_t *sock, const p2pi_stage *stage, uint32_t size) {
    return sock->out.queued == 0 && stage->used < stage->begin_end && size <= stage->share;
}

/* From here on, frames of this socket. */
static inline void stage_begin(p2p_socket_t *sock, p2pi_stage *stage) {
    sock->out.staged_at = stage->used;
    stage->last = sock;
    stage->limit = stage->used + stage->share;
}

/* Room for so many bytes more of whom stage_begin was for. */
static inline uint8_t *stage_add(p2p_socket_t *sock, p2pi_stage *stage, uint32_t size) {
    uint8_t *end = stage->data + stage->used;
    stage->used += size;
    sock->out.queued += size;
    return end;
}

/* Whether the socket has something staged, and it ends there. */
static inline bool staged_up_to(const p2p_socket_t *sock, uint32_t at) {
    return sock->out.first == NULL && sock->out.queued > 0 && sock->out.staged_at + sock->out.queued == at;
}

/* More of a socket whose frames end where the stage ends, since they are others' too. */
static inline void stage_go_on(p2p_socket_t *sock, p2pi_stage *stage) {
    uint32_t room = stage->capacity - sock->out.staged_at;
    stage->last = sock;
    stage->limit = sock->out.staged_at + (stage->share < room ? stage->share : room);
}

static int queue_copy(p2p_socket_t *sock, const void *data, uint32_t length) {
    p2p_event_loop_t *loop = sock->loop;
    uint32_t size = length + P2P_FRAME_HEADER_SIZE;
    p2pi_stage *stage = &loop->stage;
    bool begins = sock->state == P2PI_STATE_CONNECTED && may_begin(sock, stage, size);
    if (begins) stage_begin(sock, stage);
    if (!begins && staged_up_to(sock, stage->used)) stage_go_on(sock, stage);
    if (stage->last == sock && size <= P2PI_STAGE_SHARE - sock->out.queued && size <= stage->capacity - stage->used) {
        p2pi_outbox_write_frame(stage_add(sock, stage, size), data, length);
        return P2P_OK;
    }
    int result = unstage(sock);
    return result < 0 ? result : p2pi_outbox_copy(&sock->out, &loop->chunks, data, length);
}

/* Where the emulation sends, and nothing is before it, a long message is written at once, from where it lies. */
static inline bool may_write(const p2p_socket_t *sock, uint32_t length) {
    return length >= WRITE_AT_ONCE && sock->state == P2PI_STATE_CONNECTED && sock->out.queued == 0 &&
           sock->request == NULL && sock->loop->stage.capacity > 0;
}

/*
 * What the system does not take is queued. The room for it is there before anything is written, since half a message
 * can't be taken back. An error ends output as one of a later write does: the system would not tell of it again.
 */
static int write_or_queue(p2p_socket_t *sock, const void *data, uint32_t length) {
    p2p_event_loop_t *loop = sock->loop;
    uint8_t header[P2P_FRAME_HEADER_SIZE];
    uint32_t size = length + P2P_FRAME_HEADER_SIZE;
    p2pi_chunk *chunk = p2pi_outbox_extend(&sock->out, &loop->chunks, size);
    if (chunk == NULL) return P2P_ERR_NO_MEMORY;
    p2pi_frame_header(header, length);
    p2p_iov iov[2] = { { .base = (char *)header, .len = sizeof header },
                       { .base = (char *)(uintptr_t)data, .len = length } };
    int64_t result = loop->sys->sendv(sock->handle, iov, 2, 1);
    uint32_t sent = result > 0 ? (uint32_t)result : 0;
    loop->stats.bytes_out += sent;
    if (sent > 0 && sock->extras != NULL) p2pi_deadline_put_off(sock, P2P_DEADLINE_IDLE);
    if (sent == size) {
        p2pi_outbox_drop_first(&sock->out, &loop->chunks);
        return P2P_OK;
    }
    uint32_t header_sent = sent < sizeof header ? sent : (uint32_t)sizeof header, payload_sent = sent - header_sent;
    uint32_t header_left = (uint32_t)sizeof header - header_sent;
    memcpy(chunk->bytes, header + header_sent, header_left);
    memcpy(chunk->bytes + header_left, (const uint8_t *)data + payload_sent, length - payload_sent);
    chunk->tail = size - sent;
    sock->out.queued += size - sent;
    int error = result < 0 ? loop->sys->translate_error((int)-result) : P2P_OK;
    if (error != P2P_OK && error != P2P_ERR_WOULD_BLOCK) p2pi_output_fail(sock, error);
    return P2P_OK;
}

static int queue_shared(p2p_socket_t *sock, p2pi_message *message) {
    int result = unstage(sock);
    return result < 0 ? result : p2pi_outbox_refer(&sock->out, message);
}

/* Why a message can't be queued now. */
static int refusal(p2p_socket_t *sock, uint32_t length) {
    if (sock->state != P2PI_STATE_CONNECTED || sock->type != P2P_TCP) {
        int result = p2pi_message_usable(sock);
        if (result < 0) return result;
    }
    if (length > sock->message_limit) return P2P_ERR_TOO_LONG;
    if (sock->output_error != 0) return sock->output_error;
    if (sock->loop == NULL || sock->out.queued < sock->loop->options.high_water) return P2P_OK;
    sock->held |= P2PI_HELD_FULL;
    sock->loop->stats.sends_refused++;
    return P2P_ERR_QUEUE_FULL;
}

P2PI_APART static int send_otherwise(p2p_socket_t *sock, const void *data, uint32_t length, p2pi_message *message) {
    if (sock == NULL || (data == NULL && length > 0)) return p2pi_fail(P2P_ERR_INVALID);
    if (sock->type == P2P_UDP) return p2pi_datagram_send_message(sock, data, length);
    p2p_event_loop_t *loop = sock->loop;
    int result = refusal(sock, length);
    if (result < 0) return p2pi_fail(result);
    sock->has_sent = true;
    bool share = message != NULL && length >= P2PI_SHARE_SIZE;
    if (loop == NULL) return p2pi_message_send_now(sock, data, length, share ? message : NULL);
    if (!share && may_write(sock, length))
        result = write_or_queue(sock, data, length);
    else
        result = share ? queue_shared(sock, message) : queue_copy(sock, data, length);
    if (result < 0) return p2pi_fail(result);
    if (sock->out.queued >= loop->options.high_water) sock->held |= P2PI_HELD_FULL;
    loop->stats.messages_out++;
    p2pi_output_schedule(sock);
    return P2P_OK;
}

/* Nothing stands in the way of staging, as far as the socket alone can tell: while it is not full its queue is below
 * high_water. */
static inline bool plain(const p2p_socket_t *sock) {
    return sock->type == P2P_TCP && sock->state == P2PI_STATE_CONNECTED && sock->output_error == 0 && sock->held == 0;
}

/* The usual case has a short way: straight to the stage. */
int p2p_message_send_data(p2p_socket_t *socket, const void *data, uint32_t length) {
    p2p_event_loop_t *loop = socket == NULL || data == NULL ? NULL : socket->loop;
    if (loop == NULL || !plain(socket) || length > socket->message_limit || length >= WRITE_AT_ONCE)
        return send_otherwise(socket, data, length, NULL);
    p2pi_stage *stage = &loop->stage;
    uint32_t size = length + P2P_FRAME_HEADER_SIZE;
    if (stage->last == socket) {
        if (stage->used + size > stage->limit) return send_otherwise(socket, data, length, NULL);
    } else {
        if (!may_begin(socket, stage, size)) return send_otherwise(socket, data, length, NULL);
        stage_begin(socket, stage);
        socket->has_sent = true;
        P2P_ASSERT(!p2pi_link_used(&socket->flush)); /* nothing was queued */
        p2pi_list_append(&loop->flush, &socket->flush);
    }
    loop->stats.messages_out++;
    uint8_t *frame = stage_add(socket, stage, size);
    p2pi_frame_header(frame, length);
    p2pi_frame_copy(frame + P2P_FRAME_HEADER_SIZE, data, length);
    return P2P_OK;
}

/*
 * The stage ends with this very frame, and it is what the socket gets next: then it gets it there. Only the bytes
 * count: the message may have been changed, or be another one in the same place.
 */
static bool stage_ends_with(const p2p_socket_t *sock, const p2p_message_t *message, uint32_t size) {
    const p2pi_stage *stage = &sock->loop->stage;
    uint8_t header[P2P_FRAME_HEADER_SIZE];
    if (!plain(sock) || message->length > sock->message_limit || size > stage->used) return false;
    const uint8_t *frame = stage->data + (stage->used - size);
    if (sock->out.queued > 0 &&
        (!staged_up_to(sock, stage->used - size) || size > P2PI_STAGE_SHARE - sock->out.queued)) return false;
    p2pi_frame_header(header, message->length);
    return memcmp(frame, header, sizeof header) == 0 &&
           memcmp(frame + sizeof header, message->data, message->length) == 0;
}

P2PI_APART static int send_again(p2p_socket_t *sock, const p2p_message_t *message) {
    p2p_event_loop_t *loop = sock->loop;
    uint32_t size = message->length + P2P_FRAME_HEADER_SIZE;
    if (!stage_ends_with(sock, message, size))
        return p2p_message_send_data(sock, message->data, message->length);
    if (sock->out.queued == 0) {
        sock->out.staged_at = loop->stage.used - size;
        sock->has_sent = true;
        p2pi_list_append(&loop->flush, &sock->flush);
    }
    sock->out.queued += size;
    if (sock->out.queued >= loop->options.high_water) sock->held |= P2PI_HELD_FULL;
    loop->stats.messages_out++;
    return P2P_OK;
}

int p2p_message_send(p2p_socket_t *socket, const p2p_message_t *message) {
    if (socket == NULL || message == NULL) return p2pi_fail(P2P_ERR_INVALID);
    if (message->length >= P2PI_SHARE_SIZE)
        return send_otherwise(socket, message->data, message->length, p2pi_message_of(message));
    p2p_event_loop_t *loop = socket->loop;
    if (loop != NULL) {
        if (loop->messages.sent_last == message) return send_again(socket, message);
        loop->messages.sent_last = message;
    }
    return p2p_message_send_data(socket, message->data, message->length);
}

/* ---- writing -------------------------------------------------------------------------------------------- */

P2PI_UNUSUAL static void progressed(p2p_event_loop_t *loop, p2p_socket_t *sock) {
    p2pi_deadline_put_off(sock, P2P_DEADLINE_IDLE);
    p2pi_shutdown_advance(sock);
    if (sock->remainder) {
        p2pi_remainder_advance(sock);
    } else if ((sock->held & P2PI_HELD_FULL) != 0 && sock->out.queued < loop->options.low_water) {
        sock->held &= (uint8_t)~P2PI_HELD_FULL;
        p2pi_socket_tell(sock, P2PI_TELL_WRITE | P2PI_TELL_INPUT);
    }
}

void p2pi_output_sent(p2p_event_loop_t *loop, p2p_socket_t *sock, int64_t result) {
    if (result < 0) {
        p2pi_output_fail(sock, loop->sys->translate_error((int)-result));
        return;
    }
    p2pi_outbox_consume(&sock->out, &loop->chunks, (size_t)result);
    loop->stats.bytes_out += (uint64_t)result;
    p2pi_output_schedule(sock);
    if (sock->out.queued > 0)
        p2pi_deadline_put_off(sock, P2P_DEADLINE_WRITE);
    else
        p2pi_deadline_stop(sock, P2P_DEADLINE_WRITE);
    progressed(loop, sock);
}

P2PI_APART static void send_chunks(p2p_event_loop_t *loop, p2p_socket_t *sock) {
    bool timed = sock->remainder || p2pi_deadline_begin(sock, P2P_DEADLINE_WRITE) == P2P_OK;
    p2pi_request *request = timed ? p2pi_request_new(sock) : NULL;
    if (request == NULL) {
        p2pi_output_fail(sock, P2P_ERR_NO_MEMORY);
        return;
    }
    request->op.iov = request->u.iov;
    request->op.iov_count = p2pi_outbox_gather(&sock->out, request->u.iov, P2PI_IOV_MAX);
    bool waited_for = sock->held != 0 || sock->remainder || request->op.iov_count == P2PI_IOV_MAX;
    request->op.flags = waited_for ? 0 : P2P_OP_QUIET;
    int result = loop->ops.send(loop->backend, &request->op);
    if (result < 0) {
        sock->request = NULL;
        p2pi_request_free(loop, request);
        p2pi_output_fail(sock, p2pi_fail_os(loop->sys, result));
    }
    p2pi_request_drain(loop);
}

/* What the socket does not take of its staged bytes becomes chunks, and waits like any backlog. */
P2PI_UNUSUAL static void send_rest(p2p_event_loop_t *loop, p2p_socket_t *sock, int64_t result) {
    int error = result < 0 ? loop->sys->translate_error((int)-result) : 0;
    if (error == P2P_ERR_WOULD_BLOCK) {
        error = unstage(sock);
    } else if (error == 0) {
        sock->out.staged_at += (uint32_t)result;
        sock->out.queued -= (uint32_t)result;
        loop->stats.bytes_out += (uint64_t)result;
        error = unstage(sock);
    }
    if (error != 0)
        p2pi_output_fail(sock, error);
    else
        send_chunks(loop, sock);
}

/* Only where the emulation sends is anything staged: this is its send, without a request to keep for later. */
static inline void send_staged(p2p_event_loop_t *loop, p2p_socket_t *sock) {
    int64_t result = loop->sys->send(sock->handle, loop->stage.data + sock->out.staged_at, sock->out.queued, 1);
    if (result != sock->out.queued) {
        send_rest(loop, sock, result);
        return;
    }
    sock->out.queued = 0;
    loop->stats.bytes_out += (uint64_t)result;
    if (sock->held != 0 || sock->extras != NULL) progressed(loop, sock);
}

/* Ends because a socket leaves the list until its request is done, and comes back only after progress. */
void p2pi_output_flush(p2p_event_loop_t *loop) {
    p2pi_link *link;
    while ((link = p2pi_list_pop(&loop->flush)) != NULL) {
        p2p_socket_t *sock = P2PI_CONTAINER(link, p2p_socket_t, flush);
        if (sock->out.first == NULL)
            send_staged(loop, sock);
        else
            send_chunks(loop, sock);
    }
    loop->stage.used = 0; /* whoever had staged something was in the list */
    loop->stage.last = NULL;
}

/* ---- letting go ----------------------------------------------------------------------------------------- */

void p2pi_output_cancel(p2p_socket_t *sock) {
    p2p_event_loop_t *loop = sock->loop;
    if (sock->request == NULL || sock->request->cancelled) return;
    sock->request->cancelled = true;
    loop->ops.cancel(loop->backend, &sock->request->op);
    p2pi_request_drain(loop);
}

/* The request goes on without its socket. */
static void orphan_request(p2p_socket_t *sock) {
    if (sock->request == NULL) return;
    if (!sock->request->is_connect) { /* what it points to must outlive it */
        sock->request->orphan = sock->out;
        sock->out = (p2pi_outbox){ 0 };
    }
    sock->request->socket = NULL;
    sock->request = NULL;
}

void p2pi_output_detach(p2p_socket_t *sock) {
    orphan_request(sock);
    int result = unstage(sock);
    if (result == P2P_OK) return;
    uint32_t lost = p2pi_output_bytes(sock);
    sock->output_error = (int8_t)result;
    p2pi_output_drop(sock);
    sock->lost = lost;
}

void p2pi_output_drop(p2p_socket_t *sock) {
    if (sock->loop->stage.last == sock) sock->loop->stage.last = NULL;
    p2pi_outbox_clear(&sock->out, &sock->loop->chunks);
}

void p2pi_output_abandon(p2p_socket_t *sock) {
    uint32_t lost = p2pi_output_bytes(sock);
    p2pi_deadline_stop(sock, P2P_DEADLINE_WRITE);
    if (!sock->remainder) p2pi_deadline_stop(sock, P2P_DEADLINE_DRAIN);
    p2pi_output_cancel(sock);
    orphan_request(sock);
    p2pi_list_remove(&sock->flush);
    p2pi_output_drop(sock);
    sock->lost = lost;
}

/* Failures of the TCP connection itself: receiving will find its end, too. */
static bool ends_input(int error) {
    return error == P2P_ERR_RESET || error == P2P_ERR_TIMED_OUT || error == P2P_ERR_UNREACHABLE ||
           error == P2P_ERR_REFUSED;
}

/* Output is over. Where input goes on until its end, that tells of it; a later failure is told by itself. */
void p2pi_output_fail(p2p_socket_t *sock, int error) {
    if (error == P2P_ERR_CLOSED) error = P2P_ERR_RESET; /* EPIPE: what was queued did not arrive */
    bool first = sock->output_error == 0 || (sock->ending && sock->output_error == P2P_ERR_CLOSED);
    bool tell = first && sock->end != 0;
    if (first) sock->output_error = (int8_t)error;
    sock->held &= (uint8_t)~P2PI_HELD_FULL;
    p2pi_output_abandon(sock);
    if (sock->remainder || !ends_input(error)) p2pi_connection_end(sock, error);
    if (sock->remainder)
        p2pi_remainder_advance(sock);
    else
        p2pi_socket_tell(sock, tell ? P2PI_TELL_INPUT | P2PI_TELL_ERROR : P2PI_TELL_INPUT);
}
