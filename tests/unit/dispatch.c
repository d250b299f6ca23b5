/*
 * From events to owners (core/dispatch.c): receiving and accepting as a completing backend does them, events that
 * come too late, and the rules of the contract that concern registration (B5 to B9).
 */
#include "mock_backend.h"

#define ALL (P2P_IN | P2P_OUT | P2P_HUP | P2P_ERR)

/* ---- a connection that writes down what it is told ---- */

static p2p_socket_t *closes_next; /* by the next message: itself, or another */
static void (*then)(p2p_socket_t *sock);

static void on_message(p2p_socket_t *sock, const void *data, uint32_t length, void *user_data) {
    (void)user_data;
    journal("\"%.*s\"", (int)length, (const char *)data);
    if (then != NULL) then(sock);
    if (closes_next == NULL) return;
    p2p_socket_abort(closes_next); /* at once: a graceful close would wait for the peer's end */
    closes_next = NULL;
    journal("closed");
}

static void on_read(p2p_socket_t *sock, void *user_data) {
    (void)user_data;
    p2p_message_t *message = p2p_message_recv(sock);
    assert_null(message); /* on_message takes them: this is the end */
    journal("end(%s)", p2p_error_name(p2p_last_error()) + strlen("P2P_ERR_"));
}

static void on_error(p2p_socket_t *sock, int error, void *user_data) {
    (void)sock, (void)user_data;
    journal("error(%s)", p2p_error_name(error) + strlen("P2P_ERR_"));
}

static void on_write(p2p_socket_t *sock, void *user_data) {
    (void)sock, (void)user_data;
    journal("writable");
}

static const p2p_socket_callbacks_t callbacks = {
    .size = sizeof callbacks, .on_read = on_read, .on_message = on_message, .on_error = on_error, .on_write = on_write
};

static p2p_socket_t *add_connection(p2p_event_loop_t *loop) {
    p2p_socket_t *sock = fake_connection();
    assert_int_equal(p2p_event_loop_add_socket_with(loop, sock, &callbacks, NULL), 0);
    return sock;
}

static uint64_t token_of(const p2p_socket_t *sock) {
    return mock_token(p2p_socket_handle(sock));
}

/* The loop is gone, and the socket is the case's again. */
static void end(p2p_event_loop_t *loop, p2p_socket_t *sock) {
    p2p_event_loop_free(loop);
    p2p_socket_close(sock);
}

static p2p_event_loop_t *native_loop(void) {
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.receive_buffers = 4;
    options.receive_buffer_size = 4096;
    p2p_event_loop_t *loop = mock_loop(MOCK_NATIVE, &options);
    mock_turn(loop);
    journal_take();
    return loop;
}

/* ---- receiving ---- */

static void a_native_receive_is_started_with_the_socket(void **state) {
    (void)state;
    p2p_event_loop_t *loop = native_loop();
    p2p_socket_t *sock = add_connection(loop);
    EXPECT_JOURNAL("attach(0) recv_start(0)"); /* and no interest */
    mock_receive_text(token_of(sock), "one", P2P_MORE);
    mock_receive_text(token_of(sock), "two", P2P_MORE);
    mock_turn(loop);
    EXPECT_JOURNAL("wait(0) \"one\" \"two\"");
    assert_int_equal(mock.lent, 0);
    end(loop, sock);
}

static void frames_cut_between_buffers_are_put_together(void **state) {
    (void)state;
    p2p_event_loop_t *loop = native_loop();
    p2p_socket_t *sock = add_connection(loop);
    journal_take();
    uint8_t stream[64];
    size_t length = raw_frame(stream, "first", 5);
    length += raw_frame(stream + length, "", 0);
    length += raw_frame(stream + length, "second", 6);
    for (size_t split = 1; split < length; split++) {
        mock_receive(token_of(sock), stream, split, P2P_MORE);
        mock_receive(token_of(sock), stream + split, length - split, P2P_MORE);
        mock_turn(loop);
        EXPECT_JOURNAL("wait(0) \"first\" \"\" \"second\"");
        assert_int_equal(mock.lent, 0);
    }
    end(loop, sock);
}

