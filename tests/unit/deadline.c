/* Deadlines of sockets (core/deadline.c), ending output in order (core/shutdown.c), on a clock that a case moves. */
#include "mock_backend.h"

#include <errno.h>
#include <stdio.h>

static void on_message(p2p_socket_t *sock, const void *data, uint32_t length, void *user_data) {
    (void)sock, (void)user_data;
    journal("message(%.*s)", (int)length, (const char *)data);
}

static void on_read(p2p_socket_t *sock, void *user_data) {
    (void)sock, (void)user_data;
    journal("end");
}

/* "P2P_ERR_RESET" is told as "RESET". */
static const char *name_of(int error) {
    return error == 0 ? "OK" : p2p_error_name(error) + strlen("P2P_ERR_");
}

static void on_error(p2p_socket_t *sock, int error, void *user_data) {
    (void)user_data;
    journal("%s(%s,%lld)", name_of(error), p2p_deadline_name(p2p_socket_timed_out(sock)),
            (long long)p2p_socket_unsent(sock));
}

static void on_connect(p2p_socket_t *sock, int error, void *user_data) {
    (void)user_data;
    journal("connect(%s,%s)", name_of(error), p2p_deadline_name(p2p_socket_timed_out(sock)));
}

static void on_close(p2p_socket_t *sock, int reason, void *user_data) {
    (void)user_data;
    journal("closed(%s,%s,%lld)", name_of(reason), p2p_deadline_name(p2p_socket_timed_out(sock)),
            (long long)p2p_socket_unsent(sock));
}

static const p2p_socket_callbacks_t callbacks = {
    .size = sizeof callbacks, .on_read = on_read, .on_message = on_message, .on_error = on_error,
    .on_connect = on_connect, .on_close = on_close
};

static bool told_by_the_mock(const char *word) {
    static const char *const calls[] = { "wait(", "attach(", "interest(", "detach(", "close(" };
    for (size_t i = 0; i < COUNT_OF(calls); i++)
        if (strncmp(word, calls[i], strlen(calls[i])) == 0) return true;
    return false;
}

/* What users and the system saw, without the calls of the backend. */
static const char *seen(void) {
    static char out[4096];
    char words[4096];
    snprintf(words, sizeof words, "%s", journal_take());
    out[0] = '\0';
    for (char *word = strtok(words, " "); word != NULL; word = strtok(NULL, " ")) {
        if (told_by_the_mock(word)) continue;
        if (out[0] != '\0') strcat(out, " ");
        strcat(out, word);
    }
    return out;
}

#define EXPECT_SEEN(text) assert_string_equal(seen(), text)

/* Turns until so much time has passed on the fake clock. */
static void pass(p2p_event_loop_t *loop, int ms) {
    int64_t end_ns = fake_clock_ns + ms * (int64_t)P2P_NS_PER_MS;
    do {
        int64_t left_ns = end_ns - fake_clock_ns;
        assert_true(p2p_event_loop_run_once(loop, (int)(left_ns / (int64_t)P2P_NS_PER_MS)) >= 0);
    } while (fake_clock_ns < end_ns);
    mock_turn(loop);
}

static void receive(p2p_event_loop_t *loop, p2p_socket_t *sock, const void *data, size_t size) {
    fake_input(p2p_socket_handle(sock), data, size);
    mock_ready(p2p_socket_handle(sock), P2P_IN);
    mock_turn(loop);
}

static p2p_socket_t *add(p2p_event_loop_t *loop, p2p_socket_t *sock) {
    assert_int_equal(p2p_event_loop_add_socket_with(loop, sock, &callbacks, NULL), 0);
    mock_turn(loop);
    seen();
    return sock;
}

static void end(p2p_event_loop_t *loop, p2p_socket_t *sock) {
    p2p_socket_abort(sock);
    p2p_event_loop_free(loop);
}

