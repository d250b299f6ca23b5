/* Connecting by name: which texts are names, in what order addresses are tried, and what is answered. */
#include "made_up_names.h"

/* ---- names ---- */

static void host_names_are_told_from_addresses_and_nonsense(void **state) {
    (void)state;
    static const char *const names[] = { "a", "example.org", "example.org.", "3com.com", "a-b.c_d", "_srv.x",
                                         "1.2.3.4a", "0x.org", "x1", "xn--bcher-kva.example", "LOCALHOST",
                                         "a.b.c.d.e" };
    static const char *const others[] = { "", ".", "..", "a..b", ".a", "a..", "-a", "a-", "a.-b", "a b", "a/b", "a:1",
                                          "::1", "[::1]", "1", "1.2.3", "999.1.1.1", "1.2.3.4", "1.2.3.4.", "127.1",
                                          "0x7f000001", "0x7f.1", "a.0x1", ("b\xc3\xbc" "cher.example"),
                                          "a%eth0", "a\n",
                                          "unix:x" };
    char label[80];
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (!p2pi_is_host_name(names[i])) fail_msg("%s", names[i]);
    for (size_t i = 0; i < COUNT_OF(others); i++)
        if (p2pi_is_host_name(others[i])) fail_msg("%s", others[i]);
    memset(label, 'a', sizeof label);
    label[63] = '\0';
    assert_true(p2pi_is_host_name(label));
    label[63] = 'a', label[64] = '\0';
    assert_false(p2pi_is_host_name(label));
}

static void a_host_name_has_at_most_253_characters(void **state) {
    (void)state;
    char name[300];
    for (size_t i = 0; i < sizeof name; i++) name[i] = i % 50 == 49 ? '.' : 'a';
    name[253] = '\0';
    assert_true(p2pi_is_host_name(name));
    name[253] = 'a', name[254] = '\0';
    assert_false(p2pi_is_host_name(name));
    name[253] = '.';
    assert_true(p2pi_is_host_name(name)); /* the dot at the end is not counted */
}

static void a_name_is_no_address_to_bind_to(void **state) {
    (void)state;
    p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
    expect_error(p2p_socket_bind(sock, "peer.example", 80), P2P_ERR_BAD_ADDRESS);
    p2p_socket_close(sock);
}

static void families_alternate_beginning_with_the_first(void **state) {
    (void)state;
    static const char *const given[] = { "::1", "::2", "::3", "10.0.0.1", "10.0.0.2", "::4", "10.0.0.3", "::5" };
    static const char *const wanted[] = { "::1", "10.0.0.1", "::2", "10.0.0.2", "::3", "10.0.0.3", "::4", "::5" };
    p2p_address_t addresses[COUNT_OF(given)], expected;
    for (size_t i = 0; i < COUNT_OF(given); i++) p2p_address_parse(&addresses[i], given[i], 1);
    p2pi_connect_interleave(addresses, COUNT_OF(given));
    for (size_t i = 0; i < COUNT_OF(given); i++) {
        p2p_address_parse(&expected, wanted[i], 1);
        assert_memory_equal(&addresses[i], &expected, sizeof expected);
    }
    p2pi_connect_interleave(addresses, 0);
    p2pi_connect_interleave(addresses, 1);
}

/* ---- one after the other ---- */

static void nothing_is_tried_before_the_addresses_are_known(void **state) {
    (void)state;
    has("192.0.2.1", NULL, NULL, NULL);
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = connecting(loop);
    passes(loop, 5000 * NS_PER_MS);
    assert_int_equal(world.tried_count + told.answers, 0);
    run_thread();
    mock_turn(loop);
    assert_int_equal(world.tried_count, 1);
    end(loop, sock);
}