static void B8_a_receive_without_MORE_is_started_again(void **state) {
    (void)state;
    p2p_event_loop_t *loop = native_loop();
    p2p_socket_t *sock = add_connection(loop);
    journal_take();
    mock_receive_text(token_of(sock), "one", 0);
    mock_turn(loop);
    EXPECT_JOURNAL("wait(0) \"one\" recv_start(0)");
    mock_receive(token_of(sock), "\0\0", 2, 0); /* not even a header */
    mock_turn(loop);
    EXPECT_JOURNAL("wait(0) recv_start(0)");
    end(loop, sock);
}

static void B9_NO_BUFFERS_is_no_end_and_arms_again_in_the_next_turn(void **state) {
    (void)state;
    p2p_event_loop_t *loop = native_loop();
    p2p_socket_t *sock = add_connection(loop);
    journal_take();
    for (int i = 0; i < 4; i++) mock_receive_text(token_of(sock), "x", P2P_MORE);
    mock_receive_result(token_of(sock), 0, P2P_NO_BUFFERS);
    mock_turn(loop);
    EXPECT_JOURNAL("wait(0) \"x\" \"x\" \"x\" \"x\"");
    assert_int_equal(mock.lent, 0);
    assert_int_equal(p2p_event_loop_run_once(loop, -1), 0); /* which must not wait before it */
    EXPECT_JOURNAL("wait(0) recv_start(0)");
    end(loop, sock);
}

static void the_end_and_errors_are_told_once(void **state) {
    (void)state;
    p2p_event_loop_t *loop = native_loop();
    p2p_socket_t *a = add_connection(loop), *b = add_connection(loop), *c = add_connection(loop);
    journal_take();
    mock_receive_result(token_of(a), 0, 0);
    mock_receive_result(token_of(b), -ECONNRESET, 0);
    mock_receive(token_of(c), "\0\0\0\7half", 8, 0);
    mock_receive_result(token_of(c), 0, 0);
    mock_turn(loop);
    EXPECT_JOURNAL("wait(0) end(CLOSED) error(RESET) recv_start(2) error(TRUNCATED)");
    mock_turn(loop);
    mock_turn(loop);
    EXPECT_JOURNAL("wait(0) wait(0)");
    p2p_event_loop_free(loop);
    p2p_socket_close(a);
    p2p_socket_close(b);
    p2p_socket_close(c);
}

/* A receive that was stopped may have been under way. */
static void what_comes_after_a_broken_frame_is_no_message(void **state) {
    (void)state;
    p2p_event_loop_t *loop = native_loop();
    p2p_socket_t *sock = add_connection(loop);
    journal_take();
    mock_receive(token_of(sock), "\377\377\377\377", 4, P2P_MORE);
    mock_receive_text(token_of(sock), "never", P2P_MORE);
    mock_turn(loop);
    mock_receive_text(token_of(sock), "never", P2P_MORE);
    mock_turn(loop);
    EXPECT_JOURNAL("wait(0) error(TOO_LONG) recv_stop(0) wait(0)");
    assert_int_equal(mock.lent, 0);
    end(loop, sock);
}

static void fill_output(p2p_socket_t *sock) {
    static uint8_t data[60000];
    while (p2p_message_send_data(sock, data, sizeof data) == 0) {
    }
    then = NULL;
}

/* A slow reader's buffers go back to the pool; what they held waits in its inbox (B9). */
static void B9_a_paused_connection_holds_no_buffers(void **state) {
    (void)state;
    p2p_event_loop_t *loop = native_loop();
    p2p_socket_t *sock = add_connection(loop);
    journal_take();
    then = fill_output;
    mock_receive_text(token_of(sock), "one", P2P_MORE);
    mock_receive_text(token_of(sock), "two", P2P_MORE); /* under way when receiving is stopped */
    mock_turn(loop);
    assert_int_equal(mock.lent, 0);
    const char *words = journal_take();
    assert_non_null(strstr(words, "\"one\""));
    assert_null(strstr(words, "\"two\""));
    assert_non_null(strstr(words, "recv_stop(0)"));
    for (int turns = 0; mock.request_count > 0; turns++) {
        mock_complete(60004);
        mock_turn(loop);
        assert_in_range(turns, 0, 20);
    }
    mock_turn(loop);
    words = journal_take();
    assert_non_null(strstr(words, "writable"));
    assert_non_null(strstr(words, "\"two\"")); /* not lost, and after the pause */
    assert_non_null(strstr(words, "recv_start(0)"));
    end(loop, sock);
}

