/* The echo on a backend and sockets in memory: what comes back is compared there, so here it only has to run. */
#include "test_main.h"

#include "workloads.h"

static void echo(uint32_t conns, uint32_t depth, uint32_t size) {
    bench_job job = { .conns = conns, .depth = depth, .size = size, .seconds = 0.01 };
    bench_sample sample = { { 0 } };
    bench_run_null_echo(&job, &sample);
    assert_true(sample.value[BENCH_RATE] > 0);
    assert_true(sample.value[BENCH_CPU] > 0);
}

static void one_message_in_flight(void **state) {
    (void)state;
    echo(1, 1, 64);
    echo(1000, 1, 64);
}

static void many_messages_in_flight(void **state) {
    (void)state;
    echo(10, 16, 64);
    echo(3, 3000, 64);
}

static void messages_larger_than_a_buffer_and_empty_ones(void **state) {
    (void)state;
    echo(3, 2, 256 * 1024);
    echo(3, 2, 0);
}

int main(int argc, char **argv) {
    const struct CMUnitTest cases[] = {
        cmocka_unit_test(one_message_in_flight),
        cmocka_unit_test(many_messages_in_flight),
        cmocka_unit_test(messages_larger_than_a_buffer_and_empty_ones),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
