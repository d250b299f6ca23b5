/* The turn (core/event_loop.c): the order of its steps; no output is left untried before a wait or at its end. */
#include "mock_backend.h"

static p2p_event_loop_t *the_loop;
static p2p_socket_t *sockets[3];
static p2p_timer_t *the_timer;
static const char *speaker; /* who sends on sockets[2], when it is called */

static void step(const char *name) {
    journal("%s", name);
    if (speaker != NULL && strcmp(speaker, name) == 0) assert_int_equal(p2p_message_send_data(sockets[2], "x", 1), 0);
}

static void on_read(p2p_socket_t *sock, void *user_data) {
    (void)user_data;
    step("on_read");
    p2p_message_free(p2p_message_recv(sock));
}

static void on_message(p2p_socket_t *sock, const void *data, uint32_t length, void *user_data) {
    (void)sock, (void)data, (void)length, (void)user_data;
    step("on_message");
}

static void on_write(p2p_socket_t *sock, void *user_data) {
    (void)sock, (void)user_data;
    step("on_write");
}

static void on_error(p2p_socket_t *sock, int error, void *user_data) {
    (void)sock, (void)error, (void)user_data;
    step("on_error");
}

static void on_close(p2p_socket_t *sock, int reason, void *user_data) {
    (void)sock, (void)reason, (void)user_data;
    step("on_close");
}

static const p2p_socket_callbacks_t by_read = {
    .size = sizeof by_read, .on_read = on_read, .on_write = on_write, .on_error = on_error, .on_close = on_close
};
static const p2p_socket_callbacks_t by_message = {
    .size = sizeof by_message, .on_read = on_read, .on_message = on_message, .on_write = on_write, .on_error = on_error
};

static void on_timer(p2p_timer_t *timer, void *user_data) {
    (void)timer, (void)user_data;
    step("timer");
}

static void on_task(void *user_data) {
    (void)user_data;
    step("task");
}

static void on_watch(p2p_watch_t *watch, uint32_t ready, void *user_data) {
    (void)watch, (void)ready, (void)user_data;
    step("watch");
}

/* Untried output is in loop->flush; the mock has this looked at in each wait, and the cases after each turn. */
static void nothing_untried(void) {
    assert_true(p2pi_list_empty(&the_loop->flush));
}

static void turn(void) {
    mock_turn(the_loop);
    nothing_untried();
}

static void open_loop(uint32_t groups) {
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.write_timeout_ms = P2P_NO_TIMEOUT; /* no time-outs but those that a case makes */
    the_loop = mock_loop(groups, &options);
    speaker = NULL;
    mock.on_wait = nothing_untried;
    for (size_t i = 0; i < COUNT_OF(sockets); i++) {
        sockets[i] = fake_connection();
        const p2p_socket_callbacks_t *set = i == 0 ? &by_read : &by_message;
        assert_int_equal(p2p_event_loop_add_socket_with(the_loop, sockets[i], set, NULL), 0);
    }
    the_timer = p2p_timer_create(the_loop, on_timer, NULL);
    assert_non_null(the_timer);
    turn();
    journal_take();
}

static void close_loop(void) {
    mock.on_wait = NULL;
    p2p_event_loop_free(the_loop);
    for (size_t i = 0; i < COUNT_OF(sockets); i++) p2p_socket_close(sockets[i]);
}

static void receive(size_t i, const char *text) {
    fake_input_text(p2p_socket_handle(sockets[i]), text);
    mock_ready(p2p_socket_handle(sockets[i]), P2P_IN);
}

/* ---- the steps ---- */

