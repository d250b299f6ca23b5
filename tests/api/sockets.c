/* Milestone 1.1: sockets outside a loop, as plain BSD sockets are. */
#include "fixture.h"

#include <stdio.h>

/* ---- raw bytes ---- */

static void bytes_go_both_ways_between_accepted_and_raw(void **state) {
    (void)state;
    char buffer[16] = { 0 };
    p2p_handle_t fd;
    p2p_socket_t *sock = socket_pair(&fd);
    assert_int_equal(p2p_socket_send(sock, "hello", 5), 5);
    assert_true(raw_recv(fd, buffer, 5));
    assert_memory_equal(buffer, "hello", 5);
    assert_true(raw_send(fd, "answer", 6));
    assert_int_equal(p2p_socket_recv(sock, buffer, sizeof buffer), 6);
    assert_memory_equal(buffer, "answer", 6);
    os_close(fd);
    assert_int_equal(p2p_socket_recv(sock, buffer, sizeof buffer), 0);
    p2p_socket_close(sock);
}

static void connect_waits_for_the_answer(void **state) {
    (void)state;
    uint16_t port;
    char buffer[4];
    p2p_handle_t listener = raw_listen(&port, 1);
    p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
    assert_int_equal(p2p_socket_connect(sock, "127.0.0.1", port), 0);
    p2p_handle_t fd = raw_accept(listener);
    assert_int_equal(p2p_socket_send(sock, "ping", 4), 4);
    assert_true(raw_recv(fd, buffer, 4));
    assert_int_equal(p2p_socket_connect(sock, "127.0.0.1", port), P2P_ERR_ALREADY);
    p2p_socket_close(sock);
    assert_int_equal(raw_recv_end(fd), 0);
    os_close(fd);
    os_close(listener);
}

static void connect_without_address_means_loopback(void **state) {
    (void)state;
    uint16_t port;
    p2p_handle_t listener = raw_listen(&port, 1);
    p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
    assert_int_equal(p2p_socket_connect(sock, NULL, port), 0);
    p2p_socket_close(sock);
    os_close(listener);
}

static void connect_where_nobody_listens_is_REFUSED(void **state) {
    (void)state;
    uint16_t port;
    p2p_handle_t listener = raw_listen(&port, 1);
    os_close(listener);
    p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
    assert_int_equal(p2p_socket_connect(sock, "127.0.0.1", port), P2P_ERR_REFUSED);
    assert_int_equal(p2p_last_error(), P2P_ERR_REFUSED);
    assert_int_equal(p2p_last_os_error(), os_number(ECONNREFUSED));
    p2p_socket_close(sock);
}

static void nonblocking_connect_is_asked_again_until_connected(void **state) {
    (void)state;
    uint16_t port;
    p2p_handle_t listener = raw_listen(&port, 1);
    p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
    assert_int_equal(p2p_socket_set_nonblocking(sock, 1), 0);
    int result = p2p_socket_connect(sock, "127.0.0.1", port);
    if (result != 0) {
        assert_int_equal(result, P2P_ERR_WOULD_BLOCK);
        assert_true(os_poll(p2p_socket_handle(sock), POLLOUT, RAW_DEADLINE_S * 1000) > 0);
        assert_int_equal(p2p_socket_connect(sock, "127.0.0.1", port), 0);
    }
    p2p_socket_close(sock);
    os_close(listener);
}

static void nonblocking_calls_say_WOULD_BLOCK(void **state) {
    (void)state;
    uint16_t port;
    char buffer[4];
    p2p_socket_t *listener = socket_listening(&port);
    assert_int_equal(p2p_socket_set_nonblocking(listener, 1), 0);
    assert_null(p2p_socket_accept(listener));
    assert_int_equal(p2p_last_error(), P2P_ERR_WOULD_BLOCK);
    p2p_handle_t fd = raw_connect(port);
    socket_await_input(listener);
    p2p_socket_t *sock = p2p_socket_accept(listener);
    assert_non_null(sock);
    assert_int_equal(p2p_socket_set_nonblocking(sock, 1), 0);
    assert_int_equal(p2p_socket_recv(sock, buffer, sizeof buffer), P2P_ERR_WOULD_BLOCK);
    static char much[65536];
    int64_t sent;
    while ((sent = p2p_socket_send(sock, much, sizeof much)) > 0) {
    }
    assert_int_equal(sent, P2P_ERR_WOULD_BLOCK);
    p2p_socket_close(sock);
    p2p_socket_close(listener);
    os_close(fd);
}

