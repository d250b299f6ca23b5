/* One or more cases for each of the rules B1 to B14 that a table can show by itself. */
#include "cases.h"
#include "sim_uring.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#if defined(__linux__)
#include <sys/epoll.h>
#endif
#if __has_include(<sys/event.h>)
#include <sys/types.h>

#include <sys/event.h>
#define HAS_KQUEUE 1
#endif

/* ---- B1: a whole system made of nothing ---- */

/*
 * Handles 3000 to 3007 exist in this system only. A backend that asked the real one about them would be told
 * that they are not open.
 */
enum {
    SIM_FIRST = 3000,
    SIM_COUNT = 8,
    SIM_WAKE = 3100,
    SIM_EPOLL = 3101,
    SIM_KQUEUE = 3102,
    SIM_DEVICE = 3103
};

static struct {
    uint32_t ready[SIM_COUNT];
    bool woken, epoll_open, kqueue_open, wake_is_open;
    struct { uint32_t events; uint64_t data; } set[SIM_COUNT + 1]; /* the last is the wake-up's */
    void *filters[SIM_COUNT][2]; /* of kqueue: reading, writing; NULL: not there */
    struct { p2p_afd_poll *poll; bool cancelled; } asked[4 * SIM_COUNT];
    int devices;
    unsigned uring_maps;
} sim;

static int sim_index(p2p_handle_t handle) {
    if (handle == SIM_WAKE) {
        return SIM_COUNT;
    }
    return handle >= SIM_FIRST && handle < SIM_FIRST + SIM_COUNT ? (int)handle - SIM_FIRST : -1;
}

static uint32_t sim_state(p2p_handle_t handle) {
    int index = sim_index(handle);
    return index < 0 ? 0 : index == SIM_COUNT ? (sim.woken ? P2P_IN : 0) : sim.ready[index];
}

static int sim_inspect(p2p_handle_t handle) {
    return sim_index(handle) < 0 ? NOT_A_HANDLE : (int)(P2P_SYS_STREAM | P2P_SYS_CONNECTED | P2P_SYS_NONBLOCKING);
}

static int sim_set_nonblocking(p2p_handle_t handle, int enabled) {
    (void)enabled;
    return sim_index(handle) < 0 ? NOT_A_HANDLE : 0;
}

static int sim_wake_open(p2p_handle_t ends[2]) {
    ends[0] = ends[1] = SIM_WAKE;
    sim.wake_is_open = true;
    return 0;
}

static int sim_wake_signal(p2p_handle_t end) {
    sim.woken = end == SIM_WAKE;
    return 0;
}

static int sim_wake_drain(p2p_handle_t end) {
    sim.woken = sim.woken && end != SIM_WAKE;
    return 0;
}

static void sim_wake_close(p2p_handle_t ends[2]) {
    sim.wake_is_open = sim.wake_is_open && ends[0] != SIM_WAKE;
}

static int sim_close(p2p_handle_t handle) {
    sim.epoll_open = sim.epoll_open && handle != SIM_EPOLL;
    if (handle == SIM_KQUEUE) {
        sim.kqueue_open = sim.wake_is_open = false; /* its wake-up is a part of it */
    }
    return 0;
}

static int sim_poll(struct pollfd *fds, uint32_t count, int64_t timeout_ns) {
    (void)timeout_ns;
    int ready = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t flags = sim_state(fds[i].fd);
        int found = (flags & P2P_IN ? POLLIN : 0) | (flags & P2P_OUT ? POLLOUT : 0);
        fds[i].revents = (short)(found & fds[i].events);
        ready += fds[i].revents != 0;
    }
    return ready;
}