static void tasks_timers_flush_wait_callbacks_output_closes(void **state) {
    (void)state;
    open_loop(0);
    fake_at(p2p_socket_handle(sockets[2]))->room = 0;
    assert_int_equal(p2p_event_loop_post(the_loop, on_task, NULL), 0);
    p2p_timer_start(the_timer, 0, 0);
    p2p_message_send_data(sockets[1], "early", 5);
    p2p_message_send_data(sockets[2], "waits", 5);
    receive(1, "message");
    p2p_socket_abort(sockets[0]);
    turn();
    EXPECT_JOURNAL("detach(0) close(0) task timer write(1,9) interest(2,1>3) wait(0) on_message on_close");
    speaker = "on_message"; /* whose answer leaves within the turn, behind what waits */
    fake_at(p2p_socket_handle(sockets[2]))->room = 100;
    mock_ready(p2p_socket_handle(sockets[2]), P2P_OUT);
    receive(1, "another");
    turn();
    assert_int_equal(fake_at(p2p_socket_handle(sockets[2]))->output_length, 14);
    sockets[0] = NULL;
    close_loop();
}

static void what_a_callback_sends_is_tried_before_the_next_wait_or_the_end(void **state) {
    (void)state;
    static const char *const speakers[] = { "task", "timer", "on_read", "on_message", "watch" };
    for (size_t i = 0; i < COUNT_OF(speakers); i++) {
        assert_int_equal(mock_teardown(NULL) + mock_setup(NULL), 0);
        open_loop(0);
        p2p_handle_t handle = fake_handle(P2P_SYS_STREAM);
        p2p_watch_t *watch = p2p_event_loop_watch(the_loop, handle, P2P_READABLE, on_watch, NULL);
        assert_non_null(watch);
        journal_take();
        speaker = speakers[i];
        p2p_event_loop_post(the_loop, on_task, NULL);
        p2p_timer_start(the_timer, 0, 0);
        receive(0, "message");
        receive(1, "message");
        mock_ready(handle, P2P_IN);
        turn();
        const char *words = journal_take();
        const char *said = strstr(words, speakers[i]), *written = strstr(words, "write(2,5)");
        assert_non_null(said);
        if (written == NULL || written < said) fail_msg("%s: %s", speakers[i], words);
        const char *wait = strstr(said, "wait(");
        assert_true(wait == NULL || written < wait);
        assert_null(strstr(written + 1, "write("));
        p2p_watch_free(watch);
        fake_at(handle)->open = false;
        close_loop();
    }
}

static void what_on_close_sends_is_tried_before_the_turn_ends(void **state) {
    (void)state;
    open_loop(0);
    speaker = "on_close";
    p2p_socket_abort(sockets[0]);
    sockets[0] = NULL;
    turn();
    EXPECT_JOURNAL("detach(0) close(0) wait(0) on_close write(2,5)");
    close_loop();
}

static void what_a_turn_queued_is_one_write_a_socket(void **state) {
    (void)state;
    open_loop(0);
    for (int i = 0; i < 10; i++) {
        p2p_message_send_data(sockets[1], "to one", 6);
        p2p_message_send_data(sockets[2], "to the other", 12);
    }
    turn();
    EXPECT_JOURNAL("write(1,100) write(2,160) wait(0)");
    const fake_socket *one = fake_at(p2p_socket_handle(sockets[1]));
    for (size_t at = 0; at < 100; at += 10) assert_memory_equal(one->output + at, "\0\0\0\6to one", 10);
    const fake_socket *other = fake_at(p2p_socket_handle(sockets[2]));
    for (size_t at = 0; at < 160; at += 16) assert_memory_equal(other->output + at, "\0\0\0\x0Cto the other", 16);
    close_loop();
}

static void a_short_write_waits_for_writability_and_goes_on(void **state) {
    (void)state;
    open_loop(0);
    fake_socket *fake = fake_at(p2p_socket_handle(sockets[2]));
    for (size_t split = 0; split <= 14; split++) {
        fake->output_length = 0;
        fake->room = split;
        p2p_message_send_data(sockets[2], "one", 3);
        p2p_message_send_data(sockets[2], "two", 3);
        turn();
        turn();
        assert_int_equal(fake->output_length, split);
        fake->room = 1000;
        if (split < 14) mock_ready(p2p_socket_handle(sockets[2]), P2P_OUT);
        turn();
        turn();
        assert_int_equal(fake->output_length, 14);
        assert_memory_equal(fake->output, "\0\0\0\3one\0\0\0\3two", 14);
        assert_int_equal(loop_stats(the_loop).output_queued, 0);
    }
    close_loop();
}

