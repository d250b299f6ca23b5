/* What is asked for on the command line: which workloads, with which numbers, on which subjects. */
#ifndef P2P_BENCH_PLAN_H
#define P2P_BENCH_PLAN_H

#include "bench.h"
#include "load.h"

typedef void bench_run_kind(const bench_job *job, const bench_reactor *reactor, const char *subject,
                            bench_sample *sample);

typedef struct bench_workload {
    const char *name, *unit, *text;
    bench_job defaults;
    bench_load_kind *load; /* on a server in another process; or NULL, and then */
    bench_run_kind *run;   /* on a reactor, in the child */
    bool is_room;          /* the server tells all instead of answering */
    bool has_threads;      /* the child has another one beside the loop's */
} bench_workload;

extern const bench_workload bench_workloads[];
extern const size_t bench_workload_count;

const bench_workload *bench_workload_find(const char *name);
bool bench_workload_suits(const bench_workload *workload, const bench_subject *subject);

enum { BENCH_LIST_MAX = 64 };

/* None given: the workload's default. */
typedef struct bench_numbers {
    uint32_t value[BENCH_LIST_MAX];
    size_t count;
} bench_numbers;

typedef struct bench_plan {
    const bench_workload *workloads[BENCH_LIST_MAX];
    size_t workload_count;
    const char *subjects[BENCH_LIST_MAX]; /* the first one is the base */
    size_t subject_count;
    bench_numbers conns, active, size, depth, rate;
    uint32_t writes; /* 0: the workload's default */
    double seconds;
    uint32_t rounds;
    bool count_syscalls;
    const char *csv, *json, *html; /* files to write, or NULL */
} bench_plan;

/* Prints what is wrong and ends the program, with status 2; with 0 after --help and --list. */
void bench_plan_read(bench_plan *plan, int argc, char **argv);

#endif
