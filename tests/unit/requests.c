/*
 * Sending and connecting by requests that a backend completes (core/output.c): only OP_DONE ends one (B10), one send a
 * stream is in flight, and what it points to stays good until then, whatever happens to the socket.
 */
#include "mock_backend.h"

static void on_connect(p2p_socket_t *sock, int error, void *user_data) {
    (void)sock, (void)user_data;
    journal("connect(%s)", error == 0 ? "OK" : p2p_error_name(error) + strlen("P2P_ERR_"));
}

static void on_error(p2p_socket_t *sock, int error, void *user_data) {
    (void)sock, (void)user_data;
    journal("error(%s)", p2p_error_name(error) + strlen("P2P_ERR_"));
}

static void on_write(p2p_socket_t *sock, void *user_data) {
    (void)sock, (void)user_data;
    journal("writable");
}

static void on_close(p2p_socket_t *sock, int reason, void *user_data) {
    (void)sock, (void)user_data;
    journal("on_close(%s)", reason == 0 ? "OK" : p2p_error_name(reason) + strlen("P2P_ERR_"));
}

static const p2p_socket_callbacks_t callbacks = {
    .size = sizeof callbacks, .on_write = on_write, .on_error = on_error, .on_connect = on_connect, .on_close = on_close
};

static p2p_event_loop_t *native_loop(void) {
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.high_water = 4096;
    options.low_water = 1024;
    options.write_timeout_ms = P2P_NO_TIMEOUT; /* what is allocated is counted */
    p2p_event_loop_t *loop = mock_loop(MOCK_NATIVE, &options);
    mock_turn(loop);
    return loop;
}

static p2p_socket_t *add_connection(p2p_event_loop_t *loop) {
    p2p_socket_t *sock = fake_connection();
    assert_int_equal(p2p_event_loop_add_socket_with(loop, sock, &callbacks, NULL), 0);
    journal_take();
    return sock;
}

static void send_text(p2p_socket_t *sock, const char *text) {
    assert_int_equal(p2p_message_send_data(sock, text, (uint32_t)strlen(text)), 0);
}

static void end(p2p_event_loop_t *loop, p2p_socket_t *sock) {
    p2p_event_loop_free(loop);
    p2p_socket_close(sock);
}

/* ---- sending ---- */

static void what_a_turn_queued_is_one_request(void **state) {
    (void)state;
    p2p_event_loop_t *loop = native_loop();
    p2p_socket_t *sock = add_connection(loop);
    send_text(sock, "one");
    send_text(sock, "two");
    send_text(sock, "three");
    EXPECT_JOURNAL("");
    mock_turn(loop);
    EXPECT_JOURNAL("send(0,23) wait(0)");
    mock_complete(23);
    mock_turn(loop);
    EXPECT_JOURNAL("wait(0)");
    assert_memory_equal(mock.sent, "\0\0\0\3one\0\0\0\3two\0\0\0\5three", 23);
    assert_int_equal(loop_stats(loop).bytes_out, 23);
    assert_int_equal(loop_stats(loop).output_queued, 0);
    end(loop, sock);
}

static void B10_one_send_is_in_flight(void **state) {
    (void)state;
    p2p_event_loop_t *loop = native_loop();
    p2p_socket_t *sock = add_connection(loop);
    send_text(sock, "one");
    mock_turn(loop);
    send_text(sock, "two");
    mock_turn(loop);
    EXPECT_JOURNAL("send(0,7) wait(0) wait(0)");
    send_text(sock, "three");
    mock_complete(7);
    mock_turn(loop); /* and the rest goes before the turn ends */
    EXPECT_JOURNAL("wait(0) send(0,16)");
    mock_complete(16);
    mock_turn(loop);
    assert_memory_equal(mock.sent, "\0\0\0\3one\0\0\0\3two\0\0\0\5three", 23);
    end(loop, sock);
}

static void a_short_send_is_continued_at_every_place(void **state) {
    (void)state;
    p2p_event_loop_t *loop = native_loop();
    p2p_socket_t *sock = add_connection(loop);
    char frames[16] = "\0\0\0\3one\0\0\0\4four";
    for (int first = 0; first <= 15; first++) { /* 0: nothing went, which is no error */
        mock.sent_length = 0;
        send_text(sock, "one");
        send_text(sock, "four");
        mock_turn(loop);
        mock_complete(first);
        mock_turn(loop);
        if (first < 15) mock_complete(15 - first);
        mock_turn(loop);
        assert_int_equal(mock.request_count, 0);
        assert_int_equal(mock.sent_length, 15);
        assert_memory_equal(mock.sent, frames, 15);
        assert_int_equal(loop_stats(loop).output_queued, 0);
    }
    end(loop, sock);
}

