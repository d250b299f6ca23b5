/*
 * Milestone 1.1: a TCP client with a blocking socket and raw bytes. Talks to 01_tcp_server.
 */
#include "common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int talk(p2p_socket_t *socket, const options_t *options, const char *text) {
    if (p2p_socket_connect(socket, options->address, options->port) < 0) return fail("connect");

    size_t length = strlen(text);
    for (size_t sent = 0; sent < length;) {
        int64_t taken = p2p_socket_send(socket, text + sent, length - sent);
        if (taken < 0) return fail("send");
        sent += (size_t)taken;
    }

    /* The reply may come in pieces. It is over when the server has closed: 0 bytes. */
    char buffer[4096];
    int64_t received;
    while ((received = p2p_socket_recv(socket, buffer, sizeof buffer)) > 0) {
        fwrite(buffer, 1, (size_t)received, stdout);
    }
    putchar('\n');
    return received < 0 ? fail("receive") : EXIT_SUCCESS;
}

int main(int argc, char **argv) {
    options_t options = { NULL, "127.0.0.1", 8080 };
    int first = parse_options(argc, argv, &options, " [TEXT]");
    const char *text = first < argc ? argv[first] : "Hello from p2pnet";

    if (p2p_init() < 0) return fail("p2pnet");
    p2p_socket_t *socket = p2p_socket_create(P2P_TCP);
    int status = socket != NULL ? talk(socket, &options, text) : fail("socket");
    p2p_socket_close(socket);
    p2p_cleanup();
    return status;
}
