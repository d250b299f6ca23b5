/*
 * Message mode, the input side: bytes received become messages. Whole frames are delivered from where they
 * lie, in the receive buffer; what is left over is kept in the inbox. Ends are told after the last message, once.
 */
#include "receive.h"

void p2pi_connection_set_limit(p2p_socket_t *sock) {
    if (sock->own_limit) return;
    sock->message_limit = sock->loop != NULL ? sock->loop->options.max_message_size : P2P_DEFAULT_MAX_MESSAGE_SIZE;
}

/* Nothing more will come, or nothing that can be understood. */
void p2pi_connection_end(p2p_socket_t *sock, int error) {
    if (sock->end != 0) return;
    if (error == P2P_ERR_CLOSED && sock->output_error != 0) error = sock->output_error; /* CLOSED: ended by us */
    sock->end = (int8_t)error;
    p2pi_deadline_stop(sock, P2P_DEADLINE_IDLE);
    p2pi_deadline_stop(sock, P2P_DEADLINE_READ);
    p2pi_half_open_done(sock);
    if (error == P2P_ERR_CLOSED) return;
    sock->output_error = (int8_t)error; /* the connection is dead both ways; told as the end of input */
    if (error == P2P_ERR_TOO_LONG) return; /* the answers to what came before still go out */
    sock->held &= (uint8_t)~P2PI_HELD_FULL;
    p2pi_output_abandon(sock);
}

/* The next frame when there is an inbox: completed from the bytes at hand. */
static p2pi_frame_status next_from_inbox(p2p_socket_t *sock, const uint8_t **payload, uint32_t *length) {
    p2p_event_loop_t *loop = sock->loop;
    for (;;) {
        const uint8_t *data = sock->in.inbox->data + sock->in.inbox->head;
        size_t missing = 0;
        size_t have = p2pi_inbox_length(sock);
        p2pi_frame_status status = p2pi_frame_inspect(data, have, sock->message_limit, length, &missing);
        *payload = data + P2P_FRAME_HEADER_SIZE;
        if (status != P2PI_FRAME_PARTIAL || loop->input.socket != sock || p2pi_input_left(loop) == 0) return status;
        if (missing > p2pi_input_left(loop)) missing = p2pi_input_left(loop);
        int result = p2pi_inbox_append(sock, loop->input.data, missing);
        if (result < 0) {
            p2pi_connection_end(sock, result);
            return P2PI_FRAME_PARTIAL;
        }
        loop->input.data += missing;
    }
}

/* The next frame: of the inbox, or else whole among the bytes at hand. */
static inline p2pi_frame_status next_frame(p2p_socket_t *sock, const uint8_t **payload, uint32_t *length) {
    p2p_event_loop_t *loop = sock->loop;
    size_t missing;
    if (sock->in.inbox != NULL && p2pi_inbox_length(sock) > 0) return next_from_inbox(sock, payload, length);
    if (loop->input.socket != sock || p2pi_input_left(loop) == 0) return P2PI_FRAME_PARTIAL;
    *payload = loop->input.data + P2P_FRAME_HEADER_SIZE;
    return p2pi_frame_inspect(loop->input.data, p2pi_input_left(loop), sock->message_limit, length, &missing);
}

static void consume_frame(p2p_socket_t *sock, uint32_t length) {
    p2p_event_loop_t *loop = sock->loop;
    size_t size = (size_t)length + P2P_FRAME_HEADER_SIZE;
    if (sock->in.inbox != NULL && p2pi_inbox_length(sock) > 0) {
        p2pi_inbox_consume(sock, size);
        p2pi_deadline_stop(sock, P2P_DEADLINE_READ);
    } else {
        loop->input.data += size;
    }
    loop->stats.messages_in++;
}

/* A header that claims too much can't be skipped: where the next one begins is not to be trusted. */
P2PI_UNUSUAL static void end_too_long(p2p_socket_t *sock) {
    p2pi_connection_end(sock, P2P_ERR_TOO_LONG);
    p2pi_inbox_release(sock);
    if (sock->loop->input.socket == sock) sock->loop->input.end = sock->loop->input.data;
}

