/* Percentiles are those of the samples, not near them. */
#include "test_main.h"

#include "latency.h"

#include <math.h>

static bench_sample empty_sample(void) {
    bench_sample sample;
    for (int i = 0; i < BENCH_METRIC_COUNT; i++) sample.value[i] = NAN;
    return sample;
}

static void assert_us(const bench_sample *sample, bench_metric metric, double us) {
    assert_true(fabs(sample->value[metric] - us) < 1e-9);
}

/* From the longest to the shortest, so that they have to be sorted. */
static void a_percentile_is_the_least_that_so_many_were_within(void **state) {
    bench_latency latency = { 0 };
    bench_sample sample = empty_sample();
    (void)state;
    for (uint64_t us = 10000; us > 0; us--) bench_latency_add(&latency, us * 1000);
    bench_latency_report(&latency, &sample);
    assert_us(&sample, BENCH_P50, 5000);
    assert_us(&sample, BENCH_P90, 9000);
    assert_us(&sample, BENCH_P99, 9900);
    assert_us(&sample, BENCH_P999, 9990);
    assert_us(&sample, BENCH_MAX, 10000);
    assert_null(latency.ns);
    assert_int_equal(latency.count, 0);
}

static void a_percentile_of_few_is_one_of_them(void **state) {
    bench_latency latency = { 0 };
    bench_sample sample = empty_sample();
    (void)state;
    for (uint64_t ns = 1000; ns <= 3000; ns += 1000) bench_latency_add(&latency, ns);
    bench_latency_report(&latency, &sample);
    assert_us(&sample, BENCH_P50, 2);
    assert_us(&sample, BENCH_P90, 3);
    assert_us(&sample, BENCH_MAX, 3);
}

static void the_longest_latency_counts_as_four_seconds(void **state) {
    bench_latency latency = { 0 };
    bench_sample sample = empty_sample();
    (void)state;
    bench_latency_add(&latency, UINT64_MAX);
    bench_latency_report(&latency, &sample);
    assert_us(&sample, BENCH_P50, UINT32_MAX / 1e3);
    assert_us(&sample, BENCH_MAX, UINT32_MAX / 1e3);
}

static void without_latencies_nothing_is_reported(void **state) {
    bench_latency latency = { 0 };
    bench_sample sample = empty_sample();
    (void)state;
    bench_latency_report(&latency, &sample);
    assert_true(isnan(sample.value[BENCH_P50]));
    assert_true(isnan(sample.value[BENCH_MAX]));
}

int main(int argc, char **argv) {
    const struct CMUnitTest cases[] = {
        cmocka_unit_test(a_percentile_is_the_least_that_so_many_were_within),
        cmocka_unit_test(a_percentile_of_few_is_one_of_them),
        cmocka_unit_test(the_longest_latency_counts_as_four_seconds),
        cmocka_unit_test(without_latencies_nothing_is_reported),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
