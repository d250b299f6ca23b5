/* Sockets: making, naming, raw bytes and closing. What a loop adds is in registration.c. */
#include "internal.h"

#include <string.h>

_Static_assert(P2P_READABLE == P2P_IN && P2P_WRITABLE == P2P_OUT, "watch bits and backend bits are the same");

p2p_socket_t *p2pi_socket_new(p2p_socket_type_t type, p2p_handle_t handle, p2pi_state state) {
    p2p_socket_t *sock = p2pi_alloc_zeroed(sizeof *sock);
    if (sock == NULL) {
        p2pi_fail(P2P_ERR_NO_MEMORY);
        return NULL;
    }
    sock->type = (uint8_t)type;
    sock->handle = handle;
    sock->state = (uint8_t)state;
    p2pi_connection_set_limit(sock);
    return sock;
}

p2p_socket_t *p2p_socket_create(p2p_socket_type_t type) {
    if (type != P2P_TCP && type != P2P_UDP) {
        p2pi_fail(P2P_ERR_INVALID);
        return NULL;
    }
    return p2pi_socket_new(type, P2P_INVALID_HANDLE, P2PI_STATE_FRESH);
}

p2p_socket_t *p2p_socket_adopt(p2p_handle_t handle, p2p_socket_type_t type) {
    const p2p_sys_ops *sys = p2pi_sys();
    int facts = sys->inspect(handle);
    if (facts < 0) {
        p2pi_fail_os(sys, facts);
        return NULL;
    }
    uint32_t bits = (uint32_t)facts;
    uint32_t wanted = type == P2P_TCP ? P2P_SYS_STREAM : type == P2P_UDP ? P2P_SYS_DATAGRAM : 0;
    if ((bits & wanted) == 0) {
        p2pi_fail(P2P_ERR_INVALID);
        return NULL;
    }
    p2pi_state state = (bits & P2P_SYS_LISTENING) != 0   ? P2PI_STATE_LISTENING
                       : (bits & P2P_SYS_CONNECTED) != 0 ? P2PI_STATE_CONNECTED
                       : (bits & P2P_SYS_BOUND) != 0     ? P2PI_STATE_BOUND
                                                         : P2PI_STATE_FRESH;
    if ((bits & P2P_SYS_MODE_UNKNOWN) != 0) { /* what it is taken to be, it must be */
        int result = sys->set_nonblocking(handle, 0);
        if (result < 0) {
            p2pi_fail_os(sys, result);
            return NULL;
        }
    }
    /* A bound socket that neither listens nor is connected may be connecting: non-blocking, it most likely is. */
    int failed = 0;
    if (type == P2P_TCP && state == P2PI_STATE_BOUND) {
        bool may_wait = (bits & P2P_SYS_NONBLOCKING) != 0;
        failed = sys->connect_result(handle); /* tells once: kept for whoever asks how the attempt went */
        if (failed < 0 || (may_wait && sys->wait_one(handle, P2P_WRITABLE, 0) == 0)) state = P2PI_STATE_CONNECTING;
    }
    p2p_socket_t *sock = p2pi_socket_new(type, handle, state);
    if (sock == NULL) return NULL;
    sock->is_nonblocking = (bits & P2P_SYS_NONBLOCKING) != 0;
    sock->has_sent = true; /* for all we know */
    if (failed < 0) sock->connect_error = (int8_t)sys->translate_error(-failed);
    if (type == P2P_TCP) sys->set_option(handle, P2P_SYS_NODELAY, 1);
    return sock;
}

/* Make the handle, now that the address family is known. */
int p2pi_socket_open(p2p_socket_t *sock, const p2p_address_t *family_of) {
    if (sock->handle != P2P_INVALID_HANDLE) return P2P_OK;
    const p2p_sys_ops *sys = p2pi_sys();
    int result = sys->open(&sock->handle, family_of, (p2p_socket_type_t)sock->type);
    if (result < 0) {
        sock->handle = P2P_INVALID_HANDLE;
        return p2pi_fail_os(sys, result);
    }
    sock->is_nonblocking = false;
    /* Failing to switch Nagle off costs latency, not correctness. Accepted sockets inherit it. */
    if (sock->type == P2P_TCP) sys->set_option(sock->handle, P2P_SYS_NODELAY, 1);
    result = p2pi_options_apply(sock, sock->handle);
    if (result == P2P_OK) return P2P_OK;
    sys->close(sock->handle);
    sock->handle = P2P_INVALID_HANDLE;
    return result;
}

