/* A subject's process: this program, run again as a child, on a processor of its own where there are two. */
#ifndef P2P_BENCH_PROCESS_H
#define P2P_BENCH_PROCESS_H

#include "bench.h"

#include <sys/types.h>

typedef struct bench_process {
    pid_t pid;
    uint16_t port; /* where it listens, on 127.0.0.1; 0: it does not */
    int output;    /* its stdout */
    int errors;    /* its stderr */
} bench_process;

typedef struct bench_usage {
    int64_t at_ns;
    uint64_t cpu_ns;
    uint64_t user_ticks, system_ticks; /* only their proportion is used: the kernel counts them coarsely */
} bench_usage;

/* Load and server each on one of two processors. @return how many processors there are to use. */
int bench_pin_load(void);

typedef enum bench_process_kind {
    BENCH_SERVER,      /* gets a listening socket; on the processor that is not the load's */
    BENCH_ONE_THREAD,  /* on that processor, too */
    BENCH_MORE_THREADS /* on all there are */
} bench_process_kind;

void bench_process_start(bench_process *process, const char *subject, const bench_job *job, bench_process_kind kind);
/* Ends it. @return what it said on stderr, one line, to be freed; NULL if nothing. */
char *bench_process_end(bench_process *process);

bench_usage bench_process_usage(const bench_process *process);
/* RATE, CPU, CPU_USER, CPU_SYSTEM, BUSY of `count` things done between the two. */
void bench_usage_report(const bench_usage *begin, const bench_usage *end, uint64_t count, bench_sample *sample);
uint64_t bench_process_private_bytes(const bench_process *process);

/*
 * Counting system calls by strace, from begin to end. begin returns NULL, or why it can't. end returns how many there
 * were.
 */
typedef struct bench_strace {
    pid_t pid;
    char file[32];
} bench_strace;
const char *bench_strace_begin(bench_strace *strace, const bench_process *process);
uint64_t bench_strace_end(bench_strace *strace);

/* What the child is told on its command line: p2p-bench --child SUBJECT WORKLOAD and the job's numbers. */
#define BENCH_CHILD "--child"
enum { BENCH_CHILD_LISTENER = 3 }; /* the descriptor */
bool bench_job_from_words(char **words, int count, bench_job *job);

#endif