#if defined(_WIN32)
/* A count and an array, as long as the count says. */
static int sim_select_one(int nfds, void *handles, uint32_t flag) {
    (void)nfds;
    fd_set *set = handles;
    u_int ready = 0;
    for (u_int i = 0; set != NULL && i < set->fd_count; i++) {
        if (sim_state(set->fd_array[i]) & flag) {
            set->fd_array[ready++] = set->fd_array[i];
        }
    }
    if (set != NULL) {
        set->fd_count = ready;
    }
    return (int)ready;
}
#else
static int sim_select_one(int nfds, void *handles, uint32_t flag) {
    const int bits = (int)sizeof(unsigned long) * CHAR_BIT;
    unsigned long *set = handles;
    int ready = 0;
    for (int handle = 0; set != NULL && handle < nfds; handle++) {
        unsigned long bit = 1ul << (handle % bits);
        if (!(set[handle / bits] & bit)) {
            continue;
        }
        if (sim_state(handle) & flag) {
            ready++;
        } else {
            set[handle / bits] &= ~bit;
        }
    }
    return ready;
}
#endif

static int sim_select(int nfds, void *readable, void *writable, void *exceptional, int64_t timeout_ns) {
    (void)timeout_ns;
    assert_true(exceptional == NULL || ON_WINDOWS); /* where a connect that failed shows there and nowhere else */
    return sim_select_one(nfds, readable, P2P_IN) + sim_select_one(nfds, writable, P2P_OUT) +
           sim_select_one(nfds, exceptional, P2P_ERR);
}

#if defined(__linux__)
static int sim_epoll_create(void) {
    sim.epoll_open = true;
    return SIM_EPOLL;
}

static int sim_epoll_ctl(int epoll, int operation, p2p_handle_t handle, struct epoll_event *event) {
    int index = sim_index(handle);
    if (epoll != SIM_EPOLL || index < 0) {
        return -EBADF;
    }
    sim.set[index].events = operation == EPOLL_CTL_DEL ? 0 : event->events;
    sim.set[index].data = operation == EPOLL_CTL_DEL ? 0 : event->data.u64;
    return 0;
}

static int sim_epoll_wait(int epoll, struct epoll_event *events, int capacity, int64_t timeout_ns, int precise) {
    (void)timeout_ns;
    (void)precise;
    int ready = 0;
    for (int i = 0; epoll == SIM_EPOLL && i <= SIM_COUNT && ready < capacity; i++) {
        uint32_t flags = sim_state(i == SIM_COUNT ? SIM_WAKE : SIM_FIRST + i);
        uint32_t found = flags & P2P_IN ? (uint32_t)EPOLLIN : 0;
        found |= flags & P2P_OUT ? (uint32_t)EPOLLOUT : 0;
        if (found & sim.set[i].events) {
            events[ready].events = found & sim.set[i].events;
            events[ready++].data.u64 = sim.set[i].data;
        }
    }
    return ready;
}
#endif

#if defined(HAS_KQUEUE)
static int sim_kqueue(void) {
    sim.kqueue_open = true;
    return SIM_KQUEUE;
}

static int sim_change(const struct kevent *change) {
    int index = sim_index((p2p_handle_t)change->ident);
    if (change->filter == EVFILT_USER) {
        sim.wake_is_open = sim.wake_is_open || (change->flags & EV_ADD);
        sim.woken = sim.woken || (change->fflags & NOTE_TRIGGER);
        return 0;
    }
    if (index < 0) {
        return EBADF;
    }
    sim.filters[index][change->filter == EVFILT_WRITE] = change->flags & EV_DELETE ? NULL : change->udata;
    return 0;
}

static int sim_kevent(int queue, const struct kevent *changes, int change_count, struct kevent *events, int capacity,
                      int64_t timeout_ns) {
    (void)timeout_ns;
    if (queue != SIM_KQUEUE) {
        return -EBADF;
    }
    int count = 0;
    for (int i = 0; i < change_count; i++) {
        int error = sim_change(&changes[i]);
        if (count < capacity) {
            events[count] = changes[i];
            events[count].flags = EV_ERROR;
            events[count++].data = error;
        }
    }
    for (int i = 0; change_count == 0 && i < 2 * SIM_COUNT && count < capacity; i++) {
        if (sim.filters[i / 2][i % 2] != NULL && (sim.ready[i / 2] & (i % 2 ? P2P_OUT : P2P_IN))) {
            events[count++] = (struct kevent){ .ident = (uintptr_t)(SIM_FIRST + i / 2),
                                               .filter = i % 2 ? EVFILT_WRITE : EVFILT_READ,
                                               .udata = sim.filters[i / 2][i % 2] };
        }
    }
    if (change_count == 0 && sim.woken && count < capacity) {
        sim.woken = false;
        events[count++] = (struct kevent){ .filter = EVFILT_USER };
    }
    return count;
}
#endif

