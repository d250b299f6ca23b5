/* Reports with numbers that nobody measured. */
#ifndef TEST_BENCH_MADE_UP_H
#define TEST_BENCH_MADE_UP_H

#include "bench.h"

#define NAME_THAT_NEEDS_QUOTES "say \"1,2\" </script>\n\xff"

/* Every workload; sweeps and single cells; refusals, holes, wide spreads, and a name that needs quotes. */
bench_report *made_up_report(void);

/* What there is little of: one subject, one round, nothing but refusals, zeroes, no version, no note. */
bench_report *made_up_corners(void);

/* One cell whose numbers are few and round. */
bench_cell *made_up_cell(void);

/* A sample with nothing measured but what is given: pairs of a metric and its value, ended by BENCH_METRIC_COUNT. */
bench_sample made_up_sample(int metric, ...);

#endif