/* Other sockets' output, and the same socket's later, must not disturb what the request points to. */
static void bytes_in_flight_stay_where_they_are(void **state) {
    (void)state;
    p2p_event_loop_t *loop = native_loop();
    p2p_socket_t *a = add_connection(loop), *b = add_connection(loop);
    send_text(a, "from a");
    mock_turn(loop);
    for (int i = 0; i < 50; i++) {
        send_text(b, "from b, which is longer");
        send_text(a, "later");
        mock_turn(loop);
        if (mock.request_count < 2) continue;
        struct mock_request first = mock.requests[0]; /* a's stays in flight, b's completes */
        mock.requests[0] = mock.requests[1];
        mock.requests[1] = first;
        mock_complete(27);
        mock_turn(loop);
    }
    while (mock.request_count > 1) {
        struct mock_request first = mock.requests[0];
        mock.requests[0] = mock.requests[1];
        mock.requests[1] = first;
        mock_complete(27);
        mock_turn(loop);
    }
    mock.sent_length = 0;
    mock_complete(10);
    assert_memory_equal(mock.sent, "\0\0\0\6from a", 10);
    mock_turn(loop);
    while (mock.request_count > 0) {
        mock_complete(9);
        mock_turn(loop);
    }
    assert_memory_equal(mock.sent + 10, "\0\0\0\5later\0\0\0\5later", 18);
    p2p_event_loop_free(loop);
    p2p_socket_close(a);
    p2p_socket_close(b);
}

static void a_send_that_fails_is_told_once(void **state) {
    (void)state;
    static const struct {
        bool at_once;
        int error;
        const char *told;
    } tries[] = { { true, EPIPE, "error(RESET)" }, { true, ENOBUFS, "error(" }, { false, EPIPE, "error(RESET)" },
                  { false, ECONNRESET, "error(RESET)" }, { false, ETIMEDOUT, "error(TIMED_OUT)" } };
    for (size_t i = 0; i < COUNT_OF(tries); i++) {
        assert_int_equal(mock_teardown(NULL) + mock_setup(NULL), 0);
        p2p_event_loop_t *loop = native_loop();
        p2p_socket_t *sock = add_connection(loop);
        send_text(sock, "lost");
        if (tries[i].at_once) mock_fail(MOCK_SEND, 1, tries[i].error);
        mock_turn(loop);
        if (!tries[i].at_once) mock_complete(-tries[i].error);
        mock_turn(loop);
        /* What ends the connection ends its input as well, which tells. */
        int input_error = tries[i].error == EPIPE ? ECONNRESET : tries[i].error;
        if (input_error != ENOBUFS) mock_receive_result(mock_token(p2p_socket_handle(sock)), -input_error, 0);
        for (int k = 0; k < 3; k++) mock_turn(loop);
        const char *words = journal_take(), *told = strstr(words, tries[i].told);
        if (told == NULL) fail_msg("try %u: not told: %s", (unsigned)i, words);
        assert_null(strstr(told + 1, "error("));
        assert_true(p2p_message_send_data(sock, "x", 1) < 0);
        assert_int_equal(loop_stats(loop).output_queued, 0);
        end(loop, sock);
    }
}

static void a_full_queue_refuses_and_on_write_follows_once(void **state) {
    (void)state;
    static const uint8_t data[1000];
    p2p_event_loop_t *loop = native_loop();
    p2p_socket_t *sock = add_connection(loop);
    unsigned taken = 0;
    int result;
    while ((result = p2p_message_send_data(sock, data, sizeof data)) == 0) taken++;
    assert_int_equal(result, P2P_ERR_QUEUE_FULL);
    assert_in_range(taken, 3, 5);
    assert_in_range(loop_stats(loop).output_queued, 4096, 4096 + 1100 + taken * 64);
    mock_turn(loop);
    mock_turn(loop);
    journal_take();
    mock_complete(1004);
    mock_turn(loop);
    assert_null(strstr(journal_take(), "writable")); /* above low_water still */
    mock_complete((int)(taken - 1) * 1004);
    mock_turn(loop);
    mock_turn(loop);
    mock_turn(loop);
    const char *words = journal_take(), *told = strstr(words, "writable");
    assert_non_null(told);
    assert_null(strstr(told + 1, "writable"));
    assert_int_equal(loop_stats(loop).sends_refused, 1);
    end(loop, sock);
}