static p2p_event_loop_t *loop_with(uint32_t idle_ms, uint32_t read_ms, uint32_t write_ms) {
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.idle_timeout_ms = idle_ms;
    options.read_timeout_ms = read_ms;
    options.write_timeout_ms = write_ms;
    options.high_water = 4096;
    return mock_loop(0, &options);
}

static void a_connect_that_takes_too_long_is_TIMED_OUT(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = add(loop, p2p_socket_create(P2P_TCP));
    assert_int_equal(p2p_socket_connect(sock, "127.0.0.1", 9), 0);
    unsigned open = fake_open_count();
    pass(loop, 29999);
    EXPECT_SEEN("");
    pass(loop, 1);
    EXPECT_SEEN("connect(TIMED_OUT,connect)");
    assert_int_equal(fake_open_count(), open - 1);
    assert_int_equal(p2p_socket_set_timeout(sock, P2P_DEADLINE_CONNECT, 100), 0); /* again, with another */
    assert_int_equal(p2p_socket_connect(sock, "127.0.0.1", 9), 0);
    pass(loop, 99);
    EXPECT_SEEN("");
    pass(loop, 1);
    EXPECT_SEEN("connect(TIMED_OUT,connect)");
    assert_int_equal(loop_stats(loop).deadlines_passed, 2);
    end(loop, sock);
}

static void a_connect_in_time_has_no_deadline_any_more(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = add(loop, p2p_socket_create(P2P_TCP));
    assert_int_equal(p2p_socket_connect(sock, "127.0.0.1", 9), 0);
    mock_turn(loop);
    fake_at(p2p_socket_handle(sock))->connected = true;
    mock_ready(p2p_socket_handle(sock), P2P_OUT);
    mock_turn(loop);
    pass(loop, 100000);
    EXPECT_SEEN("connect(OK,none)");
    end(loop, sock);
}

static void idleness_counts_from_the_last_byte_either_way(void **state) {
    (void)state;
    p2p_event_loop_t *loop = loop_with(1000, 0, 0);
    p2p_socket_t *sock = add(loop, fake_connection());
    pass(loop, 900);
    receive(loop, sock, "\0\0\0\1a", 5);
    pass(loop, 900);
    assert_int_equal(p2p_message_send_data(sock, "b", 1), 0);
    pass(loop, 999);
    assert_string_equal(seen(), "message(a) write(0,5)");
    pass(loop, 1);
    EXPECT_SEEN("TIMED_OUT(idle,0)");
    end(loop, sock);
}

static void without_the_option_nothing_is_ever_idle(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = add(loop, fake_connection());
    pass(loop, 1000000);
    EXPECT_SEEN("");
    assert_int_equal(p2p_socket_set_timeout(sock, P2P_DEADLINE_IDLE, 10), 0); /* counts from here */
    pass(loop, 9);
    EXPECT_SEEN("");
    assert_int_equal(p2p_socket_set_timeout(sock, P2P_DEADLINE_IDLE, P2P_NO_TIMEOUT), 0);
    pass(loop, 100);
    EXPECT_SEEN("");
    end(loop, sock);
}

static void a_message_that_trickles_is_cut_however_often_a_byte_comes(void **state) {
    (void)state;
    p2p_event_loop_t *loop = loop_with(0, 1000, 0);
    p2p_socket_t *sock = add(loop, fake_connection());
    receive(loop, sock, "\0\0\0\x40", 4);
    for (int i = 0; i < 9; i++) {
        pass(loop, 100);
        receive(loop, sock, "x", 1);
    }
    pass(loop, 99);
    EXPECT_SEEN("");
    pass(loop, 1);
    EXPECT_SEEN("TIMED_OUT(read,0)");
    receive(loop, sock, "y", 1);
    EXPECT_SEEN("");
    end(loop, sock);
}

