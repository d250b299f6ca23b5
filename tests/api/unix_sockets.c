/* Unix-domain sockets: the system's own sockets are the peers. */
#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static char folder[32];
static char path[64], address[80]; /* a path in the folder, and "unix:" before it */

static int setup(void **state) {
    strcpy(folder, "/tmp/p2pnet-XXXXXX");
    if (mkdtemp(folder) == NULL) return -1;
    snprintf(path, sizeof path, "%s/socket", folder);
    snprintf(address, sizeof address, "unix:%s", path);
    return fixture_setup(state);
}

static int teardown(void **state) {
    unlink(path);
    if (rmdir(folder) != 0) fail_msg("%s: not empty", folder);
    return fixture_teardown(state);
}

static struct sockaddr_un name_of(const char *text) {
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    strcpy(name.sun_path, text);
    return name;
}

static p2p_handle_t raw_unix(int type, const char *bound_to, const char *connected_to) {
    p2p_handle_t fd = os_socket(AF_UNIX, type);
    assert_int_equal(os_set_deadline(fd, RAW_DEADLINE_S), 0);
    if (bound_to != NULL) {
        struct sockaddr_un name = name_of(bound_to);
        assert_int_equal(bind(fd, (const struct sockaddr *)&name, sizeof name), 0);
    }
    if (connected_to != NULL) {
        struct sockaddr_un name = name_of(connected_to);
        assert_int_equal(os_connect(fd, (const struct sockaddr *)&name, sizeof name), 0);
    }
    return fd;
}

static p2p_socket_t *bound(p2p_socket_type_t type, const char *text) {
    p2p_socket_t *sock = p2p_socket_create(type);
    assert_int_equal(p2p_socket_bind(sock, text, 0), 0);
    return sock;
}

static p2p_socket_t *listening(const char *text) {
    p2p_socket_t *sock = bound(P2P_TCP, text);
    assert_int_equal(p2p_socket_listen(sock, 0), 0);
    return sock;
}

static int try_bind(p2p_socket_type_t type, const char *text) {
    p2p_socket_t *sock = p2p_socket_create(type);
    int result = p2p_socket_bind(sock, text, 0);
    p2p_socket_close(sock);
    return result;
}

static void expect_text(const p2p_address_t *which, const char *text) {
    char got[P2P_ADDRESS_TEXT_SIZE];
    assert_int_equal(p2p_address_format(which, got, sizeof got), strlen(text));
    assert_string_equal(got, text);
}

/* ---- connections ---- */

typedef struct server {
    p2p_event_loop_t *loop;
    p2p_socket_t *peer;
    unsigned messages, ends, errors, answers, refusals, writes, closes;
    int error;
    uint32_t length;
    p2p_address_t from;
} server;

static void echo(p2p_socket_t *sock, const void *data, uint32_t length, void *user_data) {
    server *s = user_data;
    s->messages++;
    s->length = length;
    assert_int_equal(p2p_message_send_data(sock, data, length), 0);
}

static void ended(p2p_socket_t *sock, void *user_data) {
    ((server *)user_data)->ends++;
    p2p_socket_close(sock);
}

static void failed(p2p_socket_t *sock, int error, void *user_data) {
    server *s = user_data;
    (void)sock;
    s->errors++;
    s->error = error;
}

static void answered(p2p_socket_t *sock, int error, void *user_data) {
    server *s = user_data;
    (void)sock;
    s->answers++;
    s->refusals += error == P2P_ERR_REFUSED;
    s->error = error;
}

static void closed(p2p_socket_t *sock, int reason, void *user_data) {
    (void)sock;
    (void)reason;
    ((server *)user_data)->closes++;
}

static const p2p_socket_callbacks_t echo_callbacks = {
    sizeof(p2p_socket_callbacks_t), ended, echo, NULL, failed, answered, closed
};