/* MORE speaks of the receive that was stopped, not of one that is to be started. */
static void an_event_under_way_does_not_undo_a_stop(void **state) {
    (void)state;
    p2p_event_loop_t *loop = native_loop();
    p2p_socket_t *sock = add_connection(loop);
    then = fill_output;
    mock_receive_text(token_of(sock), "one", P2P_MORE);
    mock_turn(loop);
    assert_non_null(strstr(journal_take(), "recv_stop(0)"));
    unsigned left = mock.request_count;
    for (int turns = 0; left > 0; turns++) {
        mock_complete(60004);
        bool last = loop->socket_count > 0 && sock->out.queued <= 2 * 60100;
        if (last) mock_receive_text(token_of(sock), "late", P2P_MORE); /* in the batch that ends the pause */
        mock_turn(loop);
        if (last) break;
        left = mock.request_count;
        assert_in_range(turns, 0, 20);
    }
    while (mock.request_count > 0) {
        mock_complete(60004);
        mock_turn(loop);
    }
    for (int i = 0; i < 3; i++) mock_turn(loop);
    const char *words = journal_take();
    assert_non_null(strstr(words, "\"late\""));
    assert_non_null(strstr(words, "recv_start(0)"));
    end(loop, sock);
}

/* ---- events that come too late ---- */

static void B7_a_stale_RECV_gives_its_buffer_back(void **state) {
    (void)state;
    p2p_event_loop_t *loop = native_loop();
    p2p_socket_t *sock = add_connection(loop);
    uint64_t token = token_of(sock);
    journal_take();
    closes_next = sock;
    mock_receive_text(token, "one", P2P_MORE);
    mock_receive_text(token, "never", P2P_MORE);
    mock_receive_result(token, 0, 0);
    mock_turn(loop);
    EXPECT_JOURNAL("wait(0) \"one\" detach(0) close(0) closed");
    assert_int_equal(mock.lent, 0);
    mock_receive_text(token, "never", 0); /* and in a later turn, when the slot has another owner */
    sock = add_connection(loop);
    mock_turn(loop);
    EXPECT_JOURNAL("attach(1) recv_start(1) wait(0)");
    assert_int_equal(mock.lent, 0);
    assert_int_equal(loop_stats(loop).stale_events, 3);
    end(loop, sock);
}

static void B7_stale_readiness_reaches_nobody(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *a = add_connection(loop), *b = add_connection(loop);
    mock_turn(loop);
    journal_take();
    fake_input_text(p2p_socket_handle(a), "one");
    fake_input_text(p2p_socket_handle(b), "two");
    mock_ready(p2p_socket_handle(a), P2P_IN);
    mock_ready(p2p_socket_handle(b), P2P_IN);
    closes_next = b; /* whoever comes first, one is left: both have an event in the batch */
    p2p_handle_t handle = p2p_socket_handle(b);
    mock_ready(handle, ALL);
    mock_turn(loop);
    const char *words = journal_take();
    assert_non_null(strstr(words, "\"one\""));
    assert_non_null(strstr(words, "detach(1) close(1) closed")); /* no use of the handle after that: fake_sys checks */
    mock_event((p2p_backend_event){ .token = 0, .kind = P2P_EVENT_READY, .flags = ALL });
    mock_event((p2p_backend_event){ .token = UINT64_MAX, .kind = P2P_EVENT_READY, .flags = ALL });
    mock_ready(handle, ALL);
    mock_turn(loop);
    EXPECT_JOURNAL("wait(0)");
    end(loop, a);
}

static unsigned connections;

