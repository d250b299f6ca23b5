/* A socket, and what the files around it do for each other. Included by internal.h. */
#ifndef P2PI_SOCKET_H
#define P2PI_SOCKET_H

#include "check.h"
#include "list.h"
#include "outbox.h"
#include "registry.h"

#include <p2pnet/backend.h>
#include <p2pnet/p2pnet.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- message.c ------------------------------------------------------------------------------- */

/* What is behind a p2p_message_t. The header stands right before the payload, so a frame is one piece. */
typedef struct p2pi_message {
    p2p_message_t public_part;
    size_t capacity; /* of payload */
    atomic_uint references;
    uint8_t header[P2P_FRAME_HEADER_SIZE];
    uint8_t payload[];
} p2pi_message;

#define P2PI_MESSAGE_SPARES 16u /* a loop keeps at most this many, */
#define P2PI_SPARE_SIZE 1024u   /* none longer */

/* Messages that were freed in the thread of a loop that runs: it most likely takes as many again. */
typedef struct p2pi_message_pool {
    p2pi_message *spare[P2PI_MESSAGE_SPARES];
    uint32_t count;
    struct p2pi_message_pool *outer; /* of the loop in whose callback this one runs */
    const p2p_message_t *sent_last;  /* may be sent to others, too; NULL once one has been freed */
} p2pi_message_pool;

/* From here on, and no longer, this thread's messages come from this pool and go there. */
void p2pi_messages_enter(p2pi_message_pool *pool);
void p2pi_messages_leave(p2pi_message_pool *pool);
void p2pi_messages_fini(p2pi_message_pool *pool);

static inline p2pi_message *p2pi_message_of(const p2p_message_t *message) {
    return P2PI_CONTAINER((uintptr_t)message, p2pi_message, public_part);
}

static inline p2pi_message *p2pi_message_retain(p2pi_message *message) {
    atomic_fetch_add_explicit(&message->references, 1u, memory_order_relaxed);
    return message;
}

/* Sending outside a loop, and why a socket that is not simply connected can't send. */
int p2pi_message_send_now(p2p_socket_t *sock, const void *data, uint32_t length, p2pi_message *message);
int p2pi_message_usable(p2p_socket_t *sock);
int p2pi_message_write_out(p2p_socket_t *sock);

/* From this size on a message sent by p2p_message_send is referred to, not copied. */
#define P2PI_SHARE_SIZE 1024u

/* Shorter from now on, and smaller: for one that is nobody else's yet. The old pointer is dead. */
p2p_message_t *p2pi_message_cut(p2p_message_t *message, uint32_t length);

/* ---- sockets: socket.c, connection.c, listener.c, datagram.c ----------------------------------- */

typedef enum p2pi_state {
    P2PI_STATE_FRESH,
    P2PI_STATE_BOUND,
    P2PI_STATE_LISTENING,
    P2PI_STATE_CONNECTING,
    P2PI_STATE_CONNECTED,
    P2PI_STATE_CLOSED /* on_close is still to come */
} p2pi_state;

/* What the next turn owes a socket. */
#define P2PI_TELL_CONNECT 0x1u
#define P2PI_TELL_INPUT 0x2u
#define P2PI_TELL_WRITE 0x4u
#define P2PI_TELL_ERROR 0x8u

/* Why a socket's input, or the short way through its output, may not be taken as usual. */
#define P2PI_HELD_FULL 0x1u   /* output reached high_water, not below low_water since */
#define P2PI_HELD_PAUSED 0x2u /* p2p_socket_pause */
#define P2PI_HELD_HALF_OPEN 0x4u /* limits.c: no whole message so far */
#define P2PI_HELD_CLOSED 0x8u    /* by the user */

/* Bytes received that are no whole message yet, or that nobody has taken. */
typedef struct p2pi_inbox {
    uint32_t head, tail, capacity;
    bool lent; /* a callback looks into it: it must not move */
    uint8_t data[];
} p2pi_inbox;

/* A send or connect under way. */
typedef struct p2pi_request {
    p2p_op op;
    struct p2pi_request *next; /* in loop->done, or among the spare ones */
    p2pi_link in_flight;
    p2p_socket_t *socket;      /* NULL: nobody wants the result any more */
    int64_t result;            /* emulation: handed over by loop->done */
    p2pi_outbox orphan;        /* what op.iov points to, once the socket is gone */
    bool is_connect;
    bool cancelled;
    union {
        p2p_address_t address;
        p2p_iov iov[P2PI_IOV_MAX];
    } u;
} p2pi_request;