static void take(p2p_socket_t *listener, void *user_data) {
    server *s = user_data;
    s->peer = p2p_socket_accept(listener);
    assert_non_null(s->peer);
    assert_int_equal(p2p_event_loop_add_socket_with(s->loop, s->peer, &echo_callbacks, s), 0);
}

static void a_listener_serves_a_peer_at_its_path(void **state) {
    (void)state;
    server s = { .loop = loop_create(NULL) };
    p2p_address_t local, peer;
    p2p_socket_t *listener = listening(address);
    assert_int_equal(p2p_event_loop_add_socket(s.loop, listener, take, &s), 0);
    assert_int_equal(p2p_socket_local_address(listener, &local), 0);
    expect_text(&local, address);
    p2p_handle_t fd = raw_unix(SOCK_STREAM, NULL, path);
    assert_true(raw_send_text(fd, "hello"));
    loop_expect_text(s.loop, fd, "hello");
    assert_int_equal(p2p_socket_peer_address(s.peer, &peer), 0);
    expect_text(&peer, "unix:");
    assert_int_equal(p2p_address_port(&peer), P2P_ERR_INVALID);
    assert_int_equal(p2p_address_port(&local), P2P_ERR_INVALID);
    raw_fin(fd);
    assert_int_equal(loop_recv_end(s.loop, fd), 0);
    assert_int_equal(s.ends, 1);
    os_close(fd);
    p2p_socket_close(listener);
    p2p_event_loop_free(s.loop);
}

static void a_socket_in_a_loop_connects_to_a_path(void **state) {
    (void)state;
    server s = { .loop = loop_create(NULL) };
    p2p_address_t peer;
    p2p_handle_t raw = raw_unix(SOCK_STREAM, path, NULL);
    assert_int_equal(os_listen(raw, 4), 0);
    p2p_socket_t *client = p2p_socket_create(P2P_TCP);
    assert_int_equal(p2p_event_loop_add_socket_with(s.loop, client, &echo_callbacks, &s), 0);
    assert_int_equal(p2p_socket_connect(client, address, 4711), 0); /* the port says nothing */
    p2p_handle_t fd = loop_accept(s.loop, raw);
    RUN_UNTIL(s.loop, s.answers == 1);
    assert_int_equal(s.error, 0);
    assert_int_equal(p2p_socket_peer_address(client, &peer), 0);
    expect_text(&peer, address);
    assert_true(raw_send_text(fd, "there and back"));
    loop_expect_text(s.loop, fd, "there and back");
    os_close(fd);
    os_close(raw);
    RUN_UNTIL(s.loop, s.closes == 1);
    p2p_event_loop_free(s.loop);
}

static void outside_a_loop_messages_go_both_ways(void **state) {
    (void)state;
    p2p_socket_t *listener = listening(address), *client = p2p_socket_create(P2P_TCP);
    assert_int_equal(p2p_socket_connect(client, address, 0), 0);
    p2p_socket_t *peer = p2p_socket_accept(listener);
    assert_int_equal(p2p_message_send_data(client, "x", 1), 0);
    p2p_message_t *message = p2p_message_recv(peer);
    assert_non_null(message);
    assert_int_equal(p2p_message_send(peer, message), 0);
    p2p_message_free(message);
    message = p2p_message_recv(client);
    assert_non_null(message);
    p2p_message_free(message);
    p2p_socket_abort(peer);
    p2p_socket_close(client);
    p2p_socket_close(listener);
}

