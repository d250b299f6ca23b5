/* Creation that fails: it says why and leaves nothing behind. */
#include "cases.h"

static void create_survives_the_failure_of_each_allocation(void **state) {
    harness *h = *state;
    harness_destroy(h);
    int result = P2P_ERR_NO_MEMORY;
    size_t point = 0;
    while (result == P2P_ERR_NO_MEMORY) {
        h->fail_from = h->allocations + ++point;
        result = harness_create(h);
        if (result != 0) {
            expect_clean_failure(h, result, P2P_ERR_NO_MEMORY);
        }
        assert_true(point < 100);
    }
    assert_int_equal(result, 0);
    assert_true(point > 1);
    h->fail_from = 0;
}

static int injected_error;

static int failing_wake_open(p2p_handle_t ends[2]) {
    (void)ends;
    return -os_number(injected_error);
}

static int failing_epoll_create(void) {
    return -os_number(injected_error);
}

static int failing_epoll_ctl(int epoll, int operation, p2p_handle_t handle, struct epoll_event *event) {
    (void)epoll;
    (void)operation;
    (void)handle;
    (void)event;
    return -os_number(injected_error);
}

static int failing_kqueue(void) {
    return -os_number(injected_error);
}

static int failing_kevent(int queue, const struct kevent *changes, int change_count, struct kevent *events,
                          int capacity, int64_t timeout_ns) {
    (void)queue;
    (void)changes;
    (void)change_count;
    (void)events;
    (void)capacity;
    (void)timeout_ns;
    return -os_number(injected_error);
}

static int failing_uring_setup(uint32_t entries, struct io_uring_params *params) {
    (void)entries;
    (void)params;
    return -os_number(injected_error);
}

static int failing_uring_map(int ring, uint64_t offset, size_t size, void **out) {
    (void)ring;
    (void)offset;
    (void)size;
    (void)out;
    return -os_number(injected_error);
}

/* Where io_uring is withheld from a process, that is no error of the process. */
static int uring_error(int error, int otherwise) {
    bool withheld = error == ENOSYS || error == EPERM || error == EACCES || error == ENOMEM || error == EINVAL;
    return withheld ? P2P_ERR_NOT_SUPPORTED : otherwise;
}

static int failing_port_open(p2p_handle_t *out) {
    (void)out;
    return -os_number(injected_error);
}

static int failing_afd_open(p2p_sys_function nt_create_file, p2p_handle_t port, p2p_handle_t *out) {
    (void)nt_create_file;
    (void)port;
    (void)out;
    return -os_number(injected_error);
}

/* A backend that doesn't use the broken entry is made as ever. */
static void create_with_a_broken_entry(harness *h, int expected) {
    int result = harness_create(h);
    if (result != 0) {
        expect_clean_failure(h, result, expected);
    } else {
        harness_destroy(h);
    }
    h->sys = *test_system();
}

static void create_translates_failures_of_the_system(void **state) {
    static const struct { int error, expected; } pairs[] = {
        { EMFILE, P2P_ERR_TOO_MANY_FILES }, { ENOMEM, P2P_ERR_NO_MEMORY }, { ENOBUFS, P2P_ERR_NO_MEMORY },
        { EAFNOSUPPORT, P2P_ERR_NOT_SUPPORTED }, { EACCES, P2P_ERR_ACCESS }, { EIO, P2P_ERR_SYSTEM },
#if !defined(_WIN32)
        { ENFILE, P2P_ERR_TOO_MANY_FILES }, { ENOSYS, P2P_ERR_NOT_SUPPORTED }, { EPERM, P2P_ERR_ACCESS },
#endif
    };
    harness *h = *state;
    p2p_sys_ops good = h->sys;
    harness_destroy(h);
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        injected_error = pairs[i].error;
        h->sys.wake_open = failing_wake_open;
        create_with_a_broken_entry(h, pairs[i].expected);
        h->sys.epoll_create = failing_epoll_create;
        create_with_a_broken_entry(h, pairs[i].expected);
        h->sys.epoll_ctl = failing_epoll_ctl;
        create_with_a_broken_entry(h, pairs[i].expected);
        h->sys.uring_setup = failing_uring_setup;
        create_with_a_broken_entry(h, uring_error(pairs[i].error, pairs[i].expected));
        h->sys.uring_map = failing_uring_map;
        create_with_a_broken_entry(h, uring_error(pairs[i].error, pairs[i].expected));
        h->sys.kqueue = failing_kqueue;
        create_with_a_broken_entry(h, pairs[i].expected);
        h->sys.kevent = failing_kevent;
        create_with_a_broken_entry(h, pairs[i].expected);
        h->sys.port_open = failing_port_open;
        create_with_a_broken_entry(h, pairs[i].expected);
        h->sys.afd_open = failing_afd_open;
        create_with_a_broken_entry(h, pairs[i].expected);
    }
    h->sys = good;
    assert_int_equal(harness_create(h), 0);
}

static void create_without_its_mechanism_is_not_supported(void **state) {
    harness *h = *state;
    p2p_sys_ops good = h->sys;
    turn(h, 0);
    bool needs_mechanism = h->waits > 0;
    harness_destroy(h);
    h->sys.poll = NULL;
    h->sys.select = NULL;
    h->sys.epoll_create = NULL;
    h->sys.epoll_ctl = NULL;
    h->sys.epoll_wait = NULL;
    h->sys.uring_setup = NULL;
    h->sys.kqueue = NULL;
    h->sys.kevent = NULL;
    h->sys.nt_function = NULL;
    int result = harness_create(h);
    if (result != 0) {
        expect_clean_failure(h, result, P2P_ERR_NOT_SUPPORTED);
    } else {
        assert_false(needs_mechanism);
        harness_destroy(h);
    }
    h->sys = good;
    assert_int_equal(harness_create(h), 0);
}

static void instances_are_independent(void **state) {
    harness *h = *state;
    p2p_backend *first = h->backend;
    assert_int_equal(harness_create(h), 0);
    p2p_backend *second = h->backend;
    assert_true(first != second);
    p2p_handle_t ends[2];
    tcp_pair(ends);
    add(h, ends[0], P2P_OUT);
    assert_int_equal(h->ops->wake(second), 0);
    h->backend = first;
    expect_quiet(h, 20 * MILLISECOND);
    h->backend = second;
    forget_all(h);
    h->backend = first;
    harness_destroy(h);
    h->backend = second;
    expect_quiet(h, 5 * MILLISECOND);
    close_pair(ends);
}

static const struct CMUnitTest cases[] = {
    CASE(create_survives_the_failure_of_each_allocation),
    CASE(create_translates_failures_of_the_system),
    CASE(create_without_its_mechanism_is_not_supported),
    CASE(instances_are_independent),
};
const case_group create_cases = CASE_GROUP(cases);
