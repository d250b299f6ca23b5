/*
 * The echo server for `SERVER=bench/echo_recv bench/cost.sh`: it takes its messages by p2p_message_recv, as objects of
 * their own, one a callback, and sends them back by p2p_message_send. This is the way of the programs written for
 * milestone 1.3; what on_message costs is measured on examples/06_async_server.
 *
 *   echo_recv [--backend NAME] --port 0
 *
 * SIGTERM ends it.
 */
#include <p2pnet/p2pnet.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>

static p2p_event_loop_t *loop;

static void stop(int signal_number) {
    (void)signal_number;
    p2p_event_loop_stop(loop);
}

static void on_client_data(p2p_socket_t *client, void *user_data) {
    (void)user_data;
    p2p_message_t *message = p2p_message_recv(client);
    if (message == NULL) {
        p2p_socket_close(client);
        return;
    }
    p2p_message_send(client, message);
    p2p_message_free(message);
}

static void on_new_client(p2p_socket_t *listener, void *user_data) {
    p2p_socket_t *client = p2p_socket_accept(listener);
    if (client != NULL) p2p_event_loop_add_socket(loop, client, on_client_data, user_data);
}

static int fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, p2p_error_message(p2p_last_error()));
    return 1;
}

static int serve(p2p_socket_t *listener) {
    p2p_address_t address;
    char text[P2P_ADDRESS_TEXT_SIZE];
    if (p2p_socket_bind(listener, "127.0.0.1", 0) < 0 || p2p_socket_listen(listener, 1024) < 0) return fail("listen");
    if (p2p_event_loop_add_socket(loop, listener, on_new_client, NULL) < 0) return fail("add");
    if (p2p_socket_local_address(listener, &address) < 0) return fail("address");
    p2p_address_format(&address, text, sizeof text);
    printf("listening on %s (backend %s)\n", text, p2p_event_loop_backend_name(loop));
    fflush(stdout);
    p2p_event_loop_run(loop);
    return 0;
}

int main(int argc, char **argv) {
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    if (argc > 2 && strcmp(argv[1], "--backend") == 0) options.backend = argv[2];
    if (p2p_init() < 0 || (loop = p2p_event_loop_create_with(&options)) == NULL) return fail("loop");
    signal(SIGTERM, stop);
    p2p_socket_t *listener = p2p_socket_create(P2P_TCP);
    int status = listener == NULL ? fail("socket") : serve(listener);
    p2p_event_loop_free(loop);
    p2p_socket_close(listener);
    p2p_cleanup();
    return status;
}
