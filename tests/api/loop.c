/* Loops: adding and removing, running and stopping, and what becomes of everything when a loop is freed. */
#include "probe.h"

#include <stdatomic.h>
#include <stdlib.h>

/* ---- registration ---- */

static void a_loop_runs_on_the_backend_asked_for(void **state) {
    (void)state;
    p2p_event_loop_t *loop = loop_create(NULL);
    if (test_backend() != NULL) assert_string_equal(p2p_event_loop_backend_name(loop), test_backend());
    p2p_event_loop_free(loop);
}

static void adding_twice_is_ALREADY_and_the_first_registration_still_works(void **state) {
    (void)state;
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL), *other = loop_create(NULL);
    probe_open(&p, loop, &probe_by_read);
    assert_int_equal(p2p_event_loop_add_socket(loop, p.sock, NULL, NULL), P2P_ERR_ALREADY);
    assert_int_equal(p2p_event_loop_add_socket_with(other, p.sock, &probe_by_read, NULL), P2P_ERR_ALREADY);
    assert_ptr_equal(p2p_socket_user_data(p.sock), &p);
    assert_true(raw_send_text(p.fd, "hello"));
    RUN_UNTIL(loop, p.messages == 1);
    assert_string_equal(p.text, "hello|");
    probe_close(&p);
    p2p_event_loop_free(other);
    p2p_event_loop_free(loop);
}

static void removing_what_is_not_there_is_NOT_FOUND(void **state) {
    (void)state;
    p2p_handle_t fd;
    p2p_event_loop_t *loop = loop_create(NULL), *other = loop_create(NULL);
    p2p_socket_t *sock = socket_pair(&fd);
    assert_int_equal(p2p_event_loop_remove_socket(loop, sock), P2P_ERR_NOT_FOUND);
    assert_int_equal(p2p_event_loop_add_socket(other, sock, NULL, NULL), 0);
    assert_int_equal(p2p_event_loop_remove_socket(loop, sock), P2P_ERR_NOT_FOUND);
    assert_int_equal(p2p_event_loop_remove_socket(other, sock), 0);
    assert_int_equal(p2p_event_loop_remove_socket(other, sock), P2P_ERR_NOT_FOUND);
    p2p_socket_close(sock);
    os_close(fd);
    p2p_event_loop_free(other);
    p2p_event_loop_free(loop);
}

static void the_socket_count_follows(void **state) {
    (void)state;
    probe p = { 0 }, q = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    assert_int_equal(p2p_event_loop_socket_count(loop), 0);
    probe_open(&p, loop, &probe_by_read);
    probe_open(&q, loop, &probe_by_read);
    assert_int_equal(p2p_event_loop_socket_count(loop), 2);
    assert_int_equal(p2p_event_loop_remove_socket(loop, p.sock), 0);
    assert_int_equal(p2p_event_loop_socket_count(loop), 1);
    p2p_socket_close(p.sock);
    p.sock = NULL;
    probe_close(&p);
    probe_close(&q);
    assert_int_equal(p2p_event_loop_socket_count(loop), 0);
    p2p_event_loop_free(loop);
}