#if defined(_WIN32)
static void sim_any_function(void) {
}

static p2p_sys_function sim_nt_function(const char *name) {
    (void)name;
    return sim_any_function;
}

static int sim_port_open(p2p_handle_t *out) {
    *out = SIM_WAKE;
    sim.wake_is_open = true;
    return 0;
}

static int sim_port_close(p2p_handle_t handle) {
    if (handle == SIM_DEVICE) {
        sim.devices--;
    } else {
        sim.wake_is_open = sim.wake_is_open && handle != SIM_WAKE;
    }
    return 0;
}

static int sim_afd_open(p2p_sys_function nt_create_file, p2p_handle_t port, p2p_handle_t *out) {
    (void)nt_create_file;
    (void)port;
    sim.devices++;
    *out = SIM_DEVICE;
    return 0;
}

static int sim_lower_socket(p2p_handle_t handle, p2p_sys_lower which, p2p_handle_t *out) {
    (void)which;
    *out = handle;
    return sim_index(handle) < 0 ? NOT_A_HANDLE : 0;
}

static int sim_afd_poll(p2p_sys_function nt_device_io_control_file, p2p_handle_t device, p2p_afd_poll *poll) {
    (void)nt_device_io_control_file;
    int i = 0;
    while (sim.asked[i].poll != NULL) {
        i++;
    }
    assert_in_range(i, 0, 4 * SIM_COUNT - 1);
    sim.asked[i].poll = poll;
    sim.asked[i].cancelled = false;
    return device != SIM_DEVICE || sim_index(poll->base) < 0 ? NOT_A_HANDLE : 0;
}

static int sim_afd_cancel(p2p_sys_function nt_cancel_io_file_ex, p2p_handle_t device, p2p_afd_poll *poll) {
    (void)nt_cancel_io_file_ex;
    (void)device;
    for (int i = 0; i < 4 * SIM_COUNT; i++) {
        sim.asked[i].cancelled = sim.asked[i].cancelled || sim.asked[i].poll == poll;
    }
    return 0;
}

static int sim_port_wait(p2p_handle_t port, struct _OVERLAPPED_ENTRY *results, uint32_t capacity, int64_t timeout_ns) {
    (void)timeout_ns;
    uint32_t count = 0;
    if (sim.woken && port == SIM_WAKE) {
        sim.woken = false;
        results[count++].lpOverlapped = NULL;
    }
    for (int i = 0; i < 4 * SIM_COUNT && count < capacity; i++) {
        p2p_afd_poll *poll = sim.asked[i].poll;
        uint32_t flags = poll != NULL ? sim_state(poll->base) : 0;
        uint32_t found = (flags & P2P_IN ? P2P_AFD_RECEIVE : 0) | (flags & P2P_OUT ? P2P_AFD_SEND : 0);
        if (poll == NULL || ((found & poll->events) == 0 && !sim.asked[i].cancelled)) {
            continue;
        }
        poll->status = sim.asked[i].cancelled ? 0xC0000120u : 0;
        poll->events &= found;
        sim.asked[i].poll = NULL;
        results[count++].lpOverlapped = (OVERLAPPED *)poll;
    }
    return (int)count;
}

static int sim_port_post(p2p_handle_t port) {
    sim.woken = port == SIM_WAKE;
    return 0;
}
#endif