/* What only a listener in a loop has. */
typedef struct p2pi_listener {
    p2p_timer_t *resume; /* runs while accepting pauses */
    struct p2pi_waiting {
        p2p_handle_t handle;
        bool nonblocking;
    } *waiting; /* accepted, not taken yet; oldest first */
    uint32_t waiting_count, waiting_capacity;
    bool accepting; /* accept_start is in force */
    bool paused;
    uint32_t announced;      /* on_read ran so often in this turn: */
    uint64_t announced_turn;
    p2p_socket_t *socket;
    p2pi_link resting; /* in limits.resting: told, when one connection less is there */
} p2pi_listener;

typedef struct p2pi_connect p2pi_connect;
typedef struct p2pi_address p2pi_address;

#define P2PI_OPTION_COUNT 8 /* of p2p_socket_option_t */

/* What few sockets need, made when the first of it is. All zero when nothing is needed any more. */
typedef struct p2pi_extras {
    p2p_timer_t *timer; /* deadline.c: NULL, or runs to armed_ns */
    int64_t armed_ns;   /* 0: not */
    int64_t due_ns[P2P_DEADLINE_DRAIN + 1];      /* by p2p_deadline_t; 0: does not run */
    uint32_t timeout_ms[P2P_DEADLINE_DRAIN + 1]; /* this socket's own; 0: the loop's */
    p2pi_connect *connect;                       /* by name, and under way: connect.c */
    uint8_t timed_out;                           /* p2p_deadline_t: which has passed */
    p2pi_address *address; /* limits.c: where it is counted */
    p2p_socket_t *socket;  /* whose extras, while half-open */
    p2pi_link half_open;   /* in limits.half_open */
    uint8_t options_set;                         /* option.c, bit N: option N + 1 */
    int options[P2PI_OPTION_COUNT];              /* what was asked for, where options_set has its bit */
} p2pi_extras;

/* An idle connection costs this and its entry, nothing else: tests/unit/registry.c holds the size. */
struct p2p_socket {
    p2p_event_loop_t *loop; /* NULL: not registered */
    p2pi_entry *entry;
    union {
        const p2p_socket_callbacks_t *set;
        p2p_read_callback on_read; /* short form: added by p2p_event_loop_add_socket */
    } callbacks;
    void *user_data;
    p2pi_link again; /* in loop->again: the next turn owes it something; or in loop->closing: freed in step 8 */
    p2pi_link flush; /* in loop->flush: output to be tried */
    union {
        p2pi_inbox *inbox;       /* connection */
        p2pi_listener *listener; /* listener in a loop */
    } in;
    p2pi_outbox out;
    p2pi_request *request; /* the send or connect in flight */
    p2pi_extras *extras;   /* NULL: none */
    p2p_handle_t handle;
    uint32_t lost; /* bytes that were dropped unsent */
    /* What every message asks for stands side by side, 8 bytes, none a bool: compilers make one comparison of all. */
    uint8_t type;         /* p2p_socket_type_t */
    uint8_t state;        /* p2pi_state */
    int8_t output_error;  /* why output is impossible */
    uint8_t held;         /* P2PI_HELD_*: 0 is the usual case */
    int8_t end;           /* how input ended: P2P_ERR_*, 0 = it goes on */
    int8_t connect_error; /* the answer still to be told */
    uint8_t short_callbacks; /* 0 or 1 */
    uint8_t receiving;       /* 1: recv_start is in force */
    uint32_t message_limit;  /* max_message_size: the user's, or the loop's, or the default */
    int8_t close_reason;     /* for on_close */
    uint8_t pins;            /* callbacks that have it on the stack: not to be freed */
    uint8_t tell : 4;        /* P2PI_TELL_* */
    bool closing : 1;   /* closed by the user */
    bool remainder : 1; /* and still writing */
    bool end_told : 1;
    bool has_sent : 1; /* the system may hold output that the peer has not confirmed */
    bool doomed : 1;   /* closed while pinned */
    bool accepted : 1; /* loop_free closes it */
    bool want_nonblocking : 1; /* what the user asked for */
    bool is_nonblocking : 1;   /* what the handle is */
    bool resetting : 1;        /* abort: RST */
    bool shut : 1;             /* the peer has been told that nothing more comes */
    bool own_limit : 1;        /* message_limit is this socket's own */
    bool ending : 1;           /* p2p_socket_shutdown: the end follows what is queued */
};