static void an_abstract_name_is_no_file(void **state) {
    (void)state;
    char text[64];
    p2p_address_t local;
    snprintf(text, sizeof text, "unix:@p2pnet test %ld", (long)getpid());
#if !defined(__linux__)
    assert_int_equal(try_bind(P2P_TCP, text), P2P_ERR_NOT_SUPPORTED);
    return;
#endif
    server s = { .loop = loop_create(NULL) };
    p2p_socket_t *listener = listening(text), *client = p2p_socket_create(P2P_TCP);
    assert_int_equal(p2p_socket_local_address(listener, &local), 0);
    expect_text(&local, text);
    assert_int_equal(try_bind(P2P_TCP, text), P2P_ERR_ADDRESS_IN_USE);
    assert_int_equal(p2p_event_loop_add_socket(s.loop, listener, take, &s), 0);
    assert_int_equal(p2p_socket_connect(client, text, 0), 0);
    assert_int_equal(p2p_message_send_data(client, "x", 1), 0);
    RUN_UNTIL(s.loop, s.messages == 1);
    p2p_socket_close(client);
    p2p_socket_close(listener);
    assert_int_equal(try_bind(P2P_TCP, text), 0); /* gone with its socket */
    p2p_event_loop_free(s.loop);
}

/* ---- paths ---- */

static void a_path_that_was_left_behind_is_replaced(void **state) {
    (void)state;
    for (p2p_socket_type_t type = P2P_TCP; type <= P2P_UDP; type++) {
        p2p_socket_close(bound(type, address));
        assert_int_equal(access(path, F_OK), 0); /* not ours to remove */
        p2p_socket_close(type == P2P_TCP ? listening(address) : bound(type, address));
    }
}

static void a_path_that_a_socket_has_is_in_use(void **state) {
    (void)state;
    static const int types[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_STREAM };
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        p2p_handle_t fd = raw_unix(types[i], path, NULL);
        if (i == 0) assert_int_equal(os_listen(fd, 4), 0); /* the last one is only bound */
        assert_int_equal(try_bind(P2P_TCP, address), P2P_ERR_ADDRESS_IN_USE);
        assert_int_equal(try_bind(P2P_UDP, address), P2P_ERR_ADDRESS_IN_USE);
        if (i < 2) assert_false(raw_readable(fd)); /* it did not even notice */
        assert_int_equal(access(path, F_OK), 0);
        os_close(fd);
        unlink(path);
    }
}

static void a_file_that_is_no_socket_is_not_touched(void **state) {
    (void)state;
    char other[64], back[8] = "";
    snprintf(other, sizeof other, "%s/other", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("data", file);
    fclose(file);
    assert_int_equal(try_bind(P2P_TCP, address), P2P_ERR_ADDRESS_IN_USE);
    file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(back, sizeof back, file));
    fclose(file);
    assert_string_equal(back, "data");
    unlink(path);
    os_close(raw_unix(SOCK_STREAM, other, NULL)); /* a link to a stale socket is no socket either */
    assert_int_equal(symlink(other, path), 0);
    assert_int_equal(try_bind(P2P_TCP, address), P2P_ERR_ADDRESS_IN_USE);
    assert_int_equal(access(other, F_OK), 0);
    unlink(other);
}

static void what_can_not_be_bound_or_connected_has_its_reason(void **state) {
    (void)state;
    char missing[80];
    snprintf(missing, sizeof missing, "unix:%s/none/socket", folder);
    assert_int_equal(try_bind(P2P_TCP, missing), P2P_ERR_NOT_FOUND);
    p2p_socket_t *client = p2p_socket_create(P2P_TCP);
    assert_int_equal(p2p_socket_connect(client, address, 0), P2P_ERR_NOT_FOUND);
    p2p_socket_close(bound(P2P_TCP, address));
    assert_int_equal(p2p_socket_connect(client, address, 0), P2P_ERR_REFUSED);
    p2p_socket_t *listener = listening(address);
    assert_int_equal(p2p_socket_connect(client, address, 0), 0); /* it can be tried again */
    p2p_socket_close(client);
    p2p_socket_close(listener);
}

