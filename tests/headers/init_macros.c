/* Compiled as C11 and as C++17: every initializer of the public headers fits its struct in both. */
#include <p2pnet/backend.h>
#include <p2pnet/p2pnet.h>

int init_macros(void);

int init_macros(void) {
    p2p_init_options_t init = P2P_INIT_OPTIONS_INIT;
    p2p_socket_callbacks_t callbacks = P2P_SOCKET_CALLBACKS_INIT;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    p2p_handle_t handle = P2P_INVALID_HANDLE;
    options.max_half_open = 0; /* the last one */
    int filled = init.size != 0 && callbacks.size != 0 && options.size != 0;
    return filled && handle == P2P_INVALID_HANDLE ? P2P_OK : P2P_ERR_INVALID;
}