static void next_timeout_tries_output_and_tells_interest_first(void **state) {
    (void)state;
    open_loop(0);
    fake_at(p2p_socket_handle(sockets[2]))->room = 0;
    p2p_message_send_data(sockets[1], "x", 1);
    p2p_message_send_data(sockets[2], "x", 1);
    assert_int_equal(p2p_event_loop_next_timeout(the_loop), -1);
    nothing_untried();
    EXPECT_JOURNAL("write(1,5) interest(2,1>3)");
    p2p_timer_start(the_timer, 5 * P2P_NS_PER_MS + 1, 0);
    assert_int_equal(p2p_event_loop_next_timeout(the_loop), 6); /* never too early */
    p2p_timer_start(the_timer, 1, 0);
    assert_int_equal(p2p_event_loop_next_timeout(the_loop), 1);
    p2p_timer_start(the_timer, 0, 0);
    assert_int_equal(p2p_event_loop_next_timeout(the_loop), 0);
    p2p_timer_start(the_timer, 365 * 86400 * P2P_NS_PER_SECOND, 0);
    assert_int_equal(p2p_event_loop_next_timeout(the_loop), INT32_MAX);
    p2p_timer_stop(the_timer);
    p2p_event_loop_post(the_loop, on_task, NULL);
    assert_int_equal(p2p_event_loop_next_timeout(the_loop), 0);
    EXPECT_JOURNAL("");
    close_loop();
}

/* ---- how long ---- */

static void work_left_over_means_no_waiting(void **state) {
    (void)state;
    open_loop(0);
    fake_input_text(p2p_socket_handle(sockets[0]), "one");
    fake_input_text(p2p_socket_handle(sockets[0]), "two");
    mock_ready(p2p_socket_handle(sockets[0]), P2P_IN);
    turn();
    journal_take();
    assert_int_equal(p2p_event_loop_run_once(the_loop, -1), 1);
    assert_non_null(strstr(journal_take(), "wait(0) on_read"));
    p2p_event_loop_stop(the_loop);
    assert_int_equal(p2p_event_loop_run_once(the_loop, -1), 0); /* spends it, or the mock would fail */
    assert_int_equal(mock.timeout_ns, 0);
    assert_int_equal(p2p_event_loop_run_once(the_loop, 2), 0);
    assert_int_equal(mock.timeout_ns, 2 * P2P_NS_PER_MS);
    close_loop();
}

static void the_turns_time_is_the_waits_end(void **state) {
    (void)state;
    open_loop(0);
    int64_t before = p2p_event_loop_now(the_loop);
    assert_int_equal(p2p_event_loop_run_once(the_loop, 25), 0);
    assert_int_equal(p2p_event_loop_now(the_loop) - before, 25 * P2P_NS_PER_MS);
    fake_clock_ns += 1000;
    assert_int_equal(p2p_event_loop_now(the_loop) - before, 25 * P2P_NS_PER_MS);
    close_loop();
}

static void run_ends_when_nothing_is_left(void **state) {
    (void)state;
    open_loop(0);
    mock.on_wait = NULL;
    p2p_timer_start(the_timer, 1000, 0);
    for (size_t i = 0; i < COUNT_OF(sockets); i++) p2p_event_loop_remove_socket(the_loop, sockets[i]);
    journal_take();
    p2p_event_loop_run(the_loop);
    EXPECT_JOURNAL("wait(1000) timer wait(0)");
    p2p_event_loop_run(the_loop);
    EXPECT_JOURNAL("");
    close_loop();
}

/* ---- many events ---- */

static void events_beyond_one_wait_come_with_the_next(void **state) {
    (void)state;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.max_events = 2;
    the_loop = mock_loop(0, &options);
    speaker = NULL;
    for (size_t i = 0; i < COUNT_OF(sockets); i++) {
        sockets[i] = fake_connection();
        assert_int_equal(p2p_event_loop_add_socket_with(the_loop, sockets[i], &by_message, NULL), 0);
        receive(i, "x");
    }
    assert_int_equal(mock_turn(the_loop), 2);
    assert_int_equal(mock.capacity, 2);
    assert_int_equal(mock_turn(the_loop), 1);
    assert_int_equal(loop_stats(the_loop).events_max, 2);
    close_loop();
}