static void addresses_have_a_longest_path(void **state) {
    (void)state;
    enum { LONGEST = sizeof(((struct sockaddr_un *)0)->sun_path) - 1 };
    p2p_address_t parsed;
    char text[160] = "unix:", back[P2P_ADDRESS_TEXT_SIZE];
    memset(text + 5, 'x', LONGEST + 1);
    assert_int_equal(p2p_address_parse(&parsed, text, 0), P2P_ERR_BAD_ADDRESS);
    text[5 + LONGEST] = '\0';
    assert_int_equal(p2p_address_parse(&parsed, text, 0), 0);
    assert_int_equal(p2p_address_format(&parsed, back, sizeof back), 5 + LONGEST);
    assert_string_equal(back, text);
    assert_int_equal(p2p_address_format(&parsed, back, 5 + LONGEST), P2P_ERR_INVALID);
    assert_string_equal(back, "");
    assert_int_equal(p2p_address_parse(&parsed, "unix:", 0), P2P_ERR_BAD_ADDRESS);
    assert_int_equal(p2p_address_parse(&parsed, "unix:@", 0), P2P_ERR_BAD_ADDRESS);
    assert_int_equal(p2p_address_parse(&parsed, "unix:a\nb\x7F", 0), 0);
    expect_text(&parsed, "unix:a?b?"); /* no line is broken by somebody else's path */
}

/* ---- options and adoption ---- */

static void options_of_tcp_do_not_fail(void **state) {
    (void)state;
    p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
    assert_int_equal(p2p_socket_set_option(sock, P2P_OPTION_KEEPALIVE, 10), 0);
    assert_int_equal(p2p_socket_set_option(sock, P2P_OPTION_DUAL_STACK, 1), 0);
    assert_int_equal(p2p_socket_bind(sock, address, 0), 0);
    assert_int_equal(p2p_socket_set_option(sock, P2P_OPTION_NODELAY, 0), 0);
    assert_int_equal(p2p_socket_get_option(sock, P2P_OPTION_NODELAY), 0);
    assert_int_equal(p2p_socket_set_option(sock, P2P_OPTION_SEND_BUFFER, 65536), 0);
    assert_true(p2p_socket_get_option(sock, P2P_OPTION_SEND_BUFFER) >= 65536);
    p2p_socket_close(sock);
}

static void handles_are_adopted_as_what_they_are(void **state) {
    (void)state;
    server s = { .loop = loop_create(NULL) };
    p2p_handle_t listener = raw_unix(SOCK_STREAM, path, NULL);
    p2p_socket_t *sock = p2p_socket_adopt(listener, P2P_TCP);
    assert_non_null(sock);
    assert_int_equal(p2p_socket_bind(sock, address, 0), P2P_ERR_ALREADY);
    assert_int_equal(p2p_socket_listen(sock, 0), 0);
    assert_int_equal(p2p_event_loop_add_socket(s.loop, sock, take, &s), 0);
    p2p_handle_t fd = raw_unix(SOCK_STREAM, NULL, path);
    assert_true(raw_send_text(fd, "x"));
    loop_expect_text(s.loop, fd, "x");
    os_close(fd);
    p2p_socket_close(sock);
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    sock = p2p_socket_adopt(ends[0], P2P_TCP);
    assert_non_null(sock);
    assert_int_equal(p2p_event_loop_add_socket_with(s.loop, sock, &echo_callbacks, &s), 0);
    assert_true(raw_send_text(ends[1], "pair"));
    loop_expect_text(s.loop, ends[1], "pair");
    os_close(ends[1]);
    RUN_UNTIL(s.loop, s.ends == 2);
    p2p_event_loop_free(s.loop);
}

/* ---- datagrams ---- */

static void note(p2p_socket_t *sock, const void *data, uint32_t length, void *user_data) {
    server *s = user_data;
    s->messages++;
    s->length = length;
    assert_int_equal(p2p_datagram_sender(sock, &s->from), 0);
    if (s->from.length > 0) assert_int_equal(p2p_datagram_send(sock, data, length, &s->from), 0);
}