static void install_sim(p2p_sys_ops *sys) {
    memset(&sim, 0, sizeof(sim));
    sys->inspect = sim_inspect;
    sys->set_nonblocking = sim_set_nonblocking;
    sys->close = sim_close;
    sys->wake_open = sim_wake_open;
    sys->wake_signal = sim_wake_signal;
    sys->wake_drain = sim_wake_drain;
    sys->wake_close = sim_wake_close;
    sys->poll = sim_poll;
    sys->select = sim_select;
    sim_uring_install(sys, sim_state, &sim.uring_maps);
#if defined(__linux__)
    sys->epoll_create = sim_epoll_create;
    sys->epoll_ctl = sim_epoll_ctl;
    sys->epoll_wait = sim_epoll_wait;
#elif defined(_WIN32)
    sys->port_open = sim_port_open;
    sys->port_wait = sim_port_wait;
    sys->port_post = sim_port_post;
    sys->port_close = sim_port_close;
    sys->nt_function = sim_nt_function;
    sys->afd_open = sim_afd_open;
    sys->afd_poll = sim_afd_poll;
    sys->afd_cancel = sim_afd_cancel;
    sys->lower_socket = sim_lower_socket;
#endif
#if defined(HAS_KQUEUE)
    sys->kqueue = sim_kqueue;
    sys->kevent = sim_kevent;
#endif
}

/* Learn whether the backend waits by the system table at all. */
static bool waits_by_the_table(harness *h) {
    turn(h, 0);
    return h->waits > 0;
}

static void b01_the_system_is_reached_by_the_table_only(void **state) {
    harness *h = *state;
    if (!waits_by_the_table(h)) {
        test_skip("backend %s has a mechanism that is not in the system table", h->ops->name);
    }
    harness_destroy(h);
    int open_before = os_open_count();
    install_sim(&h->sys);
    int result = harness_create(h);
    if (result == P2P_ERR_NOT_SUPPORTED) {
        test_skip("the made-up system has not what backend %s waits by", h->ops->name);
    }
    assert_int_equal(result, 0);
    assert_true(sim.wake_is_open);
    for (int i = 0; i < SIM_COUNT; i++) {
        add(h, (p2p_handle_t)(SIM_FIRST + i), i % 2 ? P2P_IN : P2P_IN | P2P_OUT);
        sim.ready[i] = P2P_OUT;
    }
    assert_int_equal(turn(h, 0), SIM_COUNT / 2);
    for (int i = 0; i < SIM_COUNT; i++) {
        assert_int_equal(h->ios[i]->now, i % 2 ? 0 : P2P_OUT);
        sim.ready[i] = P2P_IN;
    }
    assert_int_equal(turn(h, 0), SIM_COUNT);
    forget(h, h->ios[3]);
    assert_int_equal(turn(h, 0), SIM_COUNT - 1);
    assert_int_equal(h->ops->wake(h->backend), 0);
    assert_true(sim.woken);
    assert_int_equal(turn(h, 0), SIM_COUNT - 1);
    assert_false(sim.woken);
    assert_int_equal(os_open_count(), open_before);
    forget_all(h);
    harness_destroy(h);
    assert_false(sim.wake_is_open);
    assert_false(sim.epoll_open);
    assert_false(sim.kqueue_open);
    assert_int_equal(sim.devices, 0);
    assert_int_equal(sim.uring_maps, 0);
    memset(&sim, 0, sizeof(sim));
}

/* ---- B2: waiting ---- */

static int wait_error;
static int failed_waits;

static int fail_wait(void) {
    failed_waits++;
    return -os_number(wait_error);
}

static int failing_poll(struct pollfd *fds, uint32_t count, int64_t timeout_ns) {
    (void)fds;
    (void)count;
    (void)timeout_ns;
    return fail_wait();
}

static int failing_select(int nfds, void *readable, void *writable, void *exceptional, int64_t timeout_ns) {
    (void)nfds;
    (void)readable;
    (void)writable;
    (void)exceptional;
    (void)timeout_ns;
    return fail_wait();
}

static int failing_epoll_wait(int epoll, struct epoll_event *events, int capacity, int64_t timeout_ns, int precise) {
    (void)epoll;
    (void)events;
    (void)capacity;
    (void)timeout_ns;
    (void)precise;
    return fail_wait();
}

static int failing_kevent(int queue, const struct kevent *changes, int change_count, struct kevent *events,
                          int capacity, int64_t timeout_ns) {
    (void)queue;
    (void)changes;
    (void)change_count;
    (void)events;
    (void)capacity;
    (void)timeout_ns;
    return fail_wait();
}

static int failing_port_wait(p2p_handle_t port, struct _OVERLAPPED_ENTRY *results, uint32_t capacity,
                             int64_t timeout_ns) {
    (void)port;
    (void)results;
    (void)capacity;
    (void)timeout_ns;
    return fail_wait();
}