/* As often as a wait is full, the next one may bring twice as much; not where the user has set a number. */
static void a_full_wait_is_followed_by_a_wider_one(void **state) {
    (void)state;
    the_loop = mock_loop(0, NULL);
    speaker = NULL;
    sockets[0] = fake_connection();
    assert_int_equal(p2p_event_loop_add_socket_with(the_loop, sockets[0], &by_message, NULL), 0);
    for (int expected = 512; expected <= 4096; expected *= 2) {
        for (int i = 0; i < expected; i++) mock_ready(p2p_socket_handle(sockets[0]), P2P_IN);
        mock_turn(the_loop);
        assert_int_equal(mock.capacity, expected);
    }
    memory_fail(1, true); /* full again, but there are no more than 4096 */
    mock_turn(the_loop);
    memory_fail(0, false);
    assert_int_equal(mock.capacity, 4096);
    mock_turn(the_loop);
    assert_int_equal(mock.capacity, 4096);
    close_loop();
}

static void a_wait_that_cannot_be_wider_stays_as_it_was(void **state) {
    (void)state;
    the_loop = mock_loop(0, NULL);
    speaker = NULL;
    sockets[0] = fake_connection();
    assert_int_equal(p2p_event_loop_add_socket_with(the_loop, sockets[0], &by_message, NULL), 0);
    for (int i = 0; i < 512; i++) mock_ready(p2p_socket_handle(sockets[0]), P2P_IN);
    mock_turn(the_loop);
    memory_fail(1, true);
    mock_turn(the_loop);
    memory_fail(0, false);
    assert_int_equal(mock.capacity, 512);
    assert_int_equal(loop_stats(the_loop).events, 512);
    close_loop();
}

/* Each ready socket is read for its share only, and comes again with the next wait. */
static void the_read_budget_holds(void **state) {
    (void)state;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.receive_buffer_size = 4096;
    options.read_budget = 8192;
    the_loop = mock_loop(0, &options);
    speaker = NULL;
    for (size_t i = 0; i < COUNT_OF(sockets); i++) {
        sockets[i] = fake_connection();
        assert_int_equal(p2p_event_loop_add_socket_with(the_loop, sockets[i], &by_message, NULL), 0);
    }
    static uint8_t frame[60004], payload[60000];
    raw_frame(frame, payload, sizeof payload);
    fake_input(p2p_socket_handle(sockets[1]), frame, sizeof frame);
    mock_ready(p2p_socket_handle(sockets[1]), P2P_IN);
    mock_turn(the_loop);
    assert_int_equal(fake_at(p2p_socket_handle(sockets[1]))->input_taken, 8192);
    for (int i = 0; i < 7; i++) {
        mock_ready(p2p_socket_handle(sockets[1]), P2P_IN);
        mock_turn(the_loop);
    }
    assert_int_equal(loop_stats(the_loop).messages_in, 1);
    close_loop();
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        MOCK_CASE(tasks_timers_flush_wait_callbacks_output_closes),
        MOCK_CASE(what_a_callback_sends_is_tried_before_the_next_wait_or_the_end),
        MOCK_CASE(what_on_close_sends_is_tried_before_the_turn_ends),
        MOCK_CASE(what_a_turn_queued_is_one_write_a_socket),
        MOCK_CASE(a_short_write_waits_for_writability_and_goes_on),
        MOCK_CASE(next_timeout_tries_output_and_tells_interest_first),
        MOCK_CASE(work_left_over_means_no_waiting),
        MOCK_CASE(the_turns_time_is_the_waits_end),
        MOCK_CASE(run_ends_when_nothing_is_left),
        MOCK_CASE(events_beyond_one_wait_come_with_the_next),
        MOCK_CASE(a_full_wait_is_followed_by_a_wider_one),
        MOCK_CASE(a_wait_that_cannot_be_wider_stays_as_it_was),
        MOCK_CASE(the_read_budget_holds),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