static void each_message_has_its_own_time(void **state) {
    (void)state;
    p2p_event_loop_t *loop = loop_with(0, 1000, 0);
    p2p_socket_t *sock = add(loop, fake_connection());
    receive(loop, sock, "\0\0", 2);
    pass(loop, 900);
    receive(loop, sock, "\0\1a\0\0\0\1", 7); /* the end of one, the begin of another */
    pass(loop, 900);
    receive(loop, sock, "b", 1);
    pass(loop, 5000);
    receive(loop, sock, "\0", 1);
    pass(loop, 999);
    EXPECT_SEEN("message(a) message(b)");
    pass(loop, 1);
    EXPECT_SEEN("TIMED_OUT(read,0)");
    end(loop, sock);
}

static void time_does_not_run_while_the_loop_itself_does_not_read(void **state) {
    (void)state;
    static char much[5000];
    p2p_event_loop_t *loop = loop_with(0, 1000, P2P_NO_TIMEOUT);
    p2p_socket_t *sock = add(loop, fake_connection());
    receive(loop, sock, "\0\0", 2);
    fake_at(p2p_socket_handle(sock))->room = 0;
    assert_int_equal(p2p_message_send_data(sock, much, sizeof much), 0); /* above high_water: it is not read */
    pass(loop, 1);
    receive(loop, sock, "\0", 1); /* with this it notices */
    pass(loop, 60000);
    EXPECT_SEEN("");
    end(loop, sock);
}

static void output_that_does_not_move_is_TIMED_OUT_and_counted(void **state) {
    (void)state;
    p2p_event_loop_t *loop = loop_with(0, 0, 1000);
    p2p_socket_t *sock = add(loop, fake_connection());
    fake_at(p2p_socket_handle(sock))->room = 3;
    assert_int_equal(p2p_message_send_data(sock, "0123456789", 10), 0);
    pass(loop, 999);
    fake_at(p2p_socket_handle(sock))->room = 1; /* progress, if little */
    mock_ready(p2p_socket_handle(sock), P2P_OUT);
    pass(loop, 999);
    EXPECT_SEEN("write(0,3) write(0,1)");
    pass(loop, 1);
    EXPECT_SEEN("TIMED_OUT(write,10)");
    assert_int_equal(p2p_message_send_data(sock, "x", 1), P2P_ERR_TIMED_OUT);
    end(loop, sock);
}

static void output_stuck_behind_the_peers_end_is_told_too(void **state) {
    (void)state;
    p2p_event_loop_t *loop = loop_with(0, 0, 1000);
    p2p_socket_t *sock = add(loop, fake_connection());
    fake_at(p2p_socket_handle(sock))->input_end = true;
    receive(loop, sock, "", 0);
    fake_at(p2p_socket_handle(sock))->room = 0;
    assert_int_equal(p2p_message_send_data(sock, "x", 1), 0);
    pass(loop, 1001);
    EXPECT_SEEN("end TIMED_OUT(write,5)");
    end(loop, sock);
}

static void a_deadline_put_off_costs_one_wait_a_timeout(void **state) {
    (void)state;
    p2p_event_loop_t *loop = loop_with(1000, 0, 0);
    p2p_socket_t *sock = add(loop, fake_connection());
    for (int i = 0; i < 100; i++) receive(loop, sock, "\0\0\0\0", 4);
    pass(loop, 500);
    receive(loop, sock, "\0\0\0\0", 4);
    unsigned before = mock.waits;
    pass(loop, 999); /* wakes at 500 and finds it put off */
    assert_true(mock.waits - before <= 3);
    end(loop, sock);
}

static void its_record_is_given_back_when_it_would_have_passed(void **state) {
    (void)state;
    p2p_event_loop_t *loop = loop_with(0, 1000, 0);
    p2p_socket_t *sock = add(loop, fake_connection());
    size_t before = 0;
    for (int round = 0; round < 2; round++) { /* room for timers stays */
        receive(loop, sock, "\0\0", 2);
        receive(loop, sock, "\0\0", 2);
        assert_true(memory_in_use() > before);
        pass(loop, 1001);
        if (round == 0) before = memory_in_use();
    }
    assert_int_equal(memory_in_use(), before);
    end(loop, sock);
}

