#include "latency.h"

#include <stdlib.h>

void bench_latency_add(bench_latency *latency, uint64_t ns) {
    if (latency->count == latency->capacity) {
        latency->capacity = latency->capacity == 0 ? 1024 : latency->capacity * 2;
        latency->ns = realloc(latency->ns, latency->capacity * sizeof *latency->ns);
        if (latency->ns == NULL) bench_fail("latencies");
    }
    latency->ns[latency->count++] = ns < UINT32_MAX ? (uint32_t)ns : UINT32_MAX;
}

static int compare(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* @return the least latency that `thousandths` of all were within. */
static double within_us(const bench_latency *latency, size_t thousandths) {
    size_t rank = (latency->count * thousandths + 999) / 1000;
    return latency->ns[rank - 1] / 1e3;
}

void bench_latency_report(bench_latency *latency, bench_sample *sample) {
    if (latency->count > 0) {
        qsort(latency->ns, latency->count, sizeof *latency->ns, compare);
        sample->value[BENCH_P50] = within_us(latency, 500);
        sample->value[BENCH_P90] = within_us(latency, 900);
        sample->value[BENCH_P99] = within_us(latency, 990);
        sample->value[BENCH_P999] = within_us(latency, 999);
        sample->value[BENCH_MAX] = within_us(latency, 1000);
    }
    free(latency->ns);
    *latency = (bench_latency){ 0 };
}