static void fresh_sockets_are_NOT_CONNECTED(void **state) {
    (void)state;
    char byte = 0;
    p2p_address_t address;
    p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
    assert_int_equal(p2p_socket_send(sock, &byte, 1), P2P_ERR_NOT_CONNECTED);
    assert_int_equal(p2p_socket_recv(sock, &byte, 1), P2P_ERR_NOT_CONNECTED);
    assert_int_equal(p2p_socket_peer_address(sock, &address), P2P_ERR_NOT_CONNECTED);
    assert_int_equal(p2p_socket_local_address(sock, &address), P2P_ERR_INVALID);
    assert_int_equal(p2p_socket_handle(sock), P2P_INVALID_HANDLE);
    assert_null(p2p_socket_user_data(sock));
    p2p_socket_close(sock);
}

static void reset_by_the_peer_is_RESET(void **state) {
    (void)state;
    char byte;
    p2p_handle_t fd;
    p2p_socket_t *sock = socket_pair(&fd);
    raw_reset(fd);
    assert_int_equal(p2p_socket_recv(sock, &byte, 1), P2P_ERR_RESET);
    p2p_socket_close(sock);
}

/* SIGPIPE has its default action here: it would end the program. */
static void sending_to_a_peer_that_is_gone_fails_without_SIGPIPE(void **state) {
    (void)state;
    p2p_handle_t fd;
    p2p_socket_t *sock = socket_pair(&fd);
    raw_reset(fd);
    int64_t first = p2p_socket_send(sock, "x", 1), second = p2p_socket_send(sock, "x", 1);
    assert_true(first == P2P_ERR_RESET || first == P2P_ERR_CLOSED);
    assert_true(second == P2P_ERR_RESET || second == P2P_ERR_CLOSED);
    p2p_socket_close(sock);
}

static void abort_sends_RST_and_close_sends_FIN(void **state) {
    (void)state;
    p2p_handle_t fd;
    p2p_socket_close(socket_pair(&fd));
    assert_int_equal(raw_recv_end(fd), 0);
    os_close(fd);
    p2p_socket_abort(socket_pair(&fd));
    assert_int_equal(raw_recv_end(fd), ECONNRESET);
    os_close(fd);
}

/* ---- addresses ---- */

static void addresses_read_as_text_that_parses_back(void **state) {
    (void)state;
    static const struct {
        const char *text, *formatted;
    } known[] = {
        { "127.0.0.1", "127.0.0.1:8080" }, { "0.0.0.0", "0.0.0.0:8080" }, { "255.255.255.255", "255.255.255.255:8080" },
        { "::1", "[::1]:8080" },           { "::", "[::]:8080" },         { "2001:db8::ff", "[2001:db8::ff]:8080" },
    };
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        char text[P2P_ADDRESS_TEXT_SIZE];
        p2p_address_t address;
        assert_int_equal(p2p_address_parse(&address, known[i].text, 8080), 0);
        assert_int_equal(p2p_address_format(&address, text, sizeof text), strlen(known[i].formatted));
        assert_string_equal(text, known[i].formatted);
        assert_int_equal(p2p_address_port(&address), 8080);
    }
}