static void on_connection(p2p_socket_t *listener, void *user_data) {
    bool close_it = user_data != NULL;
    p2p_socket_t *accepted = p2p_socket_accept(listener);
    assert_non_null(accepted);
    connections++;
    journal("connection(%d)", journal_name(p2p_socket_handle(accepted)));
    p2p_socket_close(accepted);
    if (close_it) p2p_socket_close(listener);
}

static void B7_a_stale_ACCEPT_closes_its_handle(void **state) {
    (void)state;
    p2p_event_loop_t *loop = native_loop();
    p2p_socket_t *listener = fake_listener();
    assert_int_equal(p2p_event_loop_add_socket(loop, listener, on_connection, loop), 0);
    EXPECT_JOURNAL("attach(0) accept_start(0)");
    uint64_t token = mock_token(p2p_socket_handle(listener));
    mock_accept(token, P2P_MORE | P2P_NONBLOCKING);
    mock_accept(token, P2P_MORE | P2P_NONBLOCKING);
    mock_accept_error(token, ECANCELED, 0); /* carries no handle */
    mock_turn(loop);
    EXPECT_JOURNAL("wait(0) connection(1) close(1) detach(0) close(0) close(2)");
    p2p_event_loop_free(loop);
}

static void events_of_an_unfit_kind_are_given_back(void **state) {
    (void)state;
    p2p_event_loop_t *loop = native_loop();
    p2p_socket_t *sock = add_connection(loop), *listener = fake_listener();
    assert_int_equal(p2p_event_loop_add_socket(loop, listener, on_connection, NULL), 0);
    journal_take();
    mock_receive_text(mock_token(p2p_socket_handle(listener)), "no connection", P2P_MORE);
    mock_accept(token_of(sock), P2P_MORE);
    mock_turn(loop);
    EXPECT_JOURNAL("wait(0) close(2)");
    assert_int_equal(mock.lent, 0);
    p2p_socket_close(listener);
    end(loop, sock);
}

/* ---- accepting ---- */

static void B8_an_accept_without_MORE_is_started_again(void **state) {
    (void)state;
    p2p_event_loop_t *loop = native_loop();
    p2p_socket_t *listener = fake_listener();
    assert_int_equal(p2p_event_loop_add_socket(loop, listener, on_connection, NULL), 0);
    journal_take();
    mock_accept(mock_token(p2p_socket_handle(listener)), 0);
    mock_turn(loop);
    EXPECT_JOURNAL("wait(0) connection(1) close(1) accept_start(0)");
    mock_accept(mock_token(p2p_socket_handle(listener)), P2P_MORE);
    mock_turn(loop);
    EXPECT_JOURNAL("wait(0) connection(2) close(2)");
    end(loop, listener);
}

static void take_nothing(p2p_socket_t *listener, void *user_data) {
    (void)listener, (void)user_data;
    journal("announced");
}

static void no_more_is_accepted_while_one_is_left_untaken(void **state) {
    (void)state;
    p2p_event_loop_t *loop = native_loop();
    p2p_socket_t *listener = fake_listener();
    assert_int_equal(p2p_event_loop_add_socket(loop, listener, take_nothing, NULL), 0);
    journal_take();
    mock_accept(mock_token(p2p_socket_handle(listener)), P2P_MORE | P2P_NONBLOCKING);
    mock_turn(loop);
    EXPECT_JOURNAL("wait(0) announced accept_stop(0)");
    mock_turn(loop);
    EXPECT_JOURNAL("wait(0) announced");
    p2p_socket_t *accepted = p2p_socket_accept(listener);
    assert_non_null(accepted);
    assert_null(p2p_socket_accept(listener));
    assert_int_equal(p2p_last_error(), P2P_ERR_WOULD_BLOCK);
    mock_turn(loop);
    EXPECT_JOURNAL("wait(0) accept_start(0)");
    p2p_socket_close(accepted);
    end(loop, listener);
}

static const p2p_socket_callbacks_t listener_callbacks = {
    .size = sizeof listener_callbacks, .on_read = on_connection, .on_error = on_error
};

