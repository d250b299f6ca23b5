/*
 * What only backend afd can do wrong: memory that the kernel still writes to, the three states of a request, groups,
 * layered sockets, functions that Windows may not have. A program of its own, since no other backend has any of it.
 *
 * The table notes each request that the kernel has. It fails when one is made again meanwhile, when memory is freed
 * while there is any, and when a handle is left open. On demand it keeps cancellations to itself, as a slow kernel.
 */
#include "harness.h"

#include <string.h>

enum { GROUP_SIZE = 32, NOTED_MAX = 128 };

/* ---- the noting table ---- */

typedef struct held_cancel {
    p2p_sys_function function;
    p2p_handle_t device;
    p2p_afd_poll *poll;
} held_cancel;

static struct {
    p2p_sys_ops real; /* the harness's */
    p2p_afd_poll *in_kernel[NOTED_MAX];
    int in_kernel_count;
    p2p_afd_poll *last_asked;
    unsigned opens, asks, cancels;
    int open_handles; /* ports and devices */
    p2p_handle_t port;
    bool holds_cancels;
    held_cancel held[NOTED_MAX];
    int held_count;
    int fail_with;        /* an errno number for what is made to fail */
    int64_t timeout_ns;   /* of the last wait */
    uint32_t next_status; /* what the next answer is replaced by; 0: nothing */
    void (*free)(void *block, void *user);
} noted;

static int index_of(const p2p_afd_poll *poll) {
    for (int i = 0; i < noted.in_kernel_count; i++) {
        if (noted.in_kernel[i] == poll) {
            return i;
        }
    }
    return -1;
}

static int noting_port_open(p2p_handle_t *out) {
    noted.open_handles++;
    int result = noted.real.port_open(out);
    noted.port = *out;
    return result;
}

static int noting_port_close(p2p_handle_t handle) {
    noted.open_handles--;
    return noted.real.port_close(handle);
}

static int noting_afd_open(p2p_sys_function function, p2p_handle_t port, p2p_handle_t *out) {
    noted.opens++;
    noted.open_handles++;
    return noted.real.afd_open(function, port, out);
}

static int noting_afd_poll(p2p_sys_function function, p2p_handle_t device, p2p_afd_poll *poll) {
    assert_int_equal(index_of(poll), -1);
    assert_in_range(noted.in_kernel_count, 0, NOTED_MAX - 1);
    int result = noted.real.afd_poll(function, device, poll);
    noted.asks++;
    noted.last_asked = poll;
    if (result == 0) {
        noted.in_kernel[noted.in_kernel_count++] = poll;
    }
    return result;
}

static int noting_afd_cancel(p2p_sys_function function, p2p_handle_t device, p2p_afd_poll *poll) {
    assert_int_not_equal(index_of(poll), -1);
    noted.cancels++;
    if (!noted.holds_cancels) {
        return noted.real.afd_cancel(function, device, poll);
    }
    assert_in_range(noted.held_count, 0, NOTED_MAX - 1);
    noted.held[noted.held_count++] = (held_cancel){ function, device, poll };
    return 0;
}

static void let_cancels_go(void) {
    noted.holds_cancels = false;
    while (noted.held_count > 0) {
        held_cancel *held = &noted.held[--noted.held_count];
        assert_int_equal(noted.real.afd_cancel(held->function, held->device, held->poll), 0);
    }
}

static int noting_port_wait(p2p_handle_t port, OVERLAPPED_ENTRY *results, uint32_t capacity, int64_t timeout_ns) {
    noted.timeout_ns = timeout_ns;
    int count = noted.real.port_wait(port, results, capacity, timeout_ns);
    for (int i = 0; i < count; i++) {
        p2p_afd_poll *poll = (p2p_afd_poll *)results[i].lpOverlapped;
        if (poll == NULL) {
            continue;
        }
        int index = index_of(poll);
        assert_int_not_equal(index, -1);
        noted.in_kernel[index] = noted.in_kernel[--noted.in_kernel_count];
        if (noted.next_status != 0) {
            poll->status = noted.next_status;
            noted.next_status = 0;
        }
    }
    return count;
}