static void without_memory_for_a_request_the_connection_fails_cleanly(void **state) {
    (void)state;
    p2p_event_loop_t *loop = native_loop();
    p2p_socket_t *sock = add_connection(loop);
    send_text(sock, "x");
    memory_fail(1, true);
    mock_turn(loop);
    memory_fail(0, false);
    mock_turn(loop);
    if (mock.request_count > 0) { /* there was a spare one */
        mock_complete(5);
        mock_turn(loop);
        test_skip("a request needed no memory");
    }
    assert_non_null(strstr(journal_take(), "error(NO_MEMORY)"));
    end(loop, sock);
}

/* ---- the socket goes, the request stays ---- */

static void B10_cancel_does_not_suppress_OP_DONE(void **state) {
    (void)state;
    p2p_event_loop_t *loop = native_loop();
    p2p_socket_t *sock = add_connection(loop);
    send_text(sock, "in flight");
    mock_turn(loop);
    p2p_socket_abort(sock);
    assert_int_equal(mock.request_count, 1);
    mock_turn(loop);
    EXPECT_JOURNAL("send(0,13) wait(0) cancel(0) detach(0) close(0) wait(0) on_close(OK)");
    mock_complete(13); /* it was too late to cancel; reads the bytes, which must still be there */
    mock_turn(loop);
    EXPECT_JOURNAL("wait(0)");
    assert_memory_equal(mock.sent, "\0\0\0\x09in flight", 13);
    p2p_event_loop_free(loop);
}

static void a_cancelled_send_is_no_failure_of_anybody(void **state) {
    (void)state;
    p2p_event_loop_t *loop = native_loop();
    p2p_socket_t *sock = add_connection(loop), *other = add_connection(loop);
    send_text(sock, "in flight");
    mock_turn(loop);
    p2p_socket_abort(sock);
    mock_turn(loop);
    journal_take();
    mock_complete(-ECANCELED);
    mock_turn(loop);
    send_text(other, "the request is free again");
    uint64_t calls = memory_calls();
    mock_turn(loop);
    EXPECT_JOURNAL("wait(0) send(1,29) wait(0)");
    assert_int_equal(memory_calls(), calls);
    mock_complete(29);
    mock_turn(loop);
    end(loop, other);
}

static void a_shared_message_lives_until_OP_DONE(void **state) {
    (void)state;
    static uint8_t data[3000];
    raw_fill(data, sizeof data, 1);
    p2p_event_loop_t *loop = native_loop();
    p2p_socket_t *sock = add_connection(loop);
    p2p_message_t *message = p2p_message_create(data, sizeof data);
    assert_int_equal(p2p_message_send(sock, message), 0);
    mock_turn(loop);
    p2p_message_free(message);
    p2p_socket_abort(sock);
    mock_turn(loop);
    mock_complete(3004);
    assert_memory_equal(mock.sent + 4, data, sizeof data);
    mock_turn(loop);
    p2p_event_loop_free(loop);
}

static void a_loop_freed_with_requests_in_flight_leaks_nothing(void **state) {
    (void)state;
    p2p_event_loop_t *loop = native_loop();
    p2p_socket_t *mine = add_connection(loop), *gone = add_connection(loop);
    send_text(mine, "in flight");
    send_text(gone, "in flight");
    mock_turn(loop);
    p2p_socket_abort(gone);
    p2p_event_loop_free(loop); /* no OP_DONE will come: destroy ends them */
    p2p_socket_close(mine);
    assert_int_equal(memory_in_use(), 0);
}

