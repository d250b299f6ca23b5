/*
 * datagram_echo [--backend NAME] --address ADDRESS: sends each datagram back, by on_message. Ends with "bye".
 * Prints "listening on ADDRESS (backend NAME)", as the examples do.
 */
#include <p2pnet/p2pnet.h>

#include <stdio.h>
#include <string.h>

static p2p_event_loop_t *loop;

static void on_message(p2p_socket_t *sock, const void *data, uint32_t length, void *user_data) {
    p2p_address_t from;
    (void)user_data;
    if (p2p_datagram_sender(sock, &from) == 0 && from.length > 0) p2p_datagram_send(sock, data, length, &from);
    if (length == 3 && memcmp(data, "bye", 3) == 0) p2p_event_loop_stop(loop);
}

static const p2p_socket_callbacks_t callbacks = { .size = sizeof(p2p_socket_callbacks_t), .on_message = on_message };

int main(int argc, char **argv) {
    const char *address = "127.0.0.1";
    char text[P2P_ADDRESS_TEXT_SIZE];
    p2p_address_t local;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--backend") == 0) options.backend = argv[i + 1];
        if (strcmp(argv[i], "--address") == 0) address = argv[i + 1];
    }
    if (p2p_init() < 0 || (loop = p2p_event_loop_create_with(&options)) == NULL) return 2;
    p2p_socket_t *sock = p2p_socket_create(P2P_UDP);
    if (p2p_socket_bind(sock, address, 0) < 0 || p2p_socket_local_address(sock, &local) < 0) return 3;
    if (p2p_event_loop_add_socket_with(loop, sock, &callbacks, NULL) < 0) return 4;
    p2p_address_format(&local, text, sizeof text);
    printf("listening on %s (backend %s)\n", text, p2p_event_loop_backend_name(loop));
    fflush(stdout);
    p2p_event_loop_run(loop);
    p2p_event_loop_free(loop);
    p2p_socket_close(sock);
    p2p_cleanup();
    return 0;
}
