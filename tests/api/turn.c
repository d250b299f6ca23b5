/* The order of a turn, which users may rely on. */
#include "probe.h"

#include <stdlib.h>

/* The story of a turn: t task, i timer, w watch, letters of probes; see story_probe. */
typedef struct story {
    p2p_event_loop_t *loop;
    char text[64];
    size_t length;
} story;

static void tell(story *s, char what) {
    if (s->length + 1 < sizeof s->text) s->text[s->length++] = what;
}

static void task_t(void *user_data) {
    tell(user_data, 't');
}

static void timer_i(p2p_timer_t *timer, void *user_data) {
    (void)timer;
    tell(user_data, 'i');
}

static void probe_hook(probe *p, char what) {
    tell(p->data, what);
    if (what == 'm') p2p_socket_close(p->sock);
}

static p2p_timer_t *due_timer(story *s, p2p_timer_callback callback) {
    p2p_timer_t *timer = p2p_timer_create(s->loop, callback, s);
    assert_non_null(timer);
    assert_int_equal(p2p_timer_start_at(timer, 0, 0), 0); /* long past: due in the next turn */
    return timer;
}

static void turn(story *s) {
    assert_true(p2p_event_loop_run_once(s->loop, 0) >= 0);
}

static void tasks_then_timers_then_io_then_close(void **state) {
    (void)state;
    story s = { .loop = loop_create(NULL) };
    probe p = { .hook = probe_hook, .data = &s };
    probe_open(&p, s.loop, &probe_by_message);
    assert_true(raw_send_text(p.fd, "hello"));
    socket_await_input(p.sock);
    p2p_timer_t *timer = due_timer(&s, timer_i);
    assert_int_equal(p2p_event_loop_post(s.loop, task_t, &s), 0);
    turn(&s);
    assert_string_equal(s.text, "timx");
    p2p_timer_free(timer);
    os_close(p.fd);
    p2p_event_loop_free(s.loop);
}

/* ---- what is added meanwhile waits for the next turn ---- */

static void task_that_posts(void *user_data) {
    story *s = user_data;
    tell(s, 'p');
    assert_int_equal(p2p_event_loop_post(s->loop, task_t, s), 0);
}

static void a_task_posted_by_a_task_runs_in_the_next_turn(void **state) {
    (void)state;
    story s = { .loop = loop_create(NULL) };
    assert_int_equal(p2p_event_loop_post(s.loop, task_that_posts, &s), 0);
    assert_int_equal(p2p_event_loop_post(s.loop, task_t, &s), 0);
    turn(&s);
    assert_string_equal(s.text, "pt");
    turn(&s);
    assert_string_equal(s.text, "ptt");
    p2p_event_loop_free(s.loop);
}

static void timer_that_adds(p2p_timer_t *timer, void *user_data) {
    story *s = user_data;
    (void)timer;
    tell(s, 'a');
    due_timer(s, timer_i);
    assert_int_equal(p2p_event_loop_post(s->loop, task_t, s), 0);
}

static void a_timer_added_by_a_timer_runs_in_the_next_turn(void **state) {
    (void)state;
    story s = { .loop = loop_create(NULL) };
    due_timer(&s, timer_that_adds);
    due_timer(&s, timer_i);
    turn(&s);
    assert_string_equal(s.text, "ai");
    turn(&s);
    assert_string_equal(s.text, "aiti"); /* and so does a task posted by it */
    p2p_event_loop_free(s.loop);
}

static void timer_that_restarts(p2p_timer_t *timer, void *user_data) {
    story *s = user_data;
    tell(s, 'r');
    assert_int_equal(p2p_timer_start_at(timer, 0, 0), 0);
}

