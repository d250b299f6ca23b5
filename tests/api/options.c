/* Socket options with names; and listeners that take both families. */
#include "fixture.h"

#include <stdio.h>

static int raw_option(const p2p_socket_t *sock, int level, int name) {
    int value = 0;
    assert_int_equal(os_get_option(p2p_socket_handle(sock), level, name, &value), 0);
    return value;
}

static int nodelay(const p2p_socket_t *sock) {
    return raw_option(sock, IPPROTO_TCP, TCP_NODELAY) != 0;
}

static int keepalive(const p2p_socket_t *sock) {
    return raw_option(sock, SOL_SOCKET, SO_KEEPALIVE) != 0;
}

/* ---- setting and asking ---- */

static void what_is_set_before_the_handle_is_there_is_set_on_it(void **state) {
    (void)state;
    p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
    assert_int_equal(p2p_socket_get_option(sock, P2P_OPTION_NODELAY), P2P_ERR_NOT_FOUND);
    assert_int_equal(p2p_socket_set_option(sock, P2P_OPTION_NODELAY, 0), 0);
    assert_int_equal(p2p_socket_set_option(sock, P2P_OPTION_KEEPALIVE, 60), 0);
    assert_int_equal(p2p_socket_get_option(sock, P2P_OPTION_NODELAY), 0);
    assert_int_equal(p2p_socket_get_option(sock, P2P_OPTION_KEEPALIVE), 60);
    assert_true(p2p_socket_handle(sock) == P2P_INVALID_HANDLE);
    assert_int_equal(p2p_socket_bind(sock, "127.0.0.1", 0), 0);
    assert_int_equal(nodelay(sock), 0);
    assert_int_equal(keepalive(sock), 1);
    assert_int_equal(p2p_socket_get_option(sock, P2P_OPTION_NODELAY), 0);
    p2p_socket_close(sock);
}

static void no_delay_is_the_default_and_can_be_switched(void **state) {
    (void)state;
    p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
    assert_int_equal(p2p_socket_bind(sock, "127.0.0.1", 0), 0);
    for (int on = 1; on >= 0; on--) {
        assert_int_equal(nodelay(sock), on);
        assert_int_equal(p2p_socket_get_option(sock, P2P_OPTION_NODELAY), on);
        if (on) assert_int_equal(p2p_socket_set_option(sock, P2P_OPTION_NODELAY, 0), 0);
    }
    assert_int_equal(p2p_socket_set_option(sock, P2P_OPTION_NODELAY, 1), 0);
    assert_int_equal(nodelay(sock), 1);
    p2p_socket_close(sock);
}

static void keepalive_asks_ten_times_in_as_long_again(void **state) {
    (void)state;
    p2p_handle_t fd;
    p2p_socket_t *sock = socket_pair(&fd);
    assert_int_equal(p2p_socket_get_option(sock, P2P_OPTION_KEEPALIVE), 0);
    assert_int_equal(p2p_socket_set_option(sock, P2P_OPTION_KEEPALIVE, 50), 0);
    assert_int_equal(keepalive(sock), 1);
#if defined(__linux__)
    static const struct { int idle_s, interval_s; } plans[] = { { 1, 1 }, { 50, 5 }, { 7200, 75 }, { 32767, 75 } };
    for (size_t i = 0; i < COUNT_OF(plans); i++) {
        assert_int_equal(p2p_socket_set_option(sock, P2P_OPTION_KEEPALIVE, plans[i].idle_s), 0);
        assert_int_equal(p2p_socket_get_option(sock, P2P_OPTION_KEEPALIVE), plans[i].idle_s);
        assert_int_equal(raw_option(sock, IPPROTO_TCP, TCP_KEEPIDLE), plans[i].idle_s);
        assert_int_equal(raw_option(sock, IPPROTO_TCP, TCP_KEEPINTVL), plans[i].interval_s);
        assert_int_equal(raw_option(sock, IPPROTO_TCP, TCP_KEEPCNT), 10);
    }
#endif
    assert_int_equal(p2p_socket_set_option(sock, P2P_OPTION_KEEPALIVE, 0), 0);
    assert_int_equal(keepalive(sock), 0);
    assert_int_equal(p2p_socket_get_option(sock, P2P_OPTION_KEEPALIVE), 0);
    os_close(fd);
    p2p_socket_close(sock);
}

