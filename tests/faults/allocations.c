/* Every allocation fails in turn: once, and from then on. */
#include "fixture.h"
#include "scenario.h"

static int setup(void **state) {
    (void)state;
    p2p_sys_ops table = *test_system();
    scenario_system(&table);
    return fixture_start(&table, NULL);
}

static void calm(void) {
    memory_fail(0, false);
}

static uint64_t failures_before_calm;

static void count_and_calm(void) {
    failures_before_calm += memory_failures();
    calm();
}

static void fail_each(bool from_then_on) {
    size_t in_use = memory_in_use();
    int descriptors = descriptors_open();
    assert_true(scenario_run(calm).complete);
    for (uint64_t nth = 1;; nth++) {
        failures_before_calm = 0;
        memory_fail(nth, from_then_on);
        scenario result = scenario_run(count_and_calm);
        if (memory_in_use() != in_use) fail_msg("allocation %u: leak", (unsigned)nth);
        if (descriptors_open() != descriptors) fail_msg("allocation %u: descriptors left", (unsigned)nth);
        if (failures_before_calm == 0) {
            assert_true(result.complete);
            print_message("%u allocations failed in turn\n", (unsigned)(nth - 1));
            break;
        }
        if (result.can_recover && !result.recovered) fail_msg("allocation %u: no recovery", (unsigned)nth);
    }
}

static void each_allocation_fails_once(void **state) {
    (void)state;
    fail_each(false);
}

static void each_allocation_fails_and_all_that_follow(void **state) {
    (void)state;
    fail_each(true);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        cmocka_unit_test_setup_teardown(each_allocation_fails_once, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(each_allocation_fails_and_all_that_follow, setup, fixture_teardown),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
