/* UDP in a loop. */
#include "fixture.h"

/* Whether it is told that nobody was there to take a datagram: see p2p_datagram_send. */
#if defined(_WIN32)
enum { REFUSALS_TOLD = 0 };
#else
enum { REFUSALS_TOLD = 1 };
#endif

typedef struct peer {
    p2p_socket_t *sock;
    unsigned reads, received, empty, refused, errors;
    char text[256];
    bool echo;
} peer;

static void on_read(p2p_socket_t *sock, void *user_data) {
    peer *p = user_data;
    p2p_address_t from;
    char buffer[64];
    p->reads++;
    int64_t length = p2p_datagram_recv(sock, buffer, sizeof buffer - 1, &from);
    if (length == P2P_ERR_REFUSED) { /* an earlier one of ours found nobody */
        p->refused++;
        return;
    }
    assert_true(length >= 0); /* a first call never says WOULD_BLOCK */
    buffer[length] = '\0';
    p->received++;
    if (length == 0) p->empty++;
    strncat(p->text, buffer, sizeof p->text - strlen(p->text) - 1);
    if (p->echo) assert_int_equal(p2p_datagram_send(sock, buffer, (size_t)length, &from), 0);
}

static void on_error(p2p_socket_t *sock, int error, void *user_data) {
    peer *p = user_data;
    assert_ptr_equal(sock, p->sock);
    assert_int_equal(error, P2P_ERR_REFUSED);
    p->errors++;
}

static const p2p_socket_callbacks_t callbacks = {
    sizeof(p2p_socket_callbacks_t), on_read, NULL, NULL, on_error, NULL, NULL
};

static void open_peer(peer *p, p2p_event_loop_t *loop) {
    p->sock = p2p_socket_create(P2P_UDP);
    assert_int_equal(p2p_socket_bind(p->sock, "127.0.0.1", 0), 0);
    assert_int_equal(p2p_event_loop_add_socket_with(loop, p->sock, &callbacks, p), 0);
}

static void send_to(const peer *from, const peer *to, const char *text) {
    p2p_address_t address;
    assert_int_equal(p2p_socket_local_address(to->sock, &address), 0);
    assert_int_equal(p2p_datagram_send(from->sock, text, strlen(text), &address), 0);
}

static void each_datagram_is_announced_and_can_be_answered(void **state) {
    (void)state;
    peer server = { .echo = true }, client = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    open_peer(&server, loop);
    open_peer(&client, loop);
    send_to(&client, &server, "one,");
    send_to(&client, &server, "two,");
    send_to(&client, &server, "three");
    RUN_UNTIL(loop, client.received == 3);
    assert_string_equal(client.text, "one,two,three");
    loop_settle(loop);
    assert_int_equal(server.reads, 3);
    p2p_socket_close(client.sock);
    p2p_socket_close(server.sock);
    p2p_event_loop_free(loop);
}

static void an_empty_datagram_is_an_event_and_not_an_end(void **state) {
    (void)state;
    peer server = { 0 }, client = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    open_peer(&server, loop);
    open_peer(&client, loop);
    send_to(&client, &server, "");
    send_to(&client, &server, "after");
    RUN_UNTIL(loop, server.received == 2);
    assert_int_equal(server.empty, 1);
    assert_string_equal(server.text, "after");
    p2p_socket_close(client.sock);
    p2p_socket_close(server.sock);
    p2p_event_loop_free(loop);
}

static void in_a_loop_receiving_never_waits(void **state) {
    (void)state;
    peer server = { 0 };
    char byte;
    p2p_event_loop_t *loop = loop_create(NULL);
    open_peer(&server, loop);
    assert_int_equal(p2p_datagram_recv(server.sock, &byte, 1, NULL), P2P_ERR_WOULD_BLOCK);
    p2p_socket_close(server.sock);
    p2p_event_loop_free(loop);
}