static void noting_free(void *block, void *user) {
    assert_int_equal(noted.in_kernel_count, 0);
    noted.free(block, user);
}

static int set_up(void **state) {
    int result = harness_set_up(state);
    harness *h = *state;
    memset(&noted, 0, sizeof(noted));
    noted.real = h->sys;
    noted.free = h->allocator.free;
    harness_destroy(h);
    h->allocator.free = noting_free;
    h->sys.port_open = noting_port_open;
    h->sys.port_close = noting_port_close;
    h->sys.afd_open = noting_afd_open;
    h->sys.afd_poll = noting_afd_poll;
    h->sys.afd_cancel = noting_afd_cancel;
    h->sys.port_wait = noting_port_wait;
    assert_int_equal(harness_create(h), 0);
    return result;
}

static int tear_down(void **state) {
    int result = harness_tear_down(state);
    assert_int_equal(noted.in_kernel_count, 0);
    assert_int_equal(noted.open_handles, 0);
    return result;
}

/* ---- creation ---- */

static const char *missing_function;

static p2p_sys_function nt_function_but_one(const char *name) {
    return strcmp(name, missing_function) == 0 ? NULL : p2p_sys_default()->nt_function(name);
}

static void create_names_the_function_that_is_missing(void **state) {
    static const char *const names[] = { "NtCreateFile", "NtDeviceIoControlFile", "NtCancelIoFileEx" };
    harness *h = *state;
    harness_destroy(h);
    h->sys.nt_function = nt_function_but_one;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        missing_function = names[i];
        expect_clean_failure(h, harness_create(h), P2P_ERR_NOT_SUPPORTED);
        assert_non_null(strstr(h->reason, names[i]));
        assert_non_null(strstr(h->reason, "ntdll.dll"));
        print_message("%s\n", h->reason);
    }
    missing_function = "";
    assert_int_equal(harness_create(h), 0);
    assert_null(p2p_sys_default()->nt_function("NtNoSuchFunction"));
}

static int failing_afd_open(p2p_sys_function function, p2p_handle_t port, p2p_handle_t *out) {
    (void)function, (void)port, (void)out;
    return noted.fail_with;
}

static void create_says_when_there_is_no_such_driver(void **state) {
    harness *h = *state;
    harness_destroy(h);
    h->sys.afd_open = failing_afd_open;
    noted.fail_with = -ERROR_DEV_NOT_EXIST;
    expect_clean_failure(h, harness_create(h), P2P_ERR_NOT_SUPPORTED);
    print_message("%s\n", h->reason);
    assert_non_null(strstr(h->reason, "NtCreateFile"));
    assert_int_equal(noted.open_handles, 0);
    h->sys.afd_open = noting_afd_open;
    assert_int_equal(harness_create(h), 0);
}

/* ---- groups ---- */

static void thirty_three_sockets_take_two_devices(void **state) {
    enum { COUNT = GROUP_SIZE + 1 };
    harness *h = *state;
    p2p_handle_t ends[COUNT][2];
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(noted.opens, 1);
        tcp_pair(ends[i]);
        add(h, ends[i][0], P2P_IN);
    }
    assert_int_equal(noted.opens, 2);
    size_t bytes = h->live_bytes;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < COUNT; i++) {
            send_text(ends[i][1], "x");
            turn_until(h, h->ios[i], P2P_IN);
        }
        forget_all(h);
        turn(h, 0); /* for what was cancelled to come back */
        for (int i = 0; i < COUNT; i++) {
            add(h, ends[i][0], P2P_IN);
        }
        assert_int_equal(noted.opens, 2);
        assert_int_equal(h->live_bytes, bytes);
    }
    forget_all(h);
    for (int i = 0; i < COUNT; i++) {
        close_pair(ends[i]);
    }
}

