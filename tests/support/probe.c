/* A connection that writes down what happens to it. */
#include "probe.h"

static void record(probe *p, char what) {
    if (p->trace_length + 1 < sizeof p->trace) p->trace[p->trace_length++] = what;
}

static void record_message(probe *p, const void *data, uint32_t length) {
    assert_non_null(data);
    p->messages++;
    p->bytes += length;
    if (p->text_length + length + 2 > sizeof p->text) return;
    memcpy(p->text + p->text_length, data, length);
    p->text_length += length;
    p->text[p->text_length++] = '|';
}

static bool take(probe *p, bool first) {
    p2p_message_t *message = p2p_message_recv(p->sock);
    if (message != NULL) {
        record_message(p, message->data, message->length);
        p2p_message_free(message);
        return true;
    }
    if (first) {
        p->end = p2p_last_error();
        p->ends++;
        assert_int_not_equal(p->end, P2P_ERR_WOULD_BLOCK);
    } else {
        assert_int_equal(p2p_last_error(), P2P_ERR_WOULD_BLOCK);
    }
    return false;
}

void probe_take(probe *p) {
    for (bool first = true; take(p, first); first = false) {
    }
}

void probe_take_one(probe *p) {
    take(p, true);
}

static void on_read(p2p_socket_t *sock, void *user_data) {
    probe *p = user_data;
    assert_ptr_equal(sock, p->sock);
    record(p, 'r');
    p->reads++;
    if (p->hook == NULL) {
        probe_take(p);
    } else {
        p->hook(p, 'r');
    }
}

static void on_message(p2p_socket_t *sock, const void *data, uint32_t length, void *user_data) {
    probe *p = user_data;
    assert_ptr_equal(sock, p->sock);
    record(p, 'm');
    record_message(p, data, length);
    if (p->hook != NULL) p->hook(p, 'm');
}

static void on_write(p2p_socket_t *sock, void *user_data) {
    probe *p = user_data;
    assert_ptr_equal(sock, p->sock);
    record(p, 'w');
    p->writes++;
    if (p->hook != NULL) p->hook(p, 'w');
}

static void on_error(p2p_socket_t *sock, int error, void *user_data) {
    probe *p = user_data;
    assert_ptr_equal(sock, p->sock);
    record(p, 'e');
    p->errors++;
    p->error = error;
    if (p->hook != NULL) p->hook(p, 'e');
}

static void on_connect(p2p_socket_t *sock, int error, void *user_data) {
    probe *p = user_data;
    assert_ptr_equal(sock, p->sock);
    record(p, 'c');
    p->connects++;
    p->connect_error = error;
    if (p->hook != NULL) p->hook(p, 'c');
}

static void on_close(p2p_socket_t *sock, int reason, void *user_data) {
    probe *p = user_data;
    assert_ptr_equal(sock, p->sock);
    record(p, 'x');
    p->closes++;
    p->reason = reason;
    p->sock = NULL;
    if (p->hook != NULL) p->hook(p, 'x');
}

const p2p_socket_callbacks_t probe_by_read = {
    sizeof(p2p_socket_callbacks_t), on_read, NULL, on_write, on_error, on_connect, on_close
};
const p2p_socket_callbacks_t probe_by_message = {
    sizeof(p2p_socket_callbacks_t), on_read, on_message, on_write, on_error, on_connect, on_close
};
const p2p_socket_callbacks_t probe_no_error = {
    sizeof(p2p_socket_callbacks_t), on_read, NULL, NULL, NULL, NULL, on_close
};

void probe_add(probe *p, p2p_event_loop_t *loop, p2p_socket_t *sock,
               const p2p_socket_callbacks_t *callbacks) {
    p->loop = loop;
    p->sock = sock;
    p->fd = P2P_INVALID_HANDLE;
    if (callbacks == NULL) {
        assert_int_equal(p2p_event_loop_add_socket(loop, sock, on_read, p), 0);
    } else {
        assert_int_equal(p2p_event_loop_add_socket_with(loop, sock, callbacks, p), 0);
    }
}

void probe_open(probe *p, p2p_event_loop_t *loop, const p2p_socket_callbacks_t *callbacks) {
    p2p_handle_t fd;
    p2p_socket_t *sock = socket_pair(&fd);
    probe_add(p, loop, sock, callbacks);
    p->fd = fd;
}

void probe_close_socket(probe *p) {
    bool told = p->closes == 0 && p->sock != NULL;
    if (p->sock != NULL) p2p_socket_close(p->sock);
    if (told) RUN_UNTIL(p->loop, p->closes == 1);
}

void probe_close(probe *p) {
    if (p->fd != P2P_INVALID_HANDLE) os_close(p->fd);
    p->fd = P2P_INVALID_HANDLE;
    probe_close_socket(p);
}
