/* The corners that only a failing or counted system call leads to: a system table with a few entries replaced. */
#include "probe.h"


#define MIB (1024u * 1024u)

static void expect_error(int given, int expected) {
    assert_string_equal(p2p_error_name(given), p2p_error_name(expected));
}

/* ---- the table ---- */

/* What fails at present, with which number of the system's; 0 is "nothing". */
static struct {
    int send, set_nonblocking, wait, change, accept;
    unsigned waits; /* counted */
} faults;

static int64_t faulty_sendv(p2p_handle_t handle, const p2p_iov *iov, uint32_t count, int dontwait) {
    return faults.send != 0 ? -faults.send : p2p_sys_default()->sendv(handle, iov, count, dontwait);
}

static int64_t faulty_send(p2p_handle_t handle, const void *data, size_t size, int dontwait) {
    return faults.send != 0 ? -faults.send : p2p_sys_default()->send(handle, data, size, dontwait);
}

static int faulty_set_nonblocking(p2p_handle_t handle, int enabled) {
    return faults.set_nonblocking != 0 ? -faults.set_nonblocking
                                       : p2p_sys_default()->set_nonblocking(handle, enabled);
}

static int faulty_accept(p2p_handle_t listener, p2p_handle_t *out, int nonblocking) {
    return faults.accept != 0 ? -faults.accept : p2p_sys_default()->accept(listener, out, nonblocking);
}

static int faulty_epoll_ctl(int epoll, int operation, p2p_handle_t handle, struct epoll_event *event) {
    return faults.change != 0 ? -faults.change : p2p_sys_default()->epoll_ctl(epoll, operation, handle, event);
}

static int faulty_epoll_wait(int epoll, struct epoll_event *events, int capacity, int64_t timeout_ns, int precise) {
    faults.waits++;
    return faults.wait != 0 ? -faults.wait
                            : p2p_sys_default()->epoll_wait(epoll, events, capacity, timeout_ns, precise);
}

static int faulty_poll(struct pollfd *fds, uint32_t count, int64_t timeout_ns) {
    faults.waits++;
    return faults.wait != 0 ? -faults.wait : p2p_sys_default()->poll(fds, count, timeout_ns);
}

static int faulty_select(int nfds, void *readable, void *writable, void *exceptional, int64_t timeout_ns) {
    faults.waits++;
    return faults.wait != 0 ? -faults.wait
                            : p2p_sys_default()->select(nfds, readable, writable, exceptional, timeout_ns);
}

static int faulty_kevent(int queue, const struct kevent *changes, int change_count, struct kevent *events, int capacity,
                         int64_t timeout_ns) {
    int fault = change_count > 0 ? faults.change : faults.wait;
    faults.waits += change_count == 0;
    return fault != 0 ? -fault : test_system()->kevent(queue, changes, change_count, events, capacity, timeout_ns);
}

static int faulty_uring_enter(int ring, uint32_t to_submit, uint32_t min_complete, uint32_t flags, const void *argument,
                              size_t argument_size) {
    faults.waits++;
    return faults.wait != 0
               ? -faults.wait
               : test_system()->uring_enter(ring, to_submit, min_complete, flags, argument, argument_size);
}

static int faulty_port_wait(p2p_handle_t port, struct _OVERLAPPED_ENTRY *results, uint32_t capacity,
                            int64_t timeout_ns) {
    faults.waits++;
    return faults.wait != 0 ? -faults.wait : p2p_sys_default()->port_wait(port, results, capacity, timeout_ns);
}

static int setup(void **state) {
    p2p_sys_ops table = *test_system();
    (void)state;
    memset(&faults, 0, sizeof faults);
    table.send = faulty_send;
    table.sendv = faulty_sendv;
    table.set_nonblocking = faulty_set_nonblocking;
    table.accept = faulty_accept;
    if (table.epoll_ctl != NULL) {
        table.epoll_ctl = faulty_epoll_ctl;
        table.epoll_wait = faulty_epoll_wait;
    }
    if (table.kevent != NULL) table.kevent = faulty_kevent;
    if (table.uring_enter != NULL) table.uring_enter = faulty_uring_enter;
    table.poll = faulty_poll;
    table.select = faulty_select;
    if (table.port_wait != NULL) table.port_wait = faulty_port_wait;
    return fixture_start(&table, NULL);
}