static void written(p2p_socket_t *sock, void *user_data) {
    (void)sock;
    ((server *)user_data)->writes++;
}

static const p2p_socket_callbacks_t datagram_callbacks = {
    sizeof(p2p_socket_callbacks_t), NULL, note, written, failed, NULL, closed
};

static void datagrams_come_with_their_senders_path(void **state) {
    (void)state;
    char own[64], own_address[80], back[8];
    server s = { .loop = loop_create(NULL) };
    p2p_socket_t *sock = bound(P2P_UDP, address);
    assert_int_equal(p2p_event_loop_add_socket_with(s.loop, sock, &datagram_callbacks, &s), 0);
    snprintf(own, sizeof own, "%s/own", folder);
    snprintf(own_address, sizeof own_address, "unix:%s", own);
    p2p_handle_t fd = raw_unix(SOCK_DGRAM, own, path);
    assert_int_equal(os_send(fd, "hello", 5), 5);
    RUN_UNTIL(s.loop, s.messages == 1);
    expect_text(&s.from, own_address);
    assert_int_equal(os_recv(fd, back, sizeof back), 5);
    os_close(fd);
    unlink(own);
    fd = raw_unix(SOCK_DGRAM, NULL, path);
    assert_int_equal(os_send(fd, "", 0), 0);
    RUN_UNTIL(s.loop, s.messages == 2);
    assert_int_equal(s.length, 0);
#if defined(__linux__)
    assert_int_equal(s.from.length, 0); /* nobody to answer to */
#endif
    os_close(fd);
    p2p_socket_close(sock);
    p2p_event_loop_free(s.loop);
}

static void a_datagram_too_long_for_the_buffer_is_told_and_not_delivered_cut(void **state) {
    (void)state;
    static uint8_t data[70000];
    server s = { .loop = loop_create(NULL) };
    p2p_socket_t *sock = bound(P2P_UDP, address);
    assert_int_equal(p2p_event_loop_add_socket_with(s.loop, sock, &datagram_callbacks, &s), 0);
    p2p_handle_t fd = raw_unix(SOCK_DGRAM, NULL, path);
    assert_int_equal(os_set_option(fd, SOL_SOCKET, SO_SNDBUF, 1 << 18), 0);
    assert_int_equal(os_send(fd, data, 65537), 65537);
    RUN_UNTIL(s.loop, s.errors == 1);
    assert_int_equal(s.error, P2P_ERR_TOO_LONG);
    assert_int_equal(s.messages, 0);
    assert_int_equal(os_send(fd, data, 65536), 65536);
    RUN_UNTIL(s.loop, s.messages == 1);
    assert_int_equal(s.length, 65536);
    os_close(fd);
    p2p_socket_close(sock);
    p2p_event_loop_free(s.loop);
}

#if defined(__linux__) /* elsewhere a full receiver is an error, ENOBUFS, and nobody tells when it has room */

static void a_full_receiver_is_told_by_queue_full_and_room_by_on_write(void **state) {
    (void)state;
    char byte;
    unsigned sent = 0;
    int result;
    server s = { .loop = loop_create(NULL) };
    p2p_handle_t fd = raw_unix(SOCK_DGRAM, path, NULL);
    p2p_socket_t *sock = p2p_socket_create(P2P_UDP);
    assert_int_equal(p2p_socket_connect(sock, address, 0), 0);
    assert_int_equal(p2p_event_loop_add_socket_with(s.loop, sock, &datagram_callbacks, &s), 0);
    while ((result = p2p_message_send_data(sock, "x", 1)) == 0) assert_in_range(++sent, 1, 100000);
    assert_int_equal(result, P2P_ERR_QUEUE_FULL);
    assert_int_equal(loop_stats(s.loop).sends_refused, 1);
    loop_settle(s.loop);
    assert_int_equal(s.writes, 0);
    for (; sent > 0; sent--) assert_int_equal(os_recv(fd, &byte, 1), 1);
    RUN_UNTIL(s.loop, s.writes == 1);
    assert_int_equal(p2p_message_send_data(sock, "y", 1), 0);
    loop_settle(s.loop);
    assert_int_equal(s.writes, 1);
    assert_int_equal(os_recv(fd, &byte, 1), 1);
    assert_int_equal(byte, 'y');
    os_close(fd);
    p2p_socket_close(sock);
    p2p_event_loop_free(s.loop);
}