static void a_shutdown_follows_what_is_queued(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = add(loop, fake_connection());
    fake_socket *fake = fake_at(p2p_socket_handle(sock));
    fake->room = 2;
    assert_int_equal(p2p_message_send_data(sock, "last", 4), 0);
    assert_int_equal(p2p_socket_shutdown(sock, 0), 0);
    assert_int_equal(p2p_message_send_data(sock, "late", 4), P2P_ERR_CLOSED);
    assert_int_equal(p2p_socket_shutdown(sock, 0), P2P_ERR_ALREADY);
    mock_turn(loop);
    assert_false(fake->shut);
    assert_int_equal(p2p_socket_unsent(sock), 6);
    fake->room = 100;
    mock_ready(p2p_socket_handle(sock), P2P_OUT);
    mock_turn(loop);
    assert_true(fake->shut);
    pass(loop, 60000);
    receive(loop, sock, "\0\0\0\5still", 9); /* the other direction goes on */
    assert_string_equal(strstr(seen(), "message"), "message(still)");
    fake->input_end = true;
    receive(loop, sock, "", 0);
    EXPECT_SEEN("end");
    assert_int_equal(p2p_socket_unsent(sock), 0);
    end(loop, sock);
}

static void a_shutdown_with_nothing_queued_is_told_at_once(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = add(loop, fake_connection());
    assert_int_equal(p2p_socket_shutdown(sock, 0), 0);
    assert_true(fake_at(p2p_socket_handle(sock))->shut);
    end(loop, sock);
}

static void a_shutdown_that_takes_too_long_tells_what_was_lost(void **state) {
    (void)state;
    p2p_event_loop_t *loop = loop_with(0, 0, P2P_NO_TIMEOUT);
    p2p_socket_t *sock = add(loop, fake_connection());
    fake_at(p2p_socket_handle(sock))->room = 0;
    assert_int_equal(p2p_message_send_data(sock, "last", 4), 0);
    assert_int_equal(p2p_socket_shutdown(sock, 700), 0);
    pass(loop, 699);
    EXPECT_SEEN("");
    pass(loop, 1);
    EXPECT_SEEN("TIMED_OUT(drain,8)");
    p2p_socket_close(sock);
    mock_turn(loop);
    EXPECT_SEEN("closed(TIMED_OUT,drain,8)");
    p2p_event_loop_free(loop);
}

static void closing_tells_what_could_not_be_written(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = add(loop, fake_connection());
    fake_at(p2p_socket_handle(sock))->room = 1;
    assert_int_equal(p2p_message_send_data(sock, "last", 4), 0);
    p2p_socket_close(sock);
    pass(loop, 5000);
    assert_string_equal(strstr(seen(), "closed"), "closed(TIMED_OUT,drain,7)");
    p2p_event_loop_free(loop);
}

static void shutting_down_refuses_what_cannot_be(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    assert_int_equal(p2p_socket_shutdown(NULL, 0), P2P_ERR_INVALID);
    assert_int_equal(p2p_socket_unsent(NULL), P2P_ERR_INVALID);
    p2p_socket_t *udp = p2p_socket_create(P2P_UDP), *fresh = add(loop, p2p_socket_create(P2P_TCP));
    assert_int_equal(p2p_socket_shutdown(udp, 0), P2P_ERR_INVALID);
    assert_int_equal(p2p_socket_shutdown(fresh, 0), P2P_ERR_NOT_CONNECTED);
    p2p_socket_close(udp);
    end(loop, fresh);
}

