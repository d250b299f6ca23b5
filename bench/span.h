/* What a workload inside this process took, from a moment on. */
#ifndef P2P_BENCH_SPAN_H
#define P2P_BENCH_SPAN_H

#include "bench.h"

typedef struct bench_span {
    int whose;
    int64_t at_ns;
    double user_ns, system_ns;
} bench_span;

/* @param whose  processor time: RUSAGE_THREAD, this thread's; RUSAGE_SELF, that of all threads. */
bench_span bench_span_begin(int whose);

/* RATE, CPU, CPU_USER, CPU_SYSTEM and BUSY of `count` things done since. */
void bench_span_report(const bench_span *begin, double count, bench_sample *sample);

#endif
