/*
 * Detaching from a backend that defers it (core/batch.c): whoever gets the handle back, or has it closed, gets it at
 * once, with all that the backend had received and without what it had not sent; and nobody else loses an event.
 */
#include "mock_backend.h"

static void on_message(p2p_socket_t *sock, const void *data, uint32_t length, void *user_data) {
    (void)sock, (void)user_data;
    journal("\"%.*s\"", (int)length, (const char *)data);
}

static void on_accept(p2p_socket_t *listener, void *user_data) {
    (void)listener, (void)user_data;
    journal("waits");
}

static void on_ready(p2p_watch_t *watch, uint32_t ready, void *user_data) {
    (void)watch, (void)ready, (void)user_data;
    fail();
}

static const p2p_socket_callbacks_t by_message = { .size = sizeof by_message, .on_message = on_message };

/* In non-blocking mode when it is out of the loop, since fake sockets can't wait. */
static p2p_socket_t *fake_nonblocking(void) {
    p2p_socket_t *sock = fake_connection();
    assert_int_equal(p2p_socket_set_nonblocking(sock, 1), 0);
    return sock;
}

static p2p_socket_t *add_connection(p2p_event_loop_t *loop) {
    p2p_socket_t *sock = fake_nonblocking();
    assert_int_equal(p2p_event_loop_add_socket_with(loop, sock, &by_message, NULL), 0);
    return sock;
}

static uint64_t token_of(const p2p_socket_t *sock) {
    return mock_token(p2p_socket_handle(sock));
}

/* A loop that has run, on a backend that defers each detach until the wait after it. */
static p2p_event_loop_t *deferring_loop(void) {
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.receive_buffers = 4;
    options.receive_buffer_size = 4096;
    p2p_event_loop_t *loop = mock_loop(MOCK_NATIVE, &options);
    mock_turn(loop);
    mock.defer_detach = true;
    mock.on_detach = mock_detached;
    journal_take();
    return loop;
}

static void end(p2p_event_loop_t *loop, p2p_socket_t *sock) {
    mock.on_detach = mock_detached;
    p2p_event_loop_free(loop);
    p2p_socket_close(sock);
}

static void a_closed_handle_is_closed_at_once(void **state) {
    (void)state;
    p2p_event_loop_t *loop = deferring_loop();
    p2p_socket_t *sock = add_connection(loop);
    journal_take();
    p2p_socket_abort(sock);
    EXPECT_JOURNAL("detach(0) wait(0) close(0)");
    assert_int_equal(fake_open_count(), 0);
    p2p_socket_t *next = add_connection(loop), *after = add_connection(loop);
    assert_true(token_of(next) != token_of(after)); /* the slot is free once */
    p2p_socket_abort(after);
    end(loop, next);
}

static void a_watched_handle_is_given_back_when_the_backend_has_let_go(void **state) {
    (void)state;
    p2p_event_loop_t *loop = deferring_loop();
    p2p_handle_t handle = fake_handle(P2P_SYS_STREAM | P2P_SYS_CONNECTED);
    p2p_watch_t *watch = p2p_event_loop_watch(loop, handle, P2P_READABLE, on_ready, NULL);
    assert_non_null(watch);
    journal_take();
    p2p_watch_free(watch);
    EXPECT_JOURNAL("detach(0) wait(0)");
    assert_int_equal(fake_open_count(), 1);
    p2pi_sys()->close(handle);
    p2p_event_loop_free(loop);
}

static void frame_then_detached(uint64_t token) {
    mock_receive_text(token, "under way", P2P_MORE);
    mock_receive(token, "\0\0\0\4ha", 6, 0);
    mock_detached(token);
}

static void expect_text(p2p_socket_t *sock, const char *text) {
    p2p_message_t *message = p2p_message_recv(sock);
    assert_non_null(message);
    assert_int_equal(message->length, strlen(text));
    assert_memory_equal(message->data, text, message->length);
    p2p_message_free(message);
}

/* In the batch behind what is dispatched, and not even harvested: all of it comes before what is read afterwards. */
static p2p_socket_t *removed;
static void remove_it(p2p_socket_t *sock, const void *data, uint32_t length, void *user_data) {
    on_message(sock, data, length, user_data);
    assert_int_equal(p2p_event_loop_remove_socket(user_data, removed), 0);
}