static void the_next_address_is_tried_a_quarter_of_a_second_later(void **state) {
    (void)state;
    has("2001:db8::1", "2001:db8::2", "192.0.2.1", NULL);
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = trying(loop);
    assert_string_equal(world.tried[0], "2001:db8::1");
    passes(loop, 250 * NS_PER_MS - 1);
    assert_int_equal(world.tried_count, 1);
    passes(loop, 1);
    assert_int_equal(world.tried_count, 2);
    assert_string_equal(world.tried[1], "192.0.2.1");
    passes(loop, 250 * NS_PER_MS - 1);
    assert_int_equal(world.tried_count, 2);
    passes(loop, 1);
    assert_int_equal(world.tried_count, 3);
    assert_string_equal(world.tried[2], "2001:db8::2");
    assert_true(p2p_event_loop_next_timeout(loop) > 1000); /* the system decides now, or the deadline */
    assert_int_equal(told.answers, 0);
    end(loop, sock);
}

static void an_address_that_fails_is_followed_by_the_next_at_once(void **state) {
    (void)state;
    has("2001:db8::1", "192.0.2.1", "192.0.2.2", NULL);
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = trying(loop);
    passes(loop, 100 * NS_PER_MS);
    fails(loop, 0, ECONNREFUSED);
    assert_int_equal(world.tried_count, 2);
    assert_false(fake_at(world.handles[0])->open);
    passes(loop, 250 * NS_PER_MS - 1); /* counted from then on */
    assert_int_equal(world.tried_count, 2);
    passes(loop, 1);
    assert_int_equal(world.tried_count, 3);
    end(loop, sock);
}

static void while_one_is_being_tried_the_failure_of_the_others_is_no_answer(void **state) {
    (void)state;
    has("2001:db8::1", "192.0.2.1", "192.0.2.2", NULL);
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = trying(loop);
    passes(loop, 250 * NS_PER_MS);
    fails(loop, 1, ECONNREFUSED);
    assert_int_equal(world.tried_count, 3);
    assert_true(p2p_event_loop_next_timeout(loop) > 1000); /* there is nothing more to begin */
    fails(loop, 2, ECONNREFUSED);
    assert_int_equal(told.answers, 0);
    connects(loop, 0);
    assert_int_equal(told.answers, 1);
    expect_error(told.error, 0);
    end(loop, sock);
}

static void addresses_that_fail_in_the_call_are_passed_over(void **state) {
    (void)state;
    has("2001:db8::1", "192.0.2.1", NULL, NULL);
    world.unknown = ":";
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = trying(loop);
    assert_int_equal(world.tried_count, 1);
    assert_string_equal(world.tried[0], "192.0.2.1");
    fails(loop, 0, ECONNREFUSED);
    assert_int_equal(told.answers, 1);
    expect_error(told.error, P2P_ERR_REFUSED); /* and not NOT_SUPPORTED */
    end(loop, sock);
}

static void all_addresses_are_tried_and_no_more_than_that(void **state) {
    (void)state;
    has("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4");
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = trying(loop);
    for (int i = 0; i < 8; i++) passes(loop, 250 * NS_PER_MS);
    assert_int_equal(world.tried_count, 4);
    assert_int_equal(fake_open_count(), 4);
    end(loop, sock);
}

/* ---- answers ---- */

static void the_first_to_connect_wins_and_the_others_are_reset(void **state) {
    (void)state;
    has("2001:db8::1", "192.0.2.1", "192.0.2.2", NULL);
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = trying(loop);
    passes(loop, 250 * NS_PER_MS);
    passes(loop, 250 * NS_PER_MS);
    connects(loop, 1);
    assert_int_equal(told.answers, 1);
    expect_error(told.error, 0);
    assert_true(p2p_socket_handle(sock) == world.handles[1]);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(fake_at(world.handles[i])->open, i == 1);
        assert_int_equal(fake_at(world.handles[i])->reset, i != 1);
    }
    passes(loop, 5000 * NS_PER_MS);
    assert_int_equal(world.tried_count, 3);
    assert_int_equal(told.answers + told.errors, 1);
    end(loop, sock);
}

