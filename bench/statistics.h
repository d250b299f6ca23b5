/* What the rounds of a cell say together. */
#ifndef P2P_BENCH_STATISTICS_H
#define P2P_BENCH_STATISTICS_H

#include "bench.h"

typedef struct bench_spread {
    size_t count;            /* of the rounds that have a value */
    double median, min, max; /* NAN if none has */
} bench_spread;

/* A metric's values of all rounds. */
bench_spread bench_values(const bench_series *series, bench_metric metric);

/*
 * A metric's ratios to the base, which is the first series of the cell: value by value of the same round, since what
 * disturbs a round disturbs both. A round in which either has no value is left out.
 */
bench_spread bench_ratios(const bench_cell *cell, const bench_series *series, bench_metric metric);

/*
 * From here on a spread, (max - min) / median, is too wide to say anything. The goals of this project are differences
 * of 3 to 10 %. Of 15 values that are scattered like measuring errors, lowest and highest are about 3.5 standard
 * deviations apart; with a spread of 0.2 that makes 6 % for a round and 2 % for the median, so a difference of 5 % can
 * just be seen. With more than that it can't.
 */
#define BENCH_WIDE 0.2
bool bench_is_wide(const bench_spread *spread);

/* What a line of a table has to admit for rate or cpu: its ratios; of the base, which has none, its values. */
bench_spread bench_judged(const bench_cell *cell, const bench_series *series, bench_metric metric);

#endif