/* ---- output that fails ---- */

static uint8_t filling[MIB];

static void take_one_and_answer_in_plenty(probe *p, char what) {
    if (what != 'r') return;
    probe_take_one(p);
    while (p->ends == 0 && p2p_message_send_data(p->sock, filling, sizeof filling) == 0) {
    }
}

/* Two of three messages wait behind a full queue when the connection turns out to be dead. */
static void after_failed_output_messages_held_back_are_delivered_and_the_end_is_told(void **state) {
    (void)state;
    needs_emulated_io();
    static uint8_t forgotten[64 * 1024];
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    probe p = { .hook = take_one_and_answer_in_plenty };
    options.high_water = 16 * MIB;
    options.low_water = 1024;
    p2p_event_loop_t *loop = loop_create(&options);
    probe_open(&p, loop, &probe_no_error);
    assert_true(raw_send_text(p.fd, "1") && raw_send_text(p.fd, "2") && raw_send_text(p.fd, "3"));
    RUN_UNTIL(loop, p.messages == 1);
    loop_settle(loop);
    assert_int_equal(p.messages, 1);
    faults.send = os_number(ETIMEDOUT);
    RUN_UNTIL(loop, (os_recv_now(p.fd, forgotten, sizeof forgotten), p.messages == 3));
    assert_true(raw_fin(p.fd));
    RUN_UNTIL(loop, p.ends == 1);
    expect_error(p.end, P2P_ERR_TIMED_OUT);
    loop_settle(loop);
    assert_int_equal(p.ends, 1);
    faults.send = 0;
    probe_close(&p);
    p2p_event_loop_free(loop);
}

/* The failure ends the input too when it is the connection's own; then that end tells of it. */
static void a_failed_write_is_told_to_on_error_once(void **state) {
    (void)state;
    needs_emulated_io();
    static const struct {
        int error, told;
    } failures[] = { { ETIMEDOUT, P2P_ERR_TIMED_OUT }, { ECONNRESET, P2P_ERR_RESET }, { EPIPE, P2P_ERR_RESET },
                     { EHOSTUNREACH, P2P_ERR_UNREACHABLE }, { ENOMEM, P2P_ERR_NO_MEMORY } };
    for (size_t i = 0; i < COUNT_OF(failures); i++) {
        probe p = { 0 };
        p2p_event_loop_t *loop = loop_create(NULL);
        probe_open(&p, loop, &probe_by_read);
        faults.send = os_number(failures[i].error);
        assert_int_equal(p2p_message_send_data(p.sock, "lost", 4), 0);
        loop_settle(loop);
        os_close(p.fd);
        p.fd = P2P_INVALID_HANDLE;
        RUN_UNTIL(loop, p.errors > 0);
        loop_settle(loop);
        assert_string_equal(p.trace, "e");
        expect_error(p.error, failures[i].told);
        faults.send = 0;
        probe_close(&p);
        p2p_event_loop_free(loop);
    }
}

/* ---- waits ---- */

/* One of two closed sockets is done at once, the other never: the time left is spent waiting. */
static void freeing_with_a_drain_time_waits_for_the_peers_and_does_not_spin(void **state) {
    (void)state;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    probe quick = { 0 }, slow = { 0 };
    options.high_water = 64 * MIB;
    options.free_drain_ms = 200;
    p2p_event_loop_t *loop = loop_create(&options);
    probe_open(&quick, loop, &probe_no_error);
    probe_open(&slow, loop, &probe_no_error);
    for (int i = 0; i < 16; i++) {
        assert_int_equal(p2p_message_send_data(quick.sock, filling, sizeof filling), 0);
        assert_int_equal(p2p_message_send_data(slow.sock, filling, sizeof filling), 0);
    }
    p2p_socket_close(quick.sock);
    p2p_socket_close(slow.sock);
    loop_settle(loop);
    raw_reset(quick.fd);
    faults.waits = 0;
    int64_t before_ns = clock_ns();
    p2p_event_loop_free(loop);
    assert_true(clock_ns() - before_ns >= 200 * 1000000);
    assert_true(faults.waits < 100); /* a spin makes many thousands */
    assert_int_equal(quick.closes, 1);
    assert_int_equal(slow.closes, 1);
    os_close(slow.fd);
}