static void what_was_received_stays_with_a_removed_socket(void **state) {
    (void)state;
    static const p2p_socket_callbacks_t removing = { .size = sizeof removing, .on_message = remove_it };
    for (int itself = 0; itself < 2; itself++) {
        assert_int_equal(mock_teardown(NULL) + mock_setup(NULL), 0);
        p2p_event_loop_t *loop = deferring_loop();
        p2p_socket_t *sock = add_connection(loop), *remover = fake_nonblocking();
        assert_int_equal(p2p_event_loop_add_socket_with(loop, remover, &removing, loop), 0);
        removed = itself ? remover : sock;
        mock.on_detach = frame_then_detached;
        mock_receive_text(token_of(remover), "remove", P2P_MORE);
        mock_receive_text(token_of(removed), "in the batch", P2P_MORE);
        mock_turn(loop);
        expect_text(removed, "in the batch");
        expect_text(removed, "under way");
        fake_input(p2p_socket_handle(removed), "lf", 2); /* the rest of the frame that was cut */
        expect_text(removed, "half");
        assert_int_equal(mock.lent, 0);
        mock.on_detach = mock_detached;
        p2p_event_loop_free(loop);
        p2p_socket_close(sock);
        p2p_socket_close(remover);
    }
}

static void end_then_detached(uint64_t token) {
    mock_receive_result(token, -ECONNRESET, 0);
    mock_detached(token);
}

static void an_error_under_way_stays_with_a_removed_socket(void **state) {
    (void)state;
    p2p_event_loop_t *loop = deferring_loop();
    p2p_socket_t *sock = add_connection(loop);
    mock.on_detach = end_then_detached;
    assert_int_equal(p2p_event_loop_remove_socket(loop, sock), 0);
    assert_int_equal(p2p_message_send_data(sock, "x", 1), P2P_ERR_RESET);
    end(loop, sock);
}

static void no_buffers_then_detached(uint64_t token) {
    mock_receive_result(token, 0, P2P_NO_BUFFERS);
    mock_detached(token);
}

static void a_want_of_buffers_is_no_end_of_a_removed_socket(void **state) {
    (void)state;
    p2p_event_loop_t *loop = deferring_loop();
    p2p_socket_t *sock = add_connection(loop);
    mock.on_detach = no_buffers_then_detached;
    assert_int_equal(p2p_event_loop_remove_socket(loop, sock), 0);
    fake_input_text(p2p_socket_handle(sock), "goes on");
    expect_text(sock, "goes on");
    end(loop, sock);
}

static void sent_in_part_then_detached(uint64_t token) {
    mock_complete(5);
    mock_detached(token);
}

static void what_was_not_sent_stays_with_a_removed_socket(void **state) {
    (void)state;
    p2p_event_loop_t *loop = deferring_loop();
    p2p_socket_t *sock = add_connection(loop);
    assert_int_equal(p2p_message_send_data(sock, "one", 3), 0);
    mock_turn(loop);
    assert_int_equal(mock.request_count, 1);
    assert_int_equal(p2p_message_send_data(sock, "two", 3), 0);
    mock.on_detach = sent_in_part_then_detached;
    journal_take();
    assert_int_equal(p2p_event_loop_remove_socket(loop, sock), 0);
    EXPECT_JOURNAL("cancel(0) detach(0) wait(0)");
    assert_int_equal(mock.sent_length, 5);
    assert_int_equal(p2p_message_send_data(sock, "three", 5), 0);
    fake_socket *peer = fake_at(p2p_socket_handle(sock));
    assert_int_equal(peer->output_length, 18);
    assert_memory_equal(peer->output, "ne\0\0\0\3two\0\0\0\5three", 18);
    end(loop, sock);
}

static p2p_handle_t accepted;
static void accepted_then_detached(uint64_t token) {
    accepted = mock_accept(token, 0);
    mock_detached(token);
}

static void who_was_accepted_waits_at_a_removed_listener(void **state) {
    (void)state;
    p2p_event_loop_t *loop = deferring_loop();
    p2p_socket_t *listener = fake_listener();
    assert_int_equal(p2p_event_loop_add_socket(loop, listener, on_accept, NULL), 0);
    mock.on_detach = accepted_then_detached;
    assert_int_equal(p2p_event_loop_remove_socket(loop, listener), 0);
    p2p_socket_t *taken = p2p_socket_accept(listener);
    assert_non_null(taken);
    assert_true(p2p_socket_handle(taken) == accepted);
    p2p_socket_close(taken);
    end(loop, listener);
}

