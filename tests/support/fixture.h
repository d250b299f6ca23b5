/*
 * What every test through the public API stands on: the library with a counting allocator, a loop on
 * test_backend(), and ways to drive it until a condition holds. A case ends with all memory given back
 * and as many open descriptors as before, or it fails.
 */
#ifndef FIXTURE_H
#define FIXTURE_H

#include "raw.h"
#include "test_main.h"

#include <p2pnet/backend.h>
#include <p2pnet/p2pnet.h>

#include <stdbool.h>
#include <string.h>

/** A cmocka test with the fixture around it. */
#define CASE(function) cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)
#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

int fixture_setup(void **state);
int fixture_teardown(void **state);
/** fixture_setup with a system table and a log hook; either may be NULL. For a program's own setup. */
int fixture_start(const p2p_sys_ops *system, p2p_log_callback log);

/* ---- loops ---- */

/** Skips a case that lets calls fail, or counts some, which a completing backend leaves to the kernel. */
void needs_emulated_io(void);
/** A loop, on test_backend() unless the options name one; NULL = defaults. Fails the test when there is none. */
p2p_event_loop_t *loop_create(const p2p_event_loop_options_t *options);
p2p_event_loop_stats_t loop_stats(p2p_event_loop_t *loop);
/** One turn that waits for at most 1 ms. Fails the test when the loop fails or deadline_ns has passed. @return true */
bool loop_turn(p2p_event_loop_t *loop, int64_t deadline_ns, const char *awaited, const char *file, int line);
/** Twenty turns that do not wait: time for anything that should not happen. */
void loop_settle(p2p_event_loop_t *loop);
int64_t clock_ns(void);

/** Drive the loop until the expression is true. The deadline turns a hang into a failure. */
#define RUN_UNTIL(loop, expression)                                                          \
    for (int64_t deadline_ns_ = clock_ns() + RAW_DEADLINE_S * 1000000000ll;                  \
         !(expression) && loop_turn(loop, deadline_ns_, #expression, __FILE__, __LINE__);) { \
    }

/* The raw side of a connection, driving the loop meanwhile. They fail the test at the deadline. */

/** The next connection: a backend that connects by itself does so in a turn. */
p2p_handle_t loop_accept(p2p_event_loop_t *loop, p2p_handle_t listener);
/** Exactly `size` bytes. @return false when the connection ended before. */
bool loop_recv(p2p_event_loop_t *loop, p2p_handle_t fd, void *buffer, size_t size);
/** One frame. @return its length, or -1 when the connection ended. */
int64_t loop_recv_frame(p2p_event_loop_t *loop, p2p_handle_t fd, void *buffer, uint32_t capacity);
/** Read and forget until the connection ends. @return 0 = FIN, or an errno. */
int loop_recv_end(p2p_event_loop_t *loop, p2p_handle_t fd);
/** @return false when the connection ended. */
bool loop_send(p2p_event_loop_t *loop, p2p_handle_t fd, const void *data, size_t size);

/** Fails the test unless the next frame has just this text. */
void loop_expect_text(p2p_event_loop_t *loop, p2p_handle_t fd, const char *text);

/* ---- sockets ---- */

/** A listening socket on 127.0.0.1, not in a loop. */
p2p_socket_t *socket_listening(uint16_t *port);
/** A connection: the p2pnet end is returned, accepted and not in a loop; the raw end is in *fd. */
p2p_socket_t *socket_pair(p2p_handle_t *fd);
/** Wait until a read of the socket would not block, with the system's poll. */
void socket_await_input(const p2p_socket_t *sock);
uint16_t socket_port(const p2p_socket_t *sock);

/* ---- memory and descriptors ---- */

size_t memory_in_use(void);
/** From here on memory_peak and memory_largest count. */
void memory_mark(void);
/** @return the most bytes in use at a time since memory_mark. */
size_t memory_peak(void);
/** @return the longest block that was asked for since memory_mark, in bytes; 0: none was. */
size_t memory_largest(void);
/** Calls of alloc and realloc since the fixture began. */
uint64_t memory_calls(void);
/** Let the nth allocation from now fail (1 is the next), and with from_then_on all later ones. 0: none. */
void memory_fail(uint64_t nth, bool from_then_on);
/** @return how many were made to fail since memory_fail. */
uint64_t memory_failures(void);
/** @return the number of open sockets; on POSIX of open descriptors of any kind. */
int descriptors_open(void);

#endif