static int failing_uring_enter(int ring, uint32_t to_submit, uint32_t min_complete, uint32_t flags,
                               const void *argument, size_t argument_size) {
    (void)ring;
    (void)to_submit;
    (void)min_complete;
    (void)flags;
    (void)argument;
    (void)argument_size;
    return fail_wait();
}

/* One wait whose mechanism fails with `error`, with a ready socket registered. @return the wait's result. */
static int wait_that_fails(harness *h, int error) {
    p2p_sys_ops good = h->sys;
    p2p_backend_event events[4];
    h->sys.poll = failing_poll;
    h->sys.select = failing_select;
    h->sys.epoll_wait = failing_epoll_wait;
    h->sys.uring_enter = failing_uring_enter;
    h->sys.kevent = failing_kevent;
    h->sys.port_wait = failing_port_wait;
    wait_error = error;
    failed_waits = 0;
    int result = h->ops->wait(h->backend, events, 4, 0);
    h->sys = good;
    if (failed_waits == 0) {
        test_skip("backend %s has a mechanism that is not in the system table", h->ops->name);
    }
    return result;
}

static void b02_an_interrupted_wait_returns_0(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_OUT);
    int result = wait_that_fails(h, EINTR);
    turn_until(h, io, P2P_OUT);
    forget_all(h);
    close_pair(ends);
    assert_int_equal(result, 0);
    assert_int_equal(failed_waits, 1);
}

static void b02_a_broken_wait_returns_the_system_error(void **state) {
    static const int errors[] = { ENOMEM, ENOBUFS, EINVAL, EFAULT };
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_OUT);
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        assert_int_equal(wait_that_fails(h, errors[i]), -os_number(errors[i]));
        assert_int_equal(failed_waits, 1); /* it was not tried again and again */
        turn_until(h, io, P2P_OUT); /* and the instance is as it was */
    }
    forget_all(h);
    close_pair(ends);
}

/* ---- B3: level-triggered, and fair ---- */

static void b03_unread_data_is_reported_by_every_wait(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN);
    send_text(ends[1], "abcd");
    char byte;
    for (int i = 0; i < 4; i++) {
        turn_until(h, io, P2P_IN);
        turn_until(h, io, P2P_IN);
        assert_int_equal(receive(ends[0], &byte, 1), 1);
    }
    clear(h);
    expect_quiet(h, 5 * MILLISECOND);
    forget_all(h);
    close_pair(ends);
}

static void b03_every_ready_socket_is_reported_within_a_round_of_small_batches(void **state) {
    enum { COUNT = 40, CAPACITY = 7, WAITS_MAX = (COUNT + CAPACITY - 1) / CAPACITY };
    harness *h = *state;
    p2p_handle_t ends[COUNT][2];
    for (int i = 0; i < COUNT; i++) {
        any_pair(h, ends[i]);
        send_text(ends[i][1], "x");
        add(h, ends[i][0], P2P_IN);
    }
    h->capacity = CAPACITY;
    for (int round = 0; round < 5; round++) {
        clear(h);
        for (int waits = 0; waits < WAITS_MAX; waits++) {
            turn(h, 1000 * MILLISECOND);
        }
        for (int i = 0; i < COUNT; i++) {
            assert_true(h->ios[i]->seen != 0);
        }
        turn(h, 0); /* begin the next round somewhere else */
    }
    forget_all(h);
    for (int i = 0; i < COUNT; i++) {
        os_close(ends[i][0]);
        os_close(ends[i][1]);
    }
}

/* ---- B4: hang-ups, errors, and silence ---- */

static void b04_a_reset_is_reported_whatever_is_wanted(void **state) {
    static const uint32_t masks[] = { P2P_IN, P2P_OUT };
    harness *h = *state;
    for (size_t i = 0; i < 2; i++) {
        p2p_handle_t ends[2];
        tcp_pair(ends);
        fill_send_buffer(ends[0]);
        test_io *io = add(h, ends[0], masks[i]);
        expect_quiet(h, 2 * MILLISECOND);
        os_reset(ends[1]);
        turn_until(h, io, masks[i]);
        forget_all(h);
        os_close(ends[0]);
    }
}