static void deadlines_have_names_and_limits(void **state) {
    (void)state;
    p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
    assert_int_equal(p2p_socket_set_timeout(NULL, P2P_DEADLINE_READ, 1), P2P_ERR_INVALID);
    assert_int_equal(p2p_socket_set_timeout(sock, P2P_DEADLINE_NONE, 1), P2P_ERR_INVALID);
    assert_int_equal(p2p_socket_set_timeout(sock, (p2p_deadline_t)6, 1), P2P_ERR_INVALID);
    assert_int_equal(p2p_socket_timed_out(NULL), P2P_DEADLINE_NONE);
    assert_string_equal(p2p_deadline_name((p2p_deadline_t)6), "");
    assert_string_equal(p2p_deadline_name(P2P_DEADLINE_READ), "read");
    p2p_socket_close(sock);
}

static void a_drain_lets_all_queues_empty_and_ends_run(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *listener = add(loop, fake_listener());
    p2p_socket_t *sock = add(loop, fake_connection());
    fake_socket *fake = fake_at(p2p_socket_handle(sock));
    fake->room = 4;
    assert_int_equal(p2p_message_send_data(sock, "last", 4), 0);
    assert_int_equal(p2p_event_loop_drain(loop, 1000), 0);
    assert_int_equal(p2p_event_loop_drain(loop, 1000), P2P_ERR_ALREADY);
    mock_turn(loop);
    fake_at(p2p_socket_handle(listener))->backlog_length = 1; /* a caller: not taken */
    mock_ready(p2p_socket_handle(listener), P2P_IN);
    fake->room = 100;
    mock_ready(p2p_socket_handle(sock), P2P_OUT);
    mock_turn(loop);
    assert_true(fake->shut);
    assert_int_equal(loop_stats(loop).accepted, 0);
    fake->input_end = true;
    mock_ready(p2p_socket_handle(sock), P2P_IN);
    p2p_event_loop_run(loop);
    assert_int_equal(p2p_last_error(), 0);
    assert_string_equal(strstr(seen(), "end"), "end");
    p2p_socket_close(listener);
    end(loop, sock);
}

static void a_drain_that_takes_too_long_is_TIMED_OUT(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = add(loop, fake_connection());
    int64_t begin_ns = fake_clock_ns;
    assert_int_equal(p2p_event_loop_drain(loop, 1000), 0); /* the peer never ends */
    p2p_event_loop_run(loop);
    assert_int_equal(p2p_last_error(), P2P_ERR_TIMED_OUT);
    assert_int_equal(fake_clock_ns - begin_ns, 1000 * (int64_t)P2P_NS_PER_MS);
    assert_int_equal(p2p_event_loop_drain(NULL, 0), P2P_ERR_INVALID);
    end(loop, sock);
}

static void a_drain_with_nothing_to_wait_for_ends_at_once(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *listener = add(loop, fake_listener());
    int64_t begin_ns = fake_clock_ns;
    assert_int_equal(p2p_event_loop_drain(loop, P2P_NO_TIMEOUT), 0);
    p2p_event_loop_run(loop);
    assert_int_equal(p2p_last_error(), 0);
    assert_int_equal(fake_clock_ns, begin_ns);
    end(loop, listener);
}

static void a_shutdowns_time_is_not_that_of_a_later_close(void **state) {
    (void)state;
    p2p_event_loop_t *loop = loop_with(0, 0, P2P_NO_TIMEOUT);
    p2p_socket_t *sock = add(loop, fake_connection());
    fake_at(p2p_socket_handle(sock))->room = 0;
    assert_int_equal(p2p_message_send_data(sock, "last", 4), 0);
    assert_int_equal(p2p_socket_shutdown(sock, P2P_NO_TIMEOUT), 0);
    pass(loop, 100000);
    p2p_socket_close(sock);
    pass(loop, 5000);
    assert_string_equal(strstr(seen(), "closed"), "closed(TIMED_OUT,drain,8)");
    p2p_event_loop_free(loop);
}

