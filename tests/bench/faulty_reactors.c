/*
 * Loops that do not do what a workload asks of them: the run fails, and gives no figures. Each is the library's but for
 * one function. A run that fails ends its process, which is therefore a child.
 */
#include "test_main.h"

#include "subjects.h"
#include "workloads.h"

#include <p2pnet/p2pnet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

typedef void (*workload)(const bench_job *job, const bench_reactor *reactor, const char *subject, bench_sample *sample);

static bool succeeds(workload run, const bench_reactor *reactor) {
    bench_job job = { .conns = 100, .active = 10, .writes = 100, .seconds = 0.01 };
    bench_sample sample;
    int status;
    pid_t child = fork();
    if (child == 0) {
        alarm(20);
        if (freopen("/dev/null", "w", stderr) == NULL) _exit(2);
        run(&job, reactor, "poll", &sample);
        exit(0);
    }
    assert_true(child > 0);
    assert_true(waitpid(child, &status, 0) == child);
    assert_true(WIFEXITED(status));
    assert_in_range(WEXITSTATUS(status), 0, 1);
    return WEXITSTATUS(status) == 0;
}

static void a_loop_without_faults_passes(void **state) {
    (void)state;
    assert_true(succeeds(bench_run_dispatch, &bench_p2pnet_reactor));
    assert_true(succeeds(bench_run_timers, &bench_p2pnet_reactor));
    assert_true(succeeds(bench_run_post, &bench_p2pnet_reactor));
    assert_true(succeeds(bench_run_wake, &bench_p2pnet_reactor));
}

/* ---- timers ----------------------------------------------------------------------------------- */

static unsigned timers_made;
static bench_callback tell;

static void tell_twice(void *argument) {
    tell(argument);
    tell(argument);
}

static void *timer_that_fires_twice(void *loop, bench_callback fired, void *argument) {
    tell = fired;
    return bench_p2pnet_reactor.timer(loop, timers_made++ == 50 ? tell_twice : fired, argument);
}

static void start_early(void *timer, uint64_t delay_ns) {
    bench_p2pnet_reactor.timer_start(timer, delay_ns / 4);
}

static void a_timer_that_fires_twice_fails(void **state) {
    bench_reactor faulty = bench_p2pnet_reactor;
    (void)state;
    faulty.timer = timer_that_fires_twice;
    assert_false(succeeds(bench_run_timers, &faulty));
}

static void a_timer_that_is_early_fails(void **state) {
    bench_reactor faulty = bench_p2pnet_reactor;
    (void)state;
    faulty.timer_start = start_early;
    assert_false(succeeds(bench_run_timers, &faulty));
}

/* ---- tasks ------------------------------------------------------------------------------------ */

static void post_twice(void *loop, bench_callback task, void *argument) {
    bench_p2pnet_reactor.post(loop, task, argument);
    bench_p2pnet_reactor.post(loop, task, argument);
}

/* Each second one before the one before it. */
static void post_out_of_order(void *loop, bench_callback task, void *argument) {
    static void *held;
    static unsigned count;
    if (count++ % 2 == 0) {
        held = argument;
        return;
    }
    bench_p2pnet_reactor.post(loop, task, argument);
    bench_p2pnet_reactor.post(loop, task, held);
}

static void a_task_that_runs_twice_fails(void **state) {
    bench_reactor faulty = bench_p2pnet_reactor;
    (void)state;
    faulty.post = post_twice;
    assert_false(succeeds(bench_run_post, &faulty));
}

static void tasks_out_of_order_fail(void **state) {
    bench_reactor faulty = bench_p2pnet_reactor;
    (void)state;
    faulty.post = post_out_of_order;
    assert_false(succeeds(bench_run_post, &faulty));
}

static void look_only(void *loop) {
    p2p_event_loop_run_once(loop, 0);
}

static void a_loop_that_never_sleeps_fails(void **state) {
    bench_reactor faulty = bench_p2pnet_reactor;
    (void)state;
    faulty.turn = look_only;
    assert_false(succeeds(bench_run_wake, &faulty));
}

int main(int argc, char **argv) {
    const struct CMUnitTest cases[] = {
        cmocka_unit_test(a_loop_without_faults_passes),
        cmocka_unit_test(a_timer_that_fires_twice_fails),
        cmocka_unit_test(a_timer_that_is_early_fails),
        cmocka_unit_test(a_task_that_runs_twice_fails),
        cmocka_unit_test(tasks_out_of_order_fail),
        cmocka_unit_test(a_loop_that_never_sleeps_fails),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
