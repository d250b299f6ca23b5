/*
 * Milestone 1.3: an echo server on the event loop. One thread serves all connections; no call blocks.
 *
 *   06_async_server [--backend NAME] [--address A] [--port N]
 *
 * Ctrl-C or SIGTERM ends it.
 */
#include "common.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct server {
    p2p_event_loop_t *loop;
    unsigned long long connections;
    unsigned long long messages;
    unsigned long long bytes;
} server_t;

/* `data` is lent for the length of this call; sending copies it into the socket's output queue. */
static void on_message(p2p_socket_t *client, const void *data, uint32_t length, void *user_data) {
    server_t *server = user_data;
    server->messages++;
    server->bytes += length;
    /*
     * The queue can't be full here: while a connection's own queue is at its high-water mark, its messages
     * are held back. So a peer that doesn't read what it gets is not read from either.
     */
    if (p2p_message_send_data(client, data, length) < 0) p2p_socket_close(client);
}

/* With on_message set, this is called for the end of the connection only. */
static void on_end(p2p_socket_t *client, void *user_data) {
    (void)user_data;
    p2p_socket_close(client);
}

static void on_error(p2p_socket_t *client, int error, void *user_data) {
    (void)error, (void)user_data;
    p2p_socket_close(client);
}

/* Borrowed by each connection as long as it is in the loop, therefore static. */
static const p2p_socket_callbacks_t client_callbacks = {
    .size = sizeof(p2p_socket_callbacks_t),
    .on_read = on_end,
    .on_message = on_message,
    .on_error = on_error,
};

static void on_connection(p2p_socket_t *listener, void *user_data) {
    server_t *server = user_data;
    p2p_socket_t *client = p2p_socket_accept(listener);
    if (client == NULL) return; /* gone again; or on_accept_error tells */
    if (p2p_event_loop_add_socket_with(server->loop, client, &client_callbacks, server) < 0) {
        fail("connection refused");
        p2p_socket_close(client);
        return;
    }
    server->connections++;
}

/* Out of descriptors, for example. The loop tries again after a while. */
static void on_accept_error(p2p_socket_t *listener, int error, void *user_data) {
    (void)listener, (void)user_data;
    fprintf(stderr, "accept: %s\n", p2p_error_message(error));
}

static const p2p_socket_callbacks_t listener_callbacks = {
    .size = sizeof(p2p_socket_callbacks_t),
    .on_read = on_connection,
    .on_error = on_accept_error,
};

static int serve(server_t *server, p2p_socket_t *listener, const options_t *options) {
    p2p_address_t address;
    char text[P2P_ADDRESS_TEXT_SIZE];
    if (p2p_socket_bind(listener, options->address, options->port) < 0) return fail("bind");
    if (p2p_socket_listen(listener, 1024) < 0) return fail("listen");
    if (p2p_event_loop_add_socket_with(server->loop, listener, &listener_callbacks, server) < 0) return fail("add");
    if (p2p_socket_local_address(listener, &address) < 0) return fail("local address");
    p2p_address_format(&address, text, sizeof text);
    printf("listening on %s (backend %s)\n", text, p2p_event_loop_backend_name(server->loop));
    fflush(stdout);

    p2p_event_loop_run(server->loop);
    if (p2p_last_error() != 0) return fail("run");
    printf("%llu connections, %llu messages, %llu bytes\n", server->connections, server->messages, server->bytes);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv) {
    options_t options = { NULL, "127.0.0.1", 8080 };
    parse_options(argc, argv, &options, "");
    raise_socket_limit();

    if (p2p_init() < 0) return fail("p2pnet");
    p2p_event_loop_options_t loop_options = P2P_EVENT_LOOP_OPTIONS_INIT;
    loop_options.backend = options.backend; /* NULL: automatic */
    server_t server = { .loop = p2p_event_loop_create_with(&loop_options) };
    p2p_socket_t *listener = p2p_socket_create(P2P_TCP);
    int status = EXIT_FAILURE;
    if (server.loop == NULL) {
        fail_loop();
    } else if (listener == NULL) {
        fail("socket");
    } else {
        stop_on_ctrl_c(server.loop);
        status = serve(&server, listener, &options);
    }

    /* Frees the connections that are left, too; the listener was created here and is closed here. */
    stop_on_ctrl_c(NULL);
    p2p_event_loop_free(server.loop);
    p2p_socket_close(listener);
    p2p_cleanup();
    return status;
}