static void a_timeout_can_be_set_while_there_was_none(void **state) {
    (void)state;
    p2p_event_loop_t *loop = loop_with(0, P2P_NO_TIMEOUT, P2P_NO_TIMEOUT);
    p2p_socket_t *sock = add(loop, fake_connection()), *other = add(loop, fake_connection());
    fake_at(p2p_socket_handle(sock))->room = 0;
    assert_int_equal(p2p_message_send_data(sock, "x", 1), 0);
    receive(loop, other, "\0\0", 2);
    pass(loop, 100000);
    EXPECT_SEEN("");
    assert_int_equal(p2p_socket_set_timeout(sock, P2P_DEADLINE_WRITE, 10), 0);
    assert_int_equal(p2p_socket_set_timeout(other, P2P_DEADLINE_READ, 20), 0);
    pass(loop, 20);
    EXPECT_SEEN("TIMED_OUT(write,5) TIMED_OUT(read,0)");
    p2p_socket_abort(other);
    end(loop, sock);
}

static void a_socket_that_could_not_be_added_has_no_deadline(void **state) {
    (void)state;
    p2p_event_loop_t *loop = loop_with(10, 0, 0);
    p2p_socket_t *sock = fake_connection();
    mock_fail(MOCK_SET_INTEREST, 1, ENOBUFS);
    assert_int_equal(p2p_event_loop_add_socket_with(loop, sock, &callbacks, NULL), P2P_ERR_NO_MEMORY);
    pass(loop, 100);
    p2p_socket_close(sock);
    pass(loop, 100);
    p2p_event_loop_free(loop);
}

static void a_connection_that_joins_a_drained_loop_is_shut_down_too(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = add(loop, fake_connection());
    assert_int_equal(p2p_event_loop_drain(loop, 1000), 0);
    p2p_socket_t *late = add(loop, fake_connection());
    assert_true(fake_at(p2p_socket_handle(late))->shut);
    assert_int_equal(p2p_message_send_data(late, "x", 1), P2P_ERR_CLOSED);
    p2p_socket_abort(late);
    end(loop, sock);
}

static void a_listener_that_joins_a_drained_loop_accepts_nobody(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(MOCK_ACCEPT, NULL);
    p2p_socket_t *sock = add(loop, fake_connection());
    assert_int_equal(p2p_event_loop_drain(loop, 1000), 0);
    journal_take();
    p2p_socket_t *late = fake_listener();
    assert_int_equal(p2p_event_loop_add_socket_with(loop, late, &callbacks, NULL), 0);
    mock_turn(loop);
    assert_null(strstr(journal_take(), "accept_start"));
    p2p_socket_close(late);
    end(loop, sock);
}

/* The error was on its way when the drain began. */
static void a_listener_that_rests_for_a_drain_does_not_try_again(void **state) {
    (void)state;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.accept_pause_ms = 100;
    p2p_event_loop_t *loop = mock_loop(MOCK_ACCEPT, &options);
    p2p_socket_t *listener = add(loop, fake_listener()), *sock = add(loop, fake_connection());
    assert_int_equal(p2p_event_loop_drain(loop, 1000), 0);
    mock_accept_error(mock_token(p2p_socket_handle(listener)), EMFILE, 0);
    journal_take();
    pass(loop, 200);
    assert_null(strstr(journal_take(), "accept_start"));
    p2p_socket_close(listener);
    end(loop, sock);
}

/* A foreign loop asks how long to wait: not until the drain's time is over, when there is nothing left to drain. */
static void next_timeout_notices_that_a_drain_is_over(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = add(loop, fake_connection());
    assert_int_equal(p2p_event_loop_drain(loop, 1000), 0);
    assert_int_equal(p2p_event_loop_next_timeout(loop), 1000);
    fake_at(p2p_socket_handle(sock))->input_end = true;
    mock_ready(p2p_socket_handle(sock), P2P_IN);
    mock_turn(loop);
    assert_int_equal(p2p_event_loop_next_timeout(loop), 0);
    mock_turn(loop); /* fails the case if the drain was not in time */
    end(loop, sock);
}

