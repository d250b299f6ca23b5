/*
 * Accept: connections come, carry one message, and are reset; job->conns at a time. Each waits for its answer, so the
 * server's queue of those who wait never overflows. They come from several addresses of 127/8 and leave by a reset, so
 * that ports last.
 */
#include "load.h"
#include "stream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { SOURCES = 64 };

typedef struct visitor {
    int fd;
    uint64_t received;
    int64_t begun_ns;
} visitor;

typedef struct visits {
    bench_load base;
    bench_stream stream;
    uint8_t *frame;
    visitor *visitors;
    uint64_t begun;
} visits;

static void come(visits *v, visitor *who) {
    struct sockaddr_in from = { .sin_family = AF_INET }, to = { .sin_family = AF_INET };
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + (uint32_t)(v->begun++ % SOURCES));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons(v->base.server->port);
    int one = 1;
    who->begun_ns = bench_now_ns();
    who->received = 0;
    who->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (who->fd < 0 || setsockopt(who->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one) < 0 ||
        bind(who->fd, (struct sockaddr *)&from, sizeof from) < 0 ||
        connect(who->fd, (struct sockaddr *)&to, sizeof to) < 0 ||
        send(who->fd, v->frame, v->stream.frame_size, MSG_NOSIGNAL) != (ssize_t)v->stream.frame_size) {
        v->base.failed = "cannot connect";
        return;
    }
    bench_load_add(&v->base, who->fd, who);
}

static void handle(bench_load *base, const struct epoll_event *event) {
    visits *v = (visits *)base;
    visitor *who = event->data.ptr;
    static uint8_t buffer[64 * 1024];
    ssize_t n = recv(who->fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0 || !bench_stream_check(&v->stream, who->received, buffer, (size_t)n)) {
        v->base.failed = n <= 0 ? "the server closed a connection" : "what came back is not what was sent";
        return;
    }
    who->received += (uint64_t)n;
    if (who->received < v->stream.frame_size) return;
    v->base.finished++;
    if (v->base.measuring) bench_latency_add(&v->base.latency, (uint64_t)(bench_now_ns() - who->begun_ns));
    bench_reset(who->fd);
    come(v, who);
}

const char *bench_load_accept(const bench_job *job, const bench_process *server, bool count_syscalls,
                              bench_sample *sample) {
    visits v = { .base.handle = handle };
    bench_load_init(&v.base, job, server);
    v.visitors = calloc(job->conns, sizeof *v.visitors);
    if (v.visitors == NULL || !bench_stream_init(&v.stream, job->size) ||
        (v.frame = malloc(v.stream.frame_size)) == NULL)
        bench_fail("accept");
    bench_stream_fill(&v.stream, 0, v.frame, v.stream.frame_size);
    for (uint32_t i = 0; i < job->conns && v.base.failed == NULL; i++) come(&v, &v.visitors[i]);
    bench_load_measure(&v.base, count_syscalls, sample);
    for (uint32_t i = 0; i < job->conns; i++) {
        if (v.visitors[i].fd > 0) bench_reset(v.visitors[i].fd);
    }
    bench_load_free(&v.base);
    bench_stream_free(&v.stream);
    free(v.frame);
    free(v.visitors);
    return v.base.failed;
}