static void a_group_that_cannot_be_made_fails_the_registration(void **state) {
    enum { COUNT = GROUP_SIZE + 1 };
    static const int errors[] = { EMFILE, ENOBUFS };
    harness *h = *state;
    p2p_handle_t ends[2], handles[COUNT];
    tcp_pair(ends);
    for (int i = 0; i < COUNT; i++) {
        handles[i] = duplicate_of(ends[0]);
        attach(h, handles[i], 0);
        if (i < GROUP_SIZE) {
            want(h, h->ios[i], P2P_OUT);
        }
    }
    test_io *last = h->ios[COUNT - 1];
    size_t bytes = h->live_bytes;
    h->sys.afd_open = failing_afd_open;
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        noted.fail_with = -os_number(errors[i]);
        assert_int_equal(try_want(h, last, P2P_OUT), noted.fail_with);
    }
    h->sys.afd_open = noting_afd_open;
    h->fail_from = h->allocations + 1;
    assert_int_equal(try_want(h, last, P2P_OUT), -os_number(ENOMEM));
    h->fail_from = 0;
    assert_int_equal(h->live_bytes, bytes);
    turn_until(h, h->ios[0], P2P_OUT); /* turn() fails on an event of what was not accepted */
    want(h, last, P2P_OUT);
    turn_until(h, last, P2P_OUT);
    forget_all(h);
    for (int i = 0; i < COUNT; i++) {
        os_close(handles[i]);
    }
    close_pair(ends);
}

/* ---- layers below a socket ---- */

enum { LAYERED = 5000, BETWEEN = 5004 }; /* handles that Winsock would give for layered sockets */

static struct {
    p2p_handle_t base;
    p2p_sys_lower knows; /* the question that LAYERED and BETWEEN answer */
    p2p_handle_t below_layered, below_between;
    unsigned questions;
} layers;

static int layered_lower_socket(p2p_handle_t handle, p2p_sys_lower which, p2p_handle_t *out) {
    layers.questions++;
    if (handle != LAYERED && handle != BETWEEN) {
        return noted.real.lower_socket(handle, which, out);
    }
    if (which != layers.knows) {
        return -os_number(EOPNOTSUPP);
    }
    *out = handle == LAYERED ? layers.below_layered : layers.below_between;
    return 0;
}

static void a_layered_socket_is_waited_for_by_its_base(void **state) {
    static const p2p_sys_lower questions[] = { P2P_SYS_BASE, P2P_SYS_BSP_POLL, P2P_SYS_BSP_SELECT, P2P_SYS_BSP };
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    h->sys.lower_socket = layered_lower_socket;
    for (size_t i = 0; i < sizeof(questions) / sizeof(questions[0]); i++) {
        layers.knows = questions[i];
        layers.below_layered = i == 0 ? ends[0] : BETWEEN; /* who knows the base leads there at once */
        layers.below_between = ends[0];
        test_io *io = add(h, LAYERED, P2P_IN);
        expect_quiet(h, 2 * MILLISECOND);
        send_text(ends[1], "x");
        turn_until(h, io, P2P_IN);
        assert_int_equal(noted.last_asked->base, ends[0]);
        char byte;
        assert_int_equal(receive(ends[0], &byte, 1), 1);
        forget_all(h);
    }
    close_pair(ends);
}

static void a_socket_whose_base_is_not_to_be_found_is_refused(void **state) {
    harness *h = *state;
    h->sys.lower_socket = layered_lower_socket;
    test_io *io = attach(h, LAYERED, 0);
    layers.knows = (p2p_sys_lower)99; /* nothing is answered */
    assert_int_equal(try_want(h, io, P2P_IN), -os_number(EOPNOTSUPP));
    layers.knows = P2P_SYS_BSP;
    layers.below_layered = LAYERED; /* itself */
    layers.questions = 0;
    assert_int_equal(try_want(h, io, P2P_IN), -os_number(EOPNOTSUPP));
    assert_int_equal(layers.questions, 4);
    layers.below_layered = BETWEEN; /* round in a circle */
    layers.below_between = LAYERED;
    layers.questions = 0;
    assert_int_equal(try_want(h, io, P2P_IN), -os_number(EOPNOTSUPP));
    assert_in_range(layers.questions, 1, 100);
    layers.below_between = P2P_INVALID_HANDLE; /* to something that is no socket, after two layers */
    assert_int_equal(try_want(h, io, P2P_IN), NOT_A_HANDLE);
    expect_quiet(h, 5 * MILLISECOND);
    assert_int_equal(noted.asks, 0);
    forget_all(h);
}

