/*
 * Load for an echo server, by bare epoll: never the library under test on both ends. Each connection keeps `depth`
 * messages in flight until it has sent its share, and compares every byte that comes back.
 *
 *   echo_load PORT [connections 100] [depth 1] [size 64] [messages a connection 200] [wait]
 *
 * Prints one line: messages, seconds, messages a second. With `wait` it first prints "connected", when all connections
 * are there and each has carried one message, and begins when its input ends. Exit status 1 when anything came back
 * wrong.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef struct connection {
    int fd;
    uint32_t events;
    uint64_t sent, received; /* bytes */
} connection;

static int epoll;

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

static void wait_for(connection *c, uint32_t events) {
    if (c->events == events) return;
    struct epoll_event event = { .events = events, .data.ptr = c };
    if (epoll_ctl(epoll, c->events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, c->fd, &event) < 0) fail("epoll_ctl");
    c->events = events;
}

/* Send up to the byte `limit`, a round's frames in one call; what the system does not take waits for room. */
static void send_some(connection *c, uint64_t limit) {
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
        ssize_t n = send(c->fd, batch, length, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0) break;
        c->sent += (uint64_t)n;
    }
    wait_for(c, c->sent < limit ? EPOLLIN | EPOLLOUT : EPOLLIN);
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

static void receive_some(connection *c) {
    static uint8_t buffer[1 << 18];
    ssize_t n = recv(c->fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (n < 0) return;
    if (n == 0) {
        fprintf(stderr, "the server closed\n");
        exit(1);
    }
    check(buffer, (size_t)n, c->received);
    c->received += (uint64_t)n;
}

/* Until each connection has had `total` bytes back. */
static void exchange(connection *connections, size_t count, uint64_t total, uint64_t depth) {
    struct epoll_event events[512];
    size_t open = count;
    for (size_t i = 0; i < count; i++) {
        uint64_t limit = connections[i].received + depth * frame_size;
        send_some(&connections[i], limit < total ? limit : total);
    }
    while (open > 0) {
        int ready = epoll_wait(epoll, events, 512, 30000);
        if (ready == 0) {
            fprintf(stderr, "no answer for 30 s\n");
            exit(1);
        }
        for (int i = 0; i < ready; i++) {
            connection *c = events[i].data.ptr;
            if (c->received == total) continue;
            if ((events[i].events & ~(uint32_t)EPOLLOUT) != 0) receive_some(c);
            uint64_t limit = (c->received / frame_size + depth) * frame_size;
            send_some(c, limit < total ? limit : total);
            if (c->received == total) open--;
        }
    }
}

static void raise_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) fail("getrlimit");
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0) fail("setrlimit");
}

int main(int argc, char **argv) {
    uint16_t port = (uint16_t)argument(argc, argv, 1, 8080);
    size_t count = (size_t)argument(argc, argv, 2, 100);
    uint64_t depth = (uint64_t)argument(argc, argv, 3, 1);
    make_frame((size_t)argument(argc, argv, 4, 64));
    uint64_t total = (uint64_t)argument(argc, argv, 5, 200) * frame_size;
    bool waits = argc > 6 && strcmp(argv[6], "wait") == 0;
    raise_limit();
    epoll = epoll_create1(0);
    connection *connections = calloc(count, sizeof *connections);
    if (epoll < 0 || connections == NULL) fail("epoll_create1, calloc");
    for (size_t i = 0; i < count; i++) connections[i].fd = connect_to(port);
    if (waits) {
        exchange(connections, count, frame_size, 1);
        total += frame_size;
        puts("connected");
        fflush(stdout);
        while (getchar() != EOF) {
        }
    }

    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    exchange(connections, count, total, depth);
    clock_gettime(CLOCK_MONOTONIC, &end);
    double seconds = (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
    double messages = (double)(total / frame_size - waits) * (double)count;
    printf("%.0f messages, %.3f s, %.0f messages/s\n", messages, seconds, messages / seconds);
    for (size_t i = 0; i < count; i++) close(connections[i].fd);
    free(connections);
    free(frame);
    return 0;
}