static bool frame_waits(p2p_socket_t *sock) {
    const uint8_t *payload;
    uint32_t length;
    p2pi_frame_status status = next_frame(sock, &payload, &length);
    if (status == P2PI_FRAME_TOO_LONG) end_too_long(sock);
    return status == P2PI_FRAME_WHOLE;
}

static inline bool held_back(const p2p_socket_t *sock) {
    return (sock->held & P2PI_HELD_PAUSED) != 0 ||
           ((sock->held & P2PI_HELD_FULL) != 0 && sock->loop->options.auto_backpressure);
}

p2p_message_t *p2pi_connection_take(p2p_socket_t *sock) {
    const uint8_t *payload;
    uint32_t length;
    p2p_event_loop_t *loop = sock->loop;
    /* What on_read announced is given even if the callback has filled the queue meanwhile. */
    bool announced = loop->input.socket == sock && (loop->input.announced || loop->input.at_hand);
    if (announced) loop->input.announced = loop->input.at_hand = false;
    p2pi_frame_status status = held_back(sock) && !announced ? P2PI_FRAME_PARTIAL : next_frame(sock, &payload, &length);
    if (status == P2PI_FRAME_TOO_LONG) end_too_long(sock);
    if (status != P2PI_FRAME_WHOLE) {
        p2pi_fail(sock->end_told ? sock->end : P2P_ERR_WOULD_BLOCK);
        return NULL;
    }
    p2p_message_t *message = p2p_message_create(payload, length);
    if (message == NULL) return NULL;
    consume_frame(sock, length);
    if (loop->input.socket != sock) p2pi_socket_tell(sock, P2PI_TELL_INPUT); /* receiving may go on */
    return message;
}

/* Whether there are bytes to look at, and they may be. */
static inline bool input_waits(const p2p_event_loop_t *loop, const p2p_socket_t *sock) {
    return (p2pi_input_left(loop) > 0 || sock->in.inbox != NULL) && !held_back(sock);
}

static void call_on_read(p2p_event_loop_t *loop, p2p_socket_t *sock, p2p_read_callback on_read) {
    loop->input.announced = true;
    int64_t entered_ns = p2pi_callback_enter(loop);
    on_read(sock, sock->user_data);
    p2pi_callback_leave(loop, entered_ns);
    loop->input.announced = false;
}

/* A frame of the inbox stays where it is while the callback looks into it. */
static bool call_from_inbox(p2p_event_loop_t *loop, p2p_socket_t *sock, p2p_message_callback on_message) {
    const uint8_t *payload;
    uint32_t length;
    p2pi_frame_status status = next_frame(sock, &payload, &length);
    if (status == P2PI_FRAME_TOO_LONG) end_too_long(sock);
    if (status != P2PI_FRAME_WHOLE) return false;
    p2pi_inbox *lent = p2pi_inbox_length(sock) > 0 ? sock->in.inbox : NULL;
    if (lent != NULL) lent->lent = true;
    consume_frame(sock, length);
    int64_t entered_ns = p2pi_callback_enter(loop);
    on_message(sock, payload, length, sock->user_data);
    p2pi_callback_leave(loop, entered_ns);
    if (lent != NULL) p2pi_inbox_unlend(sock, lent);
    return true;
}

/* A frame that lies whole in the receive buffer. */
static inline bool call_at_hand(p2p_event_loop_t *loop, p2p_socket_t *sock, p2p_message_callback on_message) {
    const uint8_t *frame = loop->input.data;
    uint32_t length;
    size_t missing;
    p2pi_frame_status status = p2pi_frame_inspect(frame, p2pi_input_left(loop), sock->message_limit, &length, &missing);
    if (status != P2PI_FRAME_WHOLE) {
        if (status == P2PI_FRAME_TOO_LONG) end_too_long(sock);
        return false;
    }
    size_t size = (size_t)length + P2P_FRAME_HEADER_SIZE;
    loop->input.data = frame + size;
    loop->stats.messages_in++;
    int64_t entered_ns = p2pi_callback_enter(loop);
    on_message(sock, frame + P2P_FRAME_HEADER_SIZE, length, sock->user_data);
    p2pi_callback_leave(loop, entered_ns);
    return true;
}

