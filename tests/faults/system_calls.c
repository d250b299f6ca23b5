/*
 * Every call through the system table fails in turn, once and from then on, with each of the errors it can have;
 * then data moves in bytes. A case an entry; an entry that is not called with the backend is a skip.
 */
#include "fixture.h"
#include "scenario.h"

#include <limits.h>
#include <stdlib.h>

/* X(entry) for each entry that can be made to fail. */
#define ENTRIES(X)                                                                                                 \
    X(open)                                                                                                        \
    X(close)                                                                                                       \
    X(inspect) X(set_nonblocking) X(set_option) X(bind) X(listen) X(accept) X(connect) X(connect_result)           \
        X(shutdown_send) X(unsent) X(local_address) X(peer_address) X(recv) X(send) X(sendv) X(recvfrom) X(sendto) \
            X(wake_open) X(wake_drain) X(poll) X(select) X(epoll_create) X(epoll_ctl) X(epoll_wait) X(kqueue)      \
                X(kevent) X(uring_setup) X(uring_enter) X(uring_register) X(uring_map) X(port_open) X(port_wait)   \
                    X(port_post) X(afd_open) X(afd_poll) X(lower_socket) X(resolve) X(thread_start) X(get_option)

#define ENTRY_NUMBER(entry) ENTRY_##entry,
typedef enum entry { ENTRIES(ENTRY_NUMBER) ENTRY_COUNT } entry;
#undef ENTRY_NUMBER

/* ---- the plan: the nth call of one entry fails ---- */

#define NOTHING_READ 0 /* instead of an error: recv gives 0, the end */

static struct {
    entry target;
    int error; /* an errno number; the table gives the system's for it */
    unsigned nth, calls, failed;
    bool from_then_on;
} plan = { .target = ENTRY_COUNT };

static bool fails(entry which) {
    if (which != plan.target) return false;
    plan.calls++;
    if (plan.calls < plan.nth || (plan.calls > plan.nth && !plan.from_then_on)) return false;
    plan.failed++;
    return true;
}

static int failure(void) {
    return plan.error == NOTHING_READ ? 0 : -os_number(plan.error);
}

static int64_t would_block(void) {
    return -os_number(EAGAIN);
}

static unsigned failed_before_calm;

static void calm(void) {
    if (plan.target != ENTRY_COUNT) failed_before_calm = plan.failed;
    plan.target = ENTRY_COUNT;
}

/* How data moves. */
static enum { WHOLE, SINGLE_BYTES, RANDOM_BYTES } pieces;
static uint32_t random_state;

static uint32_t random_next(void) {
    random_state = random_state * 1664525u + 1013904223u;
    return random_state >> 16;
}

/* So many calls move one byte, and the rest all. Of each stream they take the short messages, the one of 3000 bytes and
 * the beginning of the longest, which is all that is different about it. */
#define SINGLE_BYTES_MAX OS_ROUNDS(UINT32_MAX, 20000)
static uint32_t single_bytes;

static size_t piece(size_t size) {
    if (pieces == WHOLE || size == 0) return size;
    if (pieces == SINGLE_BYTES) return single_bytes++ < SINGLE_BYTES_MAX ? 1 : size;
    return 1 + random_next() % size;
}

static bool again(void) {
    return pieces == RANDOM_BYTES && random_next() % 4 == 0;
}

/* ---- the table ---- */

static const p2p_sys_ops *real;

#define INT_ENTRY(name, parameters, arguments)                           \
    static int faulty_##name parameters {                                \
        return fails(ENTRY_##name) ? failure() : real->name arguments; \
    }