static void a_closed_connection_writes_first_then_says_so(void **state) {
    (void)state;
    p2p_event_loop_t *loop = native_loop();
    p2p_socket_t *sock = add_connection(loop);
    uint64_t token = mock_token(p2p_socket_handle(sock));
    send_text(sock, "bye");
    p2p_socket_close(sock);
    mock_turn(loop);
    EXPECT_JOURNAL("send(0,7) wait(0)");
    mock_complete(3);
    mock_turn(loop);
    mock_complete(4);
    mock_turn(loop);
    EXPECT_JOURNAL("wait(0) send(0,4) wait(0) shutdown(0)");
    mock_receive_result(token, 0, 0);
    mock_turn(loop);
    EXPECT_JOURNAL("wait(0) detach(0) close(0) on_close(OK)");
    assert_memory_equal(mock.sent, "\0\0\0\3bye", 7);
    p2p_event_loop_free(loop);
}

/* All was written, but closing now could throw away what the system still holds. */
static void a_closed_connection_waits_for_what_the_peer_has_not_confirmed(void **state) {
    (void)state;
    p2p_event_loop_t *loop = native_loop();
    p2p_socket_t *sock = add_connection(loop), *idle = add_connection(loop);
    fake_at(p2p_socket_handle(sock))->unconfirmed = true;
    uint64_t token = mock_token(p2p_socket_handle(sock));
    p2p_socket_close(idle);
    p2p_socket_close(sock);
    mock_turn(loop);
    EXPECT_JOURNAL("detach(1) close(1) shutdown(0) wait(0) on_close(OK)");
    mock_receive_result(token, 0, 0);
    mock_turn(loop);
    EXPECT_JOURNAL("wait(0) detach(0) close(0) on_close(OK)");
    p2p_event_loop_free(loop);
}

/* A connection that p2pnet made itself, so that it knows what was sent on it. */
static p2p_socket_t *accept_connection(void) {
    p2p_socket_t *listener = fake_listener();
    fake_at(p2p_socket_handle(listener))->backlog_length = 1;
    p2p_socket_t *sock = p2p_socket_accept(listener);
    assert_non_null(sock);
    p2p_socket_close(listener);
    return sock;
}

/* Windows never knows what the peer has not confirmed; that nothing was sent, p2pnet knows by itself. */
static void only_a_connection_that_has_sent_waits_for_what_is_not_confirmed(void **state) {
    (void)state;
    enum { NOTHING, DATA, MESSAGE, MESSAGE_BEFORE_THE_LOOP, BYTES_BEFORE_THE_LOOP, WAYS };
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_message_t *message = p2p_message_create("m", 1);
    for (int way = 0; way < WAYS; way++) {
        p2p_socket_t *sock = accept_connection();
        assert_int_equal(p2p_socket_set_nonblocking(sock, 1), 0);
        if (way == MESSAGE_BEFORE_THE_LOOP) assert_int_equal(p2p_message_send(sock, message), 0);
        if (way == BYTES_BEFORE_THE_LOOP) assert_int_equal(p2p_socket_send(sock, "b", 1), 1);
        assert_int_equal(p2p_event_loop_add_socket_with(loop, sock, &callbacks, NULL), 0);
        if (way == DATA) send_text(sock, "d");
        if (way == MESSAGE) assert_int_equal(p2p_message_send(sock, message), 0);
        mock_turn(loop);
        fake_at(p2p_socket_handle(sock))->unconfirmed = true;
        journal_take();
        p2p_socket_close(sock);
        mock_turn(loop);
        const char *words = journal_take();
        assert_int_equal(strstr(words, "shutdown") != NULL, way != NOTHING);
        assert_int_equal(strstr(words, "on_close(OK)") != NULL, way == NOTHING);
    }
    p2p_message_free(message);
    p2p_event_loop_free(loop);
}

static void a_remainder_gives_up_exactly_at_its_deadline(void **state) {
    (void)state;
    p2p_event_loop_t *loop = native_loop();
    p2p_socket_t *sock = add_connection(loop);
    p2p_handle_t handle = p2p_socket_handle(sock);
    send_text(sock, "never read");
    p2p_socket_close(sock);
    assert_int_equal(p2p_event_loop_run_once(loop, -1), 0);
    assert_int_equal(mock.timeout_ns, 5000 * P2P_NS_PER_MS);
    mock_turn(loop);
    EXPECT_JOURNAL("send(0,14) wait(5000000000) cancel(0) detach(0) close(0) wait(0) on_close(TIMED_OUT)");
    assert_true(fake_at(handle)->reset);
    mock_complete(-ECANCELED);
    mock_turn(loop);
    p2p_event_loop_free(loop);
}

