/*
 * dispatch, libevent's classic: many pairs of sockets, of which few are active at a time. A run begins with a byte for
 * each active pair. Who reads one passes one on to the next pair, until enough were passed on; the run is over when the
 * last has been read. A byte says which run it is of, so none can be left behind unnoticed.
 */
#include "latency.h"
#include "span.h"
#include "workloads.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>

typedef struct pair {
    int ends[2]; /* the first one is watched */
} pair;

static pair *pairs;
static uint32_t pair_count, writes_left;
static uint64_t bytes_read; /* in this run */
static uint8_t run;

static void write_byte(const pair *to) {
    if (send(to->ends[1], &run, 1, 0) != 1) bench_fail("dispatch: send");
}

static void ready(void *argument) {
    const pair *from = argument;
    uint8_t byte;
    ssize_t n = recv(from->ends[0], &byte, 1, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n != 1) bench_fail("dispatch: recv");
    errno = 0;
    if (byte != run) bench_fail("dispatch: a byte of another run");
    bytes_read++;
    if (writes_left == 0) return;
    writes_left--;
    write_byte(from + 1 < pairs + pair_count ? from + 1 : pairs);
}

static void open_pairs(const bench_reactor *reactor, void *loop) {
    struct rlimit handles;
    if (getrlimit(RLIMIT_NOFILE, &handles) < 0) bench_fail("getrlimit");
    handles.rlim_cur = handles.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &handles) < 0) bench_fail("setrlimit");
    for (uint32_t i = 0; i < pair_count; i++) {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pairs[i].ends) < 0)
            bench_fail("dispatch: socketpair");
        reactor->watch(loop, pairs[i].ends[0], ready, &pairs[i]);
    }
}

static void run_once(const bench_job *job, const bench_reactor *reactor, void *loop) {
    run++;
    bytes_read = 0;
    writes_left = job->writes;
    for (uint64_t i = 0; i < job->active; i++) write_byte(&pairs[i * pair_count / job->active]);
    while (bytes_read < (uint64_t)job->active + job->writes) reactor->turn(loop);
}

void bench_run_dispatch(const bench_job *job, const bench_reactor *reactor, const char *subject, bench_sample *sample) {
    bench_latency runs = { 0 };
    void *loop = reactor->create(subject);
    pair_count = job->conns;
    pairs = calloc(pair_count, sizeof *pairs);
    if (pairs == NULL) bench_fail("dispatch");
    open_pairs(reactor, loop);
    run_once(job, reactor, loop); /* the first one tells the system of the pairs */

    bench_span span = bench_span_begin(RUSAGE_THREAD);
    int64_t now_ns = span.at_ns, end_ns = now_ns + (int64_t)(job->seconds * 1e9);
    do {
        int64_t begin_ns = now_ns;
        run_once(job, reactor, loop);
        now_ns = bench_now_ns();
        bench_latency_add(&runs, (uint64_t)(now_ns - begin_ns));
    } while (now_ns < end_ns);
    bench_span_report(&span, (double)runs.count * ((double)job->active + job->writes), sample);
    bench_latency_report(&runs, sample);
    free(pairs);
}