static void out_of_descriptors_the_listener_rests_for_exactly_its_pause(void **state) {
    (void)state;
    for (uint32_t groups = 0; groups <= MOCK_ACCEPT; groups += MOCK_ACCEPT) {
        assert_int_equal(mock_teardown(NULL) + mock_setup(NULL), 0);
        p2p_event_loop_t *loop = mock_loop(groups, NULL);
        p2p_socket_t *listener = fake_listener();
        p2p_handle_t handle = p2p_socket_handle(listener);
        assert_int_equal(p2p_event_loop_add_socket_with(loop, listener, &listener_callbacks, NULL), 0);
        mock_turn(loop);
        journal_take();
        fake_at(handle)->backlog[0] = EMFILE;
        fake_at(handle)->backlog_length = 1;
        if (groups == 0)
            mock_ready(handle, P2P_IN);
        else
            mock_accept_error(mock_token(handle), EMFILE, P2P_MORE);
        mock_turn(loop);
        EXPECT_JOURNAL(groups == 0 ? "wait(0) error(TOO_MANY_FILES)"
                                   : "wait(0) accept_stop(0) error(TOO_MANY_FILES)");
        if (groups == 0) {
            mock_ready(handle, P2P_IN); /* level-triggered: it still is; that must not become a busy loop */
            mock_turn(loop);
            journal_take();
        }
        mock_turn(loop);
        journal_take();
        assert_int_equal(p2p_event_loop_run_once(loop, -1), 0);
        assert_int_equal(mock.timeout_ns, 100 * P2P_NS_PER_MS);
        mock_turn(loop);
        assert_non_null(strstr(journal_take(), groups == 0 ? "interest(0,0>1)" : "accept_start(0)"));
        end(loop, listener);
    }
}

/* It was gone before anybody took it: nothing is wrong with the listener. */
static void a_connection_lost_before_it_was_accepted_is_no_error(void **state) {
    (void)state;
    p2p_event_loop_t *loop = native_loop();
    p2p_socket_t *listener = fake_listener();
    assert_int_equal(p2p_event_loop_add_socket_with(loop, listener, &listener_callbacks, NULL), 0);
    journal_take();
    mock_accept_error(mock_token(p2p_socket_handle(listener)), ECONNABORTED, P2P_MORE);
    mock_accept(mock_token(p2p_socket_handle(listener)), P2P_MORE);
    mock_turn(loop);
    EXPECT_JOURNAL("wait(0) connection(1) close(1)");
    mock_accept_error(mock_token(p2p_socket_handle(listener)), ECONNABORTED, 0);
    mock_turn(loop);
    mock_turn(loop);
    EXPECT_JOURNAL("wait(0) accept_start(0) wait(0)");
    end(loop, listener);
}

/* ---- detaching ---- */

static void B6_after_DEFERRED_the_handle_is_closed_by_DETACHED_and_not_before(void **state) {
    (void)state;
    p2p_event_loop_t *loop = native_loop();
    p2p_socket_t *sock = add_connection(loop), *keep = add_connection(loop);
    uint64_t token = token_of(sock);
    mock.defer_detach = true;
    journal_take();
    p2p_socket_abort(sock);
    mock_turn(loop);
    mock_receive_text(token, "never", 0);
    mock_detached(token_of(keep)); /* of a socket that is not detaching: without effect */
    mock_detached(token + (1ull << 32));
    mock_turn(loop);
    EXPECT_JOURNAL("detach(0) wait(0) wait(0) wait(0)"); /* the first one at once, since DETACHED may be there */
    assert_int_equal(mock.lent, 0);
    mock_detached(token);
    mock_detached(token);
    mock_turn(loop);
    EXPECT_JOURNAL("wait(0) close(0)");
    mock.defer_detach = false;
    end(loop, keep);
}

static void B6_a_removed_socket_is_not_closed_by_DETACHED(void **state) {
    (void)state;
    p2p_event_loop_t *loop = native_loop();
    p2p_socket_t *sock = add_connection(loop);
    uint64_t token = token_of(sock);
    mock.defer_detach = true;
    assert_int_equal(p2p_event_loop_remove_socket(loop, sock), 0);
    mock_detached(token);
    mock_turn(loop);
    assert_int_equal(fake_open_count(), 1);
    mock.defer_detach = false;
    end(loop, sock);
}

