/* The seed: the program that the library was first asked to run. Its text is fixed. */
#include <p2pnet/p2pnet.h>

static p2p_event_loop_t *loop;

void on_client_data(p2p_socket_t *client, void *user_data);
void on_new_client(p2p_socket_t *server, void *user_data);

void on_client_data(p2p_socket_t *client, void *user_data) {
    (void)user_data;
    p2p_message_t *msg = p2p_message_recv(client);
    if (msg) {
        p2p_message_send(client, msg);
        p2p_message_free(msg);
    } else {
        p2p_socket_close(client);
    }
}

void on_new_client(p2p_socket_t *server, void *user_data) {
    (void)user_data;
    p2p_socket_t *client = p2p_socket_accept(server);
    if (client) {
        p2p_event_loop_add_socket(loop, client, on_client_data, NULL);
    }
}

int main(void) {
    p2p_init();
    p2p_socket_t *server = p2p_socket_create(P2P_TCP);
    p2p_socket_bind(server, "0.0.0.0", 8080);
    p2p_socket_listen(server, 128);

    loop = p2p_event_loop_create();
    p2p_event_loop_add_socket(loop, server, on_new_client, NULL);
    p2p_event_loop_run(loop);

    p2p_event_loop_free(loop);
    p2p_socket_close(server);
    p2p_cleanup();
    return 0;
}
