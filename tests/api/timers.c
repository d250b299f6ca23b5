/* Timers: never early, in order, and free to do anything in their callbacks. */
#include "echo.h"

#include <stdlib.h>

typedef struct record {
    p2p_event_loop_t *loop;
    p2p_timer_t *other;
    uint64_t period_ns;
    unsigned fired;
    int64_t at[8]; /* by the clock, when it fired */
    char *order;   /* shared by several: the names in order */
    char name;
} record;

static void on_timer(p2p_timer_t *timer, void *user_data) {
    record *r = user_data;
    assert_non_null(timer);
    if (r->fired < COUNT_OF(r->at)) r->at[r->fired] = clock_ns();
    r->fired++;
    if (r->order != NULL) r->order[strlen(r->order)] = r->name;
}

static p2p_timer_t *create(record *r, p2p_event_loop_t *loop, p2p_timer_callback callback) {
    r->loop = loop;
    p2p_timer_t *timer = p2p_timer_create(loop, callback, r);
    assert_non_null(timer);
    return timer;
}

static void run(p2p_event_loop_t *loop) {
    p2p_event_loop_run(loop);
    assert_int_equal(p2p_last_error(), 0);
}

/* ---- when ---- */

static void a_timer_is_never_early_and_costs_few_waits(void **state) {
    (void)state;
    static const uint64_t delays_ns[] = { 0, 1, 999, 1000000, 1500000, 10 * P2P_NS_PER_MS };
    for (size_t i = 0; i < COUNT_OF(delays_ns); i++) {
        record r = { 0 };
        p2p_event_loop_t *loop = loop_create(NULL);
        p2p_timer_t *timer = create(&r, loop, on_timer);
        int64_t begin = clock_ns();
        assert_int_equal(p2p_timer_start(timer, delays_ns[i], 0), 0);
        run(loop); /* returns by itself: the timer was the last thing */
        assert_int_equal(r.fired, 1);
        assert_true(r.at[0] - begin >= (int64_t)delays_ns[i]);
        assert_true(loop_stats(loop).waits <= 3);
        p2p_timer_free(timer);
        p2p_event_loop_free(loop);
    }
}

static void the_delay_counts_from_the_call_not_from_the_turns_time(void **state) {
    (void)state;
    record r = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    p2p_timer_t *timer = create(&r, loop, on_timer);
    assert_int_equal(p2p_event_loop_run_once(loop, 0), 0);
    int64_t turn = p2p_event_loop_now(loop);
    while (clock_ns() < turn + 5 * (int64_t)P2P_NS_PER_MS) {
    }
    int64_t begin = clock_ns();
    assert_int_equal(p2p_timer_start(timer, 5 * P2P_NS_PER_MS, 0), 0);
    run(loop);
    assert_true(r.at[0] - begin >= 5 * (int64_t)P2P_NS_PER_MS);
    p2p_event_loop_free(loop);
}

static void start_at_takes_a_moment_on_the_loops_clock(void **state) {
    (void)state;
    record r = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    p2p_timer_t *timer = create(&r, loop, on_timer);
    assert_int_equal(p2p_event_loop_run_once(loop, 0), 0);
    int64_t moment = p2p_event_loop_now(loop) + 3 * (int64_t)P2P_NS_PER_MS;
    assert_int_equal(p2p_timer_start_at(timer, moment, 0), 0);
    run(loop);
    assert_true(r.at[0] >= moment);
    assert_int_equal(p2p_timer_start_at(timer, moment, 0), 0); /* past by now */
    assert_int_equal(p2p_event_loop_run_once(loop, 0), 1);
    assert_int_equal(p2p_timer_start_at(timer, INT64_MIN, 0), 0);
    assert_int_equal(p2p_event_loop_run_once(loop, 0), 1);
    assert_int_equal(r.fired, 3);
    p2p_event_loop_free(loop);
}

static void huge_delays_neither_fire_nor_spin(void **state) {
    (void)state;
    static const uint64_t delays_ns[] = {
        (1ull << 31) * P2P_NS_PER_MS, (1ull << 32) * P2P_NS_PER_MS, 1ull << 53, INT64_MAX, UINT64_MAX,
    };
    for (size_t i = 0; i < COUNT_OF(delays_ns); i++) {
        record huge = { 0 }, small = { 0 };
        p2p_event_loop_t *loop = loop_create(NULL);
        assert_int_equal(p2p_timer_start(create(&huge, loop, on_timer), delays_ns[i], delays_ns[i]), 0);
        int timeout = p2p_event_loop_next_timeout(loop);
        assert_true(timeout == -1 || timeout > 1000);
        assert_int_equal(p2p_timer_start(create(&small, loop, on_timer), 5 * P2P_NS_PER_MS, 0), 0);
        RUN_UNTIL(loop, small.fired == 1);
        assert_int_equal(huge.fired, 0);
        uint64_t waits = loop_stats(loop).waits;
        assert_int_equal(p2p_event_loop_run_once(loop, 2), 0);
        assert_int_equal(loop_stats(loop).waits, waits + 1);
        p2p_event_loop_free(loop);
    }
}