/* Outside a loop: bring the handle into the mode that was asked for. */
int p2pi_socket_sync_mode(p2p_socket_t *sock) {
    if (sock->handle == P2P_INVALID_HANDLE || sock->is_nonblocking == sock->want_nonblocking) return P2P_OK;
    int result = p2pi_sys()->set_nonblocking(sock->handle, sock->want_nonblocking);
    if (result < 0) return p2pi_fail_os(p2pi_sys(), result);
    sock->is_nonblocking = sock->want_nonblocking;
    return P2P_OK;
}

int p2p_socket_set_nonblocking(p2p_socket_t *socket, int enabled) {
    if (socket == NULL) return p2pi_fail(P2P_ERR_INVALID);
    socket->want_nonblocking = enabled != 0;
    return socket->loop != NULL ? P2P_OK : p2pi_socket_sync_mode(socket);
}

int p2p_socket_set_max_message_size(p2p_socket_t *socket, uint32_t size_bytes) {
    if (socket == NULL) return p2pi_fail(P2P_ERR_INVALID);
    if (size_bytes > INT32_MAX) return p2pi_fail(P2P_ERR_INVALID);
    socket->own_limit = size_bytes != 0;
    socket->message_limit = size_bytes;
    p2pi_connection_set_limit(socket);
    return P2P_OK;
}

/* A handle of our own making for an address: gone again when the rest fails. */
static int open_for(p2p_socket_t *sock, const char *text, uint16_t port, p2p_address_t *address, bool *opened) {
    int result = p2pi_sys()->address_parse(address, text, port);
    if (result < 0) return p2pi_fail(result);
    *opened = sock->handle == P2P_INVALID_HANDLE;
    return p2pi_socket_open(sock, address);
}

int p2pi_socket_give_up_handle(p2p_socket_t *sock, bool opened, int error) {
    if (opened && sock->handle != P2P_INVALID_HANDLE) {
        p2pi_sys()->close(sock->handle);
        sock->handle = P2P_INVALID_HANDLE;
    }
    return error;
}

/* A datagram socket in a loop can receive from now on. When the backend refuses it, it can be tried again. */
int p2pi_socket_register_datagrams(p2p_socket_t *sock, bool opened) {
    int result = p2pi_socket_register(sock);
    if (result == P2P_OK) return P2P_OK;
    sock->state = P2PI_STATE_FRESH;
    return p2pi_socket_give_up_handle(sock, opened, result);
}

int p2p_socket_bind(p2p_socket_t *socket, const char *address, uint16_t port) {
    if (socket == NULL) return p2pi_fail(P2P_ERR_INVALID);
    if (socket->state != P2PI_STATE_FRESH) return p2pi_fail(P2P_ERR_ALREADY);
    const p2p_sys_ops *sys = p2pi_sys();
    p2p_address_t local;
    bool opened = false;
    int result = open_for(socket, address, port, &local, &opened);
    if (result < 0) return result;
    /* Both options are conveniences: where one can't be set, bind tells what matters. */
    if (socket->type == P2P_TCP && !p2pi_option_is_set(socket, P2P_OPTION_REUSE_ADDRESS))
        sys->set_option(socket->handle, P2P_SYS_LISTENER, 1);
    if (!p2pi_option_is_set(socket, P2P_OPTION_DUAL_STACK)) sys->set_option(socket->handle, P2P_SYS_DUAL_STACK, 1);
    result = sys->bind(socket->handle, &local);
    if (result < 0) return p2pi_socket_give_up_handle(socket, opened, p2pi_fail_os(sys, result));
    socket->state = P2PI_STATE_BOUND;
    if (socket->loop == NULL || socket->type == P2P_TCP) return P2P_OK;
    return p2pi_socket_register_datagrams(socket, opened);
}

