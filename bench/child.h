/* The process of a subject. */
#ifndef P2P_BENCH_CHILD_H
#define P2P_BENCH_CHILD_H

#include "bench.h"

/* p2p-bench --child SUBJECT WORKLOAD NUMBERS. Serves until it is killed; or runs, and prints what came out. */
int bench_child(int argc, char **argv);

/* Reads what a child printed, to its end. @return false if that was nothing. */
bool bench_child_results(int output, bench_sample *sample);

void bench_sample_clear(bench_sample *sample);

#endif