/* ---- connecting ---- */

static p2p_socket_t *start_connect(p2p_event_loop_t *loop) {
    p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
    assert_int_equal(p2p_event_loop_add_socket_with(loop, sock, &callbacks, NULL), 0);
    assert_int_equal(p2p_socket_connect(sock, "127.0.0.1", 9), 0);
    return sock;
}

static void a_native_connect_answers_by_OP_DONE(void **state) {
    (void)state;
    p2p_event_loop_t *loop = native_loop();
    journal_take();
    p2p_socket_t *sock = start_connect(loop);
    EXPECT_JOURNAL("attach(0) connect(0)");
    send_text(sock, "queued");
    mock_turn(loop);
    EXPECT_JOURNAL("wait(0)");
    mock_complete(0);
    mock_turn(loop);
    mock_turn(loop);
    const char *words = journal_take();
    const char *told = strstr(words, "connect(OK)");
    assert_non_null(told);
    assert_null(strstr(told + 1, "connect("));
    assert_non_null(strstr(words, "send(0,10)"));
    assert_non_null(strstr(words, "recv_start(0)"));
    mock_complete(10);
    mock_turn(loop);
    end(loop, sock);
}

static void a_refused_connect_answers_once_and_may_be_tried_again(void **state) {
    (void)state;
    p2p_event_loop_t *loop = native_loop();
    journal_take();
    p2p_socket_t *sock = start_connect(loop);
    mock_complete(-ECONNREFUSED);
    mock_turn(loop);
    mock_turn(loop);
    EXPECT_JOURNAL("attach(0) connect(0) wait(0) detach(0) close(0) wait(0) connect(REFUSED)");
    assert_int_equal(p2p_socket_connect(sock, "127.0.0.1", 9), 0);
    EXPECT_JOURNAL("attach(1) connect(1)");
    mock_complete(0);
    mock_turn(loop);
    mock_turn(loop);
    assert_non_null(strstr(journal_take(), "connect(OK)"));
    end(loop, sock);
}

static void a_connect_that_cant_be_started_is_connects_error(void **state) {
    (void)state;
    static const mock_call calls[] = { MOCK_ATTACH, MOCK_CONNECT };
    for (size_t i = 0; i < COUNT_OF(calls); i++) {
        assert_int_equal(mock_teardown(NULL) + mock_setup(NULL), 0);
        p2p_event_loop_t *loop = native_loop();
        p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
        assert_int_equal(p2p_event_loop_add_socket_with(loop, sock, &callbacks, NULL), 0);
        mock_fail(calls[i], 1, ENOMEM);
        assert_int_equal(p2p_socket_connect(sock, "127.0.0.1", 9), P2P_ERR_NO_MEMORY);
        assert_int_equal(fake_open_count(), 0);
        journal_take();
        mock_turn(loop);
        EXPECT_JOURNAL("wait(0)"); /* no callback follows */
        assert_int_equal(p2p_socket_connect(sock, "127.0.0.1", 9), 0);
        mock_complete(0);
        mock_turn(loop);
        end(loop, sock);
    }
}

static void closing_while_connecting_cancels(void **state) {
    (void)state;
    p2p_event_loop_t *loop = native_loop();
    journal_take();
    p2p_socket_t *sock = start_connect(loop);
    p2p_socket_close(sock);
    mock_turn(loop);
    EXPECT_JOURNAL("attach(0) connect(0) cancel(0) detach(0) close(0) wait(0) on_close(OK)");
    mock_complete(0); /* it had succeeded */
    mock_turn(loop);
    EXPECT_JOURNAL("wait(0)");
    p2p_event_loop_free(loop);
}

static void an_emulated_connect_waits_for_writability(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = start_connect(loop);
    p2p_handle_t handle = p2p_socket_handle(sock);
    EXPECT_JOURNAL("attach(0) interest(0,0>2)");
    mock_ready(handle, P2P_OUT); /* spurious: there is no peer so far */
    mock_turn(loop);
    EXPECT_JOURNAL("bind_thread wait(0)");
    fake_at(handle)->connected = true;
    mock_ready(handle, P2P_OUT);
    for (int i = 0; i < 3; i++) mock_turn(loop);
    const char *words = journal_take();
    assert_non_null(strstr(words, "connect(OK)"));
    assert_non_null(strstr(words, ">1)")); /* it reads, and waits to write no more */
    end(loop, sock);
}