INT_ENTRY(open, (p2p_handle_t * out, const p2p_address_t *family_of, p2p_socket_type_t type), (out, family_of, type))
INT_ENTRY(inspect, (p2p_handle_t handle), (handle))
INT_ENTRY(set_nonblocking, (p2p_handle_t handle, int enabled), (handle, enabled))
INT_ENTRY(set_option, (p2p_handle_t handle, p2p_sys_option option, int value), (handle, option, value))
INT_ENTRY(bind, (p2p_handle_t handle, const p2p_address_t *address), (handle, address))
INT_ENTRY(listen, (p2p_handle_t handle, int backlog), (handle, backlog))
INT_ENTRY(accept, (p2p_handle_t listener, p2p_handle_t *out, int nonblocking), (listener, out, nonblocking))
INT_ENTRY(connect_result, (p2p_handle_t handle), (handle))
INT_ENTRY(shutdown_send, (p2p_handle_t handle), (handle))
INT_ENTRY(unsent, (p2p_handle_t handle), (handle))
INT_ENTRY(peer_address, (p2p_handle_t handle, p2p_address_t *out), (handle, out))
INT_ENTRY(local_address, (p2p_handle_t handle, p2p_address_t *out), (handle, out))
INT_ENTRY(wake_open, (p2p_handle_t ends[2]), (ends))
INT_ENTRY(wake_drain, (p2p_handle_t end), (end))
INT_ENTRY(poll, (struct pollfd * fds, uint32_t count, int64_t timeout_ns), (fds, count, timeout_ns))
INT_ENTRY(select, (int nfds, void *readable, void *writable, void *exceptional, int64_t timeout_ns),
          (nfds, readable, writable, exceptional, timeout_ns))
INT_ENTRY(epoll_create, (void), ())
INT_ENTRY(epoll_ctl, (int epoll, int operation, p2p_handle_t handle, struct epoll_event *event),
          (epoll, operation, handle, event))
INT_ENTRY(epoll_wait, (int epoll, struct epoll_event *events, int capacity, int64_t timeout_ns, int exact),
          (epoll, events, capacity, timeout_ns, exact))
INT_ENTRY(kqueue, (void), ())
INT_ENTRY(kevent, (int queue, const struct kevent *changes, int change_count, struct kevent *events, int capacity,
                   int64_t timeout_ns), (queue, changes, change_count, events, capacity, timeout_ns))
INT_ENTRY(uring_setup, (uint32_t entries, struct io_uring_params *params), (entries, params))
INT_ENTRY(uring_enter, (int ring, uint32_t to_submit, uint32_t min_complete, uint32_t flags, const void *argument,
                        size_t argument_size), (ring, to_submit, min_complete, flags, argument, argument_size))
INT_ENTRY(uring_register, (int ring, uint32_t operation, void *argument, uint32_t count),
          (ring, operation, argument, count))
INT_ENTRY(uring_map, (int ring, uint64_t offset, size_t size, void **out), (ring, offset, size, out))
INT_ENTRY(port_open, (p2p_handle_t * out), (out))
INT_ENTRY(port_wait, (p2p_handle_t port, struct _OVERLAPPED_ENTRY *results, uint32_t capacity, int64_t timeout_ns),
          (port, results, capacity, timeout_ns))
INT_ENTRY(port_post, (p2p_handle_t port), (port))
INT_ENTRY(afd_open, (p2p_sys_function function, p2p_handle_t port, p2p_handle_t *out), (function, port, out))
INT_ENTRY(afd_poll, (p2p_sys_function function, p2p_handle_t device, p2p_afd_poll *poll), (function, device, poll))
INT_ENTRY(lower_socket, (p2p_handle_t handle, p2p_sys_lower which, p2p_handle_t *out), (handle, which, out))
INT_ENTRY(get_option, (p2p_handle_t handle, p2p_sys_option option, int *value), (handle, option, value))

INT_ENTRY(thread_start, (p2p_sys_thread * thread), (thread))

static int faulty_resolve(const char *name, uint16_t port, p2p_socket_type_t type, p2p_address_t *out,
                          uint32_t capacity) {
    if (fails(ENTRY_resolve)) return real->translate_error(os_number(plan.error));
    return real->resolve(name, port, type, out, capacity);
}

/* A failed close has closed. */
static int faulty_close(p2p_handle_t handle) {
    int result = real->close(handle);
    return fails(ENTRY_close) ? failure() : result;
}