static void what_is_no_address_is_BAD_ADDRESS(void **state) {
    (void)state;
    static const char *const bad[] = { "not an address", "256.0.0.1", "1.2.3", "1.2.3.4.5", ":::", "1.2.3.4:80" };
    p2p_address_t address;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
        assert_int_equal(p2p_address_parse(&address, bad[i], 1), P2P_ERR_BAD_ADDRESS);
        assert_int_equal(p2p_socket_bind(sock, bad[i], 0), P2P_ERR_BAD_ADDRESS);
        assert_int_equal(p2p_socket_connect(sock, bad[i], 1), P2P_ERR_BAD_ADDRESS);
        assert_int_equal(p2p_socket_bind(sock, "127.0.0.1", 0), 0); /* nothing happened to it */
        p2p_socket_close(sock);
    }
}

static void too_little_room_for_the_text_is_INVALID_and_gives_an_empty_one(void **state) {
    (void)state;
    char text[P2P_ADDRESS_TEXT_SIZE] = "untouched";
    p2p_address_t address, none;
    memset(&none, 0, sizeof none);
    assert_int_equal(p2p_address_parse(&address, "127.0.0.1", 8080), 0);
    assert_int_equal(p2p_address_format(&address, text, sizeof "127.0.0.1:8080" - 1), P2P_ERR_INVALID);
    assert_string_equal(text, "");
    assert_int_equal(p2p_address_format(&address, text, sizeof "127.0.0.1:8080"), 14);
    assert_int_equal(p2p_address_format(&none, text, sizeof text), P2P_ERR_INVALID);
    assert_string_equal(text, "");
    assert_int_equal(p2p_address_port(&none), P2P_ERR_INVALID);
}

static void both_ends_agree_on_their_addresses(void **state) {
    (void)state;
    uint16_t port;
    char here[P2P_ADDRESS_TEXT_SIZE], there[P2P_ADDRESS_TEXT_SIZE];
    p2p_address_t address;
    p2p_socket_t *listener = socket_listening(&port), *client = p2p_socket_create(P2P_TCP);
    assert_int_equal(p2p_socket_connect(client, "localhost", port), 0);
    p2p_socket_t *accepted = p2p_socket_accept(listener);
    assert_int_equal(p2p_socket_local_address(client, &address), 0);
    assert_true(p2p_address_format(&address, here, sizeof here) > 0);
    assert_int_equal(p2p_socket_peer_address(accepted, &address), 0);
    assert_true(p2p_address_format(&address, there, sizeof there) > 0);
    assert_string_equal(here, there);
    assert_int_equal(p2p_socket_peer_address(client, &address), 0);
    assert_int_equal(p2p_address_port(&address), port);
    p2p_socket_close(accepted);
    p2p_socket_close(client);
    p2p_socket_close(listener);
}

static void a_port_in_use_is_ADDRESS_IN_USE(void **state) {
    (void)state;
    uint16_t port;
    p2p_socket_t *first = socket_listening(&port), *second = p2p_socket_create(P2P_TCP);
    assert_int_equal(p2p_socket_bind(second, "127.0.0.1", port), P2P_ERR_ADDRESS_IN_USE);
    p2p_socket_close(first);
    assert_int_equal(p2p_socket_bind(second, "127.0.0.1", port), 0); /* the failure took nothing from it */
    assert_int_equal(p2p_socket_listen(second, 0), 0);
    p2p_socket_close(second);
}

static void an_address_of_another_machine_is_ADDRESS_NOT_AVAILABLE(void **state) {
    (void)state;
    p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
    assert_int_equal(p2p_socket_bind(sock, "192.0.2.1", 0), P2P_ERR_ADDRESS_NOT_AVAILABLE);
    p2p_socket_close(sock);
}

static p2p_socket_t *listening_on(const char *address) {
    p2p_socket_t *listener = p2p_socket_create(P2P_TCP);
    int error = p2p_socket_bind(listener, address, 0);
    if (error != 0) {
        p2p_socket_close(listener);
        test_skip("no IPv6 here: %s", p2p_error_message(error));
    }
    assert_int_equal(p2p_socket_listen(listener, 0), 0);
    return listener;
}