/* The turn that told the last end took long, and the next one begins with timers. */
static void a_drain_that_was_over_in_time_is_not_TIMED_OUT(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = add(loop, fake_connection());
    assert_int_equal(p2p_event_loop_drain(loop, 1000), 0);
    fake_at(p2p_socket_handle(sock))->input_end = true;
    mock_ready(p2p_socket_handle(sock), P2P_IN);
    mock_turn(loop);
    fake_clock_ns += 1000 * (int64_t)P2P_NS_PER_MS;
    mock_turn(loop);
    end(loop, sock);
}

static void no_memory_for_a_drain_ends_the_connection(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = add(loop, fake_connection());
    memory_fail(3, true); /* room for timers, the drain's own, then the connection's record */
    assert_int_equal(p2p_event_loop_drain(loop, P2P_NO_TIMEOUT), 0);
    memory_fail(0, false);
    p2p_event_loop_run(loop);
    assert_int_equal(p2p_last_error(), 0);
    EXPECT_SEEN("NO_MEMORY(none,0)");
    end(loop, sock);
}

static p2p_socket_t *accepted(void) {
    p2p_socket_t *listener = fake_listener();
    fake_at(p2p_socket_handle(listener))->backlog_length = 1;
    p2p_socket_t *sock = p2p_socket_accept(listener);
    assert_non_null(sock);
    p2p_socket_close(listener);
    return sock;
}

static void a_half_open_connection_that_was_paused_has_its_time_from_when_it_is_read(void **state) {
    (void)state;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.max_half_open = 1;
    options.read_timeout_ms = 1000;
    p2p_event_loop_t *loop = mock_loop(0, &options);
    p2p_socket_t *sock = accepted();
    assert_int_equal(p2p_socket_pause(sock), 0);
    add(loop, sock);
    pass(loop, 1500);
    assert_int_equal(p2p_socket_resume(sock), 0);
    pass(loop, 999);
    EXPECT_SEEN("");
    pass(loop, 1);
    EXPECT_SEEN("TIMED_OUT(read,0)");
    end(loop, sock);
}

static void a_half_open_connection_can_be_given_a_read_deadline_where_the_loop_has_none(void **state) {
    (void)state;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.max_half_open = 1;
    options.read_timeout_ms = P2P_NO_TIMEOUT;
    p2p_event_loop_t *loop = mock_loop(0, &options);
    p2p_socket_t *sock = add(loop, accepted());
    assert_int_equal(p2p_socket_set_timeout(sock, P2P_DEADLINE_READ, 1000), 0);
    pass(loop, 999);
    EXPECT_SEEN("");
    pass(loop, 1);
    EXPECT_SEEN("TIMED_OUT(read,0)");
    end(loop, sock);
}

/* What was sent is with the system, the peer has not confirmed it: closing waits for that, and the peer's end. */
static p2p_socket_t *add_unconfirmed(p2p_event_loop_t *loop) {
    p2p_socket_t *sock = add(loop, fake_connection());
    assert_int_equal(p2p_message_send_data(sock, "answer", 6), 0);
    mock_turn(loop);
    fake_at(p2p_socket_handle(sock))->unconfirmed = true;
    return sock;
}

static void a_closed_connection_that_cannot_be_received_from_again_ends_at_once(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(MOCK_RECEIVE, NULL);
    p2p_socket_t *sock = add_unconfirmed(loop);
    assert_int_equal(p2p_socket_pause(sock), 0);
    mock_turn(loop);
    seen();
    mock_fail(MOCK_RECV_START, 1, ENOBUFS);
    p2p_socket_close(sock);
    mock_turn(loop);
    assert_string_equal(strstr(seen(), "closed"), "closed(NO_MEMORY,none,0)");
    p2p_event_loop_free(loop);
}