static void null_is_INVALID_everywhere(void **state) {
    (void)state;
    p2p_socket_callbacks_t odd = P2P_SOCKET_CALLBACKS_INIT;
    p2p_event_loop_stats_t stats = { .size = sizeof stats };
    p2p_event_loop_t *loop = loop_create(NULL);
    p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
    odd.size = 3;
    assert_int_equal(p2p_event_loop_add_socket(NULL, sock, NULL, NULL), P2P_ERR_INVALID);
    assert_int_equal(p2p_event_loop_add_socket(loop, NULL, NULL, NULL), P2P_ERR_INVALID);
    assert_int_equal(p2p_event_loop_add_socket_with(loop, sock, NULL, NULL), P2P_ERR_INVALID);
    assert_int_equal(p2p_event_loop_add_socket_with(loop, sock, &odd, NULL), P2P_ERR_INVALID);
    assert_int_equal(p2p_event_loop_remove_socket(NULL, sock), P2P_ERR_INVALID);
    assert_int_equal(p2p_event_loop_remove_socket(loop, NULL), P2P_ERR_INVALID);
    assert_int_equal(p2p_event_loop_socket_count(NULL), P2P_ERR_INVALID);
    p2p_event_loop_run(NULL);
    assert_int_equal(p2p_last_error(), P2P_ERR_INVALID);
    assert_int_equal(p2p_event_loop_run_once(NULL, 0), P2P_ERR_INVALID);
    p2p_event_loop_stop(NULL);
    p2p_event_loop_wake(NULL);
    assert_int_equal(p2p_event_loop_post(NULL, free, NULL), P2P_ERR_INVALID);
    assert_int_equal(p2p_event_loop_post(loop, NULL, NULL), P2P_ERR_INVALID);
    assert_int_equal(p2p_event_loop_now(NULL), 0);
    assert_int_equal(p2p_event_loop_next_timeout(NULL), P2P_ERR_INVALID);
    assert_int_equal(p2p_event_loop_backend_handle(NULL), P2P_INVALID_HANDLE);
    assert_string_equal(p2p_event_loop_backend_name(NULL), "");
    assert_int_equal(p2p_event_loop_stats(NULL, &stats), P2P_ERR_INVALID);
    assert_int_equal(p2p_event_loop_stats(loop, NULL), P2P_ERR_INVALID);
    assert_int_equal(p2p_event_loop_dump(NULL, NULL, NULL), P2P_ERR_INVALID);
    assert_int_equal(p2p_event_loop_dump(loop, NULL, NULL), P2P_ERR_INVALID);
    p2p_event_loop_free(NULL);
    assert_int_equal(p2p_event_loop_socket_count(loop), 0);
    p2p_socket_close(sock);
    p2p_event_loop_free(loop);
}

static void options_out_of_range_are_INVALID(void **state) {
    (void)state;
    p2p_event_loop_options_t options;
#define EXPECT_INVALID(change)                                       \
    options = (p2p_event_loop_options_t)P2P_EVENT_LOOP_OPTIONS_INIT; \
    options.change;                                                  \
    assert_null(p2p_event_loop_create_with(&options));               \
    assert_int_equal(p2p_last_error(), P2P_ERR_INVALID)
    EXPECT_INVALID(size = 4);
    EXPECT_INVALID(low_water = 300 * 1024); /* above the default high_water */
    EXPECT_INVALID(receive_buffer_size = 1024);
    EXPECT_INVALID(receive_buffer_size = 2 * 1024 * 1024);
    EXPECT_INVALID(receive_buffers = 3);
    EXPECT_INVALID(receive_buffers = 65536);
#undef EXPECT_INVALID
}

/* ---- run ---- */

static void count_task(void *user_data) {
    ++*(int *)user_data;
}

static void stop_task(void *user_data) {
    p2p_event_loop_stop(user_data);
}

static void run_expecting(p2p_event_loop_t *loop, int error) {
    p2p_event_loop_run(loop);
    assert_string_equal(p2p_error_name(p2p_last_error()), p2p_error_name(error));
}

static void run_returns_when_nothing_is_left(void **state) {
    (void)state;
    int tasks = 0;
    p2p_event_loop_t *loop = loop_create(NULL);
    run_expecting(loop, 0);
    assert_int_equal(p2p_event_loop_post(loop, count_task, &tasks), 0);
    run_expecting(loop, 0);
    assert_int_equal(tasks, 1);
    p2p_event_loop_free(loop);
}

static void close_at_the_end(probe *p, char what) {
    if (what != 'r') return;
    probe_take_one(p);
    if (p->ends > 0) p2p_socket_close(p->sock);
}

