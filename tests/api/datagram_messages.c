/* Datagrams as messages: on_message, p2p_message_send and p2p_message_recv on a UDP socket. */
#include "fixture.h"

/* Whether it is told that nobody was there to take a datagram: see p2p_datagram_send. */
#if defined(_WIN32)
enum { REFUSALS_TOLD = 0 };
#else
enum { REFUSALS_TOLD = 1 };
#endif

enum { LARGEST = 65507 }; /* over IPv4 */

typedef struct peer {
    p2p_event_loop_t *loop;
    p2p_socket_t *sock;
    unsigned messages, errors, reads;
    int last_error;
    uint32_t length;
    uint8_t data[70000];
    p2p_address_t from;
    bool close, remove, echo;
} peer;

static void on_message(p2p_socket_t *sock, const void *data, uint32_t length, void *user_data) {
    peer *p = user_data;
    assert_ptr_equal(sock, p->sock);
    assert_non_null(data);
    assert_true(length <= sizeof p->data);
    memcpy(p->data, data, length);
    p->length = length;
    p->messages++;
    assert_int_equal(p2p_datagram_sender(sock, &p->from), 0);
    if (p->echo) assert_int_equal(p2p_datagram_send(sock, data, length, &p->from), 0);
    if (p->remove) assert_int_equal(p2p_event_loop_remove_socket(p->loop, sock), 0);
    if (p->remove) assert_int_equal(p2p_datagram_sender(sock, &p->from), P2P_ERR_NOT_FOUND);
    if (p->close) p2p_socket_close(sock);
}

static void on_error(p2p_socket_t *sock, int error, void *user_data) {
    peer *p = user_data;
    assert_ptr_equal(sock, p->sock);
    p->errors++;
    p->last_error = error;
}

static void on_read(p2p_socket_t *sock, void *user_data) {
    (void)sock;
    ((peer *)user_data)->reads++;
}

static const p2p_socket_callbacks_t callbacks = {
    .size = sizeof(p2p_socket_callbacks_t), .on_message = on_message, .on_error = on_error, .on_read = on_read
};

static void open_peer(peer *p, p2p_event_loop_t *loop) {
    memset(p, 0, sizeof *p);
    p->loop = loop;
    p->sock = p2p_socket_create(P2P_UDP);
    assert_int_equal(p2p_socket_bind(p->sock, "127.0.0.1", 0), 0);
    assert_int_equal(p2p_event_loop_add_socket_with(loop, p->sock, &callbacks, p), 0);
}

static p2p_handle_t raw_peer(uint16_t *port) {
    p2p_handle_t fd = os_socket(AF_INET, SOCK_DGRAM);
    assert_int_equal(os_bind_loopback(fd, port), 0);
    assert_int_equal(os_set_deadline(fd, RAW_DEADLINE_S), 0);
    return fd;
}