/* An interrupted connect goes on. */
static int faulty_connect(p2p_handle_t handle, const p2p_address_t *address) {
    if (!fails(ENTRY_connect)) return real->connect(handle, address);
    if (plan.error == EINTR || plan.error == EINPROGRESS) real->connect(handle, address);
    return failure();
}

static int64_t faulty_recv(p2p_handle_t handle, void *buffer, size_t size, int dontwait) {
    if (fails(ENTRY_recv)) return failure();
    return again() ? would_block() : real->recv(handle, buffer, piece(size), dontwait);
}

static int64_t faulty_send(p2p_handle_t handle, const void *data, size_t size, int dontwait) {
    if (fails(ENTRY_send)) return failure();
    return again() ? would_block() : real->send(handle, data, piece(size), dontwait);
}

static int64_t faulty_sendv(p2p_handle_t handle, const p2p_iov *iov, uint32_t count, int dontwait) {
    if (fails(ENTRY_sendv)) return failure();
    if (again()) return would_block();
    if (pieces == WHOLE) return real->sendv(handle, iov, count, dontwait);
    assert_in_range(iov->len, 0, UINT32_MAX);
    p2p_iov first = { .base = iov->base, .len = (uint32_t)piece(iov->len) }; /* on Windows len has 32 bits */
    return real->sendv(handle, &first, 1, dontwait);
}

static int64_t faulty_recvfrom(p2p_handle_t handle, void *buffer, size_t size, p2p_address_t *from, int dontwait) {
    return fails(ENTRY_recvfrom) ? failure() : real->recvfrom(handle, buffer, size, from, dontwait);
}

static int64_t faulty_sendto(p2p_handle_t handle, const void *data, size_t size, const p2p_address_t *to,
                             int dontwait) {
    return fails(ENTRY_sendto) ? failure() : real->sendto(handle, data, size, to, dontwait);
}

static int setup(void **state) {
    (void)state;
    static p2p_sys_ops usual;
    usual = *test_system();
    scenario_system(&usual);
    real = &usual;
    p2p_sys_ops sys = usual;
    plan.target = ENTRY_COUNT;
    pieces = WHOLE;
    single_bytes = 0;
#define REPLACE(entry) \
    if (sys.entry != NULL) sys.entry = faulty_##entry;
    ENTRIES(REPLACE)
#undef REPLACE
    return fixture_start(&sys, NULL);
}

/* ---- failures ---- */

/* Later calls are like earlier ones: the scenario is short, but a wait may be called any number of times. */
#define CALLS_MAX 25

/* 1, 2, 3, …; where the scenario takes long 1, 2, 4, 8, 16. */
static unsigned next_call(unsigned nth) {
    return OS_ROUNDS(nth + 1, 2 * nth);
}

static void fail_one_error(entry which, int error, bool from_then_on, unsigned *points) {
    size_t in_use = memory_in_use();
    int descriptors = descriptors_open();
    for (unsigned nth = 1; nth <= CALLS_MAX; nth = next_call(nth)) {
        plan.target = which, plan.error = error, plan.nth = nth, plan.from_then_on = from_then_on;
        plan.calls = 0, plan.failed = 0, failed_before_calm = 0;
        scenario result = scenario_run(calm);
        if (memory_in_use() != in_use) fail_msg("call %u, errno %d: leak", nth, error);
        if (descriptors_open() != descriptors) fail_msg("call %u, errno %d: descriptors left", nth, error);
        if (result.can_recover && !result.recovered) fail_msg("call %u, errno %d: no recovery", nth, error);
        if (getenv("VERBOSE")) print_message("call %u errno %d complete %d\n", nth, error, result.complete);
        if (failed_before_calm == 0) {
            assert_true(result.complete);
            break;
        }
        ++*points;
    }
}

/* What a system has no number for is all the same there. */
static bool is_new(const int *errors, size_t at) {
    size_t i = 0;
    while (i < at && os_number(errors[i]) != os_number(errors[at])) i++;
    return i == at;
}

