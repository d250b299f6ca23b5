/* Connecting by name: giving up at every stage, deadlines, bound sockets, and the threads and memory it may use. */
#include "made_up_names.h"

/* ---- giving up ---- */

typedef enum stage { LOOKUP, TRYING, BOTH_TRYING, CONNECTED_UNTOLD, STAGES } stage;

static void go_on_to(p2p_event_loop_t *loop, stage where) {
    if (where >= TRYING) {
        run_thread();
        mock_turn(loop);
    }
    if (where >= BOTH_TRYING) passes(loop, 250 * NS_PER_MS);
    if (where >= CONNECTED_UNTOLD) {
        fake_at(world.handles[0])->connected = true;
        mock_ready(world.handles[0], P2P_OUT);
        mock_turn(loop);
    }
}

/* With a message queued. */
static p2p_socket_t *come_to(p2p_event_loop_t *loop, stage where) {
    p2p_socket_t *sock = connecting(loop);
    assert_int_equal(p2p_message_send_data(sock, "x", 1), 0);
    go_on_to(loop, where);
    return sock;
}

static void run_threads(p2p_event_loop_t *loop) {
    while (world.thread_count > 0) run_thread();
    turns(loop);
}

static void an_abort_at_any_time_ends_all_of_it(void **state) {
    (void)state;
    for (int where = 0; where < STAGES; where++) {
        anew();
        has("192.0.2.1", "192.0.2.2", NULL, NULL);
        p2p_event_loop_t *loop = mock_loop(0, NULL);
        p2p_socket_t *sock = come_to(loop, (stage)where);
        p2p_socket_abort(sock);
        assert_int_equal(fake_open_count(), 0);
        run_threads(loop);
        passes(loop, 5000 * NS_PER_MS);
        assert_int_equal(told.answers, 0);
        assert_int_equal(told.closes, 1);
        assert_int_equal(fake_open_count(), 0);
        assert_int_equal(loop_stats(loop).lookups, 0);
        p2p_event_loop_free(loop);
    }
}

static void a_removed_socket_is_fresh_again_and_its_queue_empty(void **state) {
    (void)state;
    for (int where = 0; where < STAGES; where++) {
        anew();
        has("192.0.2.1", "192.0.2.2", NULL, NULL);
        p2p_event_loop_t *loop = mock_loop(0, NULL);
        p2p_socket_t *sock = come_to(loop, (stage)where);
        assert_int_equal(p2p_event_loop_remove_socket(loop, sock), 0);
        assert_int_equal(fake_open_count(), 0);
        run_threads(loop);
        assert_int_equal(told.answers, 0);
        expect_error(p2p_message_send_data(sock, "y", 1), P2P_ERR_NOT_CONNECTED);
        assert_int_equal(p2p_event_loop_add_socket_with(loop, sock, &callbacks, NULL), 0);
        unsigned before = world.tried_count;
        assert_int_equal(p2p_socket_connect(sock, "peer.example", 80), 0);
        assert_int_equal(p2p_message_send_data(sock, "z", 1), 0);
        run_threads(loop);
        connects(loop, before);
        assert_int_equal(told.answers, 1);
        assert_int_equal(fake_at(p2p_socket_handle(sock))->output_length, 5);
        end(loop, sock);
    }
}

static void a_freed_loop_gives_the_socket_back_and_the_thread_frees_the_rest(void **state) {
    (void)state;
    for (int where = 0; where < STAGES; where++) {
        anew();
        has("192.0.2.1", "192.0.2.2", NULL, NULL);
        p2p_event_loop_t *loop = mock_loop(0, NULL);
        p2p_socket_t *sock = come_to(loop, (stage)where);
        p2p_event_loop_free(loop);
        assert_int_equal(fake_open_count(), 0);
        assert_int_equal(told.answers + told.closes, 0);
        assert_int_equal(world.rests, 0); /* it was not waited for */
        p2p_socket_close(sock);
        if (where == LOOKUP) {
            assert_true(memory_in_use() > 0);
            run_thread();
        }
        assert_int_equal(memory_in_use(), 0);
    }
}

static void an_answer_that_was_posted_to_a_freed_loop_is_freed_with_it(void **state) {
    (void)state;
    has("192.0.2.1", NULL, NULL, NULL);
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = connecting(loop);
    run_thread();
    p2p_socket_close(sock);
    p2p_event_loop_free(loop);
    assert_int_equal(world.tried_count, 0);
}