static void who_was_accepted_is_closed_with_a_closed_listener(void **state) {
    (void)state;
    p2p_event_loop_t *loop = deferring_loop();
    p2p_socket_t *listener = fake_listener();
    assert_int_equal(p2p_event_loop_add_socket(loop, listener, on_accept, NULL), 0);
    mock.on_detach = accepted_then_detached;
    p2p_socket_close(listener);
    assert_int_equal(fake_open_count(), 0);
    p2p_event_loop_free(loop);
}

/* ---- what is not the socket's own ---- */

static p2p_socket_t *other;
static p2p_handle_t watched;
static void others_then_detached(uint64_t token) {
    mock_receive_text(token_of(other), "one", P2P_MORE);
    mock_ready(watched, P2P_IN); /* a real backend's next wait tells it again */
    mock_receive_text(token_of(other), "two", P2P_MORE);
    mock_detached(token);
}

static void events_of_others_wait_their_turn(void **state) {
    (void)state;
    p2p_event_loop_t *loop = deferring_loop();
    p2p_socket_t *sock = add_connection(loop);
    other = add_connection(loop);
    watched = fake_handle(P2P_SYS_STREAM | P2P_SYS_CONNECTED);
    assert_non_null(p2p_event_loop_watch(loop, watched, P2P_READABLE, on_ready, NULL));
    mock.on_detach = others_then_detached;
    journal_take();
    p2p_socket_abort(sock);
    EXPECT_JOURNAL("detach(0) wait(0) close(0)"); /* no callback runs inside the call */
    assert_int_equal(p2p_event_loop_next_timeout(loop), 0);
    assert_int_equal(p2p_event_loop_run_once(loop, -1), 2); /* which does not wait before it tells them */
    EXPECT_JOURNAL("wait(0) \"one\" \"two\"");
    assert_int_equal(mock.lent, 0);
    end(loop, other);
    p2pi_sys()->close(watched);
}

static void abort_all(p2p_socket_t *sock, const void *data, uint32_t length, void *user_data) {
    on_message(sock, data, length, user_data);
    for (p2p_socket_t **each = user_data; *each != NULL; each++) p2p_socket_abort(*each);
}

/* A batch that is nearly full when a callback detaches: it has to grow, and to move, under the dispatch. */
static void a_full_batch_grows(void **state) {
    (void)state;
    enum { COUNT = 30 };
    static const p2p_socket_callbacks_t aborting = { .size = sizeof aborting, .on_message = abort_all };
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    p2p_socket_t *socks[COUNT + 1];
    options.max_events = 8;
    options.receive_buffers = 32;
    options.receive_buffer_size = 4096;
    p2p_event_loop_t *loop = mock_loop(MOCK_NATIVE, &options);
    mock_turn(loop);
    mock.defer_detach = true;
    mock.on_detach = mock_detached;
    for (int i = 0; i < COUNT; i++) socks[i] = add_connection(loop);
    socks[COUNT] = NULL;
    p2p_socket_t *first = fake_connection();
    assert_int_equal(p2p_event_loop_add_socket_with(loop, first, &aborting, socks), 0);
    other = add_connection(loop);
    journal_take();
    mock_receive_text(token_of(first), "now", P2P_MORE);
    for (int i = 0; i < COUNT; i += 2) {
        mock_receive_text(token_of(other), "x", P2P_MORE);
        mock_receive_text(token_of(socks[i + 1]), "never", P2P_MORE);
    }
    assert_int_equal(mock_turn(loop), 1 + COUNT / 2);
    const char *words = journal_take();
    assert_null(strstr(words, "never"));
    assert_int_equal(mock.lent, 0);
    assert_int_equal(fake_open_count(), 2);
    p2p_socket_abort(first);
    end(loop, other);
}

static void without_memory_the_handle_is_closed_later(void **state) {
    (void)state;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.max_events = 8; /* less than settling wants to have room for */
    p2p_event_loop_t *loop = mock_loop(MOCK_NATIVE, &options);
    mock_turn(loop);
    mock.defer_detach = true;
    mock.on_detach = mock_detached;
    p2p_socket_t *sock = add_connection(loop);
    memory_fail(1, true);
    p2p_socket_abort(sock);
    memory_fail(0, false);
    assert_int_equal(fake_open_count(), 1);
    mock_turn(loop);
    assert_int_equal(fake_open_count(), 0);
    p2p_event_loop_free(loop);
}

static void nothing(uint64_t token) {
    (void)token;
}