static void fail_each(entry which, const int *errors, size_t count) {
    unsigned points = 0;
    plan.target = which, plan.nth = UINT_MAX, plan.calls = 0, plan.failed = 0;
    assert_true(scenario_run(calm).complete);
    if (plan.calls == 0) test_skip("not called with this backend");
    for (size_t i = 0; i < count; i++) {
        if (!is_new(errors, i)) continue;
        fail_one_error(which, errors[i], false, &points);
        fail_one_error(which, errors[i], true, &points);
    }
    assert_int_not_equal(points, 0);
    print_message("%u points of failure\n", points);
}

/* CALL_FAILS(entry, errors...) is a case. */
#define CALL_FAILS(entry, ...)                              \
    static void entry##_fails(void **state) {               \
        static const int errors[] = { __VA_ARGS__ };        \
        (void)state;                                        \
        fail_each(ENTRY_##entry, errors, COUNT_OF(errors)); \
    }

/* The errors of POSIX systems and those of Windows, each on both: one that a system hasn't is there a number that means
 * nothing. From Windows are WSAENOBUFS, WSAENETDOWN, WSAENETRESET, WSAECONNABORTED, WSAENOTSOCK (of a wait, too: no
 * handle that it was given is a socket) and WSA_NOT_ENOUGH_MEMORY in places where no POSIX system gives theirs. */
CALL_FAILS(open, EMFILE, ENFILE, ENOBUFS, ENOMEM, EACCES, ENETDOWN)
CALL_FAILS(close, EINTR, EIO)
CALL_FAILS(inspect, EBADF, ENOTSOCK)
CALL_FAILS(set_nonblocking, EBADF, EINVAL, ENOTSOCK)
CALL_FAILS(set_option, EINVAL, ENOPROTOOPT, ENOBUFS)
CALL_FAILS(bind, EADDRINUSE, EACCES, EINVAL, ENOMEM, ENOBUFS)
CALL_FAILS(listen, EADDRINUSE, EINVAL, ENOBUFS)
CALL_FAILS(accept, EMFILE, ENFILE, ENOBUFS, ENOMEM, EINTR, EAGAIN, ECONNABORTED, ECONNRESET, EPERM, EPROTO, ENETDOWN,
           EHOSTUNREACH, ENOTSOCK)
CALL_FAILS(connect, EINPROGRESS, EINTR, ECONNREFUSED, ETIMEDOUT, ENETUNREACH, EADDRNOTAVAIL, EAGAIN, EACCES, ENOBUFS,
           ENETDOWN)
CALL_FAILS(connect_result, ECONNREFUSED, ETIMEDOUT, ECONNRESET, ENOBUFS)
CALL_FAILS(shutdown_send, ENOTCONN, ENOBUFS, EINVAL)
CALL_FAILS(unsent, EINVAL, ENOTSOCK)
CALL_FAILS(peer_address, ENOTCONN, ENOBUFS, EINVAL)
CALL_FAILS(local_address, EINVAL, ENOBUFS, ENOTCONN)
CALL_FAILS(recv, EAGAIN, EINTR, ECONNRESET, ECONNABORTED, ENETRESET, ETIMEDOUT, ENOMEM, ENETDOWN, ENOTCONN, EBADF,
           ENOTSOCK, NOTHING_READ)