static size_t input_length(const p2p_socket_t *sock) {
    return p2pi_input_left(sock->loop) + p2pi_inbox_length(sock);
}

static void call_on_message(p2p_event_loop_t *loop, p2p_socket_t *sock, p2p_message_callback on_message) {
    uint32_t budget = loop->input.budget;
    size_t before = input_length(sock);
    bool more;
    do
        more = sock->in.inbox == NULL ? call_at_hand(loop, sock, on_message) : call_from_inbox(loop, sock, on_message);
    while (more && --budget > 0 && loop->input.socket == sock && input_waits(loop, sock) &&
           before - input_length(sock) < loop->options.read_budget);
}

static void tell_end(p2p_event_loop_t *loop, p2p_socket_t *sock) {
    p2p_socket_callbacks_t room;
    const p2p_socket_callbacks_t *callbacks = p2pi_callbacks(sock, &room);
    if (sock->end == P2P_ERR_CLOSED && p2pi_inbox_length(sock) > 0) sock->end = P2P_ERR_TRUNCATED;
    p2pi_inbox_release(sock);
    sock->end_told = true;
    if (sock->end != P2P_ERR_CLOSED && callbacks->on_error != NULL)
        p2pi_tell_error(loop, sock, sock->end);
    else if (callbacks->on_read != NULL)
        call_on_read(loop, sock, callbacks->on_read);
}

void p2pi_connection_save_input(p2p_socket_t *sock) {
    p2p_event_loop_t *loop = sock->loop;
    int result = p2pi_inbox_append(sock, loop->input.data, p2pi_input_left(loop));
    loop->input.end = loop->input.data;
    if (result < 0) p2pi_connection_end(sock, result);
}

/* Without a callback for them, messages wait until p2p_message_recv is called. */
static bool anybody_reads(const p2p_socket_t *sock) {
    p2p_socket_callbacks_t room;
    const p2p_socket_callbacks_t *callbacks = p2pi_callbacks(sock, &room);
    return callbacks->on_message != NULL || callbacks->on_read != NULL;
}

/* Keep what was not taken, and see what is still to be told: now, or in the next turn. */
P2PI_UNUSUAL static void settle(p2p_event_loop_t *loop, p2p_socket_t *sock, bool read_called) {
    bool waits = false;
    if (p2pi_input_left(loop) > 0 || sock->in.inbox != NULL) {
        p2pi_connection_save_input(sock);
        waits = frame_waits(sock);
    }
    bool ended = sock->end != 0 && !sock->end_told && (sock->held & P2PI_HELD_PAUSED) == 0;
    bool again = waits ? anybody_reads(sock) && !held_back(sock) : ended;
    if (again && !waits && !read_called)
        tell_end(loop, sock);
    else if (again)
        p2pi_socket_tell(sock, P2PI_TELL_INPUT);
    if (loop->input.socket != sock) return;
    loop->input.socket = NULL;
    p2pi_connection_pump(sock);
}

/* All but the usual case: messages that are pulled, or in pieces, or held back; ends. */
P2PI_UNUSUAL static void deliver(p2p_event_loop_t *loop, p2p_socket_t *sock) {
    p2p_socket_callbacks_t room;
    const p2p_socket_callbacks_t *callbacks = p2pi_callbacks(sock, &room);
    bool read_called = false;
    p2pi_socket_pin(sock);
    if ((sock->held & P2PI_HELD_HALF_OPEN) != 0 && frame_waits(sock)) p2pi_half_open_done(sock);
    if (input_waits(loop, sock)) {
        if (callbacks->on_message != NULL) {
            call_on_message(loop, sock, callbacks->on_message);
        } else if (callbacks->on_read != NULL && frame_waits(sock)) {
            read_called = true;
            call_on_read(loop, sock, callbacks->on_read);
        }
    }
    if (loop->input.socket == sock) settle(loop, sock, read_called);
    p2pi_socket_unpin(sock);
}