static void b04_without_interest_a_hangup_is_silent(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    any_pair(h, ends);
    test_io *io = add(h, ends[0], P2P_IN);
    os_close(ends[1]);
    turn(h, 1000 * MILLISECOND);
    assert_true(io->seen != 0);
    want(h, io, 0);
    expect_quiet(h, 50 * MILLISECOND);
    forget_all(h);
    os_close(ends[0]);
}

static void b04_a_refused_connect_is_reported_as_an_error(void **state) {
    harness *h = *state;
    uint16_t port;
    p2p_handle_t keeper = refusing_port(&port);
    p2p_handle_t client = tcp_connecting(port);
    test_io *io = add(h, client, P2P_OUT);
    turn_until(h, io, P2P_OUT);
    /* select has no bit for it where a failed connect is merely writable. */
    assert_true((io->now & P2P_ERR) || (strcmp(h->ops->name, "select") == 0 && !ON_WINDOWS));
    forget_all(h);
    os_close(client);
    os_close(keeper);
}

/* ---- B5: a failed change changes nothing ---- */

static int injected_error;

static int failing_epoll_ctl(int epoll, int operation, p2p_handle_t handle, struct epoll_event *event) {
    (void)epoll;
    (void)operation;
    (void)handle;
    (void)event;
    return -os_number(injected_error);
}

static int refusing_kevent(int queue, const struct kevent *changes, int change_count, struct kevent *events,
                           int capacity, int64_t timeout_ns) {
    (void)queue;
    (void)changes;
    (void)change_count;
    (void)events;
    (void)capacity;
    (void)timeout_ns;
    return -os_number(injected_error);
}

static int failing_inspect(p2p_handle_t handle) {
    (void)handle;
    return -os_number(injected_error);
}

static void b05_a_failed_registration_changes_nothing(void **state) {
    static const int errors[] = { ENOMEM, ENOBUFS, ENOSPC };
    harness *h = *state;
    p2p_sys_ops good = h->sys;
    p2p_handle_t ends[2], handles[3];
    int count = 0;
    any_pair(h, ends);
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        injected_error = errors[i];
        handles[count] = duplicate_of(ends[1]);
        test_io *io = attach(h, handles[count++], 0);
        h->sys.epoll_ctl = failing_epoll_ctl;
        h->sys.kevent = refusing_kevent;
        h->sys.inspect = failing_inspect;
        int result = try_want(h, io, P2P_OUT);
        h->sys = good;
        assert_true(result == 0 || result == -os_number(errors[i]));
        if (result != 0) {
            turn(h, 5 * MILLISECOND); /* turn() fails on an event of what was not accepted */
            want(h, io, P2P_OUT);
        }
        for (int k = 0; k < count; k++) {
            turn_until(h, h->ios[k], P2P_OUT);
        }
    }
    forget_all(h);
    while (count > 0) {
        os_close(handles[--count]);
    }
    close_pair(ends);
}

/* Sooner or later the backend wants more memory, and gets none. */
static void b05_growth_that_fails_changes_nothing(void **state) {
    enum { COUNT = 100 };
    harness *h = *state;
    p2p_handle_t ends[2], handles[COUNT];
    int failures = 0;
    any_pair(h, ends);
    for (int i = 0; i < COUNT; i++) {
        handles[i] = duplicate_of(ends[1]);
        test_io *io = attach(h, handles[i], 0);
        h->fail_from = h->allocations + 1;
        int result = try_want(h, io, P2P_OUT);
        if (result == -os_number(ENOMEM)) { /* with growth in two steps, the second may fail as well */
            failures++;
            h->fail_from = h->allocations + 2;
            result = try_want(h, io, P2P_OUT);
        }
        h->fail_from = 0;
        if (result != 0) {
            assert_int_equal(result, -os_number(ENOMEM));
            turn(h, 1000 * MILLISECOND); /* turn() fails on an event of what was not accepted */
            want(h, io, P2P_OUT);
        }
    }
    h->capacity = COUNT;
    turn_until(h, h->ios[COUNT - 1], P2P_OUT);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(h->ios[i]->now, P2P_OUT);
    }
    forget_all(h);
    for (int i = 0; i < COUNT; i++) {
        os_close(handles[i]);
    }
    close_pair(ends);
    if (failures == 0) {
        test_skip("backend %s allocates nothing for a registration", h->ops->name);
    }
}

