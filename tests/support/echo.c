/* An echo server in a loop. */
#include "echo.h"

/* An echo that can't be sent ends the connection, so that a peer never takes the next one for it. */
static void drop(p2p_socket_t *sock, echo_server *server) {
    server->ended++;
    p2p_socket_abort(sock);
}

static void on_read(p2p_socket_t *sock, void *user_data) {
    echo_server *server = user_data;
    p2p_message_t *message = p2p_message_recv(sock);
    if (message == NULL) {
        server->ended++;
        p2p_socket_close(sock);
        return;
    }
    server->messages++;
    if (p2p_message_send(sock, message) != 0) drop(sock, server);
    p2p_message_free(message);
}

static void on_message(p2p_socket_t *sock, const void *data, uint32_t length, void *user_data) {
    echo_server *server = user_data;
    server->messages++;
    if (p2p_message_send_data(sock, data, length) != 0) drop(sock, server);
}

static void on_end(p2p_socket_t *sock, void *user_data) {
    echo_server *server = user_data;
    server->ended++;
    p2p_socket_close(sock);
}

static void on_error(p2p_socket_t *sock, int error, void *user_data) {
    (void)error;
    on_end(sock, user_data);
}

static void on_connection(p2p_socket_t *listener, void *user_data) {
    static const p2p_socket_callbacks_t by_message = {
        sizeof(p2p_socket_callbacks_t), on_end, on_message, NULL, on_error, NULL, NULL
    };
    echo_server *server = user_data;
    p2p_socket_t *client = p2p_socket_accept(listener);
    if (client == NULL) return;
    server->accepted++;
    int error = server->by_message ? p2p_event_loop_add_socket_with(server->loop, client, &by_message, server)
                                   : p2p_event_loop_add_socket(server->loop, client, on_read, server);
    if (error != 0) p2p_socket_close(client);
}

static void on_listener_error(p2p_socket_t *listener, int error, void *user_data) {
    (void)listener;
    (void)error;
    echo_server *server = user_data;
    server->errors++;
}

int echo_try_start(echo_server *server, p2p_event_loop_t *loop, bool by_message) {
    static const p2p_socket_callbacks_t callbacks = {
        sizeof(p2p_socket_callbacks_t), on_connection, NULL, NULL, on_listener_error, NULL, NULL
    };
    p2p_address_t address;
    *server = (echo_server){ .loop = loop, .by_message = by_message };
    server->listener = p2p_socket_create(P2P_TCP);
    if (server->listener == NULL) return p2p_last_error();
    int error = p2p_socket_bind(server->listener, "127.0.0.1", 0);
    if (error == 0) error = p2p_socket_listen(server->listener, 0);
    if (error == 0) error = p2p_socket_local_address(server->listener, &address);
    if (error == 0) error = p2p_event_loop_add_socket_with(loop, server->listener, &callbacks, server);
    if (error == 0) server->port = (uint16_t)p2p_address_port(&address);
    if (error != 0) p2p_socket_close(server->listener);
    return error;
}

void echo_start(echo_server *server, p2p_event_loop_t *loop, bool by_message) {
    assert_int_equal(echo_try_start(server, loop, by_message), 0);
}

void echo_stop(echo_server *server) {
    p2p_socket_close(server->listener);
}