static void the_system_error_of_a_failed_wait_is_kept(void **state) {
    (void)state;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.keep_running = 1;
    for (int once = 0; once < 2; once++) {
        p2p_event_loop_t *loop = loop_create(&options);
        faults.wait = os_number(EINVAL);
        for (int i = 0; i < 2; i++) { /* it stays so */
            if (once)
                assert_true(p2p_event_loop_run_once(loop, 0) < 0);
            else
                p2p_event_loop_run(loop);
            assert_int_not_equal(p2p_last_error(), 0);
            assert_int_equal(p2p_last_os_error(), os_number(EINVAL));
        }
        faults.wait = 0;
        p2p_event_loop_free(loop);
    }
}

/* ---- no handles left ---- */

typedef struct starved {
    p2p_event_loop_t *loop;
    unsigned accepted, errors;
    int64_t first_ns, last_ns; /* error by the clock */
} starved;

static void accept_one(p2p_socket_t *listener, void *user_data) {
    starved *s = user_data;
    p2p_socket_t *accepted = p2p_socket_accept(listener);
    if (accepted == NULL) return;
    s->accepted++;
    p2p_socket_close(accepted);
}

static void stop_at_the_third_error(p2p_socket_t *listener, int error, void *user_data) {
    starved *s = user_data;
    (void)listener;
    expect_error(error, P2P_ERR_TOO_MANY_FILES);
    s->last_ns = clock_ns();
    if (s->errors++ == 0) s->first_ns = s->last_ns;
    if (s->errors == 3) p2p_event_loop_stop(s->loop);
}

static void while_no_handle_is_left_a_listener_rests_and_loses_nobody(void **state) {
    (void)state;
    needs_emulated_io();
    static const p2p_socket_callbacks_t callbacks = {
        sizeof(p2p_socket_callbacks_t), accept_one, NULL, NULL, stop_at_the_third_error, NULL, NULL
    };
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    uint16_t port;
    p2p_handle_t fds[3];
    options.accept_pause_ms = 20;
    starved s = { .loop = loop_create(&options) };
    p2p_socket_t *listener = socket_listening(&port);
    assert_int_equal(p2p_event_loop_add_socket_with(s.loop, listener, &callbacks, &s), 0);
    for (size_t i = 0; i < COUNT_OF(fds); i++) fds[i] = raw_connect(port);
    faults.accept = os_number(EMFILE);
    faults.waits = 0;
    p2p_event_loop_run(s.loop);
    expect_error(p2p_last_error(), 0);
    assert_int_equal(s.accepted, 0);
    assert_true(faults.waits <= 12); /* two pauses, not a busy loop */
    assert_true(s.last_ns - s.first_ns >= 35 * (int64_t)P2P_NS_PER_MS);
    faults.accept = 0;
    RUN_UNTIL(s.loop, s.accepted == COUNT_OF(fds));
    for (size_t i = 0; i < COUNT_OF(fds); i++) os_close(fds[i]);
    p2p_socket_close(listener);
    p2p_event_loop_free(s.loop);
}

/* ---- the rest ---- */