/* ---- the states of a request ---- */

static void more_interest_cancels_and_less_does_not(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    fill_send_buffer(ends[0]);
    test_io *io = add(h, ends[0], P2P_IN | P2P_OUT);
    expect_quiet(h, 2 * MILLISECOND);
    assert_int_equal(noted.asks, 1);
    static const uint32_t masks[] = { P2P_IN, 0, P2P_OUT, P2P_IN | P2P_OUT };
    for (size_t i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
        want(h, io, masks[i]);
        expect_quiet(h, 2 * MILLISECOND);
    }
    assert_int_equal(noted.asks, 1); /* all of it was asked in the beginning */
    assert_int_equal(noted.cancels, 0);
    want(h, io, P2P_IN);
    send_text(ends[1], "x");
    char byte;
    turn_until(h, io, P2P_IN);
    assert_int_equal(receive(ends[0], &byte, 1), 1);
    expect_quiet(h, 2 * MILLISECOND);
    assert_int_equal(noted.asks, 2);
    want(h, io, P2P_IN | P2P_OUT);
    want(h, io, P2P_IN); /* undone before the wait */
    expect_quiet(h, 2 * MILLISECOND);
    assert_int_equal(noted.asks, 2);
    assert_int_equal(noted.cancels, 0);
    want(h, io, P2P_IN | P2P_OUT);
    expect_quiet(h, 2 * MILLISECOND);
    assert_int_equal(noted.asks, 3);
    assert_int_equal(noted.cancels, 1);
    send_text(ends[1], "x");
    turn_until(h, io, P2P_IN);
    forget_all(h);
    close_pair(ends);
}

/* An answer may be on its way when the request is cancelled, and the cancellation may take its time. */
static void what_comes_before_a_cancellation_counts(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN);
    turn(h, 0);
    noted.holds_cancels = true;
    want(h, io, P2P_IN | P2P_OUT);
    turn(h, 0);
    assert_int_equal(noted.cancels, 1);
    want(h, io, P2P_OUT);
    want(h, io, P2P_IN | P2P_OUT);
    turn(h, 0);
    assert_int_equal(noted.cancels, 1); /* once is enough */
    send_text(ends[1], "x");
    turn_until(h, io, P2P_IN);
    turn_until(h, io, P2P_IN | P2P_OUT);
    noted.held_count = 0; /* it came too late */
    noted.holds_cancels = false;
    forget_all(h);
    close_pair(ends);
}

/* The kernel still has the requests of paused sockets, and answers them. */
static void what_is_no_event_does_not_end_a_wait(void **state) {
    enum { READABLE, RESET, CLOSED, FORGOTTEN, COUNT };
    harness *h = *state;
    p2p_handle_t ends[COUNT][2];
    for (int i = 0; i < COUNT; i++) {
        tcp_pair(ends[i]);
        add(h, ends[i][0], P2P_IN);
    }
    turn(h, 0);
    forget(h, h->ios[FORGOTTEN]);
    for (int i = 0; i < FORGOTTEN; i++) {
        want(h, h->ios[i], 0);
    }
    send_text(ends[READABLE][1], "x");
    os_reset(ends[RESET][1]);
    os_close(ends[CLOSED][0]);
    int64_t begin = os_now_ns();
    assert_int_equal(turn(h, 20 * MILLISECOND), 0);
    assert_true(os_now_ns() - begin >= 19 * MILLISECOND);
    assert_in_range(noted.timeout_ns, 0, 20 * MILLISECOND - 1); /* what was left after them */
    assert_int_equal(noted.in_kernel_count, 0);
    assert_int_equal(try_want(h, h->ios[CLOSED], P2P_IN), NOT_A_HANDLE);
    want(h, h->ios[RESET], P2P_IN);
    turn_until(h, h->ios[RESET], P2P_IN);
    forget_all(h);
    os_close(ends[RESET][0]);
    os_close(ends[CLOSED][1]);
    close_pair(ends[READABLE]);
    close_pair(ends[FORGOTTEN]);
}