CALL_FAILS(send, EAGAIN, EINTR, EPIPE, ECONNRESET, ECONNABORTED, ENOBUFS, ENOMEM, ENETDOWN)
CALL_FAILS(sendv, EAGAIN, EINTR, EPIPE, ECONNRESET, ECONNABORTED, ENOBUFS, ENOMEM, ENETDOWN)
CALL_FAILS(recvfrom, EAGAIN, EINTR, ECONNREFUSED, ECONNRESET, ENOBUFS, ENOMEM, ENETDOWN)
CALL_FAILS(sendto, EAGAIN, EINTR, ECONNREFUSED, ECONNRESET, ENOBUFS, EMSGSIZE, ENETUNREACH, ENETDOWN)
CALL_FAILS(wake_open, EMFILE, ENFILE, ENOMEM, ENOBUFS)
CALL_FAILS(wake_drain, EAGAIN, EIO, ECONNRESET)
CALL_FAILS(poll, EINTR, EINVAL, ENOMEM, ENOBUFS, ENETDOWN, ENOTSOCK)
CALL_FAILS(select, EINTR, EINVAL, EBADF, ENOMEM, ENOBUFS, ENETDOWN, ENOTSOCK)
CALL_FAILS(epoll_create, EMFILE, ENFILE, ENOMEM, ENOSYS, EPERM)
CALL_FAILS(epoll_ctl, ENOMEM, ENOSPC, EPERM, EBADF, EEXIST, ENOENT)
CALL_FAILS(epoll_wait, EINTR, EINVAL, EBADF, ENOMEM)
CALL_FAILS(kqueue, EMFILE, ENFILE, ENOMEM)
CALL_FAILS(kevent, EINTR, EINVAL, EBADF, ENOMEM)
CALL_FAILS(uring_setup, ENOSYS, EPERM, EMFILE, ENFILE, ENOMEM)
CALL_FAILS(uring_enter, EINTR, EAGAIN, EBUSY, EBADF, EINVAL, ENOMEM)
CALL_FAILS(uring_register, EINVAL, ENOMEM, EPERM)
CALL_FAILS(uring_map, ENOMEM, EAGAIN)
CALL_FAILS(port_open, EMFILE, ENOMEM, ENOBUFS)
CALL_FAILS(port_wait, EINTR, EINVAL, ENOMEM, ENOBUFS)
CALL_FAILS(port_post, ENOMEM, ENOBUFS)
CALL_FAILS(afd_open, EMFILE, ENOMEM, ENOBUFS, EACCES)
CALL_FAILS(afd_poll, EINVAL, ENOMEM, ENOBUFS, EACCES)
CALL_FAILS(lower_socket, ENOTSOCK, EOPNOTSUPP, ENOBUFS)
CALL_FAILS(resolve, ENOMEM, EINVAL)
CALL_FAILS(thread_start, ENOMEM)
CALL_FAILS(get_option, EINVAL, ENOPROTOOPT, ENOBUFS)

/* ---- datagrams that find nobody ---- */

typedef struct heard {
    unsigned failures, datagrams;
} heard;

static void hear(p2p_socket_t *sock, void *user_data) {
    heard *h = user_data;
    char byte = 0;
    int64_t got = p2p_datagram_recv(sock, &byte, 1, NULL);
    if (got < 0) {
        h->failures++;
    } else {
        assert_int_equal(byte, 'x');
        h->datagrams++;
    }
}

/* Windows lets a receive fail with WSAECONNRESET after a datagram that was sent to a port where nobody is, and
 * that goes for the socket that sent it, whoever else it talks to. */
static void a_datagram_socket_outlives_receives_that_fail(void **state) {
    (void)state;
    static const int errors[] = { ECONNRESET, ECONNREFUSED, ENETRESET, EINTR, ENOBUFS };
    p2p_event_loop_t *loop = loop_create(NULL);
    for (size_t i = 0; i < COUNT_OF(errors); i++) {
        heard h = { 0, 0 };
        p2p_address_t itself;
        p2p_socket_t *sock = p2p_socket_create(P2P_UDP);
        assert_int_equal(p2p_socket_bind(sock, "127.0.0.1", 0), 0);
        assert_int_equal(p2p_socket_local_address(sock, &itself), 0);
        assert_int_equal(p2p_event_loop_add_socket(loop, sock, hear, &h), 0);
        plan.target = ENTRY_recvfrom, plan.error = errors[i], plan.nth = 1, plan.from_then_on = false;
        plan.calls = 0, plan.failed = 0;
        assert_int_equal(p2p_datagram_send(sock, "x", 1, &itself), 0);
        RUN_UNTIL(loop, h.datagrams == 1); /* it is still there after the failure */
        assert_int_equal(plan.failed, 1);
        assert_true(h.failures >= 1);
        assert_int_equal(p2p_datagram_send(sock, "x", 1, &itself), 0);
        RUN_UNTIL(loop, h.datagrams == 2);
        calm();
        p2p_socket_close(sock);
    }
    p2p_event_loop_free(loop);
}

