/* Gives the seed on Windows an end and a port without a change to its text: Ctrl-C stops the loop that it made, and
 * it listens on a port of the system's choice, which it prints. */
#include <p2pnet/p2pnet.h>

#include <stdio.h>
#include <windows.h>

p2p_event_loop_t *seed_loop_create(void);
int seed_bind(p2p_socket_t *sock, const char *address, uint16_t port);

static p2p_event_loop_t *volatile seed_loop;

static BOOL WINAPI on_console_event(DWORD event) {
    if (event != CTRL_C_EVENT) return FALSE;
    p2p_event_loop_stop(seed_loop);
    return TRUE;
}

p2p_event_loop_t *seed_loop_create(void) {
    seed_loop = p2p_event_loop_create();
    SetConsoleCtrlHandler(on_console_event, TRUE);
    return seed_loop;
}

int seed_bind(p2p_socket_t *sock, const char *address, uint16_t port) {
    p2p_address_t chosen;
    (void)port;
    int result = p2p_socket_bind(sock, address, 0);
    if (result == 0 && p2p_socket_local_address(sock, &chosen) == 0) {
        printf("port %d\n", p2p_address_port(&chosen));
        fflush(stdout);
    }
    return result;
}