static void run_returns_when_the_last_socket_is_closed(void **state) {
    (void)state;
    probe p = { .hook = close_at_the_end };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_read);
    assert_true(raw_send_text(p.fd, "bye"));
    os_close(p.fd);
    run_expecting(loop, 0);
    assert_string_equal(p.text, "bye|");
    assert_int_equal(p.closes, 1);
    p2p_event_loop_free(loop);
}

typedef struct late_stop {
    p2p_event_loop_t *loop;
    atomic_bool stopping;
} late_stop;

static void stop_late(void *arg) {
    late_stop *late = arg;
    for (int i = 0; i < 200; i++) os_yield();
    atomic_store(&late->stopping, true);
    p2p_event_loop_stop(late->loop);
}

static void keep_running_waits_although_nothing_is_left(void **state) {
    (void)state;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    os_thread thread;
    options.keep_running = 1;
    late_stop late = { .loop = loop_create(&options) };
    assert_int_equal(os_thread_start(&thread, stop_late, &late), 0);
    run_expecting(late.loop, 0);
    assert_true(atomic_load(&late.stopping));
    os_thread_join(&thread);
    p2p_event_loop_free(late.loop);
}

static void run_once_counts_the_callbacks_it_ran(void **state) {
    (void)state;
    int tasks = 0;
    p2p_event_loop_t *loop = loop_create(NULL);
    assert_int_equal(p2p_event_loop_run_once(loop, 0), 0);
    for (int i = 0; i < 3; i++) assert_int_equal(p2p_event_loop_post(loop, count_task, &tasks), 0);
    assert_int_equal(p2p_event_loop_run_once(loop, -1), 3);
    assert_int_equal(tasks, 3);
    p2p_event_loop_free(loop);
}

static void the_turns_time_is_monotonic_and_never_ahead_of_the_clock(void **state) {
    (void)state;
    p2p_event_loop_t *loop = loop_create(NULL);
    int64_t before = clock_ns();
    assert_int_equal(p2p_event_loop_run_once(loop, 2), 0);
    int64_t first = p2p_event_loop_now(loop);
    assert_true(first >= before && first <= clock_ns());
    assert_int_equal(p2p_event_loop_run_once(loop, 0), 0);
    assert_true(p2p_event_loop_now(loop) >= first);
    p2p_event_loop_free(loop);
}

typedef struct runner {
    p2p_event_loop_t *loop;
    int run, once; /* what they gave */
} runner;

static void run_elsewhere(void *arg) {
    runner *r = arg;
    p2p_event_loop_run(r->loop);
    r->run = p2p_last_error();
    r->once = p2p_event_loop_run_once(r->loop, 0);
}

static void a_loop_belongs_to_the_thread_of_its_first_run(void **state) {
    (void)state;
    os_thread thread;
    runner r = { .loop = loop_create(NULL) };
    run_expecting(r.loop, 0);
    assert_int_equal(os_thread_start(&thread, run_elsewhere, &r), 0);
    os_thread_join(&thread);
    assert_int_equal(r.run, P2P_ERR_INVALID);
    assert_int_equal(r.once, P2P_ERR_INVALID);
    p2p_event_loop_free(r.loop);
}

static void a_loop_may_be_created_in_one_thread_run_in_another_and_freed_in_the_first(void **state) {
    (void)state;
    os_thread thread;
    int tasks = 0;
    runner r = { .loop = loop_create(NULL) };
    assert_int_equal(p2p_event_loop_post(r.loop, count_task, &tasks), 0);
    assert_int_equal(os_thread_start(&thread, run_elsewhere, &r), 0);
    os_thread_join(&thread);
    assert_int_equal(r.run, 0);
    assert_int_equal(r.once, 0);
    assert_int_equal(tasks, 1);
    p2p_event_loop_free(r.loop);
}

/* ---- stop ---- */

/* Something that run would wait for, for ever. */
static p2p_socket_t *add_idle_socket(p2p_event_loop_t *loop) {
    uint16_t port;
    p2p_socket_t *listener = socket_listening(&port);
    assert_int_equal(p2p_event_loop_add_socket(loop, listener, NULL, NULL), 0);
    return listener;
}