static void an_emulated_connect_that_is_refused(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = start_connect(loop);
    p2p_handle_t handle = p2p_socket_handle(sock);
    fake_at(handle)->connect_result = ECONNREFUSED;
    mock_ready(handle, P2P_OUT | P2P_ERR);
    mock_turn(loop);
    mock_turn(loop);
    EXPECT_JOURNAL("attach(0) interest(0,0>2) bind_thread wait(0) detach(0) close(0) wait(0) connect(REFUSED)");
    end(loop, sock);
}

/* All entries are in use, there is no memory for more, and the backend does not let go of the one that failed. */
static void without_an_entry_the_answer_comes_all_the_same_and_the_socket_can_try_again(void **state) {
    (void)state;
    p2p_socket_t *all[P2PI_ENTRIES_PER_CHUNK];
    for (int heard = 0; heard < 2; heard++) {
        assert_int_equal(mock_teardown(NULL) + mock_setup(NULL), 0);
        p2p_event_loop_t *loop = native_loop();
        for (size_t i = 0; i < COUNT_OF(all); i++) {
            all[i] = p2p_socket_create(P2P_TCP);
            assert_int_equal(p2p_event_loop_add_socket_with(loop, all[i], &callbacks, NULL), 0);
        }
        assert_int_equal(p2p_socket_connect(all[0], "192.0.2.1", 80), 0);
        uint64_t token = mock_token(p2p_socket_handle(all[0]));
        mock.defer_detach = true;
        memory_fail(1, true);
        mock_complete(-ECONNREFUSED);
        mock_turn(loop);
        mock_turn(loop);
        assert_non_null(strstr(journal_take(), "connect(REFUSED)"));
        assert_int_equal(p2p_socket_connect(all[0], "192.0.2.1", 80), P2P_ERR_NO_MEMORY);
        memory_fail(0, false);
        if (heard) mock_detached(token);
        mock_turn(loop);
        mock.defer_detach = false;
        assert_int_equal(p2p_socket_connect(all[0], "192.0.2.1", 80), 0);
        mock_complete(0);
        mock_turn(loop);
        mock_turn(loop);
        assert_non_null(strstr(journal_take(), "connect(OK)"));
        assert_int_equal(loop_stats(loop).connections, 1);
        if (!heard) mock_detached(token);
        mock_turn(loop);
        for (size_t i = 0; i < COUNT_OF(all); i++) p2p_socket_abort(all[i]);
        p2p_event_loop_free(loop);
    }
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        MOCK_CASE(what_a_turn_queued_is_one_request),
        MOCK_CASE(B10_one_send_is_in_flight),
        MOCK_CASE(a_short_send_is_continued_at_every_place),
        MOCK_CASE(bytes_in_flight_stay_where_they_are),
        MOCK_CASE(a_send_that_fails_is_told_once),
        MOCK_CASE(a_full_queue_refuses_and_on_write_follows_once),
        MOCK_CASE(without_memory_for_a_request_the_connection_fails_cleanly),
        MOCK_CASE(B10_cancel_does_not_suppress_OP_DONE),
        MOCK_CASE(a_cancelled_send_is_no_failure_of_anybody),
        MOCK_CASE(a_shared_message_lives_until_OP_DONE),
        MOCK_CASE(a_loop_freed_with_requests_in_flight_leaks_nothing),
        MOCK_CASE(a_closed_connection_writes_first_then_says_so),
        MOCK_CASE(a_closed_connection_waits_for_what_the_peer_has_not_confirmed),
        MOCK_CASE(only_a_connection_that_has_sent_waits_for_what_is_not_confirmed),
        MOCK_CASE(a_remainder_gives_up_exactly_at_its_deadline),
        MOCK_CASE(a_native_connect_answers_by_OP_DONE),
        MOCK_CASE(a_refused_connect_answers_once_and_may_be_tried_again),
        MOCK_CASE(a_connect_that_cant_be_started_is_connects_error),
        MOCK_CASE(closing_while_connecting_cancels),
        MOCK_CASE(an_emulated_connect_waits_for_writability),
        MOCK_CASE(an_emulated_connect_that_is_refused),
        MOCK_CASE(without_an_entry_the_answer_comes_all_the_same_and_the_socket_can_try_again),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