static void ipv6_works_as_ipv4_does(void **state) {
    (void)state;
    char text[P2P_ADDRESS_TEXT_SIZE], expected[P2P_ADDRESS_TEXT_SIZE], byte = 0;
    p2p_address_t address;
    p2p_socket_t *listener = listening_on("::1"), *client = p2p_socket_create(P2P_TCP);
    uint16_t port = socket_port(listener);
    assert_int_equal(p2p_socket_connect(client, "::1", port), 0);
    p2p_socket_t *accepted = p2p_socket_accept(listener);
    assert_int_equal(p2p_socket_send(client, "6", 1), 1);
    assert_int_equal(p2p_socket_recv(accepted, &byte, 1), 1);
    assert_int_equal(byte, '6');
    assert_int_equal(p2p_socket_peer_address(client, &address), 0);
    snprintf(expected, sizeof expected, "[::1]:%u", port);
    assert_true(p2p_address_format(&address, text, sizeof text) > 0);
    assert_string_equal(text, expected);
    p2p_socket_close(accepted);
    p2p_socket_close(client);
    p2p_socket_close(listener);
}

static void the_ipv6_wildcard_takes_ipv4_too(void **state) {
    (void)state;
    p2p_socket_t *listener = listening_on("::");
    p2p_handle_t fd = raw_connect(socket_port(listener));
    assert_true(fd != P2P_INVALID_HANDLE);
    p2p_socket_t *accepted = p2p_socket_accept(listener);
    assert_non_null(accepted);
    p2p_socket_close(accepted);
    p2p_socket_close(listener);
    os_close(fd);
}

/* ---- calls that don't fit ---- */

static void calls_in_the_wrong_state_are_refused(void **state) {
    (void)state;
    p2p_handle_t fd;
    p2p_socket_t *sock = p2p_socket_create(P2P_TCP), *udp = p2p_socket_create(P2P_UDP);
    assert_int_equal(p2p_socket_listen(sock, 1), P2P_ERR_INVALID);
    assert_null(p2p_socket_accept(sock));
    assert_int_equal(p2p_last_error(), P2P_ERR_INVALID);
    assert_int_equal(p2p_socket_bind(sock, NULL, 0), 0);
    assert_int_equal(p2p_socket_bind(sock, NULL, 0), P2P_ERR_ALREADY);
    assert_null(p2p_socket_accept(sock));
    assert_int_equal(p2p_last_error(), P2P_ERR_INVALID);
    assert_int_equal(p2p_socket_listen(sock, 1), 0);
    assert_int_equal(p2p_socket_listen(sock, 1), P2P_ERR_ALREADY);
    assert_int_equal(p2p_socket_bind(udp, NULL, 0), 0);
    assert_int_equal(p2p_socket_listen(udp, 1), P2P_ERR_INVALID);
    p2p_socket_close(udp);
    p2p_socket_close(sock);
    sock = socket_pair(&fd);
    assert_int_equal(p2p_socket_listen(sock, 1), P2P_ERR_INVALID);
    assert_int_equal(p2p_socket_bind(sock, NULL, 0), P2P_ERR_ALREADY);
    p2p_socket_close(sock);
    os_close(fd);
}