static void stop_timer(p2p_timer_t *timer, void *user_data) {
    (void)timer;
    p2p_event_loop_stop(user_data);
}

/* Run until a timer stops it: proof that no earlier stop was left over. */
static void run_with_stop_timer(p2p_event_loop_t *loop) {
    int64_t before = clock_ns();
    p2p_timer_t *timer = p2p_timer_create(loop, stop_timer, loop);
    assert_int_equal(p2p_timer_start(timer, 2 * P2P_NS_PER_MS, 0), 0);
    run_expecting(loop, 0);
    assert_true(clock_ns() - before >= 2 * (int64_t)P2P_NS_PER_MS);
    p2p_timer_free(timer);
}

static void stop_before_run_is_remembered_and_spent_by_it(void **state) {
    (void)state;
    p2p_event_loop_t *loop = loop_create(NULL);
    p2p_socket_t *listener = add_idle_socket(loop);
    p2p_event_loop_stop(loop);
    p2p_event_loop_stop(loop);
    run_expecting(loop, 0);
    run_with_stop_timer(loop);
    p2p_event_loop_stop(loop);
    assert_int_equal(p2p_event_loop_run_once(loop, -1), 0);
    run_with_stop_timer(loop);
    p2p_event_loop_free(loop);
    p2p_socket_close(listener);
}

static void stop_completes_the_turn(void **state) {
    (void)state;
    int tasks = 0;
    p2p_event_loop_t *loop = loop_create(NULL);
    p2p_socket_t *listener = add_idle_socket(loop);
    assert_int_equal(p2p_event_loop_post(loop, stop_task, loop), 0);
    assert_int_equal(p2p_event_loop_post(loop, count_task, &tasks), 0);
    run_expecting(loop, 0);
    assert_int_equal(tasks, 1);
    p2p_event_loop_free(loop);
    p2p_socket_close(listener);
}

static void stop_on_message(probe *p, char what) {
    if (what == 'm') p2p_event_loop_stop(p->loop);
}

static void stop_in_a_callback_loses_nothing_of_the_batch(void **state) {
    (void)state;
    probe p = { .hook = stop_on_message }, q = { .hook = stop_on_message };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_message);
    probe_open(&q, loop, &probe_by_message);
    assert_true(raw_send_text(p.fd, "to p"));
    assert_true(raw_send_text(q.fd, "to q"));
    socket_await_input(p.sock);
    socket_await_input(q.sock);
    run_expecting(loop, 0);
    assert_true(p.messages + q.messages >= 1);
    if (p.messages + q.messages < 2) run_expecting(loop, 0);
    assert_string_equal(p.text, "to p|");
    assert_string_equal(q.text, "to q|");
    probe_close(&p);
    probe_close(&q);
    p2p_event_loop_free(loop);
}

typedef struct stopper {
    p2p_event_loop_t *loop;
    p2p_handle_t ends[2]; /* each byte asks for one stop */
} stopper;

static void stop_when_told(void *arg) {
    stopper *s = arg;
    char byte;
    while (os_read(s->ends[0], &byte, 1) == 1) p2p_event_loop_stop(s->loop);
}

/* The other thread is released by a task, so it races with the loop on its way into the wait. */
static void stop_from_another_thread_ends_a_wait_without_end(void **state) {
    (void)state;
    os_thread thread;
    stopper s = { .loop = loop_create(NULL) };
    p2p_socket_t *listener = add_idle_socket(s.loop);
    assert_int_equal(os_pipe(s.ends), 0);
    assert_int_equal(os_thread_start(&thread, stop_when_told, &s), 0);
    for (int i = 0; i < OS_ROUNDS(500, 100); i++) {
        assert_int_equal(os_write(s.ends[1], "s", 1), 1);
        run_expecting(s.loop, 0);
    }
    os_close(s.ends[1]);
    os_thread_join(&thread);
    os_close(s.ends[0]);
    p2p_event_loop_free(s.loop);
    p2p_socket_close(listener);
}