/* An answer that is an error is told once, as a closed handle is. */
static void a_request_that_failed_is_told_once(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_OUT);
    noted.next_status = 0xC000009Au; /* STATUS_INSUFFICIENT_RESOURCES */
    turn_until(h, io, P2P_ERR);
    assert_int_equal(io->seen, P2P_ERR);
    expect_quiet(h, 5 * MILLISECOND);
    want(h, io, P2P_OUT);
    turn_until(h, io, P2P_OUT);
    noted.next_status = 0xC0000120u; /* STATUS_CANCELLED, though nobody has cancelled it: asked again */
    clear(h);
    turn_until(h, io, P2P_OUT);
    assert_int_equal(io->seen, P2P_OUT);
    forget_all(h);
    close_pair(ends);
}

static int unasked_port_wait(p2p_handle_t port, OVERLAPPED_ENTRY *results, uint32_t capacity, int64_t timeout_ns) {
    int count = noting_port_wait(port, results, capacity, timeout_ns);
    for (int i = 0; i < count; i++) {
        ((p2p_afd_poll *)results[i].lpOverlapped)->events = P2P_AFD_RECEIVE;
    }
    return count;
}

/* Windows has been seen to give one request the answer of another. That must neither be told nor keep a wait busy. */
static void an_answer_to_what_was_not_asked_is_no_event_and_ends_the_wait(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_OUT);
    h->sys.port_wait = unasked_port_wait;
    for (unsigned waits = 1; waits <= 3; waits++) {
        assert_int_equal(turn(h, DEADLINE), 0);
        assert_int_equal(noted.asks, waits);
    }
    h->sys.port_wait = noting_port_wait;
    turn_until(h, io, P2P_OUT);
    forget_all(h);
    close_pair(ends);
}

/* ---- calls that fail in a wait ---- */

static int failing_afd_poll(p2p_sys_function function, p2p_handle_t device, p2p_afd_poll *poll) {
    (void)function, (void)device, (void)poll;
    return noted.fail_with;
}

static int failing_afd_cancel(p2p_sys_function function, p2p_handle_t device, p2p_afd_poll *poll) {
    (void)function, (void)device, (void)poll;
    noted.cancels++;
    return noted.fail_with;
}

static int wait_once(harness *h) {
    p2p_backend_event event;
    h->in_wait = true;
    int result = h->ops->wait(h->backend, &event, 1, 0);
    h->in_wait = false;
    return result;
}

static void a_request_that_cannot_be_made_is_told_by_the_wait(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_OUT);
    noted.fail_with = -os_number(ENOBUFS);
    h->sys.afd_poll = failing_afd_poll;
    assert_int_equal(wait_once(h), noted.fail_with);
    assert_int_equal(wait_once(h), noted.fail_with);
    h->sys.afd_poll = noting_afd_poll;
    turn_until(h, io, P2P_OUT); /* nothing was lost */
    want(h, io, P2P_IN);
    expect_quiet(h, 2 * MILLISECOND);
    h->sys.afd_cancel = failing_afd_cancel;
    want(h, io, P2P_IN | P2P_OUT);
    assert_int_equal(wait_once(h), noted.fail_with);
    h->sys.afd_cancel = noting_afd_cancel;
    turn_until(h, io, P2P_OUT);
    noted.fail_with = NOT_A_HANDLE; /* which is one socket's affair */
    h->sys.afd_poll = failing_afd_poll;
    clear(h);
    turn_until(h, io, P2P_ERR);
    assert_int_equal(io->seen, P2P_ERR);
    expect_quiet(h, 5 * MILLISECOND);
    h->sys.afd_poll = noting_afd_poll;
    want(h, io, P2P_OUT);
    turn_until(h, io, P2P_OUT);
    forget_all(h);
    close_pair(ends);
}