static void answers_before_a_header_that_claims_too_much_outlast_the_close(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = add_unconfirmed(loop);
    fake_socket *fake = fake_at(p2p_socket_handle(sock));
    receive(loop, sock, "\xff\xff\xff\xff more", 9);
    assert_string_equal(strstr(seen(), "TOO_LONG"), "TOO_LONG(none,0)");
    p2p_socket_close(sock);
    mock_turn(loop);
    assert_true(fake->open && fake->shut && !fake->reset);
    pass(loop, 5000);
    assert_string_equal(strstr(seen(), "closed"), "closed(TOO_LONG,drain,0)");
    p2p_event_loop_free(loop);
}

static void no_memory_for_a_deadline_ends_what_needs_it(void **state) {
    (void)state;
    p2p_event_loop_t *loop = loop_with(0, 1000, 0);
    p2p_socket_t *sock = add(loop, fake_connection());
    memory_fail(2, true); /* the inbox, then the record */
    receive(loop, sock, "\0\0", 2);
    memory_fail(0, false);
    mock_turn(loop);
    EXPECT_SEEN("NO_MEMORY(none,0)");
    end(loop, sock);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        MOCK_CASE(a_connect_that_takes_too_long_is_TIMED_OUT),
        MOCK_CASE(a_connect_in_time_has_no_deadline_any_more),
        MOCK_CASE(idleness_counts_from_the_last_byte_either_way),
        MOCK_CASE(without_the_option_nothing_is_ever_idle),
        MOCK_CASE(a_message_that_trickles_is_cut_however_often_a_byte_comes),
        MOCK_CASE(each_message_has_its_own_time),
        MOCK_CASE(time_does_not_run_while_the_loop_itself_does_not_read),
        MOCK_CASE(output_that_does_not_move_is_TIMED_OUT_and_counted),
        MOCK_CASE(output_stuck_behind_the_peers_end_is_told_too),
        MOCK_CASE(a_deadline_put_off_costs_one_wait_a_timeout),
        MOCK_CASE(its_record_is_given_back_when_it_would_have_passed),
        MOCK_CASE(a_shutdown_follows_what_is_queued),
        MOCK_CASE(a_shutdown_with_nothing_queued_is_told_at_once),
        MOCK_CASE(a_shutdown_that_takes_too_long_tells_what_was_lost),
        MOCK_CASE(closing_tells_what_could_not_be_written),
        MOCK_CASE(shutting_down_refuses_what_cannot_be),
        MOCK_CASE(deadlines_have_names_and_limits),
        MOCK_CASE(a_drain_lets_all_queues_empty_and_ends_run),
        MOCK_CASE(a_drain_that_takes_too_long_is_TIMED_OUT),
        MOCK_CASE(a_drain_with_nothing_to_wait_for_ends_at_once),
        MOCK_CASE(a_shutdowns_time_is_not_that_of_a_later_close),
        MOCK_CASE(a_timeout_can_be_set_while_there_was_none),
        MOCK_CASE(a_socket_that_could_not_be_added_has_no_deadline),
        MOCK_CASE(a_connection_that_joins_a_drained_loop_is_shut_down_too),
        MOCK_CASE(a_listener_that_joins_a_drained_loop_accepts_nobody),
        MOCK_CASE(a_listener_that_rests_for_a_drain_does_not_try_again),
        MOCK_CASE(next_timeout_notices_that_a_drain_is_over),
        MOCK_CASE(a_drain_that_was_over_in_time_is_not_TIMED_OUT),
        MOCK_CASE(no_memory_for_a_drain_ends_the_connection),
        MOCK_CASE(a_half_open_connection_that_was_paused_has_its_time_from_when_it_is_read),
        MOCK_CASE(a_half_open_connection_can_be_given_a_read_deadline_where_the_loop_has_none),
        MOCK_CASE(a_closed_connection_that_cannot_be_received_from_again_ends_at_once),
        MOCK_CASE(answers_before_a_header_that_claims_too_much_outlast_the_close),
        MOCK_CASE(no_memory_for_a_deadline_ends_what_needs_it),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
