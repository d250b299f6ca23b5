/*
 * Milestone 1.1: a TCP server with blocking sockets and raw bytes.
 * One connection after the other: accept, receive, reply, close. Talk to it with 02_tcp_client.
 */
#include "common.h"

#include <stdio.h>
#include <stdlib.h>

/* TCP is a stream of bytes: a receive gives what has arrived, which needn't be what one send sent. */
static int reply(p2p_socket_t *client) {
    char buffer[4096];
    int64_t received = p2p_socket_recv(client, buffer, sizeof buffer);
    if (received < 0) return fail("receive");
    printf("received %lld bytes\n", (long long)received);

    /* A send may take a part only; go on with the rest. */
    for (int64_t sent = 0; sent < received;) {
        int64_t taken = p2p_socket_send(client, buffer + sent, (size_t)(received - sent));
        if (taken < 0) return fail("send");
        sent += taken;
    }
    return EXIT_SUCCESS;
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
