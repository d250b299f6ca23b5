/*
 * The world around connecting by name (core/resolver.c, core/connect.c): the resolver is a list, a thread runs when the
 * case says so, the clock moves when told to, and each attempt to connect is a fake socket.
 */
#ifndef MADE_UP_NAMES_H
#define MADE_UP_NAMES_H

#include "mock_backend.h"

#include "resolver.h"

#define NS_PER_MS 1000000ll
#define THREADS_MAX 32

typedef struct made_up_world {
    const char *addresses[P2PI_ADDRESSES_MAX + 1]; /* what each name has; none: it is not found */
    const char *tried[P2PI_ADDRESSES_MAX];         /* in the order of trying */
    unsigned tried_count;
    p2p_handle_t handles[P2PI_ADDRESSES_MAX];
    p2p_sys_thread *threads[THREADS_MAX]; /* started and not run yet, oldest first */
    unsigned thread_count, threads_started;
    unsigned thread_fails;   /* the nth start from now */
    const char *unknown;     /* addresses with this in them are of a family that the machine lacks */
    const char *local;       /* of every handle */
    unsigned rests;
} made_up_world;

/* What the callbacks were given. */
typedef struct made_up_told {
    unsigned answers, closes, errors;
    int error;
} made_up_told;

extern made_up_world world;
extern made_up_told told;
extern p2p_sys_ops made_up_table; /* in force */

int names_setup(void **state);
#define NAMES_CASE(function) cmocka_unit_test_setup_teardown(function, names_setup, mock_teardown)
/** For the next round of a case: as it began. */
void anew(void);

/** The addresses of each name from now on; NULL after the last. */
void has(const char *first, const char *second, const char *third, const char *fourth);
/** The oldest thread that was started and has not run. */
void run_thread(void);

/* ---- a socket that connects ---- */

extern const p2p_socket_callbacks_t callbacks;

p2p_socket_t *add_fresh(p2p_event_loop_t *loop, p2p_socket_type_t type);
p2p_socket_t *connecting(p2p_event_loop_t *loop);
/** The same, when the addresses are known and the first is being tried. */
p2p_socket_t *trying(p2p_event_loop_t *loop);

/* ---- what happens ---- */

void turns(p2p_event_loop_t *loop);
/** An attempt, counted from 0, connects, or fails with an errno number; and some turns. */
void connects(p2p_event_loop_t *loop, unsigned attempt);
void fails(p2p_event_loop_t *loop, unsigned attempt, int error);
/** Time, and one turn. */
void passes(p2p_event_loop_t *loop, int64_t time_ns);
/** Close and free. */
void end(p2p_event_loop_t *loop, p2p_socket_t *sock);
void expect_error(int given, int expected);

#endif
