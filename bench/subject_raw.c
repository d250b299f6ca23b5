/*
 * No library: epoll, level-triggered, as little as a server can do that loses nothing. It reads once for each
 * readiness, writes at once, and waits for room only when there is none. Its echo moves whole buffers and does not look
 * for messages, which is less than the others do. Its room stores what a turn brings once, and writes it to each member
 * by one call.
 */
#include "subjects.h"

#include <errno.h>
#include <gnu/libc-version.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS_MAX = 512, BUFFER_SIZE = 256 * 1024, HEADER_SIZE = 4 };

typedef struct bytes {
    uint8_t *data;
    size_t length, capacity;
} bytes;

typedef struct connection {
    int fd;
    uint32_t events;
    size_t index;     /* in members */
    bytes unsent;     /* what the system did not take */
    bytes incomplete; /* room: the beginning of a message */
} connection;

static int epoll;
static uint8_t buffer[BUFFER_SIZE];

static connection **members;
static size_t member_count, member_capacity;
static bytes turn; /* room: whole messages of this turn */

static void append(bytes *to, const void *data, size_t length) {
    if (length > to->capacity - to->length) {
        to->capacity = (to->length + length) * 2;
        to->data = realloc(to->data, to->capacity);
        if (to->data == NULL) bench_fail("realloc");
    }
    memcpy(to->data + to->length, data, length);
    to->length += length;
}

static void drop(bytes *from, size_t length) {
    from->length -= length;
    if (from->length > 0) memmove(from->data, from->data + length, from->length);
}

static void want(connection *c, uint32_t events) {
    if (c->events == events) return;
    struct epoll_event event = { .events = events, .data.ptr = c };
    if (epoll_ctl(epoll, c->events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, c->fd, &event) < 0) bench_fail("epoll_ctl");
    c->events = events;
}

/* @return how much the system took; a reset is found by the next recv. */
static size_t send_some(connection *c, const void *data, size_t length) {
    ssize_t n = send(c->fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    return n < 0 ? 0 : (size_t)n;
}

static void flush(connection *c, uint32_t meanwhile) {
    drop(&c->unsent, send_some(c, c->unsent.data, c->unsent.length));
    want(c, c->unsent.length > 0 ? EPOLLOUT | meanwhile : EPOLLIN);
}

static void close_connection(connection *c) {
    if (members != NULL) {
        members[c->index] = members[--member_count];
        members[c->index]->index = c->index;
    }
    close(c->fd);
    free(c->unsent.data);
    free(c->incomplete.data);
    free(c);
}

static connection *accept_one(int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) return NULL;
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    connection *c = calloc(1, sizeof *c);
    if (c == NULL) bench_fail("calloc");
    c->fd = fd;
    want(c, EPOLLIN);
    return c;
}

/* ---- echo ------------------------------------------------------------------------------------- */

static void echo_ready(connection *c, uint32_t events) {
    if ((events & EPOLLOUT) != 0) flush(c, 0);
    bool gone = (events & (EPOLLERR | EPOLLHUP)) != 0;
    if (c->unsent.length > 0 && !gone) return;
    ssize_t n = recv(c->fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (n > 0) {
        size_t sent = send_some(c, buffer, (size_t)n);
        if (sent == (size_t)n) return;
        append(&c->unsent, buffer + sent, (size_t)n - sent);
        want(c, EPOLLOUT);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        close_connection(c);
    }
}

static void add_echo(int listener) {
    while (accept_one(listener) != NULL) {
    }
}

/* ---- broadcast ----------------------------------------------------------------------------------- */

static size_t whole_messages(const uint8_t *data, size_t length) {
    size_t at = 0;
    while (length - at >= HEADER_SIZE) {
        const uint8_t *h = data + at;
        size_t size = (size_t)h[0] << 24 | (size_t)h[1] << 16 | (size_t)h[2] << 8 | h[3];
        if (length - at - HEADER_SIZE < size) break;
        at += HEADER_SIZE + size;
    }
    return at;
}

static void hear(connection *c, const uint8_t *data, size_t length) {
    if (c->incomplete.length == 0) {
        size_t whole = whole_messages(data, length);
        append(&turn, data, whole);
        if (whole < length) append(&c->incomplete, data + whole, length - whole);
        return;
    }
    append(&c->incomplete, data, length);
    size_t whole = whole_messages(c->incomplete.data, c->incomplete.length);
    if (whole == 0) return;
    append(&turn, c->incomplete.data, whole);
    drop(&c->incomplete, whole);
}

static void member_ready(connection *c, uint32_t events) {
    if ((events & EPOLLOUT) != 0) flush(c, EPOLLIN);
    if ((events & ~(uint32_t)EPOLLOUT) == 0) return;
    ssize_t n = recv(c->fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (n > 0) {
        hear(c, buffer, (size_t)n);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        close_connection(c);
    }
}

static void tell_all(void) {
    for (size_t i = 0; turn.length > 0 && i < member_count; i++) {
        connection *c = members[i];
        size_t sent = c->unsent.length == 0 ? send_some(c, turn.data, turn.length) : 0;
        if (sent == turn.length) continue;
        append(&c->unsent, turn.data + sent, turn.length - sent);
        want(c, EPOLLIN | EPOLLOUT);
    }
    turn.length = 0;
}

static void add_members(int listener) {
    for (connection *c; (c = accept_one(listener)) != NULL;) {
        if (member_count == member_capacity) {
            member_capacity = member_capacity == 0 ? 64 : member_capacity * 2;
            members = realloc(members, member_capacity * sizeof(connection *));
            if (members == NULL) bench_fail("realloc");
        }
        c->index = member_count;
        members[member_count++] = c;
    }
}

/* ---- both ---------------------------------------------------------------------------------------- */

static void serve(int listener, void (*add)(int listener), void (*ready)(connection *, uint32_t events)) {
    static struct epoll_event events[EVENTS_MAX];
    epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = NULL };
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) < 0) bench_fail("epoll");
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS_MAX, -1);
        if (count < 0 && errno != EINTR) bench_fail("epoll_wait");
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == NULL)
                add(listener);
            else
                ready(events[i].data.ptr, events[i].events);
        }
        tell_all();
    }
}

static void echo(const char *subject, int listener) {
    (void)subject;
    serve(listener, add_echo, echo_ready);
}

static void broadcast(const char *subject, int listener) {
    (void)subject;
    serve(listener, add_members, member_ready);
}

static const char *version(void) {
    return gnu_get_libc_version();
}

const bench_subject bench_raw = {
    .name = "raw",
    .version = version,
    .echo = echo,
    .broadcast = broadcast,
    .reactor = &bench_raw_reactor,
};