int p2p_socket_listen(p2p_socket_t *socket, int backlog) {
    if (socket == NULL || socket->type != P2P_TCP) return p2pi_fail(P2P_ERR_INVALID);
    if (socket->state == P2PI_STATE_LISTENING) return p2pi_fail(P2P_ERR_ALREADY);
    if (socket->state != P2PI_STATE_BOUND) return p2pi_fail(P2P_ERR_INVALID);
    int result = p2pi_sys()->listen(socket->handle, backlog);
    if (result < 0) return p2pi_fail_os(p2pi_sys(), result);
    socket->state = P2PI_STATE_LISTENING;
    result = socket->loop == NULL ? P2P_OK : p2pi_socket_register(socket);
    if (result < 0) socket->state = P2PI_STATE_BOUND; /* so that it can be tried again */
    return result;
}

p2p_socket_t *p2p_socket_accept(p2p_socket_t *listener) {
    if (listener == NULL || listener->state != P2PI_STATE_LISTENING) {
        p2pi_fail(P2P_ERR_INVALID);
        return NULL;
    }
    if (listener->loop != NULL || listener->in.listener != NULL) return p2pi_listener_take(listener);
    if (p2pi_socket_sync_mode(listener) < 0) return NULL;
    const p2p_sys_ops *sys = p2pi_sys();
    p2p_handle_t handle;
    int result;
    do /* a connection that ended while it waited is none to tell about */
        result = sys->accept(listener->handle, &handle, 0);
    while (result < 0 && p2pi_is_lost_connection(sys->translate_error(-result)));
    if (result < 0) {
        p2pi_fail_os(sys, result);
        return NULL;
    }
    p2p_socket_t *sock = p2pi_socket_new(P2P_TCP, handle, P2PI_STATE_CONNECTED);
    if (sock == NULL) {
        sys->close(handle);
        return NULL;
    }
    sock->accepted = true;
    return sock;
}

static bool raw_allowed(const p2p_socket_t *sock) {
    return sock->type == P2P_UDP || (sock->loop == NULL && sock->state != P2PI_STATE_LISTENING);
}

static int64_t raw_ready(p2p_socket_t *sock) {
    if (!raw_allowed(sock)) return p2pi_fail(P2P_ERR_INVALID);
    if (sock->state == P2PI_STATE_CONNECTING) {
        int result = p2pi_socket_finish_connect(sock);
        if (result < 0) return result;
    }
    if (sock->handle == P2P_INVALID_HANDLE || (sock->type == P2P_TCP && sock->state != P2PI_STATE_CONNECTED))
        return p2pi_fail(P2P_ERR_NOT_CONNECTED);
    return sock->loop == NULL ? p2pi_socket_sync_mode(sock) : P2P_OK;
}

int64_t p2p_socket_send(p2p_socket_t *socket, const void *data, size_t size) {
    if (socket == NULL || (data == NULL && size > 0)) return p2pi_fail(P2P_ERR_INVALID);
    int64_t result = raw_ready(socket);
    if (result == P2P_OK && socket->type == P2P_TCP) result = p2pi_message_write_out(socket); /* left over */
    if (result < 0) return result;
    const p2p_sys_ops *sys = p2pi_sys();
    socket->has_sent = true;
    result = sys->send(socket->handle, data, size, socket->loop != NULL || socket->want_nonblocking);
    return result < 0 ? p2pi_fail_os(sys, result) : result;
}

/* Bytes of messages that were received and not taken come first. */
static int64_t take_kept(p2p_socket_t *sock, void *buffer, size_t size) {
    const p2pi_inbox *inbox = sock->in.inbox;
    if (size > p2pi_inbox_length(sock)) size = p2pi_inbox_length(sock);
    memcpy(buffer, inbox->data + inbox->head, size);
    p2pi_inbox_consume(sock, size);
    return (int64_t)size;
}

int64_t p2p_socket_recv(p2p_socket_t *socket, void *buffer, size_t size) {
    if (socket == NULL || (buffer == NULL && size > 0)) return p2pi_fail(P2P_ERR_INVALID);
    int64_t result = raw_ready(socket);
    if (result < 0) return result;
    if (socket->type == P2P_TCP && p2pi_inbox_length(socket) > 0) return take_kept(socket, buffer, size);
    const p2p_sys_ops *sys = p2pi_sys();
    result = sys->recv(socket->handle, buffer, size, socket->loop != NULL || socket->want_nonblocking);
    return result < 0 ? p2pi_fail_os(sys, result) : result;
}

