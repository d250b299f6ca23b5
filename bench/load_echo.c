/*
 * Echo. Closed loop: each active connection keeps job->depth messages in flight. Open loop: messages are sent at a
 * fixed rate, in turn on all active connections, whether or not earlier ones have come back, and a latency counts from
 * when the message should have been sent: a server that stops for a while pays for all who would have come meanwhile.
 */
#include "load.h"
#include "stream.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

typedef struct connection {
    int fd;
    bool waits_for_room;
    uint32_t index;          /* among the active ones */
    uint64_t sent, received; /* bytes */
    uint64_t allowed;        /* bytes: what may be sent */
    uint64_t finished;       /* messages that came back */
    int64_t *sent_at_ns;     /* closed loop: of the depth last ones, by number */
} connection;

typedef enum phase { CONNECTING, CLOSED_LOOP, OPEN_LOOP } phase;

typedef struct load {
    bench_load base;
    phase phase;
    bench_stream stream;
    connection *connections;
    int64_t *sent_at_ns;
    int64_t start_ns; /* open loop: when number 0 is due */
    uint64_t due;     /* open loop: the next one's number */
} load;

static connection *active(load *l, uint32_t index) {
    return &l->connections[(uint64_t)index * l->base.job->conns / l->base.job->active];
}

static void wait_for_room(load *l, connection *c, bool waits) {
    if (c->waits_for_room == waits) return;
    struct epoll_event event = { .events = waits ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = c };
    if (epoll_ctl(l->base.epoll, EPOLL_CTL_MOD, c->fd, &event) < 0) bench_fail("epoll_ctl");
    c->waits_for_room = waits;
}

static void send_allowed(load *l, connection *c) {
    static uint8_t batch[256 * 1024];
    while (c->sent < c->allowed) {
        size_t length = sizeof batch;
        if (length > c->allowed - c->sent) length = (size_t)(c->allowed - c->sent);
        bench_stream_fill(&l->stream, c->sent, batch, length);
        ssize_t n = send(c->fd, batch, length, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0) break; /* a broken connection is found by recv */
        c->sent += (uint64_t)n;
    }
    wait_for_room(l, c, c->sent < c->allowed);
}

/* One more message may be sent from now on. */
static void allow(load *l, connection *c, int64_t now_ns) {
    c->sent_at_ns[c->allowed / l->stream.frame_size % l->base.job->depth] = now_ns;
    c->allowed += l->stream.frame_size;
}

static int64_t due_ns(const load *l, uint64_t number) {
    return l->start_ns + (int64_t)((double)number * 1e9 / l->base.job->rate);
}

static int64_t begun_ns(const load *l, const connection *c, uint64_t number) {
    if (l->phase != OPEN_LOOP) return c->sent_at_ns[number % l->base.job->depth];
    return due_ns(l, (number - 1) * l->base.job->active + c->index); /* one was sent when it connected */
}

static void receive(load *l, connection *c) {
    static uint8_t buffer[256 * 1024];
    ssize_t n = recv(c->fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
        l->base.failed = n == 0 ? "the server closed a connection" : "the server reset a connection";
    } else if ((uint64_t)n > c->sent - c->received || !bench_stream_check(&l->stream, c->received, buffer, (size_t)n)) {
        l->base.failed = "what came back is not what was sent";
    } else {
        c->received += (uint64_t)n;
    }
    if (l->base.failed != NULL) return;
    int64_t now_ns = bench_now_ns();
    uint64_t whole = c->received / l->stream.frame_size;
    for (; c->finished < whole; c->finished++) {
        l->base.finished++;
        if (l->base.measuring) bench_latency_add(&l->base.latency, (uint64_t)(now_ns - begun_ns(l, c, c->finished)));
        if (l->phase == CLOSED_LOOP) allow(l, c, now_ns);
    }
}

static void handle(bench_load *base, const struct epoll_event *event) {
    load *l = (load *)base;
    connection *c = event->data.ptr;
    if ((event->events & ~(uint32_t)EPOLLOUT) != 0) receive(l, c);
    if (base->failed == NULL && c->sent < c->allowed) send_allowed(l, c);
}

static void send_due(bench_load *base, int64_t now_ns) {
    load *l = (load *)base;
    while (due_ns(l, l->due) <= now_ns) {
        connection *c = active(l, (uint32_t)(l->due++ % base->job->active));
        c->allowed += l->stream.frame_size;
        if (!c->waits_for_room) send_allowed(l, c);
    }
}

/* Each carries one message, so that all are known to be there; a few at a time, or the server's queue overflows. */
static void connect_all(load *l, uint32_t from, uint32_t to) {
    for (uint32_t i = from; i < to && l->base.failed == NULL; i++) {
        connection *c = &l->connections[i];
        c->sent_at_ns = l->sent_at_ns + (size_t)i * l->base.job->depth;
        c->fd = bench_connect(l->base.server);
        if (c->fd < 0) {
            l->base.failed = "cannot connect";
            return;
        }
        bench_load_add(&l->base, c->fd, c);
        allow(l, c, bench_now_ns());
        send_allowed(l, c);
        if (i % 256 == 255 || i + 1 == to) bench_load_run(&l->base, INT64_MAX, i + 1);
    }
}

static void begin(load *l) {
    l->phase = l->base.job->rate > 0 ? OPEN_LOOP : CLOSED_LOOP;
    if (l->phase == OPEN_LOOP) l->base.send_due = send_due;
    l->start_ns = bench_now_ns();
    for (uint32_t i = 0; i < l->base.job->active; i++) {
        connection *c = active(l, i);
        c->index = i;
        for (uint32_t k = 0; l->phase == CLOSED_LOOP && k < l->base.job->depth; k++) allow(l, c, l->start_ns);
        send_allowed(l, c);
    }
}

/* Of few connections the bytes say nothing: memory comes in pages. */
enum { CONNECTIONS_TO_WEIGH = 1000 };

static void connect_and_weigh(load *l, bench_sample *sample) {
    uint32_t count = l->base.job->conns;
    connect_all(l, 0, 1);
    uint64_t before = bench_process_private_bytes(l->base.server);
    connect_all(l, 1, count);
    uint64_t after = bench_process_private_bytes(l->base.server);
    if (l->base.failed == NULL && count >= CONNECTIONS_TO_WEIGH && after > before)
        sample->value[BENCH_BYTES] = (double)(after - before) / (count - 1);
}

const char *bench_load_echo(const bench_job *job, const bench_process *server, bool count_syscalls,
                            bench_sample *sample) {
    load l = { .base.handle = handle };
    bench_load_init(&l.base, job, server);
    l.connections = calloc(job->conns, sizeof *l.connections);
    l.sent_at_ns = calloc((size_t)job->conns * job->depth, sizeof *l.sent_at_ns);
    if (l.connections == NULL || l.sent_at_ns == NULL || !bench_stream_init(&l.stream, job->size)) bench_fail("echo");
    connect_and_weigh(&l, sample);
    if (l.base.failed == NULL) {
        begin(&l);
        bench_load_measure(&l.base, count_syscalls, sample);
    }
    for (uint32_t i = 0; i < job->conns; i++) {
        if (l.connections[i].fd > 0) bench_reset(l.connections[i].fd);
    }
    bench_load_free(&l.base);
    bench_stream_free(&l.stream);
    free(l.sent_at_ns);
    free(l.connections);
    return l.base.failed;
}