static void buffers_get_a_size(void **state) {
    (void)state;
    static const p2p_socket_option_t buffers[] = { P2P_OPTION_SEND_BUFFER, P2P_OPTION_RECEIVE_BUFFER };
    static const int names[] = { SO_SNDBUF, SO_RCVBUF };
    for (size_t i = 0; i < COUNT_OF(buffers); i++) {
        p2p_socket_t *small = p2p_socket_create(P2P_UDP), *large = p2p_socket_create(P2P_UDP);
        assert_int_equal(p2p_socket_set_option(small, buffers[i], 8192), 0);
        assert_int_equal(p2p_socket_set_option(large, buffers[i], 65536), 0);
        assert_int_equal(p2p_socket_bind(small, "127.0.0.1", 0), 0);
        assert_int_equal(p2p_socket_bind(large, "127.0.0.1", 0), 0);
        assert_true(p2p_socket_get_option(small, buffers[i]) < p2p_socket_get_option(large, buffers[i]));
        assert_int_equal(p2p_socket_get_option(small, buffers[i]), raw_option(small, SOL_SOCKET, names[i]));
        p2p_socket_close(small);
        p2p_socket_close(large);
    }
}

static void broadcasts_are_allowed_when_asked_for(void **state) {
    (void)state;
    p2p_socket_t *sock = p2p_socket_create(P2P_UDP);
    assert_int_equal(p2p_socket_bind(sock, "127.0.0.1", 0), 0);
    assert_int_equal(p2p_socket_get_option(sock, P2P_OPTION_BROADCAST), 0);
    assert_int_equal(p2p_socket_set_option(sock, P2P_OPTION_BROADCAST, 1), 0);
    assert_int_equal(raw_option(sock, SOL_SOCKET, SO_BROADCAST) != 0, 1);
    assert_int_equal(p2p_socket_get_option(sock, P2P_OPTION_BROADCAST), 1);
    p2p_socket_close(sock);
}

static void a_port_is_shared_by_those_who_agree(void **state) {
    (void)state;
    p2p_socket_t *first = p2p_socket_create(P2P_TCP), *second = p2p_socket_create(P2P_TCP);
    assert_int_equal(p2p_socket_set_option(first, P2P_OPTION_REUSE_PORT, 1), 0);
    int result = p2p_socket_bind(first, "127.0.0.1", 0);
    if (result == P2P_ERR_NOT_SUPPORTED) { /* told when the handle is made, and there is none */
        assert_true(p2p_socket_handle(first) == P2P_INVALID_HANDLE);
        assert_int_equal(p2p_socket_bind(second, "127.0.0.1", 0), 0);
        assert_int_equal(p2p_socket_set_option(second, P2P_OPTION_REUSE_PORT, 1), P2P_ERR_NOT_SUPPORTED);
    } else {
        assert_int_equal(result, 0);
        uint16_t port = socket_port(first);
        assert_int_equal(p2p_socket_listen(first, 0), 0);
        assert_int_equal(p2p_socket_bind(second, "127.0.0.1", port), P2P_ERR_ADDRESS_IN_USE);
        assert_int_equal(p2p_socket_set_option(second, P2P_OPTION_REUSE_PORT, 1), 0);
        assert_int_equal(p2p_socket_bind(second, "127.0.0.1", port), 0);
        assert_int_equal(p2p_socket_listen(second, 0), 0);
    }
    p2p_socket_close(first);
    p2p_socket_close(second);
}

static void reuse_of_an_address_takes_the_place_of_the_default(void **state) {
    (void)state;
    for (int value = 0; value <= 1; value++) {
        p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
        assert_int_equal(p2p_socket_set_option(sock, P2P_OPTION_REUSE_ADDRESS, value), 0);
        assert_int_equal(p2p_socket_bind(sock, "127.0.0.1", 0), 0);
        assert_int_equal(raw_option(sock, SOL_SOCKET, SO_REUSEADDR) != 0, value);
        assert_int_equal(p2p_socket_get_option(sock, P2P_OPTION_REUSE_ADDRESS), value);
        p2p_socket_close(sock);
    }
}

static void what_is_no_option_or_no_value_is_refused(void **state) {
    (void)state;
    static const struct { p2p_socket_type_t type; p2p_socket_option_t option; int value; } bad[] = {
        { P2P_TCP, (p2p_socket_option_t)0, 0 },          { P2P_TCP, (p2p_socket_option_t)9, 0 },
        { P2P_TCP, P2P_OPTION_NODELAY, 2 },              { P2P_TCP, P2P_OPTION_NODELAY, -1 },
        { P2P_TCP, P2P_OPTION_KEEPALIVE, 32768 },        { P2P_TCP, P2P_OPTION_KEEPALIVE, -1 },
        { P2P_TCP, P2P_OPTION_SEND_BUFFER, 0 },          { P2P_UDP, P2P_OPTION_RECEIVE_BUFFER, -5 },
        { P2P_UDP, P2P_OPTION_NODELAY, 1 },              { P2P_UDP, P2P_OPTION_KEEPALIVE, 1 },
        { P2P_TCP, P2P_OPTION_BROADCAST, 1 },
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        p2p_socket_t *sock = p2p_socket_create(bad[i].type);
        assert_int_equal(p2p_socket_set_option(sock, bad[i].option, bad[i].value), P2P_ERR_INVALID);
        assert_int_equal(p2p_socket_bind(sock, "127.0.0.1", 0), 0); /* nothing was kept */
        p2p_socket_close(sock);
    }
    assert_int_equal(p2p_socket_set_option(NULL, P2P_OPTION_NODELAY, 1), P2P_ERR_INVALID);
    assert_int_equal(p2p_socket_get_option(NULL, P2P_OPTION_NODELAY), P2P_ERR_INVALID);
}

