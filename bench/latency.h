/*
 * Latencies of a run: each one is kept, and sorted in the end. A histogram would round, and the longest ones are what
 * matters. Begins as all zeros.
 */
#ifndef P2P_BENCH_LATENCY_H
#define P2P_BENCH_LATENCY_H

#include "bench.h"

typedef struct bench_latency {
    uint32_t *ns;
    size_t count, capacity;
} bench_latency;

/* More than 4.29 s count as 4.29 s. Without memory the process ends. */
void bench_latency_add(bench_latency *latency, uint64_t ns);

/* Fills P50, P90, P99, P999 and MAX of the sample, or leaves them alone when there is none; frees what was kept. */
void bench_latency_report(bench_latency *latency, bench_sample *sample);

#endif