static void a_turn_that_waits_for_ever_is_ended_by_a_timer(void **state) {
    (void)state;
    record r = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    assert_int_equal(p2p_timer_start(create(&r, loop, on_timer), P2P_NS_PER_MS, 0), 0);
    while (r.fired == 0) assert_true(p2p_event_loop_run_once(loop, -1) >= 0);
    p2p_event_loop_free(loop);
}

/* ---- order ---- */

static void timers_fire_by_deadline_and_then_in_the_order_of_starting(void **state) {
    (void)state;
    static const struct {
        char name;
        int64_t deadline;
    } plan[] = { { 'd', 40 }, { 'a', 10 }, { 'e', 40 }, { 'b', 20 }, { 'f', 40 }, { 'c', 30 }, { 'g', 50 } };
    record records[COUNT_OF(plan)];
    char order[16] = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    memset(records, 0, sizeof records);
    for (size_t i = 0; i < COUNT_OF(plan); i++) {
        records[i].order = order;
        records[i].name = plan[i].name;
        assert_int_equal(p2p_timer_start_at(create(&records[i], loop, on_timer), plan[i].deadline, 0), 0);
    }
    assert_int_equal(p2p_event_loop_run_once(loop, 0), COUNT_OF(plan));
    assert_string_equal(order, "abcdefg");
    p2p_event_loop_free(loop);
}

typedef struct sorted {
    int64_t deadline, *last;
    unsigned *fired;
} sorted;

static void check_sorted(p2p_timer_t *timer, void *user_data) {
    sorted *s = user_data;
    (void)timer;
    assert_true(s->deadline >= *s->last);
    *s->last = s->deadline;
    ++*s->fired;
}

static void thousands_of_timers_in_random_order_fire_sorted(void **state) {
    (void)state;
    enum { COUNT = 5000 };
    static sorted all[COUNT];
    static p2p_timer_t *timers[COUNT];
    int64_t last = INT64_MIN;
    unsigned fired = 0, stopped = 0;
    uint32_t x = 12345;
    p2p_event_loop_t *loop = loop_create(NULL);
    for (size_t i = 0; i < COUNT; i++) {
        x = x * 1664525u + 1013904223u;
        all[i] = (sorted){ (int64_t)(x >> 20), &last, &fired };
        timers[i] = p2p_timer_create(loop, check_sorted, &all[i]);
        assert_int_equal(p2p_timer_start_at(timers[i], all[i].deadline, 0), 0);
    }
    for (size_t i = 0; i < COUNT; i += 3, stopped++) assert_int_equal(p2p_timer_stop(timers[i]), 0);
    assert_int_equal(loop_stats(loop).timers_active, COUNT - stopped);
    run(loop);
    assert_int_equal(fired, COUNT - stopped);
    p2p_event_loop_free(loop);
}

/* ---- repeating ---- */

static void stop_after_five(p2p_timer_t *timer, void *user_data) {
    record *r = user_data;
    on_timer(timer, r);
    if (r->fired == 5) assert_int_equal(p2p_timer_stop(timer), 0);
}

static void a_repeating_timer_counts_from_the_scheduled_time(void **state) {
    (void)state;
    record r = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    int64_t begin = clock_ns();
    assert_int_equal(p2p_timer_start(create(&r, loop, stop_after_five), 2 * P2P_NS_PER_MS, 3 * P2P_NS_PER_MS), 0);
    run(loop);
    assert_int_equal(r.fired, 5);
    for (int i = 0; i < 5; i++) assert_true(r.at[i] - begin >= (2 + 3 * i) * (int64_t)P2P_NS_PER_MS);
    p2p_event_loop_free(loop);
}

static void slower_than_its_period(p2p_timer_t *timer, void *user_data) {
    record *r = user_data;
    on_timer(timer, r);
    int64_t until = clock_ns() + 3 * (int64_t)r->period_ns;
    while (clock_ns() < until) {
    }
}