static void options_have_names(void **state) {
    (void)state;
    assert_string_equal(p2p_socket_option_name(P2P_OPTION_NODELAY), "nodelay");
    assert_string_equal(p2p_socket_option_name(P2P_OPTION_KEEPALIVE), "keepalive");
    assert_string_equal(p2p_socket_option_name(P2P_OPTION_BROADCAST), "broadcast");
    assert_string_equal(p2p_socket_option_name((p2p_socket_option_t)0), "unknown option");
    assert_string_equal(p2p_socket_option_name((p2p_socket_option_t)9), "unknown option");
}

static void without_memory_to_keep_it_nothing_is_set(void **state) {
    (void)state;
    p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
    assert_int_equal(p2p_socket_bind(sock, "127.0.0.1", 0), 0);
    memory_fail(1, false);
    assert_int_equal(p2p_socket_set_option(sock, P2P_OPTION_NODELAY, 0), P2P_ERR_NO_MEMORY);
    memory_fail(0, false);
    assert_int_equal(nodelay(sock), 1);
    p2p_socket_close(sock);
}

/* ---- who has them ---- */

static void an_accepted_connection_has_its_listeners_options_and_keeps_none(void **state) {
    (void)state;
    uint16_t port;
    p2p_socket_t *listener = socket_listening(&port);
    assert_int_equal(p2p_socket_set_option(listener, P2P_OPTION_NODELAY, 0), 0);
    assert_int_equal(p2p_socket_set_option(listener, P2P_OPTION_KEEPALIVE, 100), 0);
    p2p_handle_t fd = raw_connect(port);
    p2p_socket_t *sock = p2p_socket_accept(listener);
    assert_non_null(sock);
    assert_int_equal(nodelay(sock), 0);
    assert_int_equal(keepalive(sock), 1);
    size_t before = memory_in_use();
    assert_int_equal(p2p_socket_set_option(sock, P2P_OPTION_NODELAY, 1), 0);
    assert_int_equal(memory_in_use(), before);
    assert_int_equal(nodelay(sock), 1);
    os_close(fd);
    p2p_socket_close(sock);
    p2p_socket_close(listener);
}

static void count_answer(p2p_socket_t *sock, int error, void *user_data) {
    (void)sock;
    *(int *)user_data = error == 0 ? 1 : error;
}

static void a_failed_connect_does_not_lose_them(void **state) {
    (void)state;
    static const p2p_socket_callbacks_t callbacks = {
        .size = sizeof(p2p_socket_callbacks_t), .on_connect = count_answer
    };
    uint16_t nobody, port;
    p2p_event_loop_t *loop = loop_create(NULL);
    os_close(raw_listen(&nobody, 1));
    p2p_handle_t listener = raw_listen(&port, 1);
    for (int in_loop = 0; in_loop <= 1; in_loop++) {
        int answer = 0;
        p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
        assert_int_equal(p2p_socket_set_option(sock, P2P_OPTION_NODELAY, 0), 0);
        if (in_loop) {
            assert_int_equal(p2p_event_loop_add_socket_with(loop, sock, &callbacks, &answer), 0);
            if (p2p_socket_connect(sock, "127.0.0.1", nobody) == 0) RUN_UNTIL(loop, answer != 0);
        } else {
            assert_int_equal(p2p_socket_connect(sock, "127.0.0.1", nobody), P2P_ERR_REFUSED);
        }
        assert_true(p2p_socket_handle(sock) == P2P_INVALID_HANDLE);
        answer = 0;
        assert_int_equal(p2p_socket_connect(sock, "127.0.0.1", port), 0);
        if (in_loop) RUN_UNTIL(loop, answer == 1);
        assert_int_equal(nodelay(sock), 0);
        p2p_socket_close(sock);
    }
    p2p_event_loop_free(loop);
    os_close(listener);
}

/* ---- both families ---- */

static void count_read(p2p_socket_t *sock, void *user_data) {
    (void)sock;
    ++*(unsigned *)user_data;
}

