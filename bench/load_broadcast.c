/*
 * Broadcast: a room. Each member has job->depth messages under way, and says the next one when one of its own comes
 * back. Every member must hear every message; of each sender's in order. Payload: the sender's number, the message's,
 * and filling.
 */
#include "load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { HEADER_SIZE = 4, PREFIX_SIZE = HEADER_SIZE + 4 + 4, BUFFER_SIZE = 256 * 1024 };

typedef struct member {
    int fd;
    uint32_t said;        /* messages sent */
    int64_t *said_at_ns;  /* the depth last ones, by number */
    uint32_t *heard;      /* by sender: the next one's number */
    uint8_t *incomplete;  /* the beginning of a message */
    size_t incomplete_length;
} member;

typedef struct room {
    bench_load base;
    size_t frame_size;
    uint8_t *frame; /* but for sender and number */
    member *members;
    uint32_t joined;
    bool talking;
} room;

/* A member is never told more than it has asked for, so what it says fits into the system's buffers. */
static void say(room *r, uint32_t index, int64_t now_ns) {
    member *m = &r->members[index];
    m->said_at_ns[m->said % r->base.job->depth] = now_ns;
    memcpy(r->frame + HEADER_SIZE, &index, 4);
    memcpy(r->frame + HEADER_SIZE + 4, &m->said, 4);
    m->said++;
    if (send(m->fd, r->frame, r->frame_size, MSG_NOSIGNAL) != (ssize_t)r->frame_size) r->base.failed = "cannot send";
}

/* One message for the member `index`. */
static void hear(room *r, uint32_t index, const uint8_t *frame, int64_t now_ns) {
    uint32_t sender, number;
    memcpy(&sender, frame + HEADER_SIZE, 4);
    memcpy(&number, frame + HEADER_SIZE + 4, 4);
    bool same = memcmp(frame, r->frame, HEADER_SIZE) == 0 &&
                memcmp(frame + PREFIX_SIZE, r->frame + PREFIX_SIZE, r->frame_size - PREFIX_SIZE) == 0;
    if (!same || sender >= r->joined) {
        r->base.failed = "what came back is not what was sent";
        return;
    }
    uint32_t *expected = &r->members[index].heard[sender];
    if (number != *expected) {
        r->base.failed = "a message was lost, or came out of order";
        return;
    }
    ++*expected;
    r->base.finished++;
    if (sender != index) return;
    if (r->base.measuring) {
        int64_t said_at_ns = r->members[index].said_at_ns[number % r->base.job->depth];
        bench_latency_add(&r->base.latency, (uint64_t)(now_ns - said_at_ns));
    }
    if (r->talking) say(r, index, now_ns);
}

static void handle(bench_load *base, const struct epoll_event *event) {
    room *r = (room *)base;
    member *m = event->data.ptr;
    uint32_t index = (uint32_t)(m - r->members);
    static uint8_t buffer[BUFFER_SIZE + (1 << 20)];
    memcpy(buffer, m->incomplete, m->incomplete_length);
    ssize_t n = recv(m->fd, buffer + m->incomplete_length, BUFFER_SIZE, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
        r->base.failed = "the server closed a connection";
        return;
    }
    size_t length = m->incomplete_length + (size_t)n, at = 0;
    int64_t now_ns = bench_now_ns();
    for (; length - at >= r->frame_size && r->base.failed == NULL; at += r->frame_size) {
        hear(r, index, buffer + at, now_ns);
    }
    if (r->base.failed != NULL) return;
    m->incomplete_length = length - at;
    memcpy(m->incomplete, buffer + at, m->incomplete_length);
}

/* Each says one message when it joins: everybody who is there hears it, so after it nobody misses any. */
static void join(room *r) {
    for (uint32_t i = 0; i < r->base.job->conns && r->base.failed == NULL; i++) {
        member *m = &r->members[i];
        m->fd = bench_connect(r->base.server);
        if (m->fd < 0) {
            r->base.failed = "cannot connect";
            return;
        }
        r->joined++;
        bench_load_add(&r->base, m->fd, m);
        m->said_at_ns = calloc(r->base.job->depth, sizeof *m->said_at_ns);
        m->heard = malloc(r->base.job->conns * sizeof *m->heard);
        m->incomplete = malloc(r->frame_size);
        if (m->said_at_ns == NULL || m->heard == NULL || m->incomplete == NULL) bench_fail("join");
        for (uint32_t k = 0; k < r->base.job->conns; k++) m->heard[k] = k < i ? 1 : 0;
        say(r, i, bench_now_ns());
        bench_load_run(&r->base, INT64_MAX, r->base.finished + i + 1);
    }
}

static void begin(room *r) {
    r->talking = true;
    for (uint32_t i = 0; i < r->base.job->conns; i++) {
        for (uint32_t k = 0; k < r->base.job->depth; k++) say(r, i, bench_now_ns());
    }
}

const char *bench_load_broadcast(const bench_job *job, const bench_process *server, bool count_syscalls,
                                 bench_sample *sample) {
    if (job->size < PREFIX_SIZE - HEADER_SIZE) return "a message of the room has at least 8 bytes";
    room r = { .base.handle = handle, .frame_size = HEADER_SIZE + (size_t)job->size };
    bench_load_init(&r.base, job, server);
    r.members = calloc(job->conns, sizeof *r.members);
    r.frame = malloc(r.frame_size);
    if (r.members == NULL || r.frame == NULL) bench_fail("broadcast");
    for (size_t i = 0; i < r.frame_size; i++) {
        r.frame[i] = (uint8_t)(i < HEADER_SIZE ? job->size >> (24 - 8 * i) : i * 31);
    }
    join(&r);
    if (r.base.failed == NULL) {
        begin(&r);
        bench_load_measure(&r.base, count_syscalls, sample);
    }
    for (uint32_t i = 0; i < r.joined; i++) {
        bench_reset(r.members[i].fd);
        free(r.members[i].said_at_ns);
        free(r.members[i].heard);
        free(r.members[i].incomplete);
    }
    bench_load_free(&r.base);
    free(r.frame);
    free(r.members);
    return r.base.failed;
}
