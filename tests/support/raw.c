/* Peers on the system's own sockets. */
#include "raw.h"

#include <string.h>

static void set_deadlines(p2p_handle_t fd) {
    os_set_deadline(fd, RAW_DEADLINE_S);
    os_set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

p2p_handle_t raw_connect_small(uint16_t port, int bytes) {
    struct sockaddr_in address = os_loopback(port);
    p2p_handle_t fd = os_socket(AF_INET, SOCK_STREAM);
    if (fd == P2P_INVALID_HANDLE) return fd;
    if (bytes > 0) os_set_option(fd, SOL_SOCKET, SO_RCVBUF, bytes);
    set_deadlines(fd);
    if (os_connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
    os_close(fd);
    return P2P_INVALID_HANDLE;
}

p2p_handle_t raw_connect(uint16_t port) {
    return raw_connect_small(port, 0);
}

p2p_handle_t raw_listen(uint16_t *port, int backlog) {
    p2p_handle_t fd = os_socket(AF_INET, SOCK_STREAM);
    if (fd == P2P_INVALID_HANDLE) return fd;
    set_deadlines(fd);
    if (os_bind_loopback(fd, port) == 0 && os_listen(fd, backlog) == 0) return fd;
    os_close(fd);
    return P2P_INVALID_HANDLE;
}

p2p_handle_t raw_accept(p2p_handle_t listener) {
    p2p_handle_t fd = os_accept(listener);
    if (fd != P2P_INVALID_HANDLE) set_deadlines(fd);
    return fd;
}

bool raw_send(p2p_handle_t fd, const void *data, size_t size) {
    const char *from = data;
    while (size > 0) {
        int64_t sent = os_send(fd, from, size);
        if (sent < 0) return false;
        from += sent;
        size -= (size_t)sent;
    }
    return true;
}

bool raw_send_header(p2p_handle_t fd, uint32_t claimed_length) {
    uint32_t header = htonl(claimed_length);
    return raw_send(fd, &header, sizeof header);
}

bool raw_send_frame(p2p_handle_t fd, const void *data, uint32_t length) {
    uint32_t header = htonl(length);
    int64_t sent = os_send_both(fd, &header, sizeof header, data, length);
    if (sent < 4) return false; /* a part of the header was never seen on loopback */
    return raw_send(fd, (const char *)data + (sent - 4), length - (uint32_t)(sent - 4));
}

bool raw_send_text(p2p_handle_t fd, const char *text) {
    return raw_send_frame(fd, text, (uint32_t)strlen(text));
}

size_t raw_frame(uint8_t *out, const void *data, uint32_t length) {
    uint32_t header = htonl(length);
    memcpy(out, &header, sizeof header);
    if (length > 0) memcpy(out + sizeof header, data, length);
    return sizeof header + length;
}

bool raw_recv(p2p_handle_t fd, void *buffer, size_t size) {
    char *to = buffer;
    while (size > 0) {
        int64_t got = os_recv(fd, to, size);
        if (got <= 0) return false;
        to += got;
        size -= (size_t)got;
    }
    return true;
}

int64_t raw_recv_frame(p2p_handle_t fd, void *buffer, uint32_t capacity) {
    uint32_t header;
    if (!raw_recv(fd, &header, sizeof header)) return -1;
    uint32_t length = ntohl(header);
    if (length > capacity || !raw_recv(fd, buffer, length)) return -1;
    return length;
}

int raw_recv_end(p2p_handle_t fd) {
    char forgotten[4096];
    for (;;) {
        int64_t got = os_recv(fd, forgotten, sizeof forgotten);
        if (got <= 0) return (int)-got;
    }
}

bool raw_readable(p2p_handle_t fd) {
    return os_poll(fd, POLLIN, 0) > 0;
}

bool raw_fin(p2p_handle_t fd) {
    return os_shutdown_send(fd) == 0;
}

void raw_reset(p2p_handle_t fd) {
    os_reset(fd);
}

void raw_fill(void *out, size_t size, uint32_t seed) {
    uint8_t *bytes = out;
    uint32_t x = seed * 2654435761u + 1;
    for (size_t i = 0; i < size; i++) {
        x = x * 1664525u + 1013904223u;
        bytes[i] = (uint8_t)(x >> 24);
    }
}