/* socket.c */
p2p_socket_t *p2pi_socket_new(p2p_socket_type_t type, p2p_handle_t handle, p2pi_state state);
int p2pi_socket_open(p2p_socket_t *sock, const p2p_address_t *family_of);
int p2pi_socket_sync_mode(p2p_socket_t *sock);
/* A handle that was made for what failed with `error` goes again. Gives the error back. */
int p2pi_socket_give_up_handle(p2p_socket_t *sock, bool opened, int error);
int p2pi_socket_register_datagrams(p2p_socket_t *sock, bool opened);
void p2pi_socket_destroy(p2p_socket_t *sock);
/* The socket's extras, made on the first call; NULL when there is no memory. */
p2pi_extras *p2pi_socket_extras(p2p_socket_t *sock);
/* Give them back if nothing is in them. */
void p2pi_socket_drop_extras(p2p_socket_t *sock);
static inline void p2pi_socket_pin(p2p_socket_t *sock) {
    sock->pins++;
}
static inline void p2pi_socket_unpin(p2p_socket_t *sock) {
    sock->pins--;
    if (sock->doomed) p2pi_socket_destroy(sock);
}

/* socket_connect.c */
void p2pi_socket_forget_connection(p2p_socket_t *sock);
/* How an attempt under way stands, outside a loop; a blocking socket waits for it. */
int p2pi_socket_finish_connect(p2p_socket_t *sock);
/* Open, connect, and in a loop register; not for a TCP socket in a loop. A handle made for it is gone when it fails. */
int p2pi_socket_connect_now(p2p_socket_t *sock, const p2p_address_t *peer);

/* connect.c: connecting by name in a loop */
int p2pi_connect_start(p2p_socket_t *sock, const char *name, uint16_t port);
/* Give the whole attempt up, lookup and sockets: nothing will be told of it. @return whether there was one. */
bool p2pi_connect_cancel(p2p_socket_t *sock);
/* Whether the socket is one of an attempt's own, which the user knows nothing of. */
extern const p2p_socket_callbacks_t p2pi_attempt_callbacks;
static inline bool p2pi_connect_is_attempt(const p2p_socket_t *sock) {
    return !sock->short_callbacks && sock->callbacks.set == &p2pi_attempt_callbacks;
}
/* Such a one has connected, or failed. */
void p2pi_connect_attempt_ended(p2p_socket_t *attempt);
/* REFUSED when a connected handle talks to itself; `target` may be NULL. */
int p2pi_connect_check_self(const p2p_sys_ops *sys, p2p_handle_t handle, const p2p_address_t *target);

/* option.c */
bool p2pi_option_is_set(const p2p_socket_t *sock, p2p_socket_option_t option);
/* Set what was asked of the socket on a handle that is new, and becomes its own or may. */
int p2pi_options_apply(const p2p_socket_t *sock, p2p_handle_t handle);

/* registration.c: between a socket and its loop */
static inline const p2p_socket_callbacks_t *p2pi_callbacks(const p2p_socket_t *sock, p2p_socket_callbacks_t *room) {
    if (!sock->short_callbacks) return sock->callbacks.set;
    *room = (p2p_socket_callbacks_t){ .size = sizeof *room, .on_read = sock->callbacks.on_read };
    return room;
}
int p2pi_socket_register(p2p_socket_t *sock);
void p2pi_socket_unregister(p2p_socket_t *sock, bool close_handle);
void p2pi_socket_close_registered(p2p_socket_t *sock, bool reset);
void p2pi_socket_finish(p2p_socket_t *sock);
/* Whether the registration that had this token still stands. */
bool p2pi_socket_current(const p2p_socket_t *sock, uint64_t token);

/* tell.c: what the next turn owes a socket, and its last callback */
void p2pi_socket_tell(p2p_socket_t *sock, uint32_t what);
void p2pi_tell_run(p2p_event_loop_t *loop, p2pi_link *owed);
void p2pi_closing_run(p2p_event_loop_t *loop);
void p2pi_tell_error(p2p_event_loop_t *loop, p2p_socket_t *sock, int error);