static void closed_with_a_message_queued_it_still_connects_and_sends(void **state) {
    (void)state;
    has("192.0.2.1", "192.0.2.2", NULL, NULL);
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = connecting(loop);
    assert_int_equal(p2p_message_send_data(sock, "last", 4), 0);
    p2p_socket_close(sock);
    run_thread();
    mock_turn(loop);
    fails(loop, 0, ECONNREFUSED);
    connects(loop, 1);
    assert_int_equal(told.answers + told.closes, 0);
    assert_int_equal(fake_at(world.handles[1])->output_length, 8);
    assert_true(fake_at(world.handles[1])->shut);
    fake_at(world.handles[1])->input_end = true;
    mock_ready(world.handles[1], P2P_IN);
    turns(loop);
    assert_int_equal(told.answers, 0);
    assert_int_equal(told.closes, 1);
    p2p_event_loop_free(loop);
}

static void closed_with_a_message_queued_it_ends_when_nobody_can_be_reached(void **state) {
    (void)state;
    for (int found = 0; found < 2; found++) {
        anew();
        if (found) has("192.0.2.1", NULL, NULL, NULL);
        p2p_event_loop_t *loop = mock_loop(0, NULL);
        p2p_socket_t *sock = connecting(loop);
        assert_int_equal(p2p_message_send_data(sock, "last", 4), 0);
        p2p_socket_close(sock);
        run_threads(loop);
        if (found) fails(loop, 0, ECONNREFUSED);
        assert_int_equal(told.answers, 0);
        assert_int_equal(told.closes, 1);
        p2p_event_loop_free(loop);
    }
}

static void closed_with_a_message_queued_it_ends_at_its_deadline(void **state) {
    (void)state;
    for (int where = 0; where < CONNECTED_UNTOLD; where++) {
        anew();
        has("192.0.2.1", "192.0.2.2", NULL, NULL);
        p2p_event_loop_t *loop = mock_loop(0, NULL);
        p2p_socket_close(come_to(loop, (stage)where));
        passes(loop, 5000 * NS_PER_MS);
        assert_int_equal(told.closes, 1);
        assert_int_equal(fake_open_count(), 0);
        p2p_event_loop_free(loop);
        if (where == LOOKUP) run_thread();
    }
}

/* The private sockets may stand before or behind the user's in the registry. */
static void a_freed_loop_gives_no_attempt_to_anybody(void **state) {
    (void)state;
    for (int i = 0; i < 2 * STAGES; i++) {
        anew();
        has("192.0.2.1", "192.0.2.2", NULL, NULL);
        p2p_event_loop_t *loop = mock_loop(0, NULL);
        p2p_socket_t *before[2] = { add_fresh(loop, P2P_TCP), add_fresh(loop, P2P_TCP) };
        p2p_socket_t *sock = connecting(loop);
        assert_int_equal(p2p_message_send_data(sock, "x", 1), 0);
        p2p_socket_close(before[0]);
        p2p_socket_close(before[1]);
        turns(loop);
        go_on_to(loop, (stage)(i / 2));
        bool closed = i % 2 == 1;
        if (closed) p2p_socket_close(sock);
        p2p_event_loop_free(loop);
        assert_int_equal(fake_open_count(), 0);
        if (!closed) p2p_socket_close(sock);
        while (world.thread_count > 0) run_thread();
        assert_int_equal(memory_in_use(), 0);
    }
}

/* ---- deadlines, and output that ends ---- */

static void the_deadline_is_for_the_lookup_and_all_attempts_together(void **state) {
    (void)state;
    for (int where = 0; where < CONNECTED_UNTOLD; where++) {
        anew();
        has("192.0.2.1", "192.0.2.2", NULL, NULL);
        p2p_event_loop_t *loop = mock_loop(0, NULL);
        p2p_socket_t *sock = come_to(loop, (stage)where);
        assert_int_equal(p2p_socket_set_timeout(sock, P2P_DEADLINE_CONNECT, 1000), 0); /* counts anew */
        passes(loop, 1000 * NS_PER_MS - 1);
        turns(loop);
        assert_int_equal(told.answers, 0);
        passes(loop, 1);
        turns(loop);
        assert_int_equal(told.answers, 1);
        expect_error(told.error, P2P_ERR_TIMED_OUT);
        assert_int_equal(p2p_socket_timed_out(sock), P2P_DEADLINE_CONNECT);
        assert_int_equal(fake_open_count(), 0);
        unsigned tried = world.tried_count;
        run_threads(loop);
        assert_int_equal(world.tried_count, tried);
        assert_int_equal(p2p_socket_connect(sock, "peer.example", 80), 0); /* may be tried again */
        run_threads(loop);
        connects(loop, tried);
        assert_int_equal(told.answers, 2);
        expect_error(told.error, 0);
        passes(loop, 2000 * NS_PER_MS);
        assert_int_equal(told.answers + told.errors, 2);
        end(loop, sock);
    }
}

