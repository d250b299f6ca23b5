/*
 * Load for an echo server, by bare poll(): never the library under test on both ends. Each connection keeps `depth`
 * messages in flight until it has sent its share, and compares every byte that comes back.
 *
 *   echo_load PORT [connections 100] [depth 1] [size 64] [messages a connection 200]
 *
 * Prints one line: messages, seconds, messages a second. Exit status 1 when anything came back wrong.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef struct connection {
    uint64_t sent, received; /* bytes */
} connection;

static size_t frame_size;
static uint8_t *frame; /* header and payload, the same in every message */

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static long argument(int argc, char **argv, int index, long value) {
    if (argc > index) value = strtol(argv[index], NULL, 10);
    if (value < 1) {
        fprintf(stderr, "argument %d: not a positive number\n", index);
        exit(2);
    }
    return value;
}

static void make_frame(size_t size) {
    frame_size = size + 4;
    frame = malloc(frame_size);
    if (frame == NULL) fail("malloc");
    for (int i = 0; i < 4; i++) frame[i] = (uint8_t)(size >> (24 - 8 * i));
    for (size_t i = 4; i < frame_size; i++) frame[i] = (uint8_t)(i * 31);
}

static int connect_to(uint16_t port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0) fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

/* Send up to the byte `limit`, a round's frames in one call; what the system does not take waits for POLLOUT. */
static void send_some(struct pollfd *poll_entry, connection *c, uint64_t limit) {
    static uint8_t batch[1 << 20];
    while (c->sent < limit) {
        size_t length = 0;
        for (uint64_t at = c->sent; at < limit && length < sizeof batch;) {
            size_t offset = (size_t)(at % frame_size), piece = frame_size - offset;
            if (piece > limit - at) piece = (size_t)(limit - at);
            if (piece > sizeof batch - length) piece = sizeof batch - length;
            memcpy(batch + length, frame + offset, piece);
            length += piece;
            at += piece;
        }
        ssize_t n = send(poll_entry->fd, batch, length, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0) break;
        c->sent += (uint64_t)n;
    }
    poll_entry->events = (short)(c->sent < limit ? POLLIN | POLLOUT : POLLIN);
}

static void check(const uint8_t *data, size_t length, uint64_t at) {
    while (length > 0) {
        size_t offset = (size_t)(at % frame_size), piece = frame_size - offset;
        if (piece > length) piece = length;
        if (memcmp(data, frame + offset, piece) != 0) {
            fprintf(stderr, "wrong bytes at %llu\n", (unsigned long long)at);
            exit(1);
        }
        data += piece;
        length -= piece;
        at += piece;
    }
}

static void receive_some(int fd, connection *c) {
    static uint8_t buffer[1 << 18];
    ssize_t n = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (n < 0) return;
    if (n == 0) {
        fprintf(stderr, "the server closed\n");
        exit(1);
    }
    check(buffer, (size_t)n, c->received);
    c->received += (uint64_t)n;
}

int main(int argc, char **argv) {
    uint16_t port = (uint16_t)argument(argc, argv, 1, 8080);
    size_t count = (size_t)argument(argc, argv, 2, 100);
    uint64_t depth = (uint64_t)argument(argc, argv, 3, 1);
    make_frame((size_t)argument(argc, argv, 4, 64));
    uint64_t total = (uint64_t)argument(argc, argv, 5, 200) * frame_size;
    struct pollfd *fds = calloc(count, sizeof *fds);
    connection *connections = calloc(count, sizeof *connections);
    if (fds == NULL || connections == NULL) fail("calloc");
    for (size_t i = 0; i < count; i++) fds[i] = (struct pollfd){ .fd = connect_to(port), .events = POLLIN };

    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (size_t open = count; open > 0;) {
        open = 0;
        for (size_t i = 0; i < count; i++) {
            connection *c = &connections[i];
            if (fds[i].fd >= 0 && (fds[i].revents & (POLLIN | POLLHUP | POLLERR)) != 0) receive_some(fds[i].fd, c);
            if (c->received == total) continue;
            uint64_t limit = (c->received / frame_size + depth) * frame_size;
            send_some(&fds[i], c, limit < total ? limit : total);
            open++;
        }
        if (open > 0 && poll(fds, count, 30000) == 0) {
            fprintf(stderr, "no answer for 30 s\n");
            return 1;
        }
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    double seconds = (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
    double messages = (double)total / (double)frame_size * (double)count;
    printf("%.0f messages, %.3f s, %.0f messages/s\n", messages, seconds, messages / seconds);
    for (size_t i = 0; i < count; i++) close(fds[i].fd);
    free(fds);
    free(connections);
    free(frame);
    return 0;
}
