/*
 * A message client for the terminal: each line typed is sent as a message, each message received is printed.
 * Talks to 06_async_server. Input can be a pipe or a file, too:  seq 1000 | ./04_message_client
 * After the last line it waits until each message was answered.
 */
#include "common.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct client {
    p2p_event_loop_t *loop;
    p2p_socket_t *socket;
    int connected;
    unsigned long sent;
    unsigned long received;
    int input_ended;
    int status; /* the program's exit status */
} client_t;

static void stop(client_t *client, int status) {
    client->status = status;
    p2p_event_loop_stop(client->loop);
}

static void stop_when_done(client_t *client) {
    if (client->connected && client->input_ended && client->received >= client->sent) stop(client, EXIT_SUCCESS);
}

static int on_line(const char *line, size_t length, void *user_data) {
    client_t *client = user_data;
    if (line == NULL) {
        client->input_ended = 1;
        stop_when_done(client);
        return 1;
    }
    int error = p2p_message_send_data(client->socket, line, (uint32_t)length);
    /* The server is slower than our input: on_write tells when to go on. */
    if (error == P2P_ERR_QUEUE_FULL) return 0;
    if (error < 0) {
        stop(client, fail("send"));
    } else {
        client->sent++;
    }
    return 1;
}

static void on_write(p2p_socket_t *socket, void *user_data) {
    (void)socket, (void)user_data;
    resume_lines();
}

static void on_message(p2p_socket_t *socket, const void *data, uint32_t length, void *user_data) {
    (void)socket;
    client_t *client = user_data;
    client->received++;
    print_line(data, length);
    stop_when_done(client);
}

static void on_connect(p2p_socket_t *socket, int error, void *user_data) {
    (void)socket;
    client_t *client = user_data;
    if (error < 0) {
        fprintf(stderr, "connect: %s\n", p2p_error_message(error));
        stop(client, EXIT_FAILURE);
        return;
    }
    fprintf(stderr, "connected; each line is a message, %s ends\n", end_of_input_keys);
    client->connected = 1;
    stop_when_done(client);
}

/* With on_message set, this is called for the end of the connection only. */
static void on_end(p2p_socket_t *socket, void *user_data) {
    (void)socket;
    fprintf(stderr, "the server has closed the connection\n");
    stop(user_data, EXIT_FAILURE);
}

static void on_error(p2p_socket_t *socket, int error, void *user_data) {
    (void)socket;
    fprintf(stderr, "connection lost: %s\n", p2p_error_message(error));
    stop(user_data, EXIT_FAILURE);
}

static const p2p_socket_callbacks_t callbacks = {
    .size = sizeof(p2p_socket_callbacks_t),
    .on_read = on_end,
    .on_message = on_message,
    .on_write = on_write,
    .on_error = on_error,
    .on_connect = on_connect,
};

static int run(client_t *client, const options_t *options) {
    if (p2p_event_loop_add_socket_with(client->loop, client->socket, &callbacks, client) < 0) return fail("add");
    /* Returns at once; on_connect gets the answer. What is sent until then is queued. */
    if (p2p_socket_connect(client->socket, options->address, options->port) < 0) return fail("connect");
    if (read_lines(client->loop, 0, on_line, client) < 0) return fail("standard input");

    p2p_event_loop_run(client->loop);
    stop_lines();
    return client->status;
}

int main(int argc, char **argv) {
    options_t options = { NULL, "127.0.0.1", 8080 };
    parse_options(argc, argv, &options, "");

    if (p2p_init() < 0) return fail("p2pnet");
    p2p_event_loop_options_t loop_options = P2P_EVENT_LOOP_OPTIONS_INIT;
    loop_options.backend = options.backend;
    client_t client = { .loop = p2p_event_loop_create_with(&loop_options), .socket = p2p_socket_create(P2P_TCP) };
    int status = EXIT_FAILURE;
    if (client.loop == NULL) {
        fail_loop();
    } else if (client.socket == NULL) {
        fail("socket");
    } else {
        stop_on_ctrl_c(client.loop);
        status = run(&client, &options);
    }

    stop_on_ctrl_c(NULL);
    p2p_socket_close(client.socket);
    p2p_event_loop_free(client.loop);
    p2p_cleanup();
    return status;
}