static p2p_handle_t raw_peer_of(const peer *p) {
    uint16_t port;
    p2p_handle_t fd = raw_peer(&port);
    struct sockaddr_in to = os_loopback(socket_port(p->sock));
    assert_int_equal(os_connect(fd, (const struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static peer server;

/* ---- receiving ---- */

static void each_datagram_is_a_message_and_its_sender_can_be_answered(void **state) {
    (void)state;
    char back[8] = "";
    p2p_event_loop_t *loop = loop_create(NULL);
    open_peer(&server, loop);
    server.echo = true;
    p2p_handle_t fd = raw_peer_of(&server);
    assert_int_equal(os_send(fd, "hello", 5), 5);
    RUN_UNTIL(loop, server.messages == 1);
    assert_int_equal(server.length, 5);
    assert_memory_equal(server.data, "hello", 5);
    assert_int_equal(p2p_address_port(&server.from), os_local_port(fd));
    assert_int_equal(os_recv(fd, back, sizeof back), 5);
    assert_string_equal(back, "hello");
    assert_int_equal(server.reads, 0);
    assert_int_equal(loop_stats(loop).messages_in, 1);
    assert_int_equal(loop_stats(loop).bytes_in, 5);
    os_close(fd);
    p2p_socket_close(server.sock);
    p2p_event_loop_free(loop);
}

static void an_empty_datagram_is_an_empty_message_and_no_end(void **state) {
    (void)state;
    p2p_event_loop_t *loop = loop_create(NULL);
    open_peer(&server, loop);
    p2p_handle_t fd = raw_peer_of(&server);
    assert_int_equal(os_send(fd, "", 0), 0);
    RUN_UNTIL(loop, server.messages == 1);
    assert_int_equal(server.length, 0);
    assert_int_equal(os_send(fd, "x", 1), 1);
    RUN_UNTIL(loop, server.messages == 2);
    assert_int_equal(server.length, 1);
    assert_int_equal(server.errors + server.reads, 0);
    os_close(fd);
    p2p_socket_close(server.sock);
    p2p_event_loop_free(loop);
}

static void the_largest_datagram_arrives_whole(void **state) {
    (void)state;
    static uint8_t data[LARGEST];
    p2p_event_loop_t *loop = loop_create(NULL);
    open_peer(&server, loop);
    p2p_handle_t fd = raw_peer_of(&server);
    raw_fill(data, sizeof data, 1);
    assert_int_equal(os_set_option(fd, SOL_SOCKET, SO_SNDBUF, 1 << 18), 0);
    assert_int_equal(os_send(fd, data, sizeof data), LARGEST);
    RUN_UNTIL(loop, server.messages == 1);
    assert_int_equal(server.length, LARGEST);
    assert_memory_equal(server.data, data, LARGEST);
    os_close(fd);
    p2p_socket_close(server.sock);
    p2p_event_loop_free(loop);
}

static void take_in_shares(const p2p_event_loop_options_t *options, unsigned share) {
    enum { ALL = 10 };
    p2p_event_loop_t *loop = loop_create(options);
    open_peer(&server, loop);
    p2p_handle_t fd = raw_peer_of(&server);
    for (unsigned i = 0; i < ALL; i++) assert_int_equal(os_send(fd, "12345678", 8), 8);
    for (unsigned before = 0; before < ALL; before = server.messages) {
        RUN_UNTIL(loop, server.messages > before);
        assert_in_range(server.messages - before, 1, share);
    }
    loop_settle(loop);
    assert_int_equal(server.messages, ALL);
    os_close(fd);
    p2p_socket_close(server.sock);
    p2p_event_loop_free(loop);
}

static void a_turn_delivers_no_more_messages_than_its_budget_and_the_next_goes_on(void **state) {
    (void)state;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.message_budget = 3;
    take_in_shares(&options, 3);
}

static void a_turn_delivers_no_more_bytes_than_its_budget_and_the_next_goes_on(void **state) {
    (void)state;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.read_budget = 16;
    take_in_shares(&options, 2);
}

static void one_longer_than_max_message_size_is_dropped_and_told(void **state) {
    (void)state;
    p2p_event_loop_t *loop = loop_create(NULL);
    open_peer(&server, loop);
    p2p_handle_t fd = raw_peer_of(&server);
    assert_int_equal(p2p_socket_set_max_message_size(server.sock, 4), 0);
    assert_int_equal(os_send(fd, "12345", 5), 5);
    assert_int_equal(os_send(fd, "1234", 4), 4);
    RUN_UNTIL(loop, server.messages == 1);
    assert_int_equal(server.length, 4);
    assert_int_equal(server.errors, 1);
    assert_int_equal(server.last_error, P2P_ERR_TOO_LONG);
    os_close(fd);
    p2p_socket_close(server.sock);
    p2p_event_loop_free(loop);
}

static void a_refusal_is_told_once_and_the_socket_goes_on(void **state) {
    (void)state;
    uint16_t port;
    peer *client = &server;
    p2p_event_loop_t *loop = loop_create(NULL);
    p2p_handle_t fd = raw_peer(&port);
    os_close(fd);
    memset(client, 0, sizeof *client);
    client->sock = p2p_socket_create(P2P_UDP);
    assert_int_equal(p2p_event_loop_add_socket_with(loop, client->sock, &callbacks, client), 0);
    assert_int_equal(p2p_socket_connect(client->sock, "127.0.0.1", port), 0);
    assert_int_equal(p2p_message_send_data(client->sock, "x", 1), 0);
    if (REFUSALS_TOLD) RUN_UNTIL(loop, client->errors == 1);
    loop_settle(loop);
    assert_int_equal(client->errors, REFUSALS_TOLD);
    if (REFUSALS_TOLD) assert_int_equal(client->last_error, P2P_ERR_REFUSED);
    uint64_t wakeups = loop_stats(loop).wakeups;
    loop_settle(loop);
    assert_int_equal(loop_stats(loop).wakeups, wakeups);
    const char *backend = test_backend();
    if (os_is_wine() && backend != NULL && strcmp(backend, "afd") == 0) {
        p2p_socket_close(client->sock);
        p2p_event_loop_free(loop);
        test_skip("under Wine afd tells nothing more of a socket whose datagram found nobody");
    }
    p2p_address_t local;
    assert_int_equal(p2p_socket_local_address(client->sock, &local), 0);
    fd = os_socket(AF_INET, SOCK_DGRAM);
    struct sockaddr_in here = os_loopback(port), there = os_loopback((uint16_t)p2p_address_port(&local));
    assert_int_equal(bind(fd, (const struct sockaddr *)&here, sizeof here), 0);
    assert_int_equal(os_connect(fd, (const struct sockaddr *)&there, sizeof there), 0);
    assert_int_equal(os_send(fd, "here", 4), 4);
    RUN_UNTIL(loop, client->messages == 1);
    os_close(fd);
    p2p_socket_close(client->sock);
    p2p_event_loop_free(loop);
}

static void the_sender_is_known_inside_the_callback_only(void **state) {
    (void)state;
    p2p_address_t address;
    p2p_event_loop_t *loop = loop_create(NULL);
    open_peer(&server, loop);
    p2p_handle_t fd = raw_peer_of(&server);
    assert_int_equal(p2p_datagram_sender(server.sock, &address), P2P_ERR_NOT_FOUND);
    assert_int_equal(os_send(fd, "x", 1), 1);
    RUN_UNTIL(loop, server.messages == 1);
    assert_int_equal(p2p_datagram_sender(server.sock, &address), P2P_ERR_NOT_FOUND);
    assert_int_equal(p2p_datagram_sender(server.sock, NULL), P2P_ERR_INVALID);
    assert_int_equal(p2p_datagram_sender(NULL, &address), P2P_ERR_INVALID);
    os_close(fd);
    p2p_socket_close(server.sock);
    p2p_event_loop_free(loop);
}

static void closing_and_removing_inside_the_callback_end_the_delivery(void **state) {
    (void)state;
    char byte;
    p2p_event_loop_t *loop = loop_create(NULL);
    for (int remove = 0; remove <= 1; remove++) {
        open_peer(&server, loop);
        server.remove = remove != 0;
        server.close = !remove;
        p2p_handle_t fd = raw_peer_of(&server);
        assert_int_equal(os_send(fd, "a", 1), 1);
        assert_int_equal(os_send(fd, "b", 1), 1);
        RUN_UNTIL(loop, server.messages > 0);
        loop_settle(loop);
        assert_int_equal(server.messages, 1);
        if (remove) {
            assert_int_equal(p2p_datagram_recv(server.sock, &byte, 1, NULL), 1);
            assert_int_equal(byte, 'b');
            p2p_socket_close(server.sock);
        }
        os_close(fd);
    }
    p2p_event_loop_free(loop);
}

static void the_loops_buffer_is_made_for_the_first_such_socket_only(void **state) {
    (void)state;
    p2p_event_loop_t *loop = loop_create(NULL);
    p2p_socket_t *plain = p2p_socket_create(P2P_UDP), *second = p2p_socket_create(P2P_UDP);
    assert_int_equal(p2p_socket_bind(plain, "127.0.0.1", 0), 0);
    assert_int_equal(p2p_socket_bind(second, "127.0.0.1", 0), 0);
    size_t before = memory_in_use();
    assert_int_equal(p2p_event_loop_add_socket(loop, plain, on_read, &server), 0);
    size_t without = memory_in_use();
    assert_in_range(without - before, 0, 65535);
    open_peer(&server, loop);
    size_t with = memory_in_use();
    assert_in_range(with - without, 65536, 70000);
    assert_int_equal(p2p_event_loop_add_socket_with(loop, second, &callbacks, &server), 0);
    assert_in_range(memory_in_use() - with, 0, 65535);
    p2p_socket_close(plain);
    p2p_socket_close(second);
    p2p_socket_close(server.sock);
    p2p_event_loop_free(loop);
}

static void without_memory_for_it_the_socket_can_be_added_later(void **state) {
    (void)state;
    p2p_event_loop_t *loop = loop_create(NULL);
    open_peer(&server, loop); /* so that the registry has room */
    p2p_socket_close(server.sock);
    p2p_event_loop_free(loop);
    loop = loop_create(NULL);
    p2p_socket_t *sock = p2p_socket_create(P2P_UDP);
    assert_int_equal(p2p_socket_bind(sock, "127.0.0.1", 0), 0);
    unsigned refused = 0;
    for (uint64_t nth = 1;; nth++) {
        memory_fail(nth, false);
        int result = p2p_event_loop_add_socket_with(loop, sock, &callbacks, &server);
        bool failed = memory_failures() > 0;
        memory_fail(0, false);
        if (result == 0 && !failed) break;
        if (result == 0) {
            assert_int_equal(p2p_event_loop_remove_socket(loop, sock), 0);
            continue;
        }
        assert_int_equal(result, P2P_ERR_NO_MEMORY);
        assert_int_equal(p2p_event_loop_socket_count(loop), 0);
        refused++;
    }
    assert_true(refused > 0);
    p2p_socket_close(sock);
    p2p_event_loop_free(loop);
}

/* ---- sending ---- */

static void connect_to_raw(peer *p, p2p_event_loop_t *loop, uint16_t port) {
    memset(p, 0, sizeof *p);
    p->sock = p2p_socket_create(P2P_UDP);
    assert_int_equal(p2p_socket_connect(p->sock, "127.0.0.1", port), 0);
    if (loop != NULL) assert_int_equal(p2p_event_loop_add_socket_with(loop, p->sock, &callbacks, p), 0);
}

static void a_message_is_one_datagram_without_a_header(void **state) {
    (void)state;
    char got[16] = "";
    uint16_t port;
    p2p_handle_t fd = raw_peer(&port);
    p2p_event_loop_t *loop = loop_create(NULL);
    p2p_message_t *message = p2p_message_create("message", 7);
    for (int in_loop = 0; in_loop <= 1; in_loop++) {
        connect_to_raw(&server, in_loop ? loop : NULL, port);
        assert_int_equal(p2p_message_send(server.sock, message), 0);
        assert_int_equal(p2p_message_send_data(server.sock, NULL, 0), 0);
        assert_int_equal(p2p_message_send_data(server.sock, "data", 4), 0);
        assert_int_equal(os_recv(fd, got, sizeof got), 7);
        assert_memory_equal(got, "message", 7);
        assert_int_equal(os_recv(fd, got, sizeof got), 0);
        assert_int_equal(os_recv(fd, got, sizeof got), 4);
        assert_memory_equal(got, "data", 4);
        p2p_socket_close(server.sock);
    }
    assert_int_equal(loop_stats(loop).messages_out, 3);
    assert_int_equal(loop_stats(loop).bytes_out, 11);
    p2p_message_free(message);
    p2p_event_loop_free(loop);
    os_close(fd);
}

static void what_can_not_be_sent_is_refused_whole(void **state) {
    (void)state;
    static uint8_t data[70000];
    uint16_t port;
    p2p_handle_t fd = raw_peer(&port);
    p2p_event_loop_t *loop = loop_create(NULL);
    open_peer(&server, loop);
    assert_int_equal(p2p_message_send_data(server.sock, "x", 1), P2P_ERR_NOT_CONNECTED);
    p2p_socket_close(server.sock);
    connect_to_raw(&server, loop, port);
    assert_int_equal(p2p_message_send_data(server.sock, data, LARGEST + 1), P2P_ERR_TOO_LONG);
    assert_int_equal(p2p_socket_set_max_message_size(server.sock, 4), 0);
    assert_int_equal(p2p_message_send_data(server.sock, data, 5), P2P_ERR_TOO_LONG);
    assert_int_equal(p2p_message_send_data(server.sock, data, 4), 0);
    assert_int_equal(os_recv(fd, data, sizeof data), 4);
    p2p_socket_close(server.sock);
    p2p_event_loop_free(loop);
    os_close(fd);
}

/* ---- pulling ---- */

static void outside_a_loop_receiving_gives_a_datagram_as_a_message(void **state) {
    (void)state;
    p2p_socket_t *sock = p2p_socket_create(P2P_UDP);
    assert_null(p2p_message_recv(sock));
    assert_int_equal(p2p_last_error(), P2P_ERR_INVALID);
    assert_int_equal(p2p_socket_bind(sock, "127.0.0.1", 0), 0);
    memset(&server, 0, sizeof server);
    server.sock = sock;
    p2p_handle_t fd = raw_peer_of(&server);
    assert_int_equal(os_send(fd, "hello", 5), 5);
    assert_int_equal(os_send(fd, "", 0), 0);
    size_t before = memory_in_use();
    p2p_message_t *message = p2p_message_recv(sock);
    assert_non_null(message);
    assert_int_equal(message->length, 5);
    assert_memory_equal(message->data, "hello", 5);
    assert_in_range(memory_in_use() - before, 5, 200); /* not 64 KiB */
    p2p_message_free(message);
    message = p2p_message_recv(sock);
    assert_non_null(message);
    assert_int_equal(message->length, 0);
    p2p_message_free(message);
    assert_int_equal(p2p_socket_set_nonblocking(sock, 1), 0);
    assert_null(p2p_message_recv(sock));
    assert_int_equal(p2p_last_error(), P2P_ERR_WOULD_BLOCK);
    os_close(fd);
    p2p_socket_close(sock);
}

/* Made to carry a header, should it be sent on to a stream. */
static void one_received_as_a_datagram_can_be_sent_as_a_frame(void **state) {
    (void)state;
    char got[16];
    static uint8_t large[3000], back[3000];
    p2p_handle_t stream;
    p2p_socket_t *out = socket_pair(&stream), *sock = p2p_socket_create(P2P_UDP);
    assert_int_equal(p2p_socket_bind(sock, "127.0.0.1", 0), 0);
    server.sock = sock;
    p2p_handle_t fd = raw_peer_of(&server);
    raw_fill(large, sizeof large, 7);
    assert_int_equal(os_send(fd, "hello", 5), 5);
    assert_int_equal(os_send(fd, large, sizeof large), sizeof large);
    for (int i = 0; i < 2; i++) {
        p2p_message_t *message = p2p_message_recv(sock);
        assert_non_null(message);
        assert_int_equal(p2p_message_send(out, message), 0);
        p2p_message_free(message);
    }
    assert_int_equal(raw_recv_frame(stream, got, sizeof got), 5);
    assert_memory_equal(got, "hello", 5);
    assert_int_equal(raw_recv_frame(stream, back, sizeof back), sizeof back);
    assert_memory_equal(back, large, sizeof large);
    os_close(fd);
    os_close(stream);
    p2p_socket_close(sock);
    p2p_socket_close(out);
}

static void pull(p2p_socket_t *sock, void *user_data) {
    peer *p = user_data;
    p2p_message_t *message = p2p_message_recv(sock);
    if (message == NULL) {
        p->errors++;
        return;
    }
    p->length += message->length;
    p->messages++;
    p2p_message_free(message);
}

static void in_on_read_a_datagram_can_be_taken_as_a_message(void **state) {
    (void)state;
    p2p_event_loop_t *loop = loop_create(NULL);
    memset(&server, 0, sizeof server);
    server.sock = p2p_socket_create(P2P_UDP);
    assert_int_equal(p2p_socket_bind(server.sock, "127.0.0.1", 0), 0);
    assert_int_equal(p2p_event_loop_add_socket(loop, server.sock, pull, &server), 0);
    p2p_handle_t fd = raw_peer_of(&server);
    assert_int_equal(os_send(fd, "123", 3), 3);
    assert_int_equal(os_send(fd, "45", 2), 2);
    RUN_UNTIL(loop, server.messages == 2);
    assert_int_equal(server.length, 5);
    assert_int_equal(server.errors, 0);
    assert_null(p2p_message_recv(server.sock));
    assert_int_equal(p2p_last_error(), P2P_ERR_WOULD_BLOCK);
    os_close(fd);
    p2p_socket_close(server.sock);
    p2p_event_loop_free(loop);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        CASE(each_datagram_is_a_message_and_its_sender_can_be_answered),
        CASE(an_empty_datagram_is_an_empty_message_and_no_end),
        CASE(the_largest_datagram_arrives_whole),
        CASE(a_turn_delivers_no_more_messages_than_its_budget_and_the_next_goes_on),
        CASE(a_turn_delivers_no_more_bytes_than_its_budget_and_the_next_goes_on),
        CASE(one_longer_than_max_message_size_is_dropped_and_told),
        CASE(a_refusal_is_told_once_and_the_socket_goes_on),
        CASE(the_sender_is_known_inside_the_callback_only),
        CASE(closing_and_removing_inside_the_callback_end_the_delivery),
        CASE(the_loops_buffer_is_made_for_the_first_such_socket_only),
        CASE(without_memory_for_it_the_socket_can_be_added_later),
        CASE(a_message_is_one_datagram_without_a_header),
        CASE(what_can_not_be_sent_is_refused_whole),
        CASE(outside_a_loop_receiving_gives_a_datagram_as_a_message),
        CASE(one_received_as_a_datagram_can_be_sent_as_a_frame),
        CASE(in_on_read_a_datagram_can_be_taken_as_a_message),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