static void null_is_INVALID_everywhere(void **state) {
    (void)state;
    char byte = 0;
    p2p_address_t address;
    p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
    assert_null(p2p_socket_create((p2p_socket_type_t)99));
    assert_int_equal(p2p_last_error(), P2P_ERR_INVALID);
    assert_int_equal(p2p_socket_bind(NULL, NULL, 0), P2P_ERR_INVALID);
    assert_int_equal(p2p_socket_listen(NULL, 0), P2P_ERR_INVALID);
    assert_null(p2p_socket_accept(NULL));
    assert_int_equal(p2p_last_error(), P2P_ERR_INVALID);
    assert_int_equal(p2p_socket_connect(NULL, NULL, 1), P2P_ERR_INVALID);
    assert_int_equal(p2p_socket_send(NULL, &byte, 1), P2P_ERR_INVALID);
    assert_int_equal(p2p_socket_send(sock, NULL, 1), P2P_ERR_INVALID);
    assert_int_equal(p2p_socket_recv(NULL, &byte, 1), P2P_ERR_INVALID);
    assert_int_equal(p2p_socket_recv(sock, NULL, 1), P2P_ERR_INVALID);
    assert_int_equal(p2p_datagram_send(NULL, &byte, 1, NULL), P2P_ERR_INVALID);
    assert_int_equal(p2p_datagram_recv(NULL, &byte, 1, NULL), P2P_ERR_INVALID);
    assert_int_equal(p2p_socket_set_nonblocking(NULL, 1), P2P_ERR_INVALID);
    assert_int_equal(p2p_socket_set_max_message_size(NULL, 1), P2P_ERR_INVALID);
    assert_int_equal(p2p_socket_local_address(NULL, &address), P2P_ERR_INVALID);
    assert_int_equal(p2p_socket_local_address(sock, NULL), P2P_ERR_INVALID);
    assert_int_equal(p2p_socket_peer_address(NULL, &address), P2P_ERR_INVALID);
    assert_int_equal(p2p_socket_peer_address(sock, NULL), P2P_ERR_INVALID);
    assert_int_equal(p2p_address_parse(NULL, "::1", 1), P2P_ERR_INVALID);
    assert_int_equal(p2p_address_format(NULL, &byte, 1), P2P_ERR_INVALID);
    assert_int_equal(p2p_address_port(NULL), P2P_ERR_INVALID);
    assert_null(p2p_socket_user_data(NULL));
    assert_int_equal(p2p_socket_handle(NULL), P2P_INVALID_HANDLE);
    p2p_socket_close(NULL);
    p2p_socket_abort(NULL);
    p2p_socket_close(sock);
}

/* ---- handles ---- */

static void handles_are_not_inherited_by_child_programs(void **state) {
    (void)state;
    uint16_t port;
    p2p_socket_t *listener = socket_listening(&port);
    p2p_handle_t fd = raw_connect(port);
    p2p_socket_t *accepted = p2p_socket_accept(listener);
    assert_false(os_is_inheritable(p2p_socket_handle(listener)));
    assert_false(os_is_inheritable(p2p_socket_handle(accepted)));
    p2p_socket_close(accepted);
    p2p_socket_close(listener);
    os_close(fd);
}

static void an_adopted_connection_is_used_and_closed_as_ones_own(void **state) {
    (void)state;
    uint16_t port;
    char buffer[4];
    p2p_handle_t listener = raw_listen(&port, 1), peer = raw_connect(port), handle = raw_accept(listener);
    p2p_socket_t *sock = p2p_socket_adopt(handle, P2P_TCP);
    assert_non_null(sock);
    assert_int_equal(p2p_socket_handle(sock), handle);
    assert_int_equal(p2p_socket_send(sock, "ping", 4), 4);
    assert_true(raw_recv(peer, buffer, 4));
    p2p_socket_close(sock);
    assert_false(os_is_open(handle));
    assert_int_equal(raw_recv_end(peer), 0);
    os_close(peer);
    os_close(listener);
}

/* Windows can't tell the mode of the handle, so p2pnet sets it. */
static void an_adopted_non_blocking_handle_is_blocking_when_that_is_asked_for(void **state) {
    (void)state;
    char byte;
    p2p_handle_t ends[2];
    assert_int_equal(os_stream_pair(ends), 0);
    assert_int_equal(os_set_nonblocking(ends[0], true), 0);
    p2p_socket_t *sock = p2p_socket_adopt(ends[0], P2P_TCP);
    assert_non_null(sock);
    assert_int_equal(p2p_socket_set_nonblocking(sock, 0), 0);
    assert_int_equal(os_send(ends[1], "x", 1), 1);
    assert_int_equal(p2p_socket_recv(sock, &byte, 1), 1);
    assert_false(os_is_nonblocking(ends[0]));
    p2p_socket_close(sock);
    os_close(ends[1]);
}