static void handles_that_still_wait_for_DETACHED_are_closed_with_the_loop(void **state) {
    (void)state;
    p2p_event_loop_t *loop = native_loop();
    p2p_socket_t *sock = add_connection(loop);
    mock.defer_detach = true;
    p2p_socket_abort(sock);
    p2p_event_loop_free(loop);
    assert_int_equal(fake_open_count(), 0);
}

/* ---- registering (B5) ---- */

static void B5_a_first_registration_that_fails_leaves_nothing(void **state) {
    (void)state;
    static const struct {
        mock_call call;
        uint32_t groups;
    } tries[] = { { MOCK_ATTACH, 0 }, { MOCK_SET_INTEREST, 0 }, { MOCK_ATTACH, MOCK_NATIVE },
                  { MOCK_RECV_START, MOCK_NATIVE } };
    for (size_t i = 0; i < COUNT_OF(tries); i++) {
        assert_int_equal(mock_teardown(NULL) + mock_setup(NULL), 0);
        p2p_event_loop_t *loop = mock_loop(tries[i].groups, NULL);
        p2p_socket_t *sock = fake_connection();
        size_t memory = memory_in_use();
        assert_int_equal(p2p_event_loop_add_socket_with(loop, sock, &callbacks, NULL), 0);
        assert_int_equal(p2p_event_loop_remove_socket(loop, sock), 0); /* the first slots are there now */
        memory = memory_in_use();
        mock_fail(tries[i].call, 1, ENOMEM);
        assert_int_equal(p2p_event_loop_add_socket_with(loop, sock, &callbacks, NULL), P2P_ERR_NO_MEMORY);
        assert_int_equal(p2p_last_error(), P2P_ERR_NO_MEMORY);
        assert_int_equal(p2p_last_os_error(), os_number(ENOMEM));
        assert_int_equal(p2p_event_loop_socket_count(loop), 0);
        assert_int_equal(memory_in_use(), memory);
        assert_false(fake_at(p2p_socket_handle(sock))->nonblocking);
        journal_take();
        mock_turn(loop);
        p2p_event_loop_run(loop); /* nothing to wait for */
        EXPECT_JOURNAL("bind_thread wait(0)");
        assert_int_equal(p2p_event_loop_add_socket_with(loop, sock, &callbacks, NULL), 0); /* it can be tried again */
        end(loop, sock);
    }
}

static void B5_a_listener_that_cant_be_registered_stays_as_it_was(void **state) {
    (void)state;
    p2p_event_loop_t *loop = native_loop();
    p2p_socket_t *listener = fake_listener();
    mock_fail(MOCK_ACCEPT_START, 1, EACCES);
    assert_int_equal(p2p_event_loop_add_socket(loop, listener, on_connection, NULL), P2P_ERR_ACCESS);
    assert_int_equal(p2p_event_loop_socket_count(loop), 0);
    EXPECT_JOURNAL("attach(0) accept_start(0) detach(0)");
    assert_int_equal(p2p_event_loop_add_socket(loop, listener, on_connection, NULL), 0);
    end(loop, listener);
}

static void on_watch(p2p_watch_t *watch, uint32_t ready, void *user_data) {
    (void)watch, (void)user_data;
    journal("ready(%u)", (unsigned)ready);
}

static void B5_a_watch_that_cant_be_registered_is_none(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_handle_t handle = fake_handle(P2P_SYS_STREAM);
    mock_fail(MOCK_SET_INTEREST, 1, EACCES);
    assert_null(p2p_event_loop_watch(loop, handle, P2P_READABLE, on_watch, NULL));
    assert_int_equal(p2p_last_error(), P2P_ERR_ACCESS);
    EXPECT_JOURNAL("attach(0) interest(0,0>1) detach(0)");
    assert_true(fake_at(handle)->open); /* never ours to close */
    p2p_event_loop_run(loop);
    p2p_event_loop_free(loop);
    fake_at(handle)->open = false;
}