static void of_two_that_connect_in_one_turn_one_wins(void **state) {
    (void)state;
    has("2001:db8::1", "192.0.2.1", NULL, NULL);
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = trying(loop);
    passes(loop, 250 * NS_PER_MS);
    fake_at(world.handles[1])->connected = true;
    mock_ready(world.handles[1], P2P_OUT);
    connects(loop, 0);
    assert_int_equal(told.answers, 1);
    assert_int_equal(fake_open_count(), 1);
    assert_true(fake_at(p2p_socket_handle(sock))->open);
    end(loop, sock);
}

static void on_any_backend_the_winner_sends_and_receives(void **state) {
    (void)state;
    static const uint32_t groups[] = { 0, MOCK_NATIVE };
    for (size_t i = 0; i < COUNT_OF(groups); i++) {
        anew();
        has("2001:db8::1", NULL, NULL, NULL);
        p2p_event_loop_t *loop = mock_loop(groups[i], NULL);
        p2p_socket_t *sock = connecting(loop);
        assert_int_equal(p2p_message_send_data(sock, "one", 3), 0);
        run_thread();
        mock_turn(loop);
        assert_int_equal(p2p_message_send_data(sock, "two", 3), 0);
        if (groups[i] == 0) {
            connects(loop, 0);
            assert_int_equal(p2p_message_send_data(sock, "three", 5), 0);
            turns(loop);
            fake_socket *peer = fake_at(p2p_socket_handle(sock));
            assert_int_equal(peer->output_length, 23);
            assert_memory_equal(peer->output, "\0\0\0\3one\0\0\0\3two\0\0\0\5three", 23);
        } else {
            mock_complete(0);
            turns(loop);
            mock_complete(14);
            turns(loop);
            assert_int_equal(mock.sent_length, 14);
            assert_memory_equal(mock.sent, "\0\0\0\3one\0\0\0\3two", 14);
        }
        assert_int_equal(told.answers, 1);
        assert_int_equal(loop_stats(loop).messages_out, groups[i] == 0 ? 3 : 2);
        end(loop, sock);
    }
}

static void when_all_fail_the_first_ones_error_is_told_once(void **state) {
    (void)state;
    has("192.0.2.1", "192.0.2.2", NULL, NULL);
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = trying(loop);
    fails(loop, 0, ECONNREFUSED);
    assert_int_equal(told.answers, 0);
    fails(loop, 1, EHOSTUNREACH);
    assert_int_equal(told.answers, 1);
    expect_error(told.error, P2P_ERR_REFUSED);
    assert_int_equal(told.errors, 0);
    assert_int_equal(fake_open_count(), 0);
    assert_int_equal(p2p_socket_connect(sock, "peer.example", 80), 0); /* may be tried again */
    run_thread();
    turns(loop);
    connects(loop, 2);
    assert_int_equal(told.answers, 2);
    expect_error(told.error, 0);
    end(loop, sock);
}

static void a_name_without_addresses_is_told_as_not_found(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = connecting(loop);
    run_thread();
    turns(loop);
    assert_int_equal(told.answers, 1);
    expect_error(told.error, P2P_ERR_NAME_NOT_FOUND);
    end(loop, sock);
}

static void a_connection_to_itself_is_refused_and_reset(void **state) {
    (void)state;
    has("192.0.2.1", "192.0.2.2", NULL, NULL);
    world.local = "192.0.2.1";
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = trying(loop);
    connects(loop, 0);
    assert_false(fake_at(world.handles[0])->open);
    assert_true(fake_at(world.handles[0])->reset);
    assert_int_equal(world.tried_count, 2);
    fails(loop, 1, ETIMEDOUT);
    assert_int_equal(told.answers, 1);
    expect_error(told.error, P2P_ERR_REFUSED);
    end(loop, sock);
}

static void the_attempts_are_not_counted_as_sockets_or_callbacks(void **state) {
    (void)state;
    has("192.0.2.1", "192.0.2.2", NULL, NULL);
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = trying(loop);
    passes(loop, 250 * NS_PER_MS);
    assert_int_equal(world.tried_count, 2);
    assert_int_equal(p2p_event_loop_socket_count(loop), 1);
    fails(loop, 0, ECONNREFUSED);
    connects(loop, 1);
    p2p_event_loop_stats_t stats = loop_stats(loop);
    assert_int_equal(stats.callbacks, 1);
    assert_int_equal(stats.tasks_run, 0);
    assert_int_equal(stats.timers_fired, 0);
    assert_int_equal(p2p_event_loop_socket_count(loop), 1);
    end(loop, sock);
}