static void an_adopted_listener_accepts(void **state) {
    (void)state;
    uint16_t port;
    p2p_socket_t *listener = p2p_socket_adopt(raw_listen(&port, 1), P2P_TCP);
    assert_non_null(listener);
    p2p_handle_t fd = raw_connect(port);
    p2p_socket_t *accepted = p2p_socket_accept(listener);
    assert_non_null(accepted);
    p2p_socket_close(accepted);
    p2p_socket_close(listener);
    os_close(fd);
}

static void an_adopted_fresh_socket_can_bind(void **state) {
    (void)state;
    p2p_socket_t *sock = p2p_socket_adopt(os_socket(AF_INET, SOCK_STREAM), P2P_TCP);
    assert_non_null(sock);
    assert_int_equal(p2p_socket_bind(sock, "127.0.0.1", 0), 0);
    assert_int_equal(p2p_socket_listen(sock, 0), 0);
    p2p_socket_close(sock);
}

static void an_adopted_bound_socket_can_listen(void **state) {
    (void)state;
    uint16_t port;
    p2p_handle_t handle = os_socket(AF_INET, SOCK_STREAM);
    assert_int_equal(os_bind_loopback(handle, &port), 0);
    p2p_socket_t *sock = p2p_socket_adopt(handle, P2P_TCP);
    assert_non_null(sock);
    assert_int_equal(p2p_socket_listen(sock, 0), 0);
    p2p_handle_t fd = raw_connect(port);
    p2p_socket_t *accepted = p2p_socket_accept(sock);
    assert_non_null(accepted);
    p2p_socket_close(accepted);
    p2p_socket_close(sock);
    os_close(fd);
}

static void a_handle_that_does_not_fit_is_not_adopted_and_stays_the_callers(void **state) {
    (void)state;
    p2p_handle_t file = os_null_device(), udp = os_socket(AF_INET, SOCK_DGRAM);
    assert_null(p2p_socket_adopt(file, P2P_TCP));
    assert_int_equal(p2p_last_error(), P2P_ERR_INVALID);
    assert_null(p2p_socket_adopt(udp, P2P_TCP));
    assert_int_equal(p2p_last_error(), P2P_ERR_INVALID);
    assert_null(p2p_socket_adopt(P2P_INVALID_HANDLE, P2P_TCP));
    assert_int_equal(p2p_last_error(), P2P_ERR_INVALID);
    assert_int_equal(os_close(file), 0);
    assert_int_equal(os_close(udp), 0);
    assert_null(p2p_socket_adopt(file, P2P_TCP)); /* closed by now */
    assert_int_equal(p2p_last_error(), P2P_ERR_INVALID);
}

/* ---- UDP ---- */

static void datagrams_carry_addresses_and_keep_their_boundaries(void **state) {
    (void)state;
    char buffer[16];
    p2p_address_t to, from;
    p2p_socket_t *server = p2p_socket_create(P2P_UDP), *client = p2p_socket_create(P2P_UDP);
    assert_int_equal(p2p_socket_bind(server, "127.0.0.1", 0), 0);
    assert_int_equal(p2p_socket_local_address(server, &to), 0);
    assert_int_equal(p2p_datagram_send(client, "one", 3, &to), 0);
    assert_int_equal(p2p_datagram_send(client, NULL, 0, &to), 0);
    assert_int_equal(p2p_datagram_send(client, "too long for it", 15, &to), 0);
    assert_int_equal(p2p_datagram_recv(server, buffer, sizeof buffer, &from), 3);
    assert_memory_equal(buffer, "one", 3);
    assert_int_equal(p2p_address_port(&from), socket_port(client));
    assert_int_equal(p2p_datagram_recv(server, buffer, sizeof buffer, NULL), 0);
    assert_int_equal(p2p_datagram_recv(server, buffer, 8, NULL), 8); /* the rest is lost */
    assert_int_equal(p2p_datagram_send(server, "back", 4, &from), 0);
    assert_int_equal(p2p_datagram_recv(client, buffer, sizeof buffer, &from), 4);
    assert_int_equal(p2p_address_port(&from), socket_port(server));
    assert_int_equal(p2p_socket_set_nonblocking(server, 1), 0);
    assert_int_equal(p2p_datagram_recv(server, buffer, sizeof buffer, NULL), P2P_ERR_WOULD_BLOCK);
    p2p_socket_close(client);
    p2p_socket_close(server);
}