/* NULL: this machine has no IPv6. */
static p2p_socket_t *listen_everywhere(int dual_stack) {
    p2p_socket_t *probe = p2p_socket_create(P2P_TCP), *listener = p2p_socket_create(P2P_TCP);
    int result = p2p_socket_bind(probe, "::1", 0);
    p2p_socket_close(probe);
    if (result < 0) {
        p2p_socket_close(listener);
        return NULL;
    }
    if (!dual_stack) assert_int_equal(p2p_socket_set_option(listener, P2P_OPTION_DUAL_STACK, 0), 0);
    assert_int_equal(p2p_socket_bind(listener, "::", 0), 0);
    assert_int_equal(p2p_socket_get_option(listener, P2P_OPTION_DUAL_STACK), dual_stack);
    assert_int_equal(p2p_socket_listen(listener, 0), 0);
    return listener;
}

static void both_families_reach_a_listener_on_all_addresses(void **state) {
    (void)state;
    p2p_address_t address;
    char text[P2P_ADDRESS_TEXT_SIZE], expected[P2P_ADDRESS_TEXT_SIZE];
    unsigned reads = 0;
    p2p_event_loop_t *loop = loop_create(NULL);
    p2p_socket_t *listener = listen_everywhere(1);
    if (listener == NULL) {
        p2p_event_loop_free(loop);
        test_skip("this machine has no IPv6");
    }
    assert_int_equal(p2p_event_loop_add_socket(loop, listener, count_read, &reads), 0);
    p2p_handle_t fd = raw_connect(socket_port(listener)); /* to 127.0.0.1 */
    RUN_UNTIL(loop, reads > 0);
    p2p_socket_t *sock = p2p_socket_accept(listener);
    assert_int_equal(p2p_socket_peer_address(sock, &address), 0);
    assert_true(p2p_address_format(&address, text, sizeof text) > 0);
    snprintf(expected, sizeof expected, "[::ffff:127.0.0.1]:%d", os_local_port(fd));
    assert_string_equal(text, expected);
    p2p_socket_close(sock);
    p2p_socket_t *client = p2p_socket_create(P2P_TCP);
    reads = 0;
    assert_int_equal(p2p_socket_connect(client, "::1", socket_port(listener)), 0);
    RUN_UNTIL(loop, reads > 0);
    sock = p2p_socket_accept(listener);
    assert_int_equal(p2p_socket_peer_address(sock, &address), 0);
    assert_true(p2p_address_format(&address, text, sizeof text) > 0);
    assert_memory_equal(text, "[::1]:", 6);
    p2p_socket_close(sock);
    p2p_socket_close(client);
    os_close(fd);
    p2p_socket_close(listener);
    p2p_event_loop_free(loop);
}

static void without_dual_stack_the_other_family_is_refused(void **state) {
    (void)state;
    p2p_socket_t *listener = listen_everywhere(0);
    if (listener == NULL) {
        test_skip("this machine has no IPv6");
    }
    assert_true(raw_connect(socket_port(listener)) == P2P_INVALID_HANDLE);
    p2p_socket_close(listener);
}

static void two_stacks_mean_nothing_to_an_ipv4_socket(void **state) {
    (void)state;
    for (int value = 0; value <= 1; value++) {
        p2p_socket_t *sock = p2p_socket_create(P2P_UDP);
        assert_int_equal(p2p_socket_set_option(sock, P2P_OPTION_DUAL_STACK, value), 0);
        assert_int_equal(p2p_socket_bind(sock, "127.0.0.1", 0), 0);
        assert_int_equal(p2p_socket_get_option(sock, P2P_OPTION_DUAL_STACK), 0);
        p2p_socket_close(sock);
    }
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        CASE(what_is_set_before_the_handle_is_there_is_set_on_it),
        CASE(no_delay_is_the_default_and_can_be_switched),
        CASE(keepalive_asks_ten_times_in_as_long_again),
        CASE(buffers_get_a_size),
        CASE(broadcasts_are_allowed_when_asked_for),
        CASE(a_port_is_shared_by_those_who_agree),
        CASE(reuse_of_an_address_takes_the_place_of_the_default),
        CASE(what_is_no_option_or_no_value_is_refused),
        CASE(options_have_names),
        CASE(without_memory_to_keep_it_nothing_is_set),
        CASE(an_accepted_connection_has_its_listeners_options_and_keeps_none),
        CASE(a_failed_connect_does_not_lose_them),
        CASE(both_families_reach_a_listener_on_all_addresses),
        CASE(without_dual_stack_the_other_family_is_refused),
        CASE(two_stacks_mean_nothing_to_an_ipv4_socket),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
