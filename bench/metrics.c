/* The names of what is measured. */
#include "bench.h"

const bench_metric_info bench_metrics[BENCH_METRIC_COUNT] = {
#define X(id, name, unit, more_is_better, text) [BENCH_##id] = { name, unit, more_is_better, text },
    BENCH_METRICS(X)
#undef X
};