static void wake_from_thread(void *loop) {
    p2p_event_loop_wake(loop);
}

static void wake_ends_the_wait_of_a_turn(void **state) {
    (void)state;
    os_thread thread;
    p2p_event_loop_t *loop = loop_create(NULL);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(os_thread_start(&thread, wake_from_thread, loop), 0);
        assert_int_equal(p2p_event_loop_run_once(loop, -1), 0);
        os_thread_join(&thread);
    }
    p2p_event_loop_free(loop);
}

/* ---- reentrancy ---- */

static void run_inside(void *user_data) {
    p2p_event_loop_run(user_data);
    assert_int_equal(p2p_last_error(), P2P_ERR_BUSY);
    assert_int_equal(p2p_event_loop_run_once(user_data, 0), P2P_ERR_BUSY);
}

static void run_inside_a_callback_is_BUSY(void **state) {
    (void)state;
    int tasks = 0;
    p2p_event_loop_t *loop = loop_create(NULL);
    assert_int_equal(p2p_event_loop_post(loop, run_inside, loop), 0);
    assert_int_equal(p2p_event_loop_post(loop, count_task, &tasks), 0);
    run_expecting(loop, 0);
    assert_int_equal(tasks, 1);
    assert_int_equal(p2p_event_loop_post(loop, run_inside, loop), 0);
    assert_int_equal(p2p_event_loop_run_once(loop, 0), 1);
    p2p_event_loop_free(loop);
}

static void another_loop_may_run_inside_a_callback_task(void *user_data) {
    p2p_event_loop_t *other = user_data;
    run_expecting(other, 0);
}

static void another_loop_may_run_inside_a_callback(void **state) {
    (void)state;
    int tasks = 0;
    p2p_event_loop_t *loop = loop_create(NULL), *other = loop_create(NULL);
    assert_int_equal(p2p_event_loop_post(other, count_task, &tasks), 0);
    assert_int_equal(p2p_event_loop_post(loop, another_loop_may_run_inside_a_callback_task, other), 0);
    run_expecting(loop, 0);
    assert_int_equal(tasks, 1);
    p2p_event_loop_free(other);
    p2p_event_loop_free(loop);
}

static void free_task(void *user_data) {
    p2p_event_loop_free(user_data);
}

static void free_timer(p2p_timer_t *timer, void *user_data) {
    (void)timer;
    p2p_event_loop_free(user_data);
}

static void free_in_callback(probe *p, char what) {
    if (what == *(const char *)p->data) p2p_event_loop_free(p->loop);
}

/* Memory and descriptors are checked by the fixture: everything must be gone when run has returned. */
static void free_inside_a_task_takes_effect_when_run_returns(void **state) {
    (void)state;
    p2p_event_loop_t *loop = loop_create(NULL);
    p2p_socket_t *listener = add_idle_socket(loop);
    assert_int_equal(p2p_event_loop_post(loop, free_task, loop), 0);
    p2p_event_loop_run(loop);
    p2p_socket_close(listener);
}

static void free_inside_a_turn_takes_effect_when_run_once_returns(void **state) {
    (void)state;
    p2p_event_loop_t *loop = loop_create(NULL);
    p2p_socket_t *listener = add_idle_socket(loop);
    assert_int_equal(p2p_event_loop_post(loop, free_task, loop), 0);
    assert_true(p2p_event_loop_run_once(loop, -1) >= 0);
    p2p_socket_close(listener);
}

static void free_inside_a_timer_takes_effect_when_run_returns(void **state) {
    (void)state;
    p2p_event_loop_t *loop = loop_create(NULL);
    p2p_timer_t *timer = p2p_timer_create(loop, free_timer, loop);
    assert_int_equal(p2p_timer_start(timer, 0, 1), 0);
    p2p_event_loop_run(loop);
}

