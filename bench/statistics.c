/* Medians, ratios and spreads over rounds; what is not finite was not measured. */
#include "statistics.h"

#include <math.h>

/* Of a round, NAN if there is none: the value, or its ratio to the base's. */
static double value_of(const bench_series *series, const bench_series *base, bench_metric metric, size_t round) {
    double value = series->rounds[round].value[metric];
    if (base != NULL) value = round < base->round_count ? value / base->rounds[round].value[metric] : NAN;
    return isfinite(value) ? value : NAN;
}

/* The value that `rank` values are before in order. Rounds are few: nothing is sorted, so nothing is allocated. */
static double ranked(const bench_series *series, const bench_series *base, bench_metric metric, size_t rank) {
    for (size_t i = 0; i < series->round_count; i++) {
        double value = value_of(series, base, metric, i);
        size_t less = 0, equal = 0;
        for (size_t k = 0; k < series->round_count; k++) {
            double other = value_of(series, base, metric, k);
            less += other < value;
            equal += other <= value && other >= value;
        }
        if (less <= rank && rank < less + equal) return value;
    }
    return NAN;
}

static bench_spread spread_of(const bench_series *series, const bench_series *base, bench_metric metric) {
    size_t count = 0;
    for (size_t i = 0; i < series->round_count; i++)
        if (!isnan(value_of(series, base, metric, i))) count++;
    if (count == 0) return (bench_spread){ 0, NAN, NAN, NAN };
    double below = ranked(series, base, metric, (count - 1) / 2), above = ranked(series, base, metric, count / 2);
    return (bench_spread){ count, below + (above - below) / 2, ranked(series, base, metric, 0),
                           ranked(series, base, metric, count - 1) };
}

bench_spread bench_values(const bench_series *series, bench_metric metric) {
    return spread_of(series, NULL, metric);
}

bench_spread bench_ratios(const bench_cell *cell, const bench_series *series, bench_metric metric) {
    return spread_of(series, &cell->series[0], metric);
}

bool bench_is_wide(const bench_spread *spread) {
    return spread->max - spread->min > BENCH_WIDE * spread->median;
}

bench_spread bench_judged(const bench_cell *cell, const bench_series *series, bench_metric metric) {
    return series == &cell->series[0] ? bench_values(series, metric) : bench_ratios(cell, series, metric);
}