/* Missed times are skipped: one call a turn, and everybody else has a turn too. */
static void a_timer_slower_than_its_period_neither_piles_up_nor_starves_others(void **state) {
    (void)state;
    record r = { .period_ns = P2P_NS_PER_MS };
    echo_server server;
    p2p_event_loop_t *loop = loop_create(NULL);
    echo_start(&server, loop, true);
    assert_int_equal(p2p_timer_start(create(&r, loop, slower_than_its_period), 0, r.period_ns), 0);
    p2p_handle_t fd = raw_connect(server.port);
    for (int i = 0; i < 10; i++) {
        assert_true(raw_send_text(fd, "hello"));
        loop_expect_text(loop, fd, "hello");
    }
    assert_true(r.fired <= loop_stats(loop).turns);
    os_close(fd);
    echo_stop(&server);
    p2p_event_loop_free(loop);
}

static void restart_at_once(p2p_timer_t *timer, void *user_data) {
    on_timer(timer, user_data);
    assert_int_equal(p2p_timer_start(timer, 0, 0), 0);
}

static void a_timer_of_no_delay_that_restarts_itself_starves_nobody(void **state) {
    (void)state;
    record r = { 0 };
    echo_server server;
    p2p_event_loop_t *loop = loop_create(NULL);
    echo_start(&server, loop, true);
    assert_int_equal(p2p_timer_start(create(&r, loop, restart_at_once), 0, 0), 0);
    p2p_handle_t fd = raw_connect(server.port);
    for (int i = 0; i < 10; i++) {
        assert_true(raw_send_text(fd, "hello"));
        loop_expect_text(loop, fd, "hello");
    }
    assert_true(r.fired <= loop_stats(loop).turns);
    os_close(fd);
    echo_stop(&server);
    p2p_event_loop_free(loop);
}

/* ---- changes ---- */

static void starting_again_replaces_the_earlier_start(void **state) {
    (void)state;
    record r = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    p2p_timer_t *timer = create(&r, loop, on_timer);
    assert_int_equal(p2p_timer_start_at(timer, 0, 0), 0);
    assert_int_equal(p2p_timer_start(timer, 3600 * P2P_NS_PER_SECOND, 0), 0);
    assert_int_equal(p2p_event_loop_run_once(loop, 0), 0);
    assert_int_equal(p2p_timer_start(timer, UINT64_MAX, 0), 0);
    assert_int_equal(p2p_timer_start_at(timer, 0, 0), 0);
    assert_int_equal(p2p_event_loop_run_once(loop, 0), 1);
    assert_int_equal(p2p_event_loop_run_once(loop, 0), 0);
    assert_int_equal(loop_stats(loop).timers_active, 0);
    p2p_event_loop_free(loop);
}

static void a_stopped_timer_does_not_fire_and_run_does_not_wait_for_it(void **state) {
    (void)state;
    record r = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    p2p_timer_t *timer = create(&r, loop, on_timer);
    assert_int_equal(p2p_timer_stop(timer), 0); /* not started: nothing to do */
    assert_int_equal(p2p_timer_start(timer, 0, 1), 0);
    assert_int_equal(p2p_timer_stop(timer), 0);
    assert_int_equal(p2p_timer_stop(timer), 0);
    run(loop);
    assert_int_equal(r.fired, 0);
    p2p_event_loop_free(loop);
}

static void stop_other(p2p_timer_t *timer, void *user_data) {
    record *r = user_data;
    on_timer(timer, r);
    assert_int_equal(p2p_timer_stop(r->other), 0);
}

static void free_other(p2p_timer_t *timer, void *user_data) {
    record *r = user_data;
    on_timer(timer, r);
    p2p_timer_free(r->other);
}

static void a_timer_can_keep_another_from_firing_that_is_due_as_well(void **state) {
    (void)state;
    static const p2p_timer_callback ways[] = { stop_other, free_other };
    for (size_t i = 0; i < COUNT_OF(ways); i++) {
        record r = { 0 }, other = { 0 };
        p2p_event_loop_t *loop = loop_create(NULL);
        p2p_timer_t *timer = create(&r, loop, ways[i]);
        r.other = create(&other, loop, on_timer);
        assert_int_equal(p2p_timer_start_at(timer, 1, 0), 0);
        assert_int_equal(p2p_timer_start_at(r.other, 2, 0), 0);
        assert_int_equal(p2p_event_loop_run_once(loop, 0), 1);
        assert_int_equal(p2p_event_loop_run_once(loop, 0), 0);
        assert_int_equal(other.fired, 0);
        p2p_event_loop_free(loop);
    }
}