static void a_datagram_socket_has_that_deadline_too(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = add_fresh(loop, P2P_UDP);
    assert_int_equal(p2p_socket_set_timeout(sock, P2P_DEADLINE_CONNECT, 1000), 0);
    assert_int_equal(p2p_socket_connect(sock, "peer.example", 80), 0);
    passes(loop, 1000 * NS_PER_MS);
    turns(loop);
    assert_int_equal(told.answers, 1);
    expect_error(told.error, P2P_ERR_TIMED_OUT);
    run_threads(loop);
    assert_int_equal(told.answers, 1);
    end(loop, sock);
}

static void a_call_that_fails_leaves_no_deadline_behind(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(MOCK_NATIVE, NULL);
    p2p_socket_t *by_name = add_fresh(loop, P2P_TCP), *by_number = add_fresh(loop, P2P_TCP);
    has("192.0.2.1", NULL, NULL, NULL);
    world.thread_fails = 1;
    assert_true(p2p_socket_connect(by_name, "peer.example", 80) < 0);
    mock_fail(MOCK_CONNECT, 1, ENOBUFS);
    assert_true(p2p_socket_connect(by_number, "192.0.2.1", 80) < 0);
    passes(loop, 60000 * NS_PER_MS);
    turns(loop);
    assert_int_equal(told.answers + told.errors, 0);
    p2p_socket_close(by_number);
    end(loop, by_name);
}

static void output_that_was_shut_down_meanwhile_ends_behind_what_is_queued(void **state) {
    (void)state;
    for (int drained = 0; drained < 2; drained++) {
        for (int where = 0; where < STAGES; where++) {
            anew();
            has("192.0.2.1", "192.0.2.2", NULL, NULL);
            p2p_event_loop_t *loop = mock_loop(0, NULL);
            p2p_socket_t *sock = come_to(loop, (stage)where);
            assert_int_equal(drained ? p2p_event_loop_drain(loop, 0) : p2p_socket_shutdown(sock, 0), 0);
            run_threads(loop);
            if (where != CONNECTED_UNTOLD) connects(loop, 0);
            turns(loop);
            assert_int_equal(told.answers, 1);
            expect_error(told.error, 0);
            assert_int_equal(fake_at(p2p_socket_handle(sock))->output_length, 5);
            assert_true(fake_at(p2p_socket_handle(sock))->shut);
            end(loop, sock);
        }
    }
}

static void output_that_cannot_be_drained_in_time_ends_the_attempt(void **state) {
    (void)state;
    for (int where = 0; where < CONNECTED_UNTOLD; where++) {
        anew();
        has("192.0.2.1", "192.0.2.2", NULL, NULL);
        p2p_event_loop_t *loop = mock_loop(0, NULL);
        p2p_socket_t *sock = come_to(loop, (stage)where);
        assert_int_equal(p2p_socket_shutdown(sock, 1000), 0);
        passes(loop, 1000 * NS_PER_MS);
        turns(loop);
        assert_int_equal(told.answers, 1);
        expect_error(told.error, P2P_ERR_TIMED_OUT);
        assert_int_equal(p2p_socket_unsent(sock), 5);
        assert_int_equal(fake_open_count(), 0);
        run_threads(loop);
        assert_int_equal(told.answers, 1);
        end(loop, sock);
    }
}

static int64_t unsent;

static void ask_unsent(p2p_socket_t *sock, int reason, void *user_data) {
    (void)reason, (void)user_data;
    unsent = p2p_socket_unsent(sock);
}

static void what_an_abort_or_a_removal_drops_is_told(void **state) {
    (void)state;
    static const p2p_socket_callbacks_t asking = { .size = sizeof asking, .on_close = ask_unsent };
    for (int removes = 0; removes < 2; removes++) {
        p2p_event_loop_t *loop = mock_loop(0, NULL);
        p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
        assert_int_equal(p2p_event_loop_add_socket_with(loop, sock, &asking, NULL), 0);
        assert_int_equal(p2p_socket_connect(sock, "peer.example", 80), 0);
        assert_int_equal(p2p_message_send_data(sock, "lost", 4), 0);
        unsent = 0;
        if (removes) {
            assert_int_equal(p2p_event_loop_remove_socket(loop, sock), 0);
            unsent = p2p_socket_unsent(sock);
            p2p_socket_close(sock);
        } else {
            p2p_socket_abort(sock);
            turns(loop);
        }
        assert_int_equal(unsent, 8);
        run_threads(loop);
        end(loop, NULL);
        anew();
    }
}

