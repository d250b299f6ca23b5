/* Medians, spreads and ratios over rounds (bench/statistics.c), with numbers that can be checked by hand. */
#include "test_main.h"

#include "made_up.h"
#include "statistics.h"

#include <math.h>

static bench_sample samples[2][8];
static bench_series series[2] = { { "base", "1", samples[0], 0, NULL }, { "other", "1", samples[1], 0, NULL } };
static const bench_cell cell = { { .workload = "echo" }, "message", series, 2 };

static void has_rates(size_t which, const double *rates, size_t count) {
    for (size_t i = 0; i < count; i++)
        samples[which][i] = made_up_sample(BENCH_RATE, rates[i], BENCH_METRIC_COUNT);
    series[which].round_count = count;
}

#define HAS(which, ...) has_rates(which, (const double[]){ __VA_ARGS__ }, COUNT_OF(((const double[]){ __VA_ARGS__ })))

static void expect_spread(bench_spread spread, size_t count, double median, double min, double max) {
    assert_int_equal(spread.count, count);
    assert_true(fabs(spread.median - median) < 1e-9);
    assert_true(fabs(spread.min - min) < 1e-9);
    assert_true(fabs(spread.max - max) < 1e-9);
}

static void of_an_odd_number_of_rounds_the_middle_one_is_the_median(void **state) {
    (void)state;
    HAS(0, 9, 1, 5);
    expect_spread(bench_values(&series[0], BENCH_RATE), 3, 5, 1, 9);
}

static void of_an_even_number_it_is_between_the_two_in_the_middle(void **state) {
    (void)state;
    HAS(0, 4, 1, 9, 2);
    expect_spread(bench_values(&series[0], BENCH_RATE), 4, 3, 1, 9);
}

static void equal_values_count_each(void **state) {
    (void)state;
    HAS(0, 7, 7, 1, 7, 7);
    expect_spread(bench_values(&series[0], BENCH_RATE), 5, 7, 1, 7);
    HAS(0, 2, 2, 8, 8);
    expect_spread(bench_values(&series[0], BENCH_RATE), 4, 5, 2, 8);
}

static void rounds_without_a_value_are_left_out(void **state) {
    (void)state;
    HAS(0, NAN, 3, INFINITY, 1, 2);
    expect_spread(bench_values(&series[0], BENCH_RATE), 3, 2, 1, 3);
    bench_spread none = bench_values(&series[0], BENCH_CPU);
    assert_int_equal(none.count, 0);
    assert_true(isnan(none.median) && isnan(none.min) && isnan(none.max));
    assert_false(bench_is_wide(&none));
}

static void without_rounds_there_is_nothing(void **state) {
    (void)state;
    series[0].round_count = 0;
    HAS(1, 1, 2);
    assert_int_equal(bench_values(&series[0], BENCH_RATE).count, 0);
    assert_int_equal(bench_ratios(&cell, &series[1], BENCH_RATE).count, 0);
}

static void a_ratio_is_taken_in_each_round(void **state) {
    (void)state;
    HAS(0, 10, 100, 1000);
    HAS(1, 11, 120, 900);
    expect_spread(bench_ratios(&cell, &series[1], BENCH_RATE), 3, 1.1, 0.9, 1.2);
    expect_spread(bench_ratios(&cell, &series[0], BENCH_RATE), 3, 1, 1, 1);
}

static void a_ratio_needs_both_values(void **state) {
    (void)state;
    HAS(0, 10, NAN, 0, 10);
    HAS(1, 20, 20, 20, NAN, 50);
    expect_spread(bench_ratios(&cell, &series[1], BENCH_RATE), 1, 2, 2, 2);
}

static void one_round_has_no_spread(void **state) {
    (void)state;
    HAS(0, 4);
    bench_spread spread = bench_values(&series[0], BENCH_RATE);
    expect_spread(spread, 1, 4, 4, 4);
    assert_false(bench_is_wide(&spread));
}

static void a_spread_is_wide_above_a_part_of_the_median(void **state) {
    (void)state;
    HAS(0, 100, 100, 100);
    HAS(1, 91, 100, 110);
    bench_spread spread = bench_ratios(&cell, &series[1], BENCH_RATE);
    assert_false(bench_is_wide(&spread));
    HAS(1, 89, 100, 110);
    spread = bench_ratios(&cell, &series[1], BENCH_RATE);
    assert_true(bench_is_wide(&spread));
}

static void what_disturbs_both_makes_no_ratio_wide_but_the_bases_values(void **state) {
    (void)state;
    HAS(0, 100, 200, 300);
    HAS(1, 110, 220, 330);
    bench_spread base = bench_judged(&cell, &series[0], BENCH_RATE);
    bench_spread other = bench_judged(&cell, &series[1], BENCH_RATE);
    assert_false(bench_is_wide(&other));
    assert_true(bench_is_wide(&base));
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        cmocka_unit_test(of_an_odd_number_of_rounds_the_middle_one_is_the_median),
        cmocka_unit_test(of_an_even_number_it_is_between_the_two_in_the_middle),
        cmocka_unit_test(equal_values_count_each),
        cmocka_unit_test(rounds_without_a_value_are_left_out),
        cmocka_unit_test(without_rounds_there_is_nothing),
        cmocka_unit_test(a_ratio_is_taken_in_each_round),
        cmocka_unit_test(a_ratio_needs_both_values),
        cmocka_unit_test(one_round_has_no_spread),
        cmocka_unit_test(a_spread_is_wide_above_a_part_of_the_median),
        cmocka_unit_test(what_disturbs_both_makes_no_ratio_wide_but_the_bases_values),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