static void closing_one_waits_for_nobody_who_does_not_read(void **state) {
    (void)state;
    server s = { .loop = loop_create(NULL) };
    p2p_handle_t fd = raw_unix(SOCK_DGRAM, path, NULL);
    p2p_socket_t *sock = p2p_socket_create(P2P_UDP);
    assert_int_equal(p2p_socket_connect(sock, address, 0), 0);
    assert_int_equal(p2p_event_loop_add_socket_with(s.loop, sock, &datagram_callbacks, &s), 0);
    assert_int_equal(p2p_socket_send(sock, "unread", 6), 6);
    p2p_socket_close(sock);
    assert_int_equal(loop_stats(s.loop).remainders, 0);
    RUN_UNTIL(s.loop, s.closes == 1);
    os_close(fd);
    p2p_event_loop_free(s.loop);
}

static void connect_to_a_full_listener(p2p_event_loop_t *loop, p2p_socket_t **socks, size_t count, server *s) {
    for (size_t i = 0; i < count; i++) {
        socks[i] = p2p_socket_create(P2P_TCP);
        assert_int_equal(p2p_event_loop_add_socket_with(loop, socks[i], &echo_callbacks, s), 0);
        assert_int_equal(p2p_socket_connect(socks[i], address, 0), 0);
    }
}

static void a_full_listener_refuses(void **state) {
    (void)state;
    needs_emulated_io(); /* the kernel's own connect waits for room */
    p2p_socket_t *socks[4];
    server s = { .loop = loop_create(NULL) };
    p2p_handle_t fd = raw_unix(SOCK_STREAM, path, NULL);
    assert_int_equal(os_listen(fd, 1), 0); /* takes two */
    connect_to_a_full_listener(s.loop, socks, COUNT_OF(socks), &s);
    RUN_UNTIL(s.loop, s.answers == COUNT_OF(socks));
    assert_int_equal(s.refusals, COUNT_OF(socks) - 2);
    for (size_t i = 0; i < COUNT_OF(socks); i++) p2p_socket_close(socks[i]);
    p2p_event_loop_free(s.loop);
    os_close(fd);
}

#endif

#define UNIX_CASE(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        UNIX_CASE(a_listener_serves_a_peer_at_its_path),
        UNIX_CASE(a_socket_in_a_loop_connects_to_a_path),
        UNIX_CASE(outside_a_loop_messages_go_both_ways),
        UNIX_CASE(an_abstract_name_is_no_file),
        UNIX_CASE(a_path_that_was_left_behind_is_replaced),
        UNIX_CASE(a_path_that_a_socket_has_is_in_use),
        UNIX_CASE(a_file_that_is_no_socket_is_not_touched),
        UNIX_CASE(what_can_not_be_bound_or_connected_has_its_reason),
        UNIX_CASE(addresses_have_a_longest_path),
        UNIX_CASE(options_of_tcp_do_not_fail),
        UNIX_CASE(handles_are_adopted_as_what_they_are),
        UNIX_CASE(datagrams_come_with_their_senders_path),
        UNIX_CASE(a_datagram_too_long_for_the_buffer_is_told_and_not_delivered_cut),
#if defined(__linux__)
        UNIX_CASE(a_full_receiver_is_told_by_queue_full_and_room_by_on_write),
        UNIX_CASE(closing_one_waits_for_nobody_who_does_not_read),
        UNIX_CASE(a_full_listener_refuses),
#endif
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
