/*
 * A connection that writes down what happens to it, one letter a callback, so that a case can compare the
 * whole story:
 *
 *   r on_read   m on_message   w on_write   e on_error   c on_connect   x on_close
 */
#ifndef PROBE_H
#define PROBE_H

#include "fixture.h"

typedef struct probe probe;

struct probe {
    p2p_event_loop_t *loop;
    p2p_socket_t *sock;                /* NULL after on_close */
    p2p_handle_t fd;                   /* the raw peer; P2P_INVALID_HANDLE when closed */
    void (*hook)(probe *p, char what); /* called in each callback; in on_read instead of probe_take */
    void *data;                        /* the case's own */

    unsigned reads, messages, writes, errors, connects, closes;
    int error;         /* the last one of on_error */
    int end;           /* the error behind the NULL that p2p_message_recv gave first in an on_read */
    unsigned ends;     /* how often that was */
    int connect_error; /* given to on_connect */
    int reason;        /* given to on_close */
    uint64_t bytes;    /* of all messages */
    size_t trace_length, text_length;
    char trace[256]; /* the letters, as many as fit */
    char text[1024]; /* the messages, each followed by '|', as far as they fit */
};

extern const p2p_socket_callbacks_t probe_by_read;    /* all but on_message */
extern const p2p_socket_callbacks_t probe_by_message; /* all */
extern const p2p_socket_callbacks_t probe_no_error;   /* on_read and on_close */

/** A connected pair; the p2pnet end is added to the loop, the raw one is p->fd. NULL callbacks: on_read alone. */
void probe_open(probe *p, p2p_event_loop_t *loop, const p2p_socket_callbacks_t *callbacks);
/** Add a socket of the case's own to the loop. p->fd stays P2P_INVALID_HANDLE. */
void probe_add(probe *p, p2p_event_loop_t *loop, p2p_socket_t *sock, const p2p_socket_callbacks_t *callbacks);
/** Close both ends and wait for on_close. */
void probe_close(probe *p);
/** Close the p2pnet end and run until on_close came. */
void probe_close_socket(probe *p);

/** Take all messages there are, checking that only the first call in an on_read tells of the end. */
void probe_take(probe *p);
/** Take one message at most. */
void probe_take_one(probe *p);

#endif
