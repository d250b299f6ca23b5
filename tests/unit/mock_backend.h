/*
 * A backend that a case scripts: it returns the events it was given, writes each call down in the journal
 * (attach(0), interest(0,0>1), wait(-1), …; wake and recycle are only counted), can fail a call, and checks what the
 * contract promises to a backend: known sockets, the old mask it last accepted, buffers given back once.
 *
 * A wait without events takes its whole timeout on the fake clock. One that would never end fails the test.
 */
#ifndef MOCK_BACKEND_H
#define MOCK_BACKEND_H

#include "fake_sys.h"

#include "internal.h"

/* Which optional groups are its own. */
#define MOCK_RECEIVE 0x1u
#define MOCK_ACCEPT 0x2u
#define MOCK_REQUEST 0x4u
#define MOCK_NATIVE (MOCK_RECEIVE | MOCK_ACCEPT | MOCK_REQUEST)

typedef enum mock_call {
    MOCK_CREATE, /* fails with P2P_ERR_*, the others with an errno */
    MOCK_POOL_BIND,
    MOCK_BIND_THREAD,
    MOCK_ATTACH,
    MOCK_SET_INTEREST,
    MOCK_WAIT,
    MOCK_RECV_START,
    MOCK_ACCEPT_START,
    MOCK_SEND,
    MOCK_CONNECT,
    MOCK_SUBMIT,
    MOCK_CALLS
} mock_call;

#define MOCK_REQUESTS_MAX 16

typedef struct mock_state {
    bool defer_detach;
    void (*on_detach)(uint64_t token); /* what is under way then, as events for the next wait */
    void (*on_wait)(void); /* what happens while it waits */
    const p2p_backend_ops *smaller; /* create gives the instance this table */
    unsigned instances;    /* alive */
    unsigned lent;         /* buffers with the core */
    bool wake_fails;
    unsigned wakes;
    int capacity;          /* of the last wait */
    int64_t timeout_ns;
    int64_t slept_ns;      /* all waits together */
    unsigned waits, submits;
    unsigned request_count; /* in flight, oldest first */
    struct mock_request {
        p2p_op *op;
        uint64_t token;
    } requests[MOCK_REQUESTS_MAX];
    size_t sent_length; /* what finished sends pointed to when they finished */
    char sent[65536];
} mock_state;

extern mock_state mock;

/** cmocka setup and teardown: the fixture on the fake system. The teardown checks that nothing is left. */
int mock_setup(void **state);
int mock_teardown(void **state);
#define MOCK_CASE(function) cmocka_unit_test_setup_teardown(function, mock_setup, mock_teardown)

/** The table with these groups; the same one each time. */
p2p_backend_ops *mock_ops(uint32_t groups);
/** A loop on it, registered as "mock". The journal is empty afterwards. */
p2p_event_loop_t *mock_loop(uint32_t groups, const p2p_event_loop_options_t *options);
/** One turn with timeout 0, which must not fail. @return the number of callbacks. */
int mock_turn(p2p_event_loop_t *loop);

/** Let the nth call from now fail (1 is the next one), once. */
void mock_fail(mock_call call, unsigned nth, int error);

/* ---- events, for the next wait ---- */

/** The token of the socket's last attach. */
uint64_t mock_token(p2p_handle_t handle);
void mock_ready(p2p_handle_t handle, uint32_t flags);
void mock_event(p2p_backend_event event);
/** A RECV in a buffer that is free. */
void mock_receive(uint64_t token, const void *data, size_t size, uint32_t flags);
/** The same with a frame. */
void mock_receive_text(uint64_t token, const char *text, uint32_t flags);
/** A RECV without a buffer: 0 = the end, or with P2P_NO_BUFFERS none was free; or -errno. */
void mock_receive_result(uint64_t token, int result, uint32_t flags);
/** An ACCEPT: a new fake handle, which is returned. */
p2p_handle_t mock_accept(uint64_t token, uint32_t flags);
void mock_accept_error(uint64_t token, int error, uint32_t flags);
/** OP_DONE of the oldest request in flight; of a send, `result` bytes of what it points to are kept in mock.sent.
 *  A negative result is -errno. */
void mock_complete(int result);
void mock_detached(uint64_t token);

#endif
