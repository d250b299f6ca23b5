/*
 * The load on a server: bare epoll, never the library. It checks every byte that comes back. What goes wrong ends the
 * run, by a reason in words.
 */
#ifndef P2P_BENCH_LOAD_H
#define P2P_BENCH_LOAD_H

#include "bench.h"
#include "latency.h"
#include "process.h"

#include <sys/epoll.h>

/* What the kinds of load share; each has it as its first member. */
typedef struct bench_load bench_load;
struct bench_load {
    const bench_job *job;
    const bench_process *server;
    int epoll;
    void (*handle)(bench_load *load, const struct epoll_event *event);
    void (*send_due)(bench_load *load, int64_t now_ns); /* open loop; NULL: it waits for events instead */
    uint64_t finished;                                  /* messages, deliveries or connections */
    bool measuring;                                     /* latencies count */
    bench_latency latency;
    const char *failed; /* static; NULL: all is well */
};

void bench_load_init(bench_load *load, const bench_job *job, const bench_process *server);
void bench_load_free(bench_load *load);
void bench_load_add(bench_load *load, int fd, void *data);
/* Until the time has come, so many have finished, or it has failed. */
void bench_load_run(bench_load *load, int64_t until_ns, uint64_t until_finished);
/* Runs for a while before, then for job->seconds, and as long once more if system calls are to be counted. */
void bench_load_measure(bench_load *load, bool count_syscalls, bench_sample *sample);

/* @return a blocking connection; -1 with errno. */
int bench_connect(const bench_process *server);
/* Ends it by a reset, so that its port is free at once. */
void bench_reset(int fd);

/* The kinds. Each fills `sample`. @return NULL, or why the run failed; static. */
typedef const char *bench_load_kind(const bench_job *job, const bench_process *server, bool count_syscalls,
                                    bench_sample *sample);
bench_load_kind bench_load_echo, bench_load_broadcast, bench_load_accept;

#endif
