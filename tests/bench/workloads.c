/* The workloads that need no network, on each backend: they run, and all that they measure is there. */
#include "test_main.h"

#include "subjects.h"
#include "workloads.h"

#include <math.h>
#include <p2pnet/p2pnet.h>

/* A loop is left to the end of the process, so the library is too. */
static int start(void **state) {
    p2p_init_options_t options = P2P_INIT_OPTIONS_INIT;
    (void)state;
    options.system = test_system();
    int result = p2p_init_with(&options);
    return result == 0 || result == P2P_ERR_ALREADY ? 0 : -1;
}

static bench_sample empty_sample(void) {
    bench_sample sample;
    for (int i = 0; i < BENCH_METRIC_COUNT; i++) sample.value[i] = NAN;
    return sample;
}

static void assert_measured(const bench_sample *sample, const bench_metric *metrics, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (!(sample->value[metrics[i]] > 0)) fail_msg("%s: %f", "a metric", sample->value[metrics[i]]);
    }
}

static void assert_ordered(const bench_sample *sample) {
    for (int i = BENCH_P50; i < BENCH_MAX; i++) assert_true(sample->value[i] <= sample->value[i + 1]);
}

static void dispatch(void **state) {
    static const bench_metric metrics[] = { BENCH_RATE, BENCH_CPU, BENCH_P50, BENCH_MAX };
    bench_job job = { .conns = 20, .active = 7, .writes = 50, .seconds = 0.02 };
    bench_sample sample = empty_sample();
    (void)state;
    bench_run_dispatch(&job, &bench_p2pnet_reactor, test_backend(), &sample);
    assert_measured(&sample, metrics, COUNT_OF(metrics));
    assert_ordered(&sample);
}

static void timers(void **state) {
    static const bench_metric metrics[] = { BENCH_ADD, BENCH_RESTART, BENCH_CANCEL, BENCH_FIRE };
    bench_job job = { .conns = 2000, .seconds = 0.02 };
    bench_sample sample = empty_sample();
    (void)state;
    bench_run_timers(&job, &bench_p2pnet_reactor, test_backend(), &sample);
    assert_measured(&sample, metrics, COUNT_OF(metrics));
}

static void post(void **state) {
    static const bench_metric metrics[] = { BENCH_RATE, BENCH_CPU };
    bench_job job = { .conns = 1000, .seconds = 0.02 };
    bench_sample sample = empty_sample();
    (void)state;
    bench_run_post(&job, &bench_p2pnet_reactor, test_backend(), &sample);
    assert_measured(&sample, metrics, COUNT_OF(metrics));
}

static void wake(void **state) {
    static const bench_metric metrics[] = { BENCH_RATE, BENCH_P50, BENCH_MAX };
    bench_job job = { .seconds = 0.02 };
    bench_sample sample = empty_sample();
    (void)state;
    bench_run_wake(&job, &bench_p2pnet_reactor, test_backend(), &sample);
    assert_measured(&sample, metrics, COUNT_OF(metrics));
    assert_ordered(&sample);
}

int main(int argc, char **argv) {
    const struct CMUnitTest cases[] = {
        cmocka_unit_test_setup(dispatch, start),
        cmocka_unit_test_setup(timers, start),
        cmocka_unit_test_setup(post, start),
        cmocka_unit_test_setup(wake, start),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
