/*
 * The chat client for the terminal: what you type goes to 08_chat_server, what it says is printed.
 *
 *   08_chat_client [--backend NAME] [--address A] [--port N] [NAME]
 *
 * Commands: /nick NAME, /who, /quit. Ctrl-D (Ctrl-Z and Enter on Windows) quits, too.
 */
#include "common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct chat {
    p2p_event_loop_t *loop;
    p2p_socket_t *socket;
    int quitting;
    const char *end; /* why the connection ended, if we didn't ask for it */
} chat_t;

static int on_line(const char *line, size_t length, void *user_data) {
    chat_t *chat = user_data;
    if (line == NULL) {
        line = "/quit";
        length = strlen(line);
    }
    if (length == strlen("/quit") && memcmp(line, "/quit", length) == 0) chat->quitting = 1;
    int error = p2p_message_send_data(chat->socket, line, (uint32_t)length);
    /* Too much at once, from a pipe perhaps: on_write tells when to go on. */
    if (error == P2P_ERR_QUEUE_FULL) return 0;
    if (error < 0) {
        chat->end = p2p_error_message(error);
        p2p_event_loop_stop(chat->loop);
    }
    return 1;
}

static void on_write(p2p_socket_t *socket, void *user_data) {
    (void)socket, (void)user_data;
    resume_lines();
}

static void on_message(p2p_socket_t *socket, const void *data, uint32_t length, void *user_data) {
    (void)socket, (void)user_data;
    print_line(data, length);
}

static void on_connect(p2p_socket_t *socket, int error, void *user_data) {
    (void)socket;
    chat_t *chat = user_data;
    if (error == 0) return;
    chat->end = p2p_error_message(error);
    p2p_event_loop_stop(chat->loop);
}

/* With on_message set, this is called for the end of the connection only. */
static void on_end(p2p_socket_t *socket, void *user_data) {
    (void)socket;
    chat_t *chat = user_data;
    if (!chat->quitting) chat->end = "the server has closed the connection";
    p2p_event_loop_stop(chat->loop);
}

static void on_error(p2p_socket_t *socket, int error, void *user_data) {
    (void)socket;
    chat_t *chat = user_data;
    if (!chat->quitting) chat->end = p2p_error_message(error);
    p2p_event_loop_stop(chat->loop);
}

static const p2p_socket_callbacks_t callbacks = {
    .size = sizeof(p2p_socket_callbacks_t),
    .on_read = on_end,
    .on_message = on_message,
    .on_write = on_write,
    .on_error = on_error,
    .on_connect = on_connect,
};

static int ask_for_name(chat_t *chat, const char *name) {
    char command[64];
    int length = snprintf(command, sizeof command, "/nick %.50s", name);
    return p2p_message_send_data(chat->socket, command, (uint32_t)length);
}

static int run(chat_t *chat, const options_t *options, const char *name) {
    if (p2p_event_loop_add_socket_with(chat->loop, chat->socket, &callbacks, chat) < 0) return fail("add");
    if (p2p_socket_connect(chat->socket, options->address, options->port) < 0) return fail("connect");
    /* The connection isn't there yet; what is sent now is queued. */
    if (name != NULL && ask_for_name(chat, name) < 0) return fail("send");
    if (read_lines(chat->loop, 1, on_line, chat) < 0) return fail("standard input");

    p2p_event_loop_run(chat->loop);
    stop_lines();
    if (chat->end == NULL) return EXIT_SUCCESS;
    fprintf(stderr, "%s\n", chat->end);
    return EXIT_FAILURE;
}

int main(int argc, char **argv) {
    options_t options = { NULL, "127.0.0.1", 8080 };
    int first = parse_options(argc, argv, &options, " [NAME]");

    if (p2p_init() < 0) return fail("p2pnet");
    p2p_event_loop_options_t loop_options = P2P_EVENT_LOOP_OPTIONS_INIT;
    loop_options.backend = options.backend;
    chat_t chat = {
        .loop = p2p_event_loop_create_with(&loop_options),
        .socket = p2p_socket_create(P2P_TCP),
    };
    int status = EXIT_FAILURE;
    if (chat.loop == NULL) {
        fail_loop();
    } else if (chat.socket == NULL) {
        fail("socket");
    } else {
        stop_on_ctrl_c(chat.loop);
        status = run(&chat, &options, first < argc ? argv[first] : NULL);
    }

    stop_on_ctrl_c(NULL);
    p2p_socket_close(chat.socket);
    p2p_event_loop_free(chat.loop);
    p2p_cleanup();
    return status;
}