/* ---- bound sockets ---- */

static p2p_socket_t *connecting_bound(p2p_event_loop_t *loop) {
    p2p_handle_t handle = fake_handle(P2P_SYS_STREAM | P2P_SYS_BOUND);
    p2p_socket_t *sock = p2p_socket_adopt(handle, P2P_TCP);
    assert_non_null(sock);
    assert_int_equal(p2p_event_loop_add_socket_with(loop, sock, &callbacks, NULL), 0);
    assert_int_equal(p2p_socket_connect(sock, "peer.example", 80), 0);
    return sock;
}

static void a_bound_socket_tries_the_first_address_of_its_family_by_its_own_handle(void **state) {
    (void)state;
    has("2001:db8::1", "192.0.2.1", "192.0.2.2", NULL);
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = connecting_bound(loop);
    p2p_handle_t handle = p2p_socket_handle(sock);
    run_thread();
    turns(loop);
    passes(loop, 1000 * NS_PER_MS);
    assert_int_equal(world.tried_count, 1);
    assert_string_equal(world.tried[0], "192.0.2.1");
    assert_true(world.handles[0] == handle);
    connects(loop, 0);
    expect_error(told.error, 0);
    assert_true(p2p_socket_handle(sock) == handle);
    end(loop, sock);
}

static void a_bound_socket_without_an_address_of_its_family_is_told_so(void **state) {
    (void)state;
    static const char *const only[] = { "2001:db8::1", NULL };
    for (size_t i = 0; i < COUNT_OF(only); i++) {
        anew();
        has(only[i], NULL, NULL, NULL);
        p2p_event_loop_t *loop = mock_loop(0, NULL);
        p2p_socket_t *sock = connecting_bound(loop);
        run_thread();
        turns(loop);
        assert_int_equal(told.answers, 1);
        expect_error(told.error, only[i] != NULL ? P2P_ERR_NOT_SUPPORTED : P2P_ERR_NAME_NOT_FOUND);
        assert_int_equal(fake_open_count(), 0); /* as after any attempt that failed */
        end(loop, sock);
    }
}

static void a_bound_socket_removed_during_the_lookup_keeps_its_handle(void **state) {
    (void)state;
    has("192.0.2.1", NULL, NULL, NULL);
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = connecting_bound(loop);
    assert_int_equal(p2p_event_loop_remove_socket(loop, sock), 0);
    assert_int_equal(fake_open_count(), 1);
    expect_error(p2p_socket_bind(sock, "192.0.2.9", 1), P2P_ERR_ALREADY); /* it is bound */
    end(loop, sock);
    run_thread();
}

/* ---- threads ---- */

static void eight_threads_serve_twenty_lookups(void **state) {
    (void)state;
    p2p_socket_t *socks[20];
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    for (size_t i = 0; i < COUNT_OF(socks); i++) socks[i] = connecting(loop);
    assert_int_equal(world.threads_started, 8);
    assert_int_equal(loop_stats(loop).lookups, 8);
    p2p_socket_close(socks[19]); /* one that waits in line */
    for (unsigned done = 1; done <= 19; done++) {
        run_thread();
        mock_turn(loop);
        assert_int_equal(world.threads_started, done + 8 < 19 ? done + 8 : 19);
    }
    turns(loop);
    assert_int_equal(told.answers, 19);
    for (size_t i = 0; i < 19; i++) p2p_socket_close(socks[i]);
    p2p_event_loop_free(loop);
}

static void a_lookup_given_up_keeps_its_place_until_its_thread_is_done(void **state) {
    (void)state;
    p2p_socket_t *socks[9];
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    for (size_t i = 0; i < 8; i++) socks[i] = connecting(loop);
    p2p_socket_close(socks[0]);
    socks[8] = connecting(loop);
    mock_turn(loop);
    assert_int_equal(world.threads_started, 8);
    run_thread();
    mock_turn(loop);
    assert_int_equal(world.threads_started, 9);
    run_threads(loop);
    assert_int_equal(told.answers, 8);
    for (size_t i = 1; i < 9; i++) p2p_socket_close(socks[i]);
    p2p_event_loop_free(loop);
}

