/*
 * The way of nearly all bytes, from the system to on_message: inline, as every message passes here. Whatever is not as
 * usual has a function in connection.c or emul.c.
 */
#ifndef P2PI_RECEIVE_H
#define P2PI_RECEIVE_H

#include "internal.h"

/* How many bytes are at hand. */
static inline size_t p2pi_input_left(const p2p_event_loop_t *loop) {
    return (size_t)(loop->input.end - loop->input.data);
}

static inline void p2pi_input_set(p2p_event_loop_t *loop, p2p_socket_t *sock, const uint8_t *data, size_t length) {
    loop->input.socket = sock;
    loop->input.data = data;
    loop->input.end = data + length;
}

/* Nothing but whole messages, all for on_message, is to be thought of: before a callback, and still after it. */
static inline bool p2pi_input_usual(const p2p_socket_t *sock) {
    return sock->type == P2P_TCP && sock->state == P2PI_STATE_CONNECTED && sock->output_error == 0 && sock->held == 0 &&
           sock->end == 0 && sock->connect_error == 0 && sock->short_callbacks == 0 && sock->receiving == 1;
}

/* connection.c: input that was set but is not as usual; or, as far as is known, only not for on_message; or that is not
 * as usual any more, or not all of it whole messages */
void p2pi_connection_received_otherwise(p2p_event_loop_t *loop, p2p_socket_t *sock);
void p2pi_connection_received_pulled(p2p_event_loop_t *loop, p2p_socket_t *sock, const uint8_t *data, size_t length);
void p2pi_connection_received_more(p2p_event_loop_t *loop, p2p_socket_t *sock);

/* Bytes received. The usual case has a short way: call_at_hand without what can be asked once for all messages. */
static inline void p2pi_connection_received(p2p_event_loop_t *loop, p2p_socket_t *sock, const uint8_t *data,
                                            size_t length) {
    loop->stats.bytes_in += length;
    p2pi_input_set(loop, sock, data, length);
    if (sock->extras != NULL) p2pi_deadline_put_off(sock, P2P_DEADLINE_IDLE);
    if (sock->in.inbox != NULL || loop->options.measure_callbacks) {
        p2pi_connection_received_otherwise(loop, sock);
        return;
    }
    p2p_message_callback on_message = p2pi_input_usual(sock) ? sock->callbacks.set->on_message : NULL;
    if (on_message == NULL) {
        p2pi_connection_received_pulled(loop, sock, data, length);
        return;
    }
    uint32_t size, budget = loop->input.budget;
    size_t missing;
    p2pi_socket_pin(sock);
    while (p2pi_frame_inspect(data, length, sock->message_limit, &size, &missing) == P2PI_FRAME_WHOLE) {
        data += P2P_FRAME_HEADER_SIZE;
        loop->input.data = data + size;
        loop->stats.messages_in++;
        loop->stats.callbacks++;
        on_message(sock, data, size, sock->user_data);
        if (!p2pi_input_usual(sock)) break;
        data = loop->input.data; /* which p2p_message_recv may have moved */
        length = p2pi_input_left(loop);
        if (length == 0) {
            loop->input.socket = NULL;
            sock->pins--;
            return;
        }
        if (--budget == 0) break;
    }
    p2pi_connection_received_more(loop, sock);
}

/*
 * connection.c: where the rest of a long message goes, of which a part is there, and how much of it, `at_most`. NULL,
 * and *room is left alone, for short rests and for all that is not as usual. And: it has been received there.
 */
uint8_t *p2pi_connection_place(p2p_socket_t *sock, uint32_t at_most, uint32_t *room);
void p2pi_connection_received_in_place(p2p_event_loop_t *loop, p2p_socket_t *sock, size_t length);

/* emul.c: receive until the socket is empty or has had its share of the turn; `got` is what the first call gave */
void p2pi_emul_recv_all(p2p_event_loop_t *loop, p2pi_entry *entry, int64_t got);

/* A connection is ready, and receives by emulation. */
static inline void p2pi_emul_recv(p2p_event_loop_t *loop, p2pi_entry *entry) {
    int64_t got = loop->sys->recv(entry->io.handle, loop->buffers.slab, loop->buffers.size, 1);
    if (got > 0 && got < loop->buffers.size) /* all there was: another call would only be told so */
        p2pi_connection_received(loop, entry->owner, loop->buffers.slab, (size_t)got);
    else
        p2pi_emul_recv_all(loop, entry, got);
}

#endif