static void count_message(p2p_socket_t *sock, const void *data, uint32_t length, void *user_data) {
    (void)sock, (void)data, (void)length;
    ((heard *)user_data)->datagrams++;
}

static void count_failure(p2p_socket_t *sock, int error, void *user_data) {
    (void)sock;
    assert_int_not_equal(error, 0);
    ((heard *)user_data)->failures++;
}

/* What the network did is told once each, and the messages go on; a handle that is no socket is told once for all. */
static void datagrams_as_messages_outlive_failures_but_that_of_the_handle(void **state) {
    (void)state;
    static const p2p_socket_callbacks_t callbacks = {
        .size = sizeof(p2p_socket_callbacks_t), .on_message = count_message, .on_error = count_failure
    };
    static const int errors[] = { ECONNREFUSED, ENETDOWN, EBADF };
    p2p_event_loop_t *loop = loop_create(NULL);
    for (size_t i = 0; i < COUNT_OF(errors); i++) {
        heard h = { 0, 0 };
        bool lasting = errors[i] == EBADF;
        p2p_address_t itself;
        p2p_socket_t *sock = p2p_socket_create(P2P_UDP);
        assert_int_equal(p2p_socket_bind(sock, "127.0.0.1", 0), 0);
        assert_int_equal(p2p_socket_local_address(sock, &itself), 0);
        assert_int_equal(p2p_event_loop_add_socket_with(loop, sock, &callbacks, &h), 0);
        plan.target = ENTRY_recvfrom, plan.error = errors[i], plan.nth = 1, plan.from_then_on = lasting;
        plan.calls = 0, plan.failed = 0;
        assert_int_equal(p2p_datagram_send(sock, "x", 1, &itself), 0);
        RUN_UNTIL(loop, h.failures == 1 && (lasting || h.datagrams == 1));
        loop_settle(loop);
        assert_int_equal(h.failures, 1);
        calm();
        p2p_socket_close(sock);
    }
    p2p_event_loop_free(loop);
}

/* The same by the system itself: the error, where it gives one, may come before or after the datagram. */
static void a_datagram_to_nobody_leaves_the_socket_usable(void **state) {
    (void)state;
    heard h = { 0, 0 };
    p2p_address_t itself, nobody;
    p2p_event_loop_t *loop = loop_create(NULL);
    p2p_socket_t *sock = p2p_socket_create(P2P_UDP), *gone = p2p_socket_create(P2P_UDP);
    assert_int_equal(p2p_socket_bind(sock, "127.0.0.1", 0), 0);
    assert_int_equal(p2p_socket_local_address(sock, &itself), 0);
    assert_int_equal(p2p_socket_bind(gone, "127.0.0.1", 0), 0);
    assert_int_equal(p2p_socket_local_address(gone, &nobody), 0);
    p2p_socket_close(gone);
    assert_int_equal(p2p_event_loop_add_socket(loop, sock, hear, &h), 0);
    for (unsigned i = 1; i <= 10; i++) {
        assert_int_equal(p2p_datagram_send(sock, "?", 1, &nobody), 0);
        assert_int_equal(p2p_datagram_send(sock, "x", 1, &itself), 0);
        RUN_UNTIL(loop, h.datagrams == i);
    }
    p2p_socket_close(sock);
    p2p_event_loop_free(loop);
}

/* ---- a wait beside connects under way ---- */

static void count_answer(p2p_socket_t *sock, int error, void *user_data) {
    (void)sock;
    (void)error;
    ++*(unsigned *)user_data;
}