static void a_timer_that_restarts_itself_as_due_runs_once_a_turn(void **state) {
    (void)state;
    story s = { .loop = loop_create(NULL) };
    probe p = { .hook = probe_hook, .data = &s };
    due_timer(&s, timer_that_restarts);
    probe_open(&p, s.loop, &probe_by_message);
    for (int i = 0; i < 3; i++) turn(&s);
    assert_string_equal(s.text, "rrr");
    assert_true(raw_send_text(p.fd, "hello"));
    RUN_UNTIL(s.loop, p.closes == 1); /* the timer starves nobody */
    os_close(p.fd);
    p2p_event_loop_free(s.loop);
}

/* ---- input and output ---- */

static void answer(probe *p, char what) {
    if (what == 'm') assert_int_equal(p2p_message_send_data(p->sock, "answer", 6), 0);
}

static void what_a_callback_sends_has_left_when_run_once_returns(void **state) {
    (void)state;
    char text[8] = { 0 };
    probe p = { .hook = answer };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_message);
    assert_true(raw_send_text(p.fd, "ask"));
    socket_await_input(p.sock);
    while (p.messages == 0) assert_true(p2p_event_loop_run_once(loop, 0) >= 0);
    assert_int_equal(raw_recv_frame(p.fd, text, 6), 6); /* without another turn */
    assert_string_equal(text, "answer");
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void what_was_sent_before_a_turn_leaves_in_it(void **state) {
    (void)state;
    char text[8] = { 0 };
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_message);
    assert_int_equal(p2p_message_send_data(p.sock, "hello", 5), 0);
    assert_false(raw_readable(p.fd)); /* queued, not sent by the call */
    assert_true(p2p_event_loop_run_once(loop, 0) >= 0);
    assert_int_equal(raw_recv_frame(p.fd, text, 5), 5);
    assert_string_equal(text, "hello");
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void send_in_task(void *user_data) {
    assert_int_equal(p2p_message_send_data(((probe *)user_data)->sock, "hello", 5), 0);
}

static void send_in_timer(p2p_timer_t *timer, void *user_data) {
    (void)timer;
    send_in_task(user_data);
}

/* The loop must not go to sleep on it: nothing else would wake it. */
static void what_tasks_and_timers_send_leaves_before_the_wait(void **state) {
    (void)state;
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_message);
    for (int by_timer = 0; by_timer < 2; by_timer++) {
        char text[8] = { 0 };
        if (by_timer) {
            assert_int_equal(p2p_timer_start_at(p2p_timer_create(loop, send_in_timer, &p), 0, 0), 0);
        } else {
            assert_int_equal(p2p_event_loop_post(loop, send_in_task, &p), 0);
        }
        assert_true(p2p_event_loop_run_once(loop, 0) >= 0);
        assert_int_equal(raw_recv_frame(p.fd, text, 5), 5);
        assert_string_equal(text, "hello");
    }
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void send_on_close(probe *p, char what) {
    probe *other = p->data;
    if (what == 'm') p2p_socket_close(p->sock);
    if (what == 'x') assert_int_equal(p2p_message_send_data(other->sock, "one has left", 12), 0);
}

static void what_on_close_sends_has_left_when_run_once_returns(void **state) {
    (void)state;
    char text[16] = { 0 };
    probe other = { 0 }, p = { .hook = send_on_close, .data = &other };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_message);
    probe_open(&other, loop, &probe_by_message);
    assert_true(raw_send_text(p.fd, "leave"));
    socket_await_input(p.sock);
    while (p.closes == 0) assert_true(p2p_event_loop_run_once(loop, 0) >= 0);
    assert_int_equal(raw_recv_frame(other.fd, text, 12), 12); /* without another turn */
    assert_string_equal(text, "one has left");
    os_close(p.fd);
    probe_close(&other);
    p2p_event_loop_free(loop);
}

static void send_and_look_on_close(probe *p, char what) {
    probe *other = p->data;
    if (what == 'm') {
        assert_int_equal(p2p_message_send_data(other->sock, "hello", 5), 0);
        p2p_socket_close(p->sock);
    }
    if (what == 'x') assert_true(raw_readable(other->fd));
}