static void free_inside_a_socket_callback_takes_effect_when_run_returns(void **state) {
    (void)state;
    probe p = { .hook = free_in_callback, .data = (void *)(uintptr_t) "m" };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_message);
    assert_true(raw_send_text(p.fd, "hello"));
    p2p_event_loop_run(loop);
    assert_string_equal(p.trace, "mx");
    assert_int_equal(p.reason, P2P_ERR_CANCELLED);
    os_close(p.fd);
}

static void close_then_free_in_on_close(probe *p, char what) {
    if (what == 'm') p2p_socket_close(p->sock);
    if (what == 'x') p2p_event_loop_free(p->loop);
}

static void free_inside_on_close_takes_effect_when_run_returns(void **state) {
    (void)state;
    probe p = { .hook = close_then_free_in_on_close };
    p2p_event_loop_t *loop = loop_create(NULL);
    p2p_socket_t *listener = add_idle_socket(loop);
    probe_open(&p, loop, &probe_by_message);
    assert_true(raw_send_text(p.fd, "hello"));
    p2p_event_loop_run(loop);
    assert_string_equal(p.trace, "mx");
    p2p_socket_close(listener);
    os_close(p.fd);
}

/* ---- free ---- */

static void free_closes_accepted_sockets_and_tells_them_CANCELLED(void **state) {
    (void)state;
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_read);
    p2p_event_loop_free(loop);
    assert_string_equal(p.trace, "x");
    assert_int_equal(p.reason, P2P_ERR_CANCELLED);
    assert_int_equal(raw_recv_end(p.fd), 0);
    os_close(p.fd);
}

static void free_leaves_created_and_adopted_sockets_to_their_owner(void **state) {
    (void)state;
    uint16_t port;
    probe created = { 0 }, adopted = { 0 };
    p2p_handle_t listener = raw_listen(&port, 2);
    p2p_event_loop_t *loop = loop_create(NULL);
    p2p_socket_t *first = p2p_socket_create(P2P_TCP);
    assert_int_equal(p2p_socket_connect(first, "127.0.0.1", port), 0);
    p2p_handle_t first_peer = raw_accept(listener), second_peer = raw_connect(port);
    p2p_socket_t *second = p2p_socket_adopt(raw_accept(listener), P2P_TCP);
    probe_add(&created, loop, first, &probe_by_read);
    probe_add(&adopted, loop, second, &probe_by_read);
    loop_settle(loop);
    p2p_event_loop_free(loop);
    assert_string_equal(created.trace, "");
    assert_string_equal(adopted.trace, "");
    /* They block again and talk on. */
    assert_int_equal(p2p_message_send_data(first, "one", 3), 0);
    assert_int_equal(p2p_message_send_data(second, "two", 3), 0);
    char text[4] = { 0 };
    assert_int_equal(raw_recv_frame(first_peer, text, 3), 3);
    assert_string_equal(text, "one");
    assert_int_equal(raw_recv_frame(second_peer, text, 3), 3);
    assert_string_equal(text, "two");
    p2p_socket_close(first);
    p2p_socket_close(second);
    os_close(first_peer);
    os_close(second_peer);
    os_close(listener);
}

static void free_tries_queued_output_once(void **state) {
    (void)state;
    probe p = { 0 };
    char text[8] = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_read);
    assert_int_equal(p2p_message_send_data(p.sock, "goodbye", 7), 0);
    p2p_event_loop_free(loop);
    assert_int_equal(raw_recv_frame(p.fd, text, 7), 7);
    assert_string_equal(text, "goodbye");
    assert_int_equal(raw_recv_end(p.fd), 0);
    os_close(p.fd);
}

static void read_all_and_close(void *arg) {
    probe *p = arg;
    static char data[1 << 20];
    p->messages = 0;
    while (raw_recv_frame(p->fd, data, sizeof data) == sizeof data) p->messages++;
    os_close(p->fd); /* or the loop would wait for it, too */
}