static void a_blocking_mode_that_can_not_be_set_is_no_end_of_the_connection(void **state) {
    (void)state;
    p2p_handle_t fd;
    p2p_socket_t *sock = socket_pair(&fd);
    faults.set_nonblocking = os_number(EINVAL);
    assert_true(p2p_socket_set_nonblocking(sock, 1) < 0);
    assert_null(p2p_message_recv(sock));
    faults.set_nonblocking = 0;
    assert_true(raw_send_text(fd, "still here"));
    socket_await_input(sock);
    p2p_message_t *message = p2p_message_recv(sock);
    assert_non_null(message);
    assert_int_equal(message->length, 10);
    p2p_message_free(message);
    p2p_socket_close(sock);
    os_close(fd);
}

/* Where the system can't tell the mode of a handle, adopting sets it. */
static void a_handle_whose_mode_is_neither_known_nor_can_be_set_is_not_adopted(void **state) {
    (void)state;
    p2p_handle_t ends[2];
    assert_int_equal(os_stream_pair(ends), 0);
    bool is_known = ((uint32_t)p2p_sys_default()->inspect(ends[0]) & P2P_SYS_MODE_UNKNOWN) == 0;
    faults.set_nonblocking = os_number(EINVAL);
    p2p_socket_t *sock = p2p_socket_adopt(ends[0], P2P_TCP);
    faults.set_nonblocking = 0;
    assert_int_equal(sock != NULL, is_known);
    if (sock == NULL) {
        expect_error(p2p_last_error(), P2P_ERR_INVALID);
        assert_true(os_is_open(ends[0])); /* it stays the caller's */
        sock = p2p_socket_adopt(ends[0], P2P_TCP);
        assert_non_null(sock);
    }
    p2p_socket_close(sock);
    os_close(ends[1]);
}

static void skip_unless_changes_fail(void) {
    const char *backend = test_backend();
    bool can_fail = backend != NULL && (strcmp(backend, "epoll") == 0 || strcmp(backend, "kqueue") == 0);
    if (!can_fail) test_skip("fails through epoll_ctl and kevent");
}

static void a_listener_the_backend_refuses_can_listen_later(void **state) {
    (void)state;
    skip_unless_changes_fail();
    probe p = { 0 };
    p2p_socket_t *listener = p2p_socket_create(P2P_TCP);
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_add(&p, loop, listener, &probe_by_read);
    assert_int_equal(p2p_socket_bind(listener, "127.0.0.1", 0), 0);
    faults.change = ENOSPC;
    expect_error(p2p_socket_listen(listener, 4), P2P_ERR_LIMIT);
    faults.change = 0;
    assert_int_equal(p2p_socket_listen(listener, 4), 0);
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void a_datagram_socket_the_backend_refuses_can_be_bound_later(void **state) {
    (void)state;
    skip_unless_changes_fail();
    probe p = { 0 };
    p2p_socket_t *sock = p2p_socket_create(P2P_UDP);
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_add(&p, loop, sock, &probe_by_read);
    faults.change = ENOSPC;
    expect_error(p2p_socket_bind(sock, "127.0.0.1", 0), P2P_ERR_LIMIT);
    faults.change = 0;
    assert_int_equal(p2p_socket_bind(sock, "127.0.0.1", 0), 0);
    probe_close(&p);
    p2p_event_loop_free(loop);
}

#define FAULTY(function) cmocka_unit_test_setup_teardown(function, setup, fixture_teardown)

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        FAULTY(after_failed_output_messages_held_back_are_delivered_and_the_end_is_told),
        FAULTY(a_failed_write_is_told_to_on_error_once),
        FAULTY(freeing_with_a_drain_time_waits_for_the_peers_and_does_not_spin),
        FAULTY(the_system_error_of_a_failed_wait_is_kept),
        FAULTY(while_no_handle_is_left_a_listener_rests_and_loses_nobody),
        FAULTY(a_blocking_mode_that_can_not_be_set_is_no_end_of_the_connection),
        FAULTY(a_handle_whose_mode_is_neither_known_nor_can_be_set_is_not_adopted),
        FAULTY(a_listener_the_backend_refuses_can_listen_later),
        FAULTY(a_datagram_socket_the_backend_refuses_can_be_bound_later),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