/* connection.c: message mode */
void p2pi_connection_set_limit(p2p_socket_t *sock);
int p2pi_connection_start(p2p_socket_t *sock);
void p2pi_connection_received_end(p2p_event_loop_t *loop, p2p_socket_t *sock, int64_t result);
void p2pi_connection_put_off(p2p_event_loop_t *loop, p2p_socket_t *sock, const uint8_t *data, size_t length);
void p2pi_connection_resume(p2p_event_loop_t *loop, p2p_socket_t *sock);
void p2pi_connection_pump(p2p_socket_t *sock);
void p2pi_connection_end(p2p_socket_t *sock, int error);
void p2pi_connection_save_input(p2p_socket_t *sock);
void p2pi_connection_keep(p2p_socket_t *sock, const p2p_backend_event *event);
p2p_message_t *p2pi_connection_take(p2p_socket_t *sock);
/* inbox.c */
int p2pi_inbox_append(p2p_socket_t *sock, const uint8_t *data, size_t length);
uint8_t *p2pi_inbox_room(p2p_socket_t *sock, size_t wanted, size_t *available);
/* Where the rest of a long message goes, a part of which is there, and how much of it. NULL: there is none. */
uint8_t *p2pi_inbox_place(p2p_socket_t *sock, uint32_t at_most, uint32_t *room);
static inline size_t p2pi_inbox_length(const p2p_socket_t *sock) {
    return sock->in.inbox == NULL ? 0 : sock->in.inbox->tail - sock->in.inbox->head;
}
void p2pi_inbox_consume(p2p_socket_t *sock, size_t length);
void p2pi_inbox_release(p2p_socket_t *sock);
/* Leave a lent inbox to whoever lent it, and go on with a copy. */
int p2pi_inbox_unshare(p2p_socket_t *sock);
void p2pi_inbox_unlend(p2p_socket_t *sock, p2pi_inbox *lent);

/* output.c: a registered connection's sending */
void p2pi_output_flush(p2p_event_loop_t *loop);
void p2pi_output_schedule(p2p_socket_t *sock);
/* What OP_DONE says of a send. */
void p2pi_output_sent(p2p_event_loop_t *loop, p2p_socket_t *sock, int64_t result);
/* Take back what is in flight: OP_DONE still follows, and says how much of it was sent. */
void p2pi_output_cancel(p2p_socket_t *sock);
/* Drop all output; or only let go of what is in flight, and keep the rest with the socket. */
void p2pi_output_abandon(p2p_socket_t *sock);
void p2pi_output_detach(p2p_socket_t *sock);
void p2pi_output_drop(p2p_socket_t *sock);
void p2pi_output_fail(p2p_socket_t *sock, int error);

/* connecting.c: address NULL: the attempt has begun already */
int p2pi_connecting_begin(p2p_socket_t *sock, const p2p_address_t *address);
void p2pi_connecting_reset(p2p_socket_t *sock);
void p2pi_connecting_done(p2p_event_loop_t *loop, p2pi_request *request, int64_t result);
/* An attempt is over, by name or not: the answer is told in the next turn. */
void p2pi_connecting_failed(p2p_socket_t *sock, int error);
void p2pi_connecting_succeeded(p2p_socket_t *sock);

/* request.c */
p2pi_request *p2pi_request_new(p2p_socket_t *sock);
void p2pi_request_free(p2p_event_loop_t *loop, p2pi_request *request);
void p2pi_request_done(p2p_event_loop_t *loop, p2pi_request *request, int64_t result);
void p2pi_request_drain(p2p_event_loop_t *loop);

/* remainder.c: a closed connection that still writes */
bool p2pi_remainder_wanted(const p2p_socket_t *sock);
int p2pi_remainder_begin(p2p_socket_t *sock);
void p2pi_remainder_advance(p2p_socket_t *sock);
void p2pi_remainder_timed_out(p2p_socket_t *sock);
void p2pi_remainder_finish(p2p_socket_t *sock);

/* shutdown.c: bytes not handed to the system, those lost included; the end of output, once nothing is queued; the end
 * of a loop that is drained, once all of its connections have ended */