/* As by a program that closes all handles it does not know. */
static void a_port_that_was_closed_ends_the_loop(void **state) {
    harness *h = *state;
    noted.real.port_close(noted.port);
    h->in_wait = true;
    p2p_backend_event event;
    assert_true(h->ops->wait(h->backend, &event, 1, DEADLINE) < 0);
    h->in_wait = false;
}

/* More sockets that are told at once than there is room for, before anything is waited for. */
static void more_closed_sockets_than_fit_are_told_one_by_one(void **state) {
    enum { COUNT = 5 };
    harness *h = *state;
    p2p_handle_t ends[COUNT][2];
    for (int i = 0; i < COUNT; i++) {
        tcp_pair(ends[i]);
        add(h, ends[i][0], P2P_IN);
        close_pair(ends[i]);
    }
    h->capacity = 2;
    for (int waits = 0; waits < 3; waits++) {
        turn(h, 0);
    }
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(h->ios[i]->events, 1);
        assert_int_equal(h->ios[i]->seen, P2P_ERR);
    }
    expect_quiet(h, 5 * MILLISECOND);
    forget_all(h);
}

/* ---- C-59: the kernel writes to a request until it has given it back ---- */

static void c59_a_request_is_not_used_again_before_it_has_come_back(void **state) {
    enum { COUNT = 3 * GROUP_SIZE };
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    noted.holds_cancels = true;
    test_io *io = add(h, ends[0], P2P_IN);
    turn(h, 0);
    for (int i = 0; i < COUNT; i++) { /* the table fails on one that is asked again meanwhile */
        size_t bytes = h->live_bytes;
        forget(h, io);
        assert_int_equal(h->live_bytes, bytes);
        assert_int_equal(noted.in_kernel_count, i + 1);
        io = add(h, ends[0], P2P_IN); /* at once, and it works */
        turn(h, 0);
        assert_int_equal(noted.in_kernel_count, i + 2);
    }
    send_text(ends[1], "x");
    turn_until(h, io, P2P_IN); /* turn() fails on an event of the others */
    size_t bytes = h->live_bytes;
    unsigned opens = noted.opens;
    assert_int_equal(opens, 4);
    noted.held_count = 0; /* the data has answered all of them */
    noted.holds_cancels = false;
    turn(h, 0);
    for (int i = 0; i < COUNT; i++) { /* now they are there to be used again */
        add(h, ends[0], P2P_IN);
    }
    assert_int_equal(h->live_bytes, bytes);
    assert_int_equal(noted.opens, opens);
    forget_all(h);
    close_pair(ends);
}

static void c59_a_request_that_cannot_be_cancelled_ends_with_its_socket(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN);
    turn(h, 0);
    h->sys.afd_cancel = failing_afd_cancel;
    noted.fail_with = -os_number(EINVAL);
    forget(h, io);
    h->sys.afd_cancel = noting_afd_cancel;
    assert_int_equal(noted.in_kernel_count, 1);
    os_close(ends[0]);
    for (int64_t end = os_now_ns() + DEADLINE; noted.in_kernel_count > 0;) {
        assert_true(os_now_ns() < end);
        assert_int_equal(turn(h, MILLISECOND), 0);
    }
    os_close(ends[1]);
}

static int late_port_wait(p2p_handle_t port, OVERLAPPED_ENTRY *results, uint32_t capacity, int64_t timeout_ns) {
    let_cancels_go();
    return noting_port_wait(port, results, capacity, timeout_ns);
}

static p2p_handle_t kept[8];
static int kept_count;

static int keeping_port_close(p2p_handle_t handle) {
    kept[kept_count++] = handle;
    return NOT_A_HANDLE; /* of which nothing may depend */
}