static void a_thread_that_cannot_start_is_the_calls_error(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = add_fresh(loop, P2P_TCP);
    world.thread_fails = 1;
    expect_error(p2p_socket_connect(sock, "peer.example", 80), P2P_ERR_NO_MEMORY);
    assert_int_equal(p2p_last_os_error(), os_number(ENOMEM));
    assert_int_equal(loop_stats(loop).lookups, 0);
    turns(loop);
    assert_int_equal(told.answers, 0);
    has("192.0.2.1", NULL, NULL, NULL);
    assert_int_equal(p2p_socket_connect(sock, "peer.example", 80), 0);
    run_threads(loop);
    connects(loop, 0);
    assert_int_equal(told.answers, 1);
    end(loop, sock);
}

static void a_thread_that_cannot_start_later_is_told(void **state) {
    (void)state;
    p2p_socket_t *socks[9];
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    for (size_t i = 0; i < COUNT_OF(socks); i++) socks[i] = connecting(loop);
    world.thread_fails = 1;
    run_thread();
    turns(loop);
    assert_int_equal(told.answers, 2);
    run_threads(loop);
    assert_int_equal(told.answers, 9);
    for (size_t i = 0; i < 9; i++) p2p_socket_close(socks[i]);
    p2p_event_loop_free(loop);
}

static void a_system_table_without_names_does_not_support_them(void **state) {
    (void)state;
    p2p_cleanup();
    made_up_table.resolve = NULL;
    assert_int_equal(fixture_start(&made_up_table, NULL), 0);
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = add_fresh(loop, P2P_TCP), *outside = p2p_socket_create(P2P_TCP);
    expect_error(p2p_socket_connect(sock, "peer.example", 80), P2P_ERR_NOT_SUPPORTED);
    expect_error(p2p_socket_connect(outside, "peer.example", 80), P2P_ERR_NOT_SUPPORTED);
    p2p_socket_close(outside);
    end(loop, sock);
}

static void each_allocation_may_fail(void **state) {
    (void)state;
    bool failed = true;
    for (uint64_t nth = 1; failed; nth++) {
        anew();
        has("192.0.2.1", "192.0.2.2", NULL, NULL);
        p2p_event_loop_t *loop = mock_loop(0, NULL);
        p2p_socket_t *sock = add_fresh(loop, P2P_TCP);
        memory_fail(nth, false);
        int result = p2p_socket_connect(sock, "peer.example", 80);
        if (result < 0) expect_error(result, P2P_ERR_NO_MEMORY);
        run_threads(loop);
        if (world.tried_count > 0) connects(loop, 0);
        failed = memory_failures() > 0;
        memory_fail(0, false);
        assert_int_equal(told.answers, result == 0);
        if (result == 0) expect_error(told.error, 0); /* when not by one address, by the other */
        end(loop, sock);
    }
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        NAMES_CASE(an_abort_at_any_time_ends_all_of_it),
        NAMES_CASE(a_removed_socket_is_fresh_again_and_its_queue_empty),
        NAMES_CASE(a_freed_loop_gives_the_socket_back_and_the_thread_frees_the_rest),
        NAMES_CASE(an_answer_that_was_posted_to_a_freed_loop_is_freed_with_it),
        NAMES_CASE(closed_with_a_message_queued_it_still_connects_and_sends),
        NAMES_CASE(closed_with_a_message_queued_it_ends_when_nobody_can_be_reached),
        NAMES_CASE(closed_with_a_message_queued_it_ends_at_its_deadline),
        NAMES_CASE(a_freed_loop_gives_no_attempt_to_anybody),
        NAMES_CASE(the_deadline_is_for_the_lookup_and_all_attempts_together),
        NAMES_CASE(a_datagram_socket_has_that_deadline_too),
        NAMES_CASE(a_call_that_fails_leaves_no_deadline_behind),
        NAMES_CASE(output_that_was_shut_down_meanwhile_ends_behind_what_is_queued),
        NAMES_CASE(output_that_cannot_be_drained_in_time_ends_the_attempt),
        NAMES_CASE(what_an_abort_or_a_removal_drops_is_told),
        NAMES_CASE(a_bound_socket_tries_the_first_address_of_its_family_by_its_own_handle),
        NAMES_CASE(a_bound_socket_without_an_address_of_its_family_is_told_so),
        NAMES_CASE(a_bound_socket_removed_during_the_lookup_keeps_its_handle),
        NAMES_CASE(eight_threads_serve_twenty_lookups),
        NAMES_CASE(a_lookup_given_up_keeps_its_place_until_its_thread_is_done),
        NAMES_CASE(a_thread_that_cannot_start_is_the_calls_error),
        NAMES_CASE(a_thread_that_cannot_start_later_is_told),
        NAMES_CASE(a_system_table_without_names_does_not_support_them),
        NAMES_CASE(each_allocation_may_fail),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