static void b05_a_failed_change_leaves_the_old_interest(void **state) {
    harness *h = *state;
    p2p_sys_ops good = h->sys;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    send_text(ends[1], "x");
    test_io *io = add(h, ends[0], P2P_IN);
    injected_error = ENOMEM;
    h->sys.epoll_ctl = failing_epoll_ctl;
    h->sys.kevent = refusing_kevent;
    h->sys.inspect = failing_inspect;
    h->fail_from = h->allocations + 1;
    int result = try_want(h, io, P2P_IN | P2P_OUT);
    h->fail_from = 0;
    h->sys = good;
    assert_true(result == 0 || result == -os_number(ENOMEM));
    turn_until(h, io, P2P_IN);
    assert_int_equal(io->now, result == 0 ? P2P_IN | P2P_OUT : P2P_IN); /* or turn() has failed */
    want(h, io, P2P_OUT);
    turn_until(h, io, P2P_OUT);
    forget_all(h);
    close_pair(ends);
}

/* ---- B6: after detach ---- */

/* The state lies in a block of its own that forget() frees, so a sanitizer sees any later use. */
static void b06_after_detach_nothing_of_a_socket_is_used(void **state) {
    harness *h = *state;
    p2p_handle_t ends[20][2];
    for (int i = 0; i < 20; i++) {
        tcp_pair(ends[i]);
        send_text(ends[i][1], "x");
        add(h, ends[i][0], P2P_IN | P2P_OUT);
    }
    turn(h, 1000 * MILLISECOND);
    for (int i = 0; i < 20; i += 2) {
        forget(h, h->ios[i]);
        os_close(ends[i][0]);
    }
    for (int i = 0; i < 20; i++) {
        if (i % 2 == 1) {
            turn_until(h, h->ios[i], P2P_IN | P2P_OUT);
            os_close(ends[i][0]);
        }
        os_close(ends[i][1]);
        if (i % 2 == 1) {
            forget(h, h->ios[i]);
        }
    }
    expect_quiet(h, 5 * MILLISECOND);
}

static void b06_detach_of_a_socket_without_interest(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    forget(h, attach(h, ends[0], 0));
    test_io *io = add(h, ends[0], P2P_IN);
    want(h, io, 0);
    forget(h, io);
    expect_quiet(h, 2 * MILLISECOND);
    close_pair(ends);
}

static void b06_destroy_does_not_touch_attached_sockets(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    for (int i = 0; i < 40; i++) {
        add(h, i == 0 ? ends[0] : duplicate_of(ends[0]), P2P_IN);
    }
    for (size_t i = 0; i < h->io_count; i++) { /* their memory may be gone by now */
        free(h->ios[i]->io.state);
        os_close(h->ios[i]->io.handle);
        free(h->ios[i]);
        h->ios[i] = NULL;
    }
    harness_destroy(h);
    os_close(ends[1]);
}

/* ---- B11 to B14 ---- */

static void b11_a_wake_makes_no_event(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    add(h, ends[0], P2P_IN);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(h->ops->wake(h->backend), 0);
        assert_int_equal(turn(h, DEADLINE), 0);
    }
    expect_quiet(h, 5 * MILLISECOND);
    forget_all(h);
    close_pair(ends);
}