/* The mock itself checks that the old mask is what it last accepted and that there is one change a turn. */
static void B5_changes_are_gathered_before_the_wait(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_handle_t handle = fake_handle(P2P_SYS_STREAM);
    p2p_watch_t *watch = p2p_event_loop_watch(loop, handle, P2P_READABLE, on_watch, NULL);
    assert_non_null(watch);
    for (uint32_t i = 0; i < 10; i++) p2p_watch_set(watch, i % 4);
    mock_turn(loop);
    EXPECT_JOURNAL("attach(0) interest(0,0>1) bind_thread wait(0)");
    for (uint32_t i = 0; i < 11; i++) p2p_watch_set(watch, i % 4);
    mock_turn(loop);
    EXPECT_JOURNAL("interest(0,1>2) wait(0)");
    mock_fail(MOCK_SET_INTEREST, 1, EINVAL);
    p2p_watch_set(watch, P2P_READABLE);
    mock_turn(loop);
    EXPECT_JOURNAL("interest(0,2>1) wait(0) ready(3)"); /* its next read or write will find out */
    p2p_watch_set(watch, 0);
    mock_turn(loop);
    EXPECT_JOURNAL("interest(0,2>0) wait(0)");
    mock_ready(handle, ALL); /* spurious, and not asked for */
    mock_turn(loop);
    EXPECT_JOURNAL("wait(0)");
    p2p_watch_free(watch);
    p2p_event_loop_free(loop);
    fake_at(handle)->open = false;
}

static void B5_a_later_change_that_fails_is_told_once(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = add_connection(loop);
    mock_turn(loop);
    journal_take();
    fake_at(p2p_socket_handle(sock))->room = 0;
    assert_int_equal(p2p_message_send_data(sock, "x", 1), 0);
    mock_fail(MOCK_SET_INTEREST, 1, ENOMEM);
    mock_turn(loop);
    mock_turn(loop);
    const char *words = journal_take();
    const char *told = strstr(words, "error(NO_MEMORY)");
    assert_non_null(told);
    assert_null(strstr(told + 1, "error"));
    assert_null(strstr(words, "end("));
    for (int i = 0; i < 3; i++) mock_turn(loop);
    assert_null(strstr(journal_take(), "error"));
    assert_int_equal(p2p_message_send_data(sock, "x", 1), P2P_ERR_NO_MEMORY);
    end(loop, sock);
}

/* ---- emulation ---- */

static void READY_becomes_messages_ends_and_errors(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *a = add_connection(loop), *b = add_connection(loop);
    mock_turn(loop);
    EXPECT_JOURNAL("attach(0) interest(0,0>1) attach(1) interest(1,0>1) bind_thread wait(0)");
    fake_input_text(p2p_socket_handle(a), "one");
    fake_input_text(p2p_socket_handle(a), "two");
    mock_ready(p2p_socket_handle(a), P2P_IN);
    mock_turn(loop);
    EXPECT_JOURNAL("wait(0) \"one\" \"two\"");
    mock_ready(p2p_socket_handle(a), P2P_IN); /* spurious */
    mock_turn(loop);
    EXPECT_JOURNAL("wait(0)");
    fake_at(p2p_socket_handle(a))->input_end = true;
    fake_at(p2p_socket_handle(b))->input_error = ECONNRESET;
    mock_ready(p2p_socket_handle(a), P2P_HUP);
    mock_turn(loop);
    mock_ready(p2p_socket_handle(b), P2P_ERR | P2P_HUP);
    mock_turn(loop);
    mock_turn(loop);
    EXPECT_JOURNAL("wait(0) end(CLOSED) interest(0,1>0) wait(0) error(RESET) interest(1,1>0) wait(0)");
    p2p_socket_close(b);
    end(loop, a);
}

/* ---- failures of the loop ---- */

static void a_wait_that_fails_ends_the_run_with_its_error(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = add_connection(loop);
    journal_take();
    mock_fail(MOCK_WAIT, 1, ENOMEM);
    p2p_event_loop_run(loop);
    assert_int_equal(p2p_last_error(), P2P_ERR_NO_MEMORY);
    assert_int_equal(p2p_last_os_error(), os_number(ENOMEM));
    EXPECT_JOURNAL("bind_thread wait(-1)");
    assert_int_equal(p2p_event_loop_run_once(loop, 0), P2P_ERR_NO_MEMORY); /* for good */
    EXPECT_JOURNAL("");
    end(loop, sock);
}