static void output_is_written_before_on_close_runs(void **state) {
    (void)state;
    probe other = { 0 }, p = { .hook = send_and_look_on_close, .data = &other };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_message);
    probe_open(&other, loop, &probe_by_message);
    assert_true(raw_send_text(p.fd, "leave"));
    RUN_UNTIL(loop, p.closes == 1);
    os_close(p.fd);
    probe_close(&other);
    p2p_event_loop_free(loop);
}

static void next_timeout_writes_what_is_queued(void **state) {
    (void)state;
    char text[8] = { 0 };
    probe p = { 0 };
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.write_timeout_ms = P2P_NO_TIMEOUT;
    p2p_event_loop_t *loop = loop_create(&options);
    probe_open(&p, loop, &probe_by_message);
    assert_int_equal(p2p_message_send_data(p.sock, "hello", 5), 0);
    assert_int_equal(p2p_event_loop_next_timeout(loop), -1);
    assert_int_equal(raw_recv_frame(p.fd, text, 5), 5);
    assert_string_equal(text, "hello");
    assert_string_equal(p.trace, "");
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void read_comes_before_write(void **state) {
    (void)state;
    static uint8_t data[10000];
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    probe p = { 0 };
    options.auto_backpressure = 0;
    p2p_event_loop_t *loop = loop_create(&options);
    probe_open(&p, loop, &probe_by_message);
    while (p2p_message_send_data(p.sock, data, sizeof data) == 0) {
    }
    assert_true(raw_send_text(p.fd, "hello"));
    socket_await_input(p.sock);
    RUN_UNTIL(loop, p.writes == 1);
    assert_string_equal(p.trace, "mw");
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void an_error_comes_last(void **state) {
    (void)state;
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_message);
    assert_true(raw_send_text(p.fd, "one"));
    assert_true(raw_send_header(p.fd, 100));
    os_close(p.fd);
    p.fd = P2P_INVALID_HANDLE;
    socket_await_input(p.sock);
    RUN_UNTIL(loop, p.errors == 1);
    loop_settle(loop);
    assert_string_equal(p.trace, "me");
    probe_close(&p);
    p2p_event_loop_free(loop);
}

/* ---- never inside the call that caused it ---- */

static void no_callback_runs_inside_the_call_that_caused_it(void **state) {
    (void)state;
    p2p_handle_t fd;
    probe p = { 0 };
    story s = { .loop = loop_create(NULL) };
    p2p_socket_t *sock = socket_pair(&fd);
    assert_true(raw_send_text(fd, "waits already"));
    socket_await_input(sock);
    probe_add(&p, s.loop, sock, &probe_by_message);
    p.fd = fd;
    assert_string_equal(p.trace, "");
    due_timer(&s, timer_i);
    assert_int_equal(p2p_event_loop_post(s.loop, task_t, &s), 0);
    assert_string_equal(s.text, "");
    assert_int_equal(p2p_event_loop_next_timeout(s.loop), 0);
    assert_string_equal(p.trace, "");
    assert_string_equal(s.text, "");
    RUN_UNTIL(s.loop, p.messages == 1);
    p2p_socket_close(p.sock);
    assert_string_equal(p.trace, "m");
    RUN_UNTIL(s.loop, p.closes == 1);
    os_close(fd);
    p2p_event_loop_free(s.loop);
}

/* ---- fairness ---- */

typedef struct race {
    p2p_event_loop_t *loop;
    uint64_t turn;
    const probe *second; /* the one of the two that was opened last */
    unsigned first[2];   /* how often each was the first in its turn */
} race;

static void note_first(probe *p, char what) {
    race *r = p->data;
    if (what != 'r') return;
    uint64_t turn_now = loop_stats(p->loop).turns;
    if (turn_now != r->turn) r->first[p == r->second]++;
    r->turn = turn_now;
}

static void the_order_rotates_so_that_none_always_wins(void **state) {
    (void)state;
    race r = { .loop = loop_create(NULL) };
    probe p[2] = { { .hook = note_first, .data = &r }, { .hook = note_first, .data = &r } };
    r.second = &p[1];
    for (int i = 0; i < 2; i++) {
        probe_open(&p[i], r.loop, &probe_by_read);
        assert_true(raw_send_text(p[i].fd, "never taken"));
        socket_await_input(p[i].sock);
    }
    for (int i = 0; i < 40; i++) assert_true(p2p_event_loop_run_once(r.loop, 0) >= 0);
    assert_true(p[0].reads >= 39 && p[1].reads >= 39);
    assert_true(r.first[0] > 0 && r.first[1] > 0);
    for (int i = 0; i < 2; i++) probe_close(&p[i]);
    p2p_event_loop_free(r.loop);
}

/* The same when the system reports it anew each turn. */
static void note_first_message(probe *p, char what) {
    if (what == 'm') note_first(p, 'r');
}

static void the_order_rotates_for_fresh_input_too(void **state) {
    (void)state;
    if (test_backend() != NULL && strncmp(test_backend(), "io_uring", 8) == 0)
        test_skip("input is told in the order in which it came, so nobody is favoured");
    race r = { .loop = loop_create(NULL) };
    probe p[2] = { { .hook = note_first_message, .data = &r }, { .hook = note_first_message, .data = &r } };
    r.second = &p[1];
    for (int i = 0; i < 2; i++) probe_open(&p[i], r.loop, &probe_by_message);
    for (unsigned round = 1; round <= 40; round++) {
        for (int i = 0; i < 2; i++) {
            assert_true(raw_send_text(p[i].fd, "x"));
            socket_await_input(p[i].sock);
        }
        RUN_UNTIL(r.loop, p[0].messages == round && p[1].messages == round);
    }
    assert_true(r.first[0] > 0 && r.first[1] > 0);
    for (int i = 0; i < 2; i++) probe_close(&p[i]);
    p2p_event_loop_free(r.loop);
}

/* ---- the turn's time ---- */

typedef struct times {
    p2p_event_loop_t *loop;
    int64_t now[2];
    size_t count;
} times;

static void note_now(void *user_data) {
    times *t = user_data;
    t->now[t->count++] = p2p_event_loop_now(t->loop);
    for (int64_t begin = clock_ns(); clock_ns() == begin;) {
    }
}

static void tasks_of_a_turn_share_its_time(void **state) {
    (void)state;
    times t = { .loop = loop_create(NULL) };
    for (int i = 0; i < 2; i++) assert_int_equal(p2p_event_loop_post(t.loop, note_now, &t), 0);
    assert_int_equal(p2p_event_loop_run_once(t.loop, 0), 2);
    assert_true(t.now[0] == t.now[1]);
    p2p_event_loop_free(t.loop);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        CASE(tasks_then_timers_then_io_then_close),
        CASE(a_task_posted_by_a_task_runs_in_the_next_turn),
        CASE(a_timer_added_by_a_timer_runs_in_the_next_turn),
        CASE(a_timer_that_restarts_itself_as_due_runs_once_a_turn),
        CASE(what_a_callback_sends_has_left_when_run_once_returns),
        CASE(what_was_sent_before_a_turn_leaves_in_it),
        CASE(what_tasks_and_timers_send_leaves_before_the_wait),
        CASE(what_on_close_sends_has_left_when_run_once_returns),
        CASE(output_is_written_before_on_close_runs),
        CASE(next_timeout_writes_what_is_queued),
        CASE(read_comes_before_write),
        CASE(an_error_comes_last),
        CASE(no_callback_runs_inside_the_call_that_caused_it),
        CASE(the_order_rotates_so_that_none_always_wins),
        CASE(the_order_rotates_for_fresh_input_too),
        CASE(tasks_of_a_turn_share_its_time),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
