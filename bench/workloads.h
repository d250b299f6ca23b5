/*
 * The workloads that need no network: each runs in the subject's process, and fills what it measured of a sample. What
 * comes out wrong ends the process. They leave their handles to the loop, which may watch them still: the process is
 * to end afterwards.
 */
#ifndef P2P_BENCH_WORKLOADS_H
#define P2P_BENCH_WORKLOADS_H

#include "bench.h"

/*
 * RATE and CPU: events. P50 to MAX: runs. Needs job->active from 1 to job->conns, and two handles for each of
 * job->conns.
 */
void bench_run_dispatch(const bench_job *job, const bench_reactor *reactor, const char *subject, bench_sample *sample);

/* ADD, RESTART, CANCEL, FIRE: processor time of the loop's thread. */
void bench_run_timers(const bench_job *job, const bench_reactor *reactor, const char *subject, bench_sample *sample);

/* Two threads: not for a process that may use one processor only. CPU is that of both: a loop can burden either. */
void bench_run_post(const bench_job *job, const bench_reactor *reactor, const char *subject, bench_sample *sample);

/*
 * Two threads, too. P50 to MAX: a task there and its answer back. RATE: how many of them fit in a second, one after the
 * other. CPU: of the loop's thread only.
 */
void bench_run_wake(const bench_job *job, const bench_reactor *reactor, const char *subject, bench_sample *sample);

/*
 * The core's own cost: an echo of the library without a system call, on a backend and on sockets that are a few fields
 * in memory. Initialises the library by itself, so it must come before p2p_init.
 */
void bench_run_null_echo(const bench_job *job, bench_sample *sample);

#endif