static void a_connected_datagram_socket_needs_no_address(void **state) {
    (void)state;
    char buffer[16];
    p2p_socket_t *server = p2p_socket_create(P2P_UDP), *client = p2p_socket_create(P2P_UDP);
    assert_int_equal(p2p_socket_bind(server, "127.0.0.1", 0), 0);
    assert_int_equal(p2p_datagram_send(client, "x", 1, NULL), P2P_ERR_NOT_CONNECTED);
    assert_int_equal(p2p_socket_connect(client, "127.0.0.1", socket_port(server)), 0);
    assert_int_equal(p2p_datagram_send(client, "one", 3, NULL), 0);
    assert_int_equal(p2p_socket_send(client, "two!", 4), 4);
    assert_int_equal(p2p_datagram_recv(server, buffer, sizeof buffer, NULL), 3);
    assert_int_equal(p2p_socket_recv(server, buffer, sizeof buffer), 4);
    p2p_socket_close(client);
    p2p_socket_close(server);
}

static void a_datagram_too_long_for_the_network_is_TOO_LONG(void **state) {
    (void)state;
    static char much[70000];
    p2p_address_t to;
    p2p_socket_t *sock = p2p_socket_create(P2P_UDP);
    assert_int_equal(p2p_address_parse(&to, "127.0.0.1", 9), 0);
    assert_int_equal(p2p_datagram_send(sock, much, sizeof much, &to), P2P_ERR_TOO_LONG);
    p2p_socket_close(sock);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        CASE(bytes_go_both_ways_between_accepted_and_raw),
        CASE(connect_waits_for_the_answer),
        CASE(connect_without_address_means_loopback),
        CASE(connect_where_nobody_listens_is_REFUSED),
        CASE(nonblocking_connect_is_asked_again_until_connected),
        CASE(nonblocking_calls_say_WOULD_BLOCK),
        CASE(fresh_sockets_are_NOT_CONNECTED),
        CASE(reset_by_the_peer_is_RESET),
        CASE(sending_to_a_peer_that_is_gone_fails_without_SIGPIPE),
        CASE(abort_sends_RST_and_close_sends_FIN),
        CASE(addresses_read_as_text_that_parses_back),
        CASE(what_is_no_address_is_BAD_ADDRESS),
        CASE(too_little_room_for_the_text_is_INVALID_and_gives_an_empty_one),
        CASE(both_ends_agree_on_their_addresses),
        CASE(a_port_in_use_is_ADDRESS_IN_USE),
        CASE(an_address_of_another_machine_is_ADDRESS_NOT_AVAILABLE),
        CASE(ipv6_works_as_ipv4_does),
        CASE(the_ipv6_wildcard_takes_ipv4_too),
        CASE(calls_in_the_wrong_state_are_refused),
        CASE(null_is_INVALID_everywhere),
        CASE(handles_are_not_inherited_by_child_programs),
        CASE(an_adopted_connection_is_used_and_closed_as_ones_own),
        CASE(an_adopted_non_blocking_handle_is_blocking_when_that_is_asked_for),
        CASE(an_adopted_listener_accepts),
        CASE(an_adopted_fresh_socket_can_bind),
        CASE(an_adopted_bound_socket_can_listen),
        CASE(a_handle_that_does_not_fit_is_not_adopted_and_stays_the_callers),
        CASE(datagrams_carry_addresses_and_keep_their_boundaries),
        CASE(a_connected_datagram_socket_needs_no_address),
        CASE(a_datagram_too_long_for_the_network_is_TOO_LONG),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
