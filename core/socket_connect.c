/* p2p_socket_connect: by address or by name, in a loop or by a call that waits. */
#include "resolver.h"

/* Whatever an earlier connection left behind is over. */
void p2pi_socket_forget_connection(p2p_socket_t *sock) {
    sock->end = sock->output_error = 0;
    sock->end_told = sock->ending = sock->shut = false;
    sock->lost = 0;
}

static int established(p2p_socket_t *sock, const p2p_address_t *peer) {
    int error = sock->type == P2P_TCP ? p2pi_connect_check_self(p2pi_sys(), sock->handle, peer) : P2P_OK;
    sock->state = error == P2P_OK ? P2PI_STATE_CONNECTED : P2PI_STATE_FRESH;
    return error == P2P_OK ? P2P_OK : p2pi_socket_give_up_handle(sock, true, p2pi_fail(error));
}

/* How a connect under way stands, outside a loop; a blocking socket waits for it. */
int p2pi_socket_finish_connect(p2p_socket_t *sock) {
    const p2p_sys_ops *sys = p2pi_sys();
    if (sock->connect_error != 0) {
        int error = sock->connect_error;
        sock->connect_error = 0;
        sock->state = P2PI_STATE_FRESH;
        return p2pi_socket_give_up_handle(sock, true, p2pi_fail(error));
    }
    int ready = sys->wait_one(sock->handle, P2P_WRITABLE, sock->want_nonblocking ? 0 : -1);
    if (ready < 0) return p2pi_fail_os(sys, ready);
    if (ready == 0) return p2pi_fail(P2P_ERR_WOULD_BLOCK);
    int result = sys->connect_result(sock->handle);
    if (result == 0) return established(sock, NULL);
    sock->state = P2PI_STATE_FRESH;
    return p2pi_socket_give_up_handle(sock, true, p2pi_fail_os(sys, result));
}

static int connect_outside(p2p_socket_t *sock, const p2p_address_t *address, bool opened) {
    const p2p_sys_ops *sys = p2pi_sys();
    int result = sock->loop == NULL ? p2pi_socket_sync_mode(sock) : P2P_OK;
    if (result < 0) return p2pi_socket_give_up_handle(sock, opened, result);
    p2pi_socket_forget_connection(sock);
    result = sys->connect(sock->handle, address);
    if (result == 0) return established(sock, address);
    int error = sys->translate_error(-result);
    /* In progress; or interrupted by a signal, after which the attempt goes on by itself. */
    if (error == P2P_ERR_ALREADY) {
        sock->state = P2PI_STATE_CONNECTING;
        return p2pi_socket_finish_connect(sock);
    }
    return p2pi_socket_give_up_handle(sock, opened, p2pi_fail_os(sys, result));
}

int p2pi_socket_connect_now(p2p_socket_t *sock, const p2p_address_t *peer) {
    bool opened = sock->handle == P2P_INVALID_HANDLE;
    int result = p2pi_socket_open(sock, peer);
    if (result < 0) return result;
    result = connect_outside(sock, peer, opened);
    if (result < 0 || sock->loop == NULL || sock->entry->kind != P2PI_FRESH) return result;
    return p2pi_socket_register_datagrams(sock, opened);
}

/* The addresses in turn. When all fail it is told why the first did, or the first whose family the machine has. */
static int connect_name(p2p_socket_t *sock, const char *name, uint16_t port) {
    const p2p_sys_ops *sys = p2pi_sys();
    if (sock->loop != NULL) return p2pi_connect_start(sock, name, port);
    if (sock->want_nonblocking || sys->resolve == NULL) return p2pi_fail(P2P_ERR_NOT_SUPPORTED);
    p2p_address_t addresses[P2PI_ADDRESSES_MAX];
    int count = sys->resolve(name, port, (p2p_socket_type_t)sock->type, addresses, P2PI_ADDRESSES_MAX);
    if (count < 0) return p2pi_fail(count);
    int error = P2P_OK, os_error = 0;
    for (int i = 0; i < count; i++) {
        int result = p2pi_socket_connect_now(sock, &addresses[i]);
        if (result == P2P_OK) return P2P_OK;
        if (error != P2P_OK && error != P2P_ERR_NOT_SUPPORTED) continue;
        error = result;
        os_error = p2p_last_os_error();
    }
    return p2pi_fail_with(error, os_error);
}

int p2p_socket_connect(p2p_socket_t *socket, const char *address, uint16_t port) {
    if (socket == NULL || socket->state == P2PI_STATE_LISTENING || socket->state == P2PI_STATE_CLOSED)
        return p2pi_fail(P2P_ERR_INVALID);
    if (socket->state == P2PI_STATE_CONNECTING && socket->loop == NULL) return p2pi_socket_finish_connect(socket);
    if (socket->state == P2PI_STATE_CONNECTED || socket->state == P2PI_STATE_CONNECTING)
        return p2pi_fail(P2P_ERR_ALREADY);
    if (socket->extras != NULL && socket->extras->connect != NULL) return p2pi_fail(P2P_ERR_ALREADY);
    p2p_address_t peer;
    if (address == NULL) address = "localhost";
    int result = p2pi_sys()->address_parse(&peer, address, port);
    if (result == P2P_ERR_BAD_ADDRESS && p2pi_is_host_name(address)) return connect_name(socket, address, port);
    if (result < 0) return p2pi_fail(result);
    if (socket->loop == NULL || socket->type == P2P_UDP) return p2pi_socket_connect_now(socket, &peer);
    bool opened = socket->handle == P2P_INVALID_HANDLE;
    result = p2pi_socket_open(socket, &peer);
    if (result < 0) return result;
    result = p2pi_connecting_begin(socket, &peer);
    return result < 0 ? p2pi_socket_give_up_handle(socket, opened, result) : result;
}