static void free_waits_for_output_as_long_as_it_was_told(void **state) {
    (void)state;
    static char data[1 << 20];
    probe p = { 0 };
    os_thread thread;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.high_water = 32 << 20;
    options.free_drain_ms = RAW_DEADLINE_S * 1000;
    p2p_event_loop_t *loop = loop_create(&options);
    probe_open(&p, loop, &probe_by_read);
    for (int i = 0; i < 20; i++) assert_int_equal(p2p_message_send_data(p.sock, data, sizeof data), 0);
    assert_int_equal(os_thread_start(&thread, read_all_and_close, &p), 0);
    p2p_event_loop_free(loop);
    os_thread_join(&thread);
    assert_int_equal(p.messages, 20);
}

static void free_runs_queued_tasks_once(void **state) {
    (void)state;
    int tasks = 0;
    p2p_event_loop_t *loop = loop_create(NULL);
    for (int i = 0; i < 3; i++) assert_int_equal(p2p_event_loop_post(loop, count_task, &tasks), 0);
    p2p_event_loop_free(loop);
    assert_int_equal(tasks, 3);
}

static void ignore_timer(p2p_timer_t *timer, void *user_data) {
    (void)timer;
    (void)user_data;
}

static void ignore_watch(p2p_watch_t *watch, uint32_t ready, void *user_data) {
    (void)watch;
    (void)ready;
    (void)user_data;
}

static void timers_and_watches_die_with_the_loop(void **state) {
    (void)state;
    p2p_handle_t ends[2];
    p2p_event_loop_t *loop = loop_create(NULL);
    assert_int_equal(os_pipe(ends), 0);
    assert_non_null(p2p_timer_create(loop, ignore_timer, NULL));
    assert_int_equal(p2p_timer_start(p2p_timer_create(loop, ignore_timer, NULL), 1000, 0), 0);
    assert_non_null(p2p_event_loop_watch(loop, ends[0], P2P_READABLE, ignore_watch, NULL));
    p2p_event_loop_free(loop);
    assert_int_equal(os_close(ends[0]), 0); /* still open */
    assert_int_equal(os_close(ends[1]), 0);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        CASE(a_loop_runs_on_the_backend_asked_for),
        CASE(adding_twice_is_ALREADY_and_the_first_registration_still_works),
        CASE(removing_what_is_not_there_is_NOT_FOUND),
        CASE(the_socket_count_follows),
        CASE(null_is_INVALID_everywhere),
        CASE(options_out_of_range_are_INVALID),
        CASE(run_returns_when_nothing_is_left),
        CASE(run_returns_when_the_last_socket_is_closed),
        CASE(keep_running_waits_although_nothing_is_left),
        CASE(run_once_counts_the_callbacks_it_ran),
        CASE(the_turns_time_is_monotonic_and_never_ahead_of_the_clock),
        CASE(a_loop_belongs_to_the_thread_of_its_first_run),
        CASE(a_loop_may_be_created_in_one_thread_run_in_another_and_freed_in_the_first),
        CASE(stop_before_run_is_remembered_and_spent_by_it),
        CASE(stop_completes_the_turn),
        CASE(stop_in_a_callback_loses_nothing_of_the_batch),
        CASE(stop_from_another_thread_ends_a_wait_without_end),
        CASE(wake_ends_the_wait_of_a_turn),
        CASE(run_inside_a_callback_is_BUSY),
        CASE(another_loop_may_run_inside_a_callback),
        CASE(free_inside_a_task_takes_effect_when_run_returns),
        CASE(free_inside_a_turn_takes_effect_when_run_once_returns),
        CASE(free_inside_a_timer_takes_effect_when_run_returns),
        CASE(free_inside_a_socket_callback_takes_effect_when_run_returns),
        CASE(free_inside_on_close_takes_effect_when_run_returns),
        CASE(free_closes_accepted_sockets_and_tells_them_CANCELLED),
        CASE(free_leaves_created_and_adopted_sockets_to_their_owner),
        CASE(free_tries_queued_output_once),
        CASE(free_waits_for_output_as_long_as_it_was_told),
        CASE(free_runs_queued_tasks_once),
        CASE(timers_and_watches_die_with_the_loop),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