static void bind_thread_comes_once_before_the_first_wait(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    mock_fail(MOCK_BIND_THREAD, 1, EACCES);
    assert_int_equal(p2p_event_loop_run_once(loop, 0), P2P_ERR_ACCESS);
    mock_turn(loop);
    mock_turn(loop);
    EXPECT_JOURNAL("bind_thread bind_thread wait(0) wait(0)");
    assert_int_equal(mock.capacity, loop->options.max_events);
    p2p_event_loop_free(loop);
}

static void a_remainder_goes_on_receiving_until_the_end(void **state) {
    (void)state;
    p2p_event_loop_t *loop = native_loop();
    for (int way = 0; way < 2; way++) {
        p2p_socket_t *sock = add_connection(loop);
        uint64_t token = token_of(sock);
        assert_int_equal(p2p_message_send_data(sock, "bye", 3), 0);
        p2p_socket_close(sock);
        mock_turn(loop);
        mock_complete(7);
        mock_turn(loop);
        assert_non_null(strstr(journal_take(), "shutdown"));
        if (way == 0)
            mock_receive_text(token, "nobody reads this", 0); /* MORE absent (B8) */
        else
            mock_receive_result(token, 0, P2P_NO_BUFFERS); /* (B9) */
        mock_turn(loop);
        mock_turn(loop);
        const char *words = journal_take();
        if (strstr(words, "recv_start") == NULL) fail_msg("way %d: receiving ended: %s", way, words);
        mock_receive_result(token, 0, 0);
        mock_turn(loop);
        assert_non_null(strstr(journal_take(), "close("));
    }
    p2p_event_loop_free(loop);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        MOCK_CASE(a_native_receive_is_started_with_the_socket),
        MOCK_CASE(frames_cut_between_buffers_are_put_together),
        MOCK_CASE(B8_a_receive_without_MORE_is_started_again),
        MOCK_CASE(B9_NO_BUFFERS_is_no_end_and_arms_again_in_the_next_turn),
        MOCK_CASE(the_end_and_errors_are_told_once),
        MOCK_CASE(what_comes_after_a_broken_frame_is_no_message),
        MOCK_CASE(B9_a_paused_connection_holds_no_buffers),
        MOCK_CASE(an_event_under_way_does_not_undo_a_stop),
        MOCK_CASE(B7_a_stale_RECV_gives_its_buffer_back),
        MOCK_CASE(B7_stale_readiness_reaches_nobody),
        MOCK_CASE(B7_a_stale_ACCEPT_closes_its_handle),
        MOCK_CASE(events_of_an_unfit_kind_are_given_back),
        MOCK_CASE(B8_an_accept_without_MORE_is_started_again),
        MOCK_CASE(no_more_is_accepted_while_one_is_left_untaken),
        MOCK_CASE(out_of_descriptors_the_listener_rests_for_exactly_its_pause),
        MOCK_CASE(a_connection_lost_before_it_was_accepted_is_no_error),
        MOCK_CASE(B6_after_DEFERRED_the_handle_is_closed_by_DETACHED_and_not_before),
        MOCK_CASE(B6_a_removed_socket_is_not_closed_by_DETACHED),
        MOCK_CASE(handles_that_still_wait_for_DETACHED_are_closed_with_the_loop),
        MOCK_CASE(B5_a_first_registration_that_fails_leaves_nothing),
        MOCK_CASE(B5_a_listener_that_cant_be_registered_stays_as_it_was),
        MOCK_CASE(B5_a_watch_that_cant_be_registered_is_none),
        MOCK_CASE(B5_changes_are_gathered_before_the_wait),
        MOCK_CASE(B5_a_later_change_that_fails_is_told_once),
        MOCK_CASE(READY_becomes_messages_ends_and_errors),
        MOCK_CASE(a_wait_that_fails_ends_the_run_with_its_error),
        MOCK_CASE(bind_thread_comes_once_before_the_first_wait),
        MOCK_CASE(a_remainder_goes_on_receiving_until_the_end),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