static void a_removed_socket_is_blocking_again_and_keeps_its_address(void **state) {
    (void)state;
    peer server = { 0 }, client = { 0 };
    char buffer[8];
    p2p_event_loop_t *loop = loop_create(NULL);
    open_peer(&server, loop);
    open_peer(&client, loop);
    assert_int_equal(p2p_event_loop_remove_socket(loop, server.sock), 0);
    send_to(&client, &server, "hello");
    assert_int_equal(p2p_datagram_recv(server.sock, buffer, sizeof buffer, NULL), 5);
    loop_settle(loop);
    assert_int_equal(server.reads, 0);
    p2p_socket_close(client.sock);
    p2p_socket_close(server.sock);
    p2p_event_loop_free(loop);
}

static void close_in_callback(p2p_socket_t *sock, void *user_data) {
    peer *p = user_data;
    p->reads++;
    p2p_socket_close(sock);
}

static void close_inside_on_read(void **state) {
    (void)state;
    peer server = { 0 }, client = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    server.sock = p2p_socket_create(P2P_UDP);
    assert_int_equal(p2p_socket_bind(server.sock, "127.0.0.1", 0), 0);
    assert_int_equal(p2p_event_loop_add_socket(loop, server.sock, close_in_callback, &server), 0);
    open_peer(&client, loop);
    send_to(&client, &server, "one");
    send_to(&client, &server, "two");
    RUN_UNTIL(loop, server.reads > 0);
    loop_settle(loop);
    assert_int_equal(server.reads, 1);
    p2p_socket_close(client.sock);
    p2p_event_loop_free(loop);
}

/* Nobody there: the system may report it on a later call. It must end neither the socket nor in a spin. */
static void a_refused_datagram_does_not_end_the_socket(void **state) {
    (void)state;
    peer client = { 0 }, server = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    open_peer(&server, loop);
    uint16_t port = socket_port(server.sock);
    p2p_socket_close(server.sock);
    loop_settle(loop);
    client.sock = p2p_socket_create(P2P_UDP);
    assert_int_equal(p2p_socket_connect(client.sock, "127.0.0.1", port), 0);
    assert_int_equal(p2p_event_loop_add_socket_with(loop, client.sock, &callbacks, &client), 0);
    assert_int_equal(p2p_datagram_send(client.sock, "x", 1, NULL), 0);
    loop_settle(loop);
    uint64_t wakeups = loop_stats(loop).wakeups;
    loop_settle(loop);
    assert_int_equal(loop_stats(loop).wakeups, wakeups);
    assert_int_equal(client.refused + client.errors, REFUSALS_TOLD); /* once, in one way or the other */
    server.sock = p2p_socket_create(P2P_UDP);
    assert_int_equal(p2p_socket_bind(server.sock, "127.0.0.1", port), 0);
    assert_int_equal(p2p_event_loop_add_socket_with(loop, server.sock, &callbacks, &server), 0);
    assert_int_equal(p2p_datagram_send(client.sock, "hello", 5, NULL), 0);
    RUN_UNTIL(loop, server.received == 1);
    p2p_socket_close(server.sock);
    p2p_socket_close(client.sock);
    p2p_event_loop_free(loop);
}

static void a_flood_of_datagrams_is_taken_completely(void **state) {
    (void)state;
    peer server = { 0 }, client = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    open_peer(&server, loop);
    open_peer(&client, loop);
    for (int round = 0; round < 20; round++) {
        unsigned before = server.received;
        for (int i = 0; i < 50; i++) send_to(&client, &server, "x"); /* few enough for the system's buffer */
        RUN_UNTIL(loop, server.received == before + 50);
    }
    p2p_socket_close(client.sock);
    p2p_socket_close(server.sock);
    p2p_event_loop_free(loop);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        CASE(each_datagram_is_announced_and_can_be_answered),
        CASE(an_empty_datagram_is_an_event_and_not_an_end),
        CASE(in_a_loop_receiving_never_waits),
        CASE(a_removed_socket_is_blocking_again_and_keeps_its_address),
        CASE(close_inside_on_read),
        CASE(a_refused_datagram_does_not_end_the_socket),
        CASE(a_flood_of_datagrams_is_taken_completely),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