static void b12_the_table_is_whole_and_does_not_change(void **state) {
    harness *h = *state;
    const p2p_backend_ops *ops = h->ops;
    assert_true(ops->size >= offsetof(p2p_backend_ops, attach) && ops->size <= sizeof(p2p_backend_ops));
    assert_int_equal(ops->abi, P2P_BACKEND_ABI);
    assert_true(ops->name != NULL && ops->name[0] != '\0' && strpbrk(ops->name, ", ") == NULL);
    assert_in_range(ops->io_state_size, 0, 256);
    assert_in_range(ops->op_state_size, 0, 256);
    assert_true(ops->create && ops->destroy && ops->set_interest && ops->detach && ops->wait && ops->wake);
    assert_true(!ops->pool_bind == !ops->buf_recycle && !ops->pool_bind == !ops->recv_start &&
                !ops->pool_bind == !ops->recv_stop);
    assert_true(!ops->accept_start == !ops->accept_stop);
    assert_true(!ops->send == !ops->connect && !ops->send == !ops->cancel);
    p2p_backend_ops before = *ops;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    turn_until(h, add(h, ends[0], P2P_OUT), P2P_OUT);
    forget_all(h);
    harness_destroy(h);
    assert_int_equal(harness_create(h), 0);
    assert_true(h->ops == ops);
    assert_memory_equal(&before, ops, sizeof(before));
    close_pair(ends);
}

static void b13_the_mode_of_a_foreign_handle_is_left_alone(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    any_pair(h, ends);
    static const bool modes[] = { false, true };
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(os_set_nonblocking(ends[1], modes[i]), 0);
        test_io *io = attach(h, ends[1], P2P_IO_FOREIGN | (modes[i] ? P2P_IO_NONBLOCKING : 0));
        want(h, io, P2P_OUT);
        turn_until(h, io, P2P_OUT);
        want(h, io, 0);
        forget(h, io);
        assert_true(os_is_nonblocking(ends[1]) == modes[i]);
    }
    close_pair(ends);
}

static void b13_attach_keeps_its_flag_true(void **state) {
    harness *h = *state;
    if (h->ops->attach == NULL) {
        test_skip("backend %s leaves the mode to the core", h->ops->name);
    }
    p2p_handle_t ends[2];
    tcp_pair(ends);
    test_io *io = attach(h, ends[0], P2P_IO_NONBLOCKING);
    assert_true(os_is_nonblocking(ends[0]) == ((io->io.flags & P2P_IO_NONBLOCKING) != 0));
    forget_all(h);
    close_pair(ends);
}

static void b14_wait_allocates_nothing(void **state) {
    harness *h = *state;
    p2p_handle_t ends[60][2];
    for (int i = 0; i < 60; i++) {
        tcp_pair(ends[i]);
        send_text(ends[i][1], "x");
        add(h, ends[i][0], P2P_IN | P2P_OUT);
    }
    h->capacity = 512;
    for (int i = 0; i < 10; i++) {
        h->ops->wake(h->backend);
        turn(h, MILLISECOND);
    }
    os_close(ends[0][0]); /* nor for the odd cases */
    turn(h, MILLISECOND);
    assert_int_equal(h->allocations_in_wait, 0);
    forget_all(h);
    for (int i = 0; i < 60; i++) {
        if (i > 0) {
            os_close(ends[i][0]);
        }
        os_close(ends[i][1]);
    }
}

static const struct CMUnitTest cases[] = {
    CASE(b01_the_system_is_reached_by_the_table_only),
    CASE(b02_an_interrupted_wait_returns_0),
    CASE(b02_a_broken_wait_returns_the_system_error),
    CASE(b03_unread_data_is_reported_by_every_wait),
    CASE(b03_every_ready_socket_is_reported_within_a_round_of_small_batches),
    CASE(b04_a_reset_is_reported_whatever_is_wanted),
    CASE(b04_without_interest_a_hangup_is_silent),
    CASE(b04_a_refused_connect_is_reported_as_an_error),
    CASE(b05_a_failed_registration_changes_nothing),
    CASE(b05_growth_that_fails_changes_nothing),
    CASE(b05_a_failed_change_leaves_the_old_interest),
    CASE(b06_after_detach_nothing_of_a_socket_is_used),
    CASE(b06_detach_of_a_socket_without_interest),
    CASE(b06_destroy_does_not_touch_attached_sockets),
    CASE(b11_a_wake_makes_no_event),
    CASE(b12_the_table_is_whole_and_does_not_change),
    CASE(b13_the_mode_of_a_foreign_handle_is_left_alone),
    CASE(b13_attach_keeps_its_flag_true),
    CASE(b14_wait_allocates_nothing),
};
const case_group rule_cases = CASE_GROUP(cases);