static void each_attempt_has_the_options_of_the_socket_and_the_winner_those_set_since(void **state) {
    (void)state;
    has("192.0.2.1", "192.0.2.2", NULL, NULL);
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = add_fresh(loop, P2P_TCP);
    assert_int_equal(p2p_socket_set_option(sock, P2P_OPTION_KEEPALIVE, 60), 0);
    assert_int_equal(p2p_socket_connect(sock, "peer.example", 80), 0);
    run_thread();
    mock_turn(loop);
    passes(loop, 250 * NS_PER_MS);
    for (unsigned i = 0; i < 2; i++) assert_int_equal(fake_at(world.handles[i])->keepalive_s, 60);
    assert_int_equal(p2p_socket_set_option(sock, P2P_OPTION_KEEPALIVE, 30), 0);
    connects(loop, 1);
    assert_int_equal(fake_at(p2p_socket_handle(sock))->keepalive_s, 30);
    end(loop, sock);
}

static void what_waits_for_a_name_counts_as_queued_output(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = connecting(loop);
    assert_int_equal(p2p_message_send_data(sock, "waits", 5), 0);
    assert_true(loop_stats(loop).output_queued >= 9);
    p2p_socket_abort(sock);
    assert_int_equal(loop_stats(loop).output_queued, 0);
    p2p_event_loop_free(loop);
    run_thread();
}

static void a_second_attempt_meanwhile_is_ALREADY(void **state) {
    (void)state;
    has("192.0.2.1", NULL, NULL, NULL);
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = connecting(loop), *udp = add_fresh(loop, P2P_UDP);
    expect_error(p2p_socket_connect(sock, "other.example", 80), P2P_ERR_ALREADY);
    assert_int_equal(p2p_socket_connect(udp, "peer.example", 80), 0);
    expect_error(p2p_socket_connect(udp, "192.0.2.1", 80), P2P_ERR_ALREADY);
    p2p_socket_close(udp);
    end(loop, sock);
    run_thread();
    run_thread();
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        NAMES_CASE(host_names_are_told_from_addresses_and_nonsense),
        NAMES_CASE(a_host_name_has_at_most_253_characters),
        NAMES_CASE(a_name_is_no_address_to_bind_to),
        NAMES_CASE(families_alternate_beginning_with_the_first),
        NAMES_CASE(nothing_is_tried_before_the_addresses_are_known),
        NAMES_CASE(the_next_address_is_tried_a_quarter_of_a_second_later),
        NAMES_CASE(an_address_that_fails_is_followed_by_the_next_at_once),
        NAMES_CASE(while_one_is_being_tried_the_failure_of_the_others_is_no_answer),
        NAMES_CASE(addresses_that_fail_in_the_call_are_passed_over),
        NAMES_CASE(all_addresses_are_tried_and_no_more_than_that),
        NAMES_CASE(the_first_to_connect_wins_and_the_others_are_reset),
        NAMES_CASE(of_two_that_connect_in_one_turn_one_wins),
        NAMES_CASE(on_any_backend_the_winner_sends_and_receives),
        NAMES_CASE(when_all_fail_the_first_ones_error_is_told_once),
        NAMES_CASE(a_name_without_addresses_is_told_as_not_found),
        NAMES_CASE(a_connection_to_itself_is_refused_and_reset),
        NAMES_CASE(the_attempts_are_not_counted_as_sockets_or_callbacks),
        NAMES_CASE(each_attempt_has_the_options_of_the_socket_and_the_winner_those_set_since),
        NAMES_CASE(what_waits_for_a_name_counts_as_queued_output),
        NAMES_CASE(a_second_attempt_meanwhile_is_ALREADY),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