static void push_other_away(p2p_timer_t *timer, void *user_data) {
    record *r = user_data;
    on_timer(timer, r);
    assert_int_equal(p2p_timer_start(r->other, 3600 * P2P_NS_PER_SECOND, 0), 0);
}

static void a_timer_can_put_off_another_that_is_due_as_well(void **state) {
    (void)state;
    record r = { 0 }, other = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    p2p_timer_t *timer = create(&r, loop, push_other_away);
    r.other = create(&other, loop, on_timer);
    assert_int_equal(p2p_timer_start_at(timer, 1, 0), 0);
    assert_int_equal(p2p_timer_start_at(r.other, 2, 0), 0);
    loop_settle(loop);
    assert_int_equal(r.fired, 1);
    assert_int_equal(other.fired, 0);
    p2p_event_loop_free(loop);
}

static void stop_self(p2p_timer_t *timer, void *user_data) {
    on_timer(timer, user_data);
    assert_int_equal(p2p_timer_stop(timer), 0);
}

static void free_self(p2p_timer_t *timer, void *user_data) {
    on_timer(timer, user_data);
    p2p_timer_free(timer);
}

static void restart_self_twice(p2p_timer_t *timer, void *user_data) {
    record *r = user_data;
    on_timer(timer, r);
    if (r->fired < 3) assert_int_equal(p2p_timer_start(timer, 1, 0), 0);
}

static void a_timer_can_stop_free_and_restart_itself(void **state) {
    (void)state;
    record stopped = { 0 }, freed = { 0 }, restarted = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    assert_int_equal(p2p_timer_start(create(&stopped, loop, stop_self), 0, 1), 0);
    assert_int_equal(p2p_timer_start(create(&freed, loop, free_self), 0, 1), 0);
    assert_int_equal(p2p_timer_start(create(&restarted, loop, restart_self_twice), 0, 0), 0);
    run(loop);
    assert_int_equal(stopped.fired, 1);
    assert_int_equal(freed.fired, 1);
    assert_int_equal(restarted.fired, 3);
    p2p_event_loop_free(loop);
}

static void a_repeating_timer_restarted_in_its_callback_has_the_new_setting(void **state) {
    (void)state;
    record r = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    assert_int_equal(p2p_timer_start(create(&r, loop, restart_self_twice), 0, 1), 0);
    run(loop); /* one-shot since the first restart, so the third call is the last */
    assert_int_equal(r.fired, 3);
    p2p_event_loop_free(loop);
}

static void null_is_INVALID_everywhere(void **state) {
    (void)state;
    p2p_event_loop_t *loop = loop_create(NULL);
    assert_null(p2p_timer_create(NULL, on_timer, NULL));
    assert_int_equal(p2p_last_error(), P2P_ERR_INVALID);
    assert_null(p2p_timer_create(loop, NULL, NULL));
    assert_int_equal(p2p_last_error(), P2P_ERR_INVALID);
    assert_int_equal(p2p_timer_start(NULL, 0, 0), P2P_ERR_INVALID);
    assert_int_equal(p2p_timer_start_at(NULL, 0, 0), P2P_ERR_INVALID);
    assert_int_equal(p2p_timer_stop(NULL), P2P_ERR_INVALID);
    p2p_timer_free(NULL);
    p2p_event_loop_free(loop);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        CASE(a_timer_is_never_early_and_costs_few_waits),
        CASE(the_delay_counts_from_the_call_not_from_the_turns_time),
        CASE(start_at_takes_a_moment_on_the_loops_clock),
        CASE(huge_delays_neither_fire_nor_spin),
        CASE(a_turn_that_waits_for_ever_is_ended_by_a_timer),
        CASE(timers_fire_by_deadline_and_then_in_the_order_of_starting),
        CASE(thousands_of_timers_in_random_order_fire_sorted),
        CASE(a_repeating_timer_counts_from_the_scheduled_time),
        CASE(a_timer_slower_than_its_period_neither_piles_up_nor_starves_others),
        CASE(a_timer_of_no_delay_that_restarts_itself_starves_nobody),
        CASE(starting_again_replaces_the_earlier_start),
        CASE(a_stopped_timer_does_not_fire_and_run_does_not_wait_for_it),
        CASE(a_timer_can_keep_another_from_firing_that_is_due_as_well),
        CASE(a_timer_can_put_off_another_that_is_due_as_well),
        CASE(a_timer_can_stop_free_and_restart_itself),
        CASE(a_repeating_timer_restarted_in_its_callback_has_the_new_setting),
        CASE(null_is_INVALID_everywhere),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