static void a_backend_that_takes_its_time_is_not_waited_for(void **state) {
    (void)state;
    p2p_event_loop_t *loop = deferring_loop();
    p2p_socket_t *sock = add_connection(loop);
    uint64_t token = token_of(sock);
    mock.on_detach = nothing;
    journal_take();
    p2p_socket_abort(sock);
    EXPECT_JOURNAL("detach(0) wait(0)");
    mock_detached(token);
    mock_turn(loop);
    EXPECT_JOURNAL("wait(0) close(0)");
    p2p_event_loop_free(loop);
}

/* ---- handing over ---- */

static void stop(void *user_data) {
    p2p_event_loop_stop(user_data);
}

static void what_was_asked_for_is_handed_over_before_others_run(void **state) {
    (void)state;
    p2p_event_loop_t *loop = deferring_loop();
    mock.submits = 0;
    mock_turn(loop);
    assert_int_equal(mock.submits, 1);
    assert_int_equal(p2p_event_loop_next_timeout(loop), -1);
    assert_int_equal(mock.submits, 2);
    p2p_event_loop_post(loop, stop, loop);
    p2p_event_loop_run(loop);
    assert_int_equal(mock.submits, 3); /* once, when it returns: before, each wait does it */
    p2p_event_loop_free(loop);
}

static void next_timeout_binds_the_thread_first(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(MOCK_NATIVE, NULL);
    assert_int_equal(p2p_event_loop_next_timeout(loop), -1);
    EXPECT_JOURNAL("bind_thread");
    p2p_event_loop_free(loop);
}

static void a_hand_over_that_fails_ends_the_loop(void **state) {
    (void)state;
    p2p_event_loop_t *loop = deferring_loop();
    mock_fail(MOCK_SUBMIT, 1, ENOMEM);
    assert_int_equal(p2p_event_loop_run_once(loop, 0), P2P_ERR_NO_MEMORY);
    assert_int_equal(p2p_event_loop_next_timeout(loop), P2P_ERR_NO_MEMORY);
    p2p_event_loop_free(loop);
}

static void sent_whole(void) {
    if (mock.request_count > 0) mock_complete(11);
    mock.on_wait = NULL;
}

static void freeing_a_loop_hears_of_sends_in_flight(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(MOCK_NATIVE, NULL); /* it never ran */
    p2p_socket_t *listener = fake_listener();
    assert_int_equal(p2p_event_loop_add_socket(loop, listener, on_accept, NULL), 0);
    p2p_handle_t handle = mock_accept(mock_token(p2p_socket_handle(listener)), P2P_MORE);
    mock_turn(loop);
    p2p_socket_t *sock = p2p_socket_accept(listener); /* the loop's to close */
    assert_int_equal(p2p_event_loop_add_socket_with(loop, sock, &by_message, NULL), 0);
    assert_int_equal(p2p_message_send_data(sock, "goodbye", 7), 0);
    mock.on_wait = sent_whole;
    p2p_event_loop_free(loop);
    assert_false(fake_at(handle)->reset); /* all was sent, so it is no cut */
    assert_int_equal(mock.sent_length, 11);
    p2p_socket_close(listener);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        MOCK_CASE(a_closed_handle_is_closed_at_once),
        MOCK_CASE(a_watched_handle_is_given_back_when_the_backend_has_let_go),
        MOCK_CASE(what_was_received_stays_with_a_removed_socket),
        MOCK_CASE(an_error_under_way_stays_with_a_removed_socket),
        MOCK_CASE(a_want_of_buffers_is_no_end_of_a_removed_socket),
        MOCK_CASE(what_was_not_sent_stays_with_a_removed_socket),
        MOCK_CASE(who_was_accepted_waits_at_a_removed_listener),
        MOCK_CASE(who_was_accepted_is_closed_with_a_closed_listener),
        MOCK_CASE(events_of_others_wait_their_turn),
        MOCK_CASE(a_full_batch_grows),
        MOCK_CASE(without_memory_the_handle_is_closed_later),
        MOCK_CASE(a_backend_that_takes_its_time_is_not_waited_for),
        MOCK_CASE(what_was_asked_for_is_handed_over_before_others_run),
        MOCK_CASE(next_timeout_binds_the_thread_first),
        MOCK_CASE(a_hand_over_that_fails_ends_the_loop),
        MOCK_CASE(freeing_a_loop_hears_of_sends_in_flight),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