/* One round for a socket that has something left over from before, or an end to tell, or may receive again. */
void p2pi_connection_resume(p2p_event_loop_t *loop, p2p_socket_t *sock) {
    static const uint8_t nothing[1]; /* an address to count from */
    p2pi_input_set(loop, sock, nothing, 0);
    deliver(loop, sock);
}

/* As p2pi_input_usual, with short callbacks or not. */
static inline bool usual(const p2p_socket_t *sock) {
    return sock->type == P2P_TCP && sock->state == P2PI_STATE_CONNECTED && sock->output_error == 0 && sock->held == 0 &&
           sock->end == 0 && sock->connect_error == 0 && sock->receiving == 1;
}

uint8_t *p2pi_connection_place(p2p_socket_t *sock, uint32_t at_most, uint32_t *room) {
    return usual(sock) ? p2pi_inbox_place(sock, at_most, room) : NULL;
}

void p2pi_connection_received_in_place(p2p_event_loop_t *loop, p2p_socket_t *sock, size_t length) {
    sock->in.inbox->tail += (uint32_t)length;
    loop->stats.bytes_in += length;
    if (sock->extras != NULL) p2pi_deadline_put_off(sock, P2P_DEADLINE_IDLE);
    p2pi_connection_resume(loop, sock);
}

/* Bytes received that are for a later round: this turn's share is used up, or a round is owed already. */
void p2pi_connection_put_off(p2p_event_loop_t *loop, p2p_socket_t *sock, const uint8_t *data, size_t length) {
    loop->stats.bytes_in += length;
    if (sock->remainder || sock->end != 0) {
        p2pi_connection_pump(sock);
        return;
    }
    p2pi_input_set(loop, sock, data, length);
    settle(loop, sock, true);
}

P2PI_UNUSUAL void p2pi_connection_received_otherwise(p2p_event_loop_t *loop, p2p_socket_t *sock) {
    if (sock->remainder || sock->end != 0) { /* reads on only for the end, or was at it when receiving was stopped */
        loop->input.socket = NULL;
        p2pi_connection_pump(sock);
    } else {
        deliver(loop, sock);
    }
}

static inline p2p_read_callback usual_on_read(const p2p_socket_t *sock) {
    if (!usual(sock)) return NULL;
    if (sock->short_callbacks) return sock->callbacks.on_read;
    return sock->callbacks.set->on_message == NULL ? sock->callbacks.set->on_read : NULL;
}

/* More is there, or something has become of the socket. */
P2PI_UNUSUAL static void pulled_otherwise(p2p_event_loop_t *loop, p2p_socket_t *sock) {
    if (loop->input.socket == sock) settle(loop, sock, true);
    p2pi_socket_unpin(sock);
}

/* deliver's short way: the message at hand is announced, and is all there is if it is taken. */
void p2pi_connection_received_pulled(p2p_event_loop_t *loop, p2p_socket_t *sock, const uint8_t *data, size_t length) {
    p2p_read_callback on_read = usual_on_read(sock);
    size_t missing;
    if (on_read == NULL || p2pi_frame_inspect(data, length, sock->message_limit, &loop->input.size, &missing) !=
                               P2PI_FRAME_WHOLE) {
        p2pi_connection_received_otherwise(loop, sock);
        return;
    }
    p2pi_socket_pin(sock);
    loop->input.at_hand = true;
    loop->stats.callbacks++;
    on_read(sock, sock->user_data);
    loop->input.at_hand = false;
    if (usual(sock) && p2pi_input_left(loop) == 0) {
        loop->input.socket = NULL;
        sock->pins--;
    } else {
        pulled_otherwise(loop, sock);
    }
}

