#include "load.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static const int64_t patience_ns = 20000000000; /* without any answer for so long, a run has failed */

void bench_load_init(bench_load *load, const bench_job *job, const bench_process *server) {
    load->job = job;
    load->server = server;
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (load->epoll < 0) bench_fail("epoll_create1");
}

void bench_load_free(bench_load *load) {
    close(load->epoll);
    free(load->latency.ns);
}

void bench_load_add(bench_load *load, int fd, void *data) {
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = data };
    if (epoll_ctl(load->epoll, EPOLL_CTL_ADD, fd, &event) < 0) bench_fail("epoll_ctl");
}

void bench_load_run(bench_load *load, int64_t until_ns, uint64_t until_finished) {
    struct epoll_event events[512];
    int64_t now_ns = bench_now_ns(), heard_ns = now_ns;
    while (load->failed == NULL && now_ns < until_ns && load->finished < until_finished) {
        /* An open loop looks at the clock all the time: that is what the load has a processor of its own for. */
        if (load->send_due != NULL) load->send_due(load, now_ns);
        int count = epoll_wait(load->epoll, events, COUNT_OF(events), load->send_due != NULL ? 0 : 100);
        for (int i = 0; i < count && load->failed == NULL; i++) load->handle(load, &events[i]);
        now_ns = bench_now_ns();
        if (count > 0) heard_ns = now_ns;
        if (now_ns - heard_ns > patience_ns) load->failed = "no answer from the server";
    }
}

/* The first moments, when memory and caches are new, are not measured. */
static int64_t warm_up_ns(const bench_job *job) {
    double seconds = job->seconds / 4;
    return (int64_t)((seconds < 0.25 ? seconds : 0.25) * 1e9);
}

void bench_load_measure(bench_load *load, bool count_syscalls, bench_sample *sample) {
    int64_t length_ns = (int64_t)(load->job->seconds * 1e9);
    bench_load_run(load, bench_now_ns() + warm_up_ns(load->job), UINT64_MAX);
    load->measuring = true;
    uint64_t finished = load->finished;
    bench_usage from = bench_process_usage(load->server);
    bench_load_run(load, from.at_ns + length_ns, UINT64_MAX);
    bench_load_run(load, INT64_MAX, finished + 1); /* a short run on a busy machine: nothing yet is no result */
    bench_usage to = bench_process_usage(load->server);
    load->measuring = false;
    bench_usage_report(&from, &to, load->finished - finished, sample);
    bench_latency_report(&load->latency, sample);
    if (!count_syscalls || load->failed != NULL) return;

    bench_strace strace;
    load->failed = bench_strace_begin(&strace, load->server);
    if (load->failed != NULL) return;
    finished = load->finished;
    bench_load_run(load, bench_now_ns() + length_ns, UINT64_MAX);
    uint64_t calls = bench_strace_end(&strace);
    if (load->finished > finished) sample->value[BENCH_SYSCALLS] = (double)calls / (double)(load->finished - finished);
}

int bench_connect(const bench_process *server) {
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(server->port) };
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0) {
        close(fd);
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

void bench_reset(int fd) {
    struct linger reset = { .l_onoff = 1, .l_linger = 0 };
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(fd);
}