/* @return whether the call was made. */
static bool wait_fails_beside_connects(entry which, int error) {
    static const p2p_socket_callbacks_t callbacks = {
        sizeof(p2p_socket_callbacks_t), NULL, NULL, NULL, NULL, count_answer, NULL
    };
    uint16_t port;
    p2p_address_t itself;
    p2p_socket_t *socks[8];
    unsigned answers = 0;
    heard h = { 0, 0 };
    p2p_handle_t silent = raw_listen(&port, 0); /* takes one or two, and lets the others wait */
    p2p_event_loop_t *loop = loop_create(NULL);
    p2p_socket_t *udp = p2p_socket_create(P2P_UDP);
    assert_int_equal(p2p_socket_bind(udp, "127.0.0.1", 0), 0);
    assert_int_equal(p2p_socket_local_address(udp, &itself), 0);
    assert_int_equal(p2p_event_loop_add_socket(loop, udp, hear, &h), 0);
    for (size_t i = 0; i < COUNT_OF(socks); i++) {
        socks[i] = p2p_socket_create(P2P_TCP);
        assert_int_equal(p2p_event_loop_add_socket_with(loop, socks[i], &callbacks, &answers), 0);
        assert_int_equal(p2p_socket_connect(socks[i], "127.0.0.1", port), 0);
    }
    for (int turn = 0; turn < 5; turn++) assert_true(p2p_event_loop_run_once(loop, 1) >= 0);
    assert_true(answers < COUNT_OF(socks));
    plan.target = which, plan.error = error, plan.nth = 1, plan.from_then_on = false;
    plan.calls = 0, plan.failed = 0;
    int result = p2p_event_loop_run_once(loop, 1);
    calm();
    if (result < 0) {
        assert_int_not_equal(error, EINTR);
        assert_int_equal(result, real->translate_error(os_number(error)));
    } else { /* nothing was lost, and nothing was made up */
        for (int turn = 0; turn < 5; turn++) assert_true(p2p_event_loop_run_once(loop, 1) >= 0);
        assert_true(answers < COUNT_OF(socks));
        assert_int_equal(p2p_datagram_send(udp, "x", 1, &itself), 0);
        RUN_UNTIL(loop, h.datagrams == 1);
    }
    for (size_t i = 0; i < COUNT_OF(socks); i++) p2p_socket_close(socks[i]);
    p2p_socket_close(udp);
    p2p_event_loop_free(loop);
    os_close(silent);
    return plan.failed > 0;
}

/* Backend wsapoll waits by another call then. */
static void a_wait_fails_beside_connects_under_way(void **state) {
    (void)state;
    static const entry waits[] = { ENTRY_poll, ENTRY_select, ENTRY_epoll_wait, ENTRY_kevent, ENTRY_uring_enter,
                                   ENTRY_port_wait };
    static const int errors[] = { EINTR, EINVAL, EBADF, ENOTSOCK, ENOBUFS, ENOMEM };
    unsigned points = 0;
    for (size_t i = 0; i < COUNT_OF(waits) * COUNT_OF(errors); i++)
        points += wait_fails_beside_connects(waits[i / COUNT_OF(errors)], errors[i % COUNT_OF(errors)]);
    assert_int_equal(points, COUNT_OF(errors)); /* of one of the calls */
}

/* ---- short I/O ---- */

static void single_bytes_make_no_difference(void **state) {
    (void)state;
    pieces = SINGLE_BYTES;
    scenario result = scenario_run(calm);
    assert_true(result.complete && result.recovered);
}

static void random_pieces_and_EAGAIN_make_no_difference(void **state) {
    (void)state;
    for (uint32_t seed = 1; seed <= 20; seed++) {
        pieces = RANDOM_BYTES;
        random_state = seed;
        scenario result = scenario_run(calm);
        if (!result.complete || !result.recovered) fail_msg("seed %u", seed);
    }
}

#define FAULT_CASE(function) cmocka_unit_test_setup_teardown(function, setup, fixture_teardown)
#define ENTRY_CASE(entry) FAULT_CASE(entry##_fails),

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        ENTRIES(ENTRY_CASE) FAULT_CASE(a_datagram_socket_outlives_receives_that_fail),
        FAULT_CASE(datagrams_as_messages_outlive_failures_but_that_of_the_handle),
        FAULT_CASE(a_datagram_to_nobody_leaves_the_socket_usable),
        FAULT_CASE(a_wait_fails_beside_connects_under_way), FAULT_CASE(single_bytes_make_no_difference),
        FAULT_CASE(random_pieces_and_EAGAIN_make_no_difference),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
