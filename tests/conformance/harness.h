/*
 * The harness of the conformance suite: it drives one backend's table directly, as the core would, with
 * raw sockets on the other side. Only public headers are used, so that the suite runs on anybody's backend.
 *
 * The environment it gives to the backend counts: each case fails that leaks bytes or handles,
 * allocates inside wait, calls a waiting function outside wait, or calls one in a way that some version of
 * the system refuses.
 */
#ifndef CONFORMANCE_HARNESS_H
#define CONFORMANCE_HARNESS_H

#include "os.h"
#include "test_main.h"

#include <p2pnet/backend.h>

#include <stdbool.h>

#define MILLISECOND INT64_C(1000000)
#define DEADLINE (20000 * MILLISECOND) /* only to make a hang a failure */

/** A registered handle and what was heard of it. */
typedef struct test_io {
    p2p_io io;
    uint32_t held;   /**< the interest the backend last accepted */
    uint32_t now;    /**< flags of the last turn */
    uint32_t seen;   /**< flags of all turns since the test last cleared it */
    unsigned events; /**< how many events, likewise */
    void *owner;     /**< the test's */
} test_io;

typedef struct harness {
    const p2p_backend_ops *ops;
    p2p_backend *backend;
    p2p_backend_env env;
    p2p_sys_ops sys; /**< a copy: a test may replace entries at any time */
    p2p_allocator allocator;
    char reason[200];

    p2p_buffer_pool pool; /**< bound by harness_create unless it is empty */
    /** Gets the events of the optional groups, and DETACHED before its io is freed. NULL: the former are a failure. */
    void (*hear)(test_io *io, const p2p_backend_event *event);

    int capacity;      /**< of the event array given to wait */
    bool in_wait, in_destroy;
    test_io **ios;     /**< by slot; NULL is a free one */
    size_t io_count;
    uint32_t generation;

    size_t live_bytes, allocations;
    size_t fail_from;  /**< fail allocation number n and all after it; 0: none */
    unsigned waits; /**< calls of the table's functions that wait */
    unsigned allocations_in_wait, waits_outside_wait, bad_waits;
    int open_handles; /**< before the test */
} harness;

int harness_set_up(void **state);
int harness_tear_down(void **state);
#define CASE(name) cmocka_unit_test_setup_teardown(name, harness_set_up, harness_tear_down)

/** Make and free the instance, as set_up and tear_down do for each case. @return what create returned. */
int harness_create(harness *h);
void harness_destroy(harness *h);
/** A creation that failed gave this P2P_ERR_*, said why, and left nothing behind. */
void expect_clean_failure(harness *h, int result, int expected);

/** Register without interest, as attach does. */
test_io *attach(harness *h, p2p_handle_t handle, uint32_t flags);
/** @return what set_interest returned. */
int try_want(harness *h, test_io *io, uint32_t mask);
void want(harness *h, test_io *io, uint32_t mask);
/** attach and want. */
test_io *add(harness *h, p2p_handle_t handle, uint32_t mask);
/** Detach and free. */
void forget(harness *h, test_io *io);
void forget_all(harness *h);

/** One wait, whose events are checked and noted. @return how many there were. */
int turn(harness *h, int64_t timeout_ns);
/** Turn until all these flags were seen at once. */
void turn_until(harness *h, test_io *io, uint32_t flags);
/** Turn for that long: no event may come, and hardly a wake-up. */
void expect_quiet(harness *h, int64_t duration_ns);
/** One wait that returns by a wake, not by its time-out. */
void wait_to_be_woken(harness *h);
/** Forget what was heard so far. */
void clear(harness *h);

/** Where a system is of a kind of its own; under Wine too. */
#if defined(_WIN32)
enum { ON_WINDOWS = true };
#else
enum { ON_WINDOWS = false };
#endif
/** What the table gives for a handle that is not open. */
#define NOT_A_HANDLE (-os_number(ON_WINDOWS ? ENOTSOCK : EBADF))

/* Independent of the library. All handles are non-blocking, errors are errno numbers as in os.h. */
/** How many more handles can be opened, at most `wanted`; fewer where many of them make a wait slow. */
int handles_to_spare(int wanted);
void tcp_pair(p2p_handle_t ends[2]);
/** What the backend can wait for and costs least: a pipe if it takes any handle, else a connection. Data goes
 *  from ends[1] to ends[0]. */
void any_pair(const harness *h, p2p_handle_t ends[2]);
p2p_handle_t tcp_listener(uint16_t *port);
/** @return a handle whose connect has begun. */
p2p_handle_t tcp_connecting(uint16_t port);
/** @return a handle that keeps a port where nobody listens. */
p2p_handle_t refusing_port(uint16_t *port);
p2p_handle_t duplicate_of(p2p_handle_t handle);
void close_pair(const p2p_handle_t ends[2]);
void send_text(p2p_handle_t handle, const char *text);
/** @return bytes read, 0, or -errno. */
int receive(p2p_handle_t handle, void *buffer, size_t size);
void fill_send_buffer(p2p_handle_t handle);
/** A small generator with a fixed beginning. */
uint32_t next_random(uint32_t *seed);

#endif