uint32_t p2pi_output_bytes(const p2p_socket_t *sock);
void p2pi_shutdown_advance(p2p_socket_t *sock);
void p2pi_drain_advance(p2p_event_loop_t *loop);
/* A connection of a loop that is being drained is shut down, too, as soon as there is one. */
int p2pi_drain_joined(p2p_socket_t *sock);

/* deadline.c. begin: unless it runs. put_off: if it runs, from this turn's time on, for the price of a store. */
int p2pi_deadline_start(p2p_socket_t *sock, p2p_deadline_t which);
int p2pi_deadline_start_with(p2p_socket_t *sock, p2p_deadline_t which, uint32_t timeout_ms);
int p2pi_deadline_begin(p2p_socket_t *sock, p2p_deadline_t which);
void p2pi_deadline_put_off(p2p_socket_t *sock, p2p_deadline_t which);
void p2pi_deadline_stop(p2p_socket_t *sock, p2p_deadline_t which);
void p2pi_deadlines_end(p2p_socket_t *sock);

/* limits.c */
typedef struct p2pi_limits {
    uint32_t connections; /* entries of that kind, closing remainders included */
    uint32_t half_open_count;
    p2pi_link resting;   /* listeners that wait for one to go */
    p2pi_link half_open; /* accepted, and no whole message yet: oldest first */
    p2pi_address **buckets;
    uint32_t bucket_count, address_count;
    uint64_t seed;
} p2pi_limits;

void p2pi_limits_init(p2p_event_loop_t *loop);
/* The entry becomes a connection's, and is one no more. */
void p2pi_connection_enter(p2pi_entry *entry);
void p2pi_connection_leave(p2pi_entry *entry);
/* An accepted connection begins, and leaves its loop. */
int p2pi_limits_enter(p2p_socket_t *sock);
void p2pi_limits_leave(p2p_socket_t *sock);
void p2pi_half_open_done(p2p_socket_t *sock);
/* Whether the peer of this handle has as many connections as it may. */
bool p2pi_address_full(const p2p_event_loop_t *loop, p2p_handle_t handle);
/* The table of addresses. enter: one connection more; NULL without memory. */
p2pi_address *p2pi_address_enter(p2pi_limits *limits, const uint8_t *key, uint8_t length);
void p2pi_address_leave(p2pi_limits *limits, p2pi_address *address);
uint32_t p2pi_address_connections(const p2pi_limits *limits, const uint8_t *key, uint8_t length);

/* listener.c, datagram.c, watch.c */
void p2pi_listener_pump(p2p_socket_t *sock);
int p2pi_listener_start(p2p_socket_t *sock);
void p2pi_listener_rest(p2p_socket_t *sock);
/* Why accepting failed: conditions of one connection that is gone already, not of the listener. */
static inline bool p2pi_is_lost_connection(int error) {
    return error == P2P_ERR_RESET || error == P2P_ERR_UNREACHABLE || error == P2P_ERR_TIMED_OUT ||
           error == P2P_ERR_REFUSED || error == P2P_ERR_ACCESS;
}
void p2pi_listener_keep(p2p_socket_t *sock, const p2p_backend_event *event);
void p2pi_listener_stop(p2p_socket_t *sock);
void p2pi_listener_drop(p2p_socket_t *sock);
void p2pi_listener_accepted(p2p_event_loop_t *loop, p2p_socket_t *sock, p2p_handle_t handle, int result,
                            uint32_t flags);
void p2pi_listener_tell(p2p_event_loop_t *loop, p2p_socket_t *sock);
p2p_socket_t *p2pi_listener_take(p2p_socket_t *sock);
int p2pi_datagram_start(p2p_socket_t *sock);
void p2pi_datagram_ready(p2p_event_loop_t *loop, p2p_socket_t *sock, uint32_t flags);
p2p_message_t *p2pi_datagram_take(p2p_socket_t *sock);
int p2pi_datagram_send_message(p2p_socket_t *sock, const void *data, uint32_t length);
void p2pi_watch_ready(p2p_event_loop_t *loop, p2p_watch_t *watch, uint32_t ready);
void p2pi_watch_fail(p2p_watch_t *watch);
void p2pi_watch_tell_failed(p2p_event_loop_t *loop);
void p2pi_watch_bury(p2p_event_loop_t *loop);

#endif
