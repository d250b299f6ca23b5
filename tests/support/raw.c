/* Plain POSIX peers. */
#include "raw.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

static void set_deadlines(int fd) {
    struct timeval deadline = { RAW_DEADLINE_S, 0 };
    int one = 1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof deadline);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &deadline, sizeof deadline);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static struct sockaddr_in loopback(uint16_t port) {
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

/* A connect that a signal interrupts goes on in the background. */
static bool finish_connect(int fd) {
    struct pollfd entry = { .fd = fd, .events = POLLOUT };
    int error = 0;
    socklen_t size = sizeof error;
    while (poll(&entry, 1, RAW_DEADLINE_S * 1000) < 0 && errno == EINTR) {
    }
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0 && entry.revents != 0;
}

int raw_connect_small(uint16_t port, int bytes) {
    struct sockaddr_in address = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    if (bytes > 0) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    set_deadlines(fd);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
    if (errno == EINTR && finish_connect(fd)) return fd;
    close(fd);
    return -1;
}

int raw_connect(uint16_t port) {
    return raw_connect_small(port, 0);
}

int raw_listen(uint16_t *port, int backlog) {
    struct sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    set_deadlines(fd);
    if (bind(fd, (struct sockaddr *)&address, size) != 0 || listen(fd, backlog) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0) {
        close(fd);
        return -1;
    }
    *port = ntohs(address.sin_port);
    return fd;
}

int raw_accept(int listener) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0) set_deadlines(fd);
        if (fd >= 0 || errno != EINTR) return fd;
    }
}

bool raw_send(int fd, const void *data, size_t size) {
    const char *from = data;
    while (size > 0) {
        ssize_t sent = send(fd, from, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) return false;
        from += sent;
        size -= (size_t)sent;
    }
    return true;
}

bool raw_send_header(int fd, uint32_t claimed_length) {
    uint32_t header = htonl(claimed_length);
    return raw_send(fd, &header, sizeof header);
}

bool raw_send_frame(int fd, const void *data, uint32_t length) {
    uint32_t header = htonl(length);
    struct iovec pieces[2] = { { &header, sizeof header }, { (void *)(uintptr_t)data, length } };
    struct msghdr message = { .msg_iov = pieces, .msg_iovlen = 2 };
    ssize_t sent;
    do {
        sent = sendmsg(fd, &message, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0) return false;
    if (sent < 4) return false; /* never seen on loopback */
    return raw_send(fd, (const char *)data + (sent - 4), length - (uint32_t)(sent - 4));
}

bool raw_send_text(int fd, const char *text) {
    return raw_send_frame(fd, text, (uint32_t)strlen(text));
}

size_t raw_frame(uint8_t *out, const void *data, uint32_t length) {
    uint32_t header = htonl(length);
    memcpy(out, &header, sizeof header);
    if (length > 0) memcpy(out + sizeof header, data, length);
    return sizeof header + length;
}

bool raw_recv(int fd, void *buffer, size_t size) {
    char *to = buffer;
    while (size > 0) {
        ssize_t got = recv(fd, to, size, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        to += got;
        size -= (size_t)got;
    }
    return true;
}

int64_t raw_recv_frame(int fd, void *buffer, uint32_t capacity) {
    uint32_t header;
    if (!raw_recv(fd, &header, sizeof header)) return -1;
    uint32_t length = ntohl(header);
    if (length > capacity || !raw_recv(fd, buffer, length)) return -1;
    return length;
}

int raw_recv_end(int fd) {
    char forgotten[4096];
    for (;;) {
        ssize_t got = recv(fd, forgotten, sizeof forgotten, 0);
        if (got == 0) return 0;
        if (got < 0 && errno != EINTR) return errno;
    }
}

bool raw_readable(int fd) {
    struct pollfd entry = { .fd = fd, .events = POLLIN };
    int ready;
    do {
        ready = poll(&entry, 1, 0);
    } while (ready < 0 && errno == EINTR);
    return ready > 0;
}

bool raw_fin(int fd) {
    return shutdown(fd, SHUT_WR) == 0;
}

void raw_reset(int fd) {
    struct linger linger = { 1, 0 };
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(fd);
}

void raw_fill(void *out, size_t size, uint32_t seed) {
    uint8_t *bytes = out;
    uint32_t x = seed * 2654435761u + 1;
    for (size_t i = 0; i < size; i++) {
        x = x * 1664525u + 1013904223u;
        bytes[i] = (uint8_t)(x >> 24);
    }
}