static int name_of(const p2p_socket_t *sock, p2p_address_t *out, int (*ask)(p2p_handle_t, p2p_address_t *)) {
    int result = ask(sock->handle, out);
    return result < 0 ? p2pi_fail_os(p2pi_sys(), result) : P2P_OK;
}

int p2p_socket_local_address(const p2p_socket_t *socket, p2p_address_t *out) {
    if (socket == NULL || out == NULL || socket->handle == P2P_INVALID_HANDLE) return p2pi_fail(P2P_ERR_INVALID);
    return name_of(socket, out, p2pi_sys()->local_address);
}

int p2p_socket_peer_address(const p2p_socket_t *socket, p2p_address_t *out) {
    if (socket == NULL || out == NULL) return p2pi_fail(P2P_ERR_INVALID);
    if (socket->handle == P2P_INVALID_HANDLE) return p2pi_fail(P2P_ERR_NOT_CONNECTED);
    return name_of(socket, out, p2pi_sys()->peer_address);
}

int p2p_address_parse(p2p_address_t *out, const char *text, uint16_t port) {
    if (out == NULL) return p2pi_fail(P2P_ERR_INVALID);
    int result = p2pi_sys()->address_parse(out, text, port);
    return result < 0 ? p2pi_fail(result) : P2P_OK;
}

int p2p_address_format(const p2p_address_t *address, char *text, size_t size) {
    if (text != NULL && size > 0) text[0] = '\0';
    if (address == NULL || text == NULL || address->length == 0) return p2pi_fail(P2P_ERR_INVALID);
    int result = p2pi_sys()->address_format(address, text, size);
    return result < 0 ? p2pi_fail(result) : result;
}

int p2p_address_port(const p2p_address_t *address) {
    if (address == NULL || address->length == 0) return p2pi_fail(P2P_ERR_INVALID);
    int result = p2pi_sys()->address_port(address);
    return result < 0 ? p2pi_fail(result) : result;
}

void *p2p_socket_user_data(const p2p_socket_t *socket) {
    return socket == NULL ? NULL : socket->user_data;
}

p2p_handle_t p2p_socket_handle(const p2p_socket_t *socket) {
    return socket == NULL ? P2P_INVALID_HANDLE : socket->handle;
}

/* Free the memory, now or when the callback that has it on its stack is over. The handle is closed already. */
void p2pi_socket_destroy(p2p_socket_t *sock) {
    sock->doomed = true;
    if (sock->pins > 0) return;
    p2pi_free(sock->extras);
    p2pi_free(sock);
}

p2pi_extras *p2pi_socket_extras(p2p_socket_t *sock) {
    if (sock->extras == NULL) sock->extras = p2pi_alloc_zeroed(sizeof *sock->extras);
    return sock->extras;
}

void p2pi_socket_drop_extras(p2p_socket_t *sock) {
    static const p2pi_extras nothing;
    if (memcmp(sock->extras, &nothing, sizeof nothing) != 0) return;
    p2pi_free(sock->extras);
    sock->extras = NULL;
}

static void close_outside(p2p_socket_t *sock, bool reset) {
    const p2p_sys_ops *sys = p2pi_sys();
    p2pi_outbox_clear(&sock->out, NULL);
    p2pi_listener_drop(sock);
    p2pi_inbox_release(sock);
    if (sock->handle != P2P_INVALID_HANDLE) {
        if (reset) sys->set_option(sock->handle, P2P_SYS_RESET_ON_CLOSE, 1);
        sys->close(sock->handle);
    }
    p2pi_socket_destroy(sock);
}

void p2p_socket_close(p2p_socket_t *socket) {
    if (socket == NULL) return;
    if (socket->loop != NULL)
        p2pi_socket_close_registered(socket, false);
    else
        close_outside(socket, false);
}

void p2p_socket_abort(p2p_socket_t *socket) {
    if (socket == NULL) return;
    if (socket->loop != NULL)
        p2pi_socket_close_registered(socket, true);
    else
        close_outside(socket, true);
}