/* Messages did not take it all, or something has become of the socket. */
P2PI_UNUSUAL void p2pi_connection_received_more(p2p_event_loop_t *loop, p2p_socket_t *sock) {
    if (loop->input.socket == sock) settle(loop, sock, false);
    p2pi_socket_unpin(sock);
}

static void cannot_receive(p2p_socket_t *sock, int error) {
    p2pi_connection_end(sock, error);
    if (sock->remainder)
        p2pi_remainder_finish(sock);
    else
        p2pi_socket_tell(sock, P2PI_TELL_INPUT);
}

/* A message that was begun must end in time; the time counts while it is being received. */
static void time_message(p2p_socket_t *sock) {
    bool begun = sock->in.inbox != NULL || (sock->held & P2PI_HELD_HALF_OPEN) != 0;
    if (!sock->receiving || !begun || sock->remainder)
        p2pi_deadline_stop(sock, P2P_DEADLINE_READ);
    else if (p2pi_deadline_begin(sock, P2P_DEADLINE_READ) < 0)
        cannot_receive(sock, P2P_ERR_NO_MEMORY);
}

/* Receive while there is room for it: not behind untaken messages, not while the own output is stuck. */
void p2pi_connection_pump(p2p_socket_t *sock) {
    p2p_event_loop_t *loop = sock->loop;
    bool wanted = sock->end == 0 && sock->state == P2PI_STATE_CONNECTED;
    if (wanted && !sock->remainder) wanted = !held_back(sock) && (sock->in.inbox == NULL || !frame_waits(sock));
    if (wanted == sock->receiving) {
        time_message(sock);
        return;
    }
    int result = wanted ? loop->ops.recv_start(loop->backend, &sock->entry->io)
                        : loop->ops.recv_stop(loop->backend, &sock->entry->io);
    if (result < 0) {
        cannot_receive(sock, p2pi_fail_os(loop->sys, result));
        return;
    }
    sock->receiving = wanted;
    time_message(sock);
}

int p2pi_connection_start(p2p_socket_t *sock) {
    p2p_event_loop_t *loop = sock->loop;
    int result = p2pi_limits_enter(sock);
    if (result < 0) return result;
    if (sock->end == 0 && !held_back(sock)) {
        result = loop->ops.recv_start(loop->backend, &sock->entry->io);
        if (result < 0) return p2pi_fail_os(loop->sys, result);
        sock->receiving = true;
    }
    if (p2pi_inbox_length(sock) > 0 || sock->end != 0) {
        sock->end_told = false;
        p2pi_socket_tell(sock, P2PI_TELL_INPUT);
    }
    p2pi_output_schedule(sock);
    result = sock->end == 0 ? p2pi_deadline_start(sock, P2P_DEADLINE_IDLE) : P2P_OK;
    return result < 0 ? result : p2pi_drain_joined(sock);
}

/* A RECV event that came while the socket was leaving its loop. */
void p2pi_connection_keep(p2p_socket_t *sock, const p2p_backend_event *event) {
    p2p_event_loop_t *loop = sock->loop;
    if (event->result > 0) {
        loop->stats.bytes_in += (uint64_t)event->result;
        int result = p2pi_inbox_append(sock, p2pi_buffer_of(loop, event), (size_t)event->result);
        if (result < 0) p2pi_connection_end(sock, result);
    } else if ((event->flags & P2P_NO_BUFFERS) == 0) {
        p2pi_connection_end(sock, event->result == 0 ? P2P_ERR_CLOSED : loop->sys->translate_error(-event->result));
    }
}

/* A RECV event without bytes: the end, or an error. */
void p2pi_connection_received_end(p2p_event_loop_t *loop, p2p_socket_t *sock, int64_t result) {
    sock->receiving = false;
    p2pi_connection_end(sock, result == 0 ? P2P_ERR_CLOSED : p2pi_fail_os(loop->sys, result));
    if (sock->remainder)
        p2pi_remainder_advance(sock);
    else
        p2pi_connection_resume(loop, sock);
}