/* noting_free fails while the kernel has any. */
static void c59_destroy_waits_for_what_the_kernel_has(void **state) {
    enum { COUNT = GROUP_SIZE + 8 };
    harness *h = *state;
    p2p_handle_t ends[COUNT][2];
    for (int i = 0; i < COUNT; i++) {
        tcp_pair(ends[i]);
        add(h, ends[i][0], P2P_IN);
    }
    turn(h, 0);
    noted.holds_cancels = true;
    forget(h, h->ios[0]);
    forget(h, h->ios[COUNT - 1]);
    want(h, h->ios[1], P2P_IN | P2P_OUT);
    turn(h, 0);
    assert_int_equal(noted.held_count, 3);
    assert_int_equal(noted.in_kernel_count, COUNT);
    h->sys.port_wait = late_port_wait;
    h->sys.port_close = keeping_port_close; /* for what is cancelled later */
    kept_count = 0;
    forget_all(h);
    harness_destroy(h);
    assert_int_equal(noted.in_kernel_count, 0);
    assert_int_equal(h->live_bytes, 0);
    while (kept_count > 0) {
        noting_port_close(kept[--kept_count]);
    }
    for (int i = 0; i < COUNT; i++) {
        close_pair(ends[i]);
    }
}

static int empty_port_wait(p2p_handle_t port, OVERLAPPED_ENTRY *results, uint32_t capacity, int64_t timeout_ns) {
    (void)port, (void)results, (void)capacity;
    assert_true(timeout_ns > 0);
    return 0;
}

/* Better lost than written to when it is somebody else's. */
static void c59_what_never_comes_back_is_not_freed(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN);
    turn(h, 0);
    noted.holds_cancels = true;
    forget(h, io);
    h->sys.port_wait = empty_port_wait;
    h->sys.port_close = keeping_port_close;
    h->allocator.free = noted.free;
    kept_count = 0;
    harness_destroy(h);
    assert_int_equal(kept_count, 2); /* the device, the port */
    assert_in_range(h->live_bytes, GROUP_SIZE * sizeof(p2p_afd_poll), 16384);

    OVERLAPPED_ENTRY result; /* so that the kernel is done with it all the same */
    h->in_wait = true;
    let_cancels_go();
    assert_int_equal(noting_port_wait(kept[1], &result, 1, DEADLINE), 1);
    h->in_wait = false;
    noting_port_close(kept[0]);
    noting_port_close(kept[1]);
    h->live_bytes = 0;
    close_pair(ends);
}

#define AFD_CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        AFD_CASE(create_names_the_function_that_is_missing),
        AFD_CASE(create_says_when_there_is_no_such_driver),
        AFD_CASE(thirty_three_sockets_take_two_devices),
        AFD_CASE(a_group_that_cannot_be_made_fails_the_registration),
        AFD_CASE(a_layered_socket_is_waited_for_by_its_base),
        AFD_CASE(a_socket_whose_base_is_not_to_be_found_is_refused),
        AFD_CASE(more_interest_cancels_and_less_does_not),
        AFD_CASE(what_comes_before_a_cancellation_counts),
        AFD_CASE(what_is_no_event_does_not_end_a_wait),
        AFD_CASE(a_request_that_failed_is_told_once),
        AFD_CASE(an_answer_to_what_was_not_asked_is_no_event_and_ends_the_wait),
        AFD_CASE(a_request_that_cannot_be_made_is_told_by_the_wait),
        AFD_CASE(a_port_that_was_closed_ends_the_loop),
        AFD_CASE(more_closed_sockets_than_fit_are_told_one_by_one),
        AFD_CASE(c59_a_request_is_not_used_again_before_it_has_come_back),
        AFD_CASE(c59_a_request_that_cannot_be_cancelled_ends_with_its_socket),
        AFD_CASE(c59_destroy_waits_for_what_the_kernel_has),
        AFD_CASE(c59_what_never_comes_back_is_not_freed),
    };
    return p2p_test_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
