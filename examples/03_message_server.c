/*
 * Milestone 1.2: a blocking server that receives whole messages instead of bytes.
 * The classic loop: accept, receive, reply, close. Whoever connects has to wait for the one before;
 * 06_async_server serves all at once.
 */
#include "common.h"

#include <stdio.h>
#include <stdlib.h>

static int reply(p2p_socket_t *client) {
    p2p_message_t *message = p2p_message_recv(client);
    if (message == NULL) return fail("receive");
    int shown = message->length < 60 ? (int)message->length : 60;
    printf("message of %lu bytes: %.*s\n", (unsigned long)message->length, shown, (const char *)message->data);

    int error = p2p_message_send(client, message);
    p2p_message_free(message);
    return error < 0 ? fail("send") : EXIT_SUCCESS;
}

static int serve(p2p_socket_t *listener, const options_t *options) {
    p2p_address_t address;
    char text[P2P_ADDRESS_TEXT_SIZE];
    if (p2p_socket_bind(listener, options->address, options->port) < 0) return fail("bind");
    if (p2p_socket_listen(listener, 16) < 0) return fail("listen");
    if (p2p_socket_local_address(listener, &address) < 0) return fail("local address");
    p2p_address_format(&address, text, sizeof text);
    unblock_on_ctrl_c(listener); /* before anybody can know that it is there */
    printf("listening on %s\n", text);
    fflush(stdout);

    for (;;) {
        unblock_on_ctrl_c(listener);
        p2p_socket_t *client = p2p_socket_accept(listener);
        if (stop_requested()) {
            unblock_on_ctrl_c(NULL);
            p2p_socket_close(client);
            return EXIT_SUCCESS;
        }
        if (client == NULL) return fail("accept");
        unblock_on_ctrl_c(client);
        reply(client);
        fflush(stdout);
        unblock_on_ctrl_c(NULL);
        p2p_socket_close(client);
    }
}

int main(int argc, char **argv) {
    options_t options = { NULL, "127.0.0.1", 8080 };
    parse_options(argc, argv, &options, "");

    if (p2p_init() < 0) return fail("p2pnet");
    p2p_socket_t *listener = p2p_socket_create(P2P_TCP);
    int status = listener != NULL ? serve(listener, &options) : fail("socket");
    p2p_socket_close(listener);
    p2p_cleanup();
    return status;
}
