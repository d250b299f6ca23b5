/* Timers (core/timer.c) on a clock that moves by just what a wait was given. */
#include "mock_backend.h"

#include <stdlib.h>

#define MS ((int64_t)P2P_NS_PER_MS)

typedef struct record {
    unsigned fired;
    int64_t at_ns[16];
    void (*then)(p2p_timer_t *timer);
    char name;
} record;

static p2p_timer_t *others[4]; /* for `then` */

static void on_timer(p2p_timer_t *timer, void *user_data) {
    record *r = user_data;
    if (r->fired < COUNT_OF(r->at_ns)) r->at_ns[r->fired] = fake_clock_ns;
    r->fired++;
    journal("%c", r->name);
    if (r->then != NULL) r->then(timer);
}

static p2p_timer_t *create(p2p_event_loop_t *loop, record *r, char name) {
    *r = (record){ .name = name };
    p2p_timer_t *timer = p2p_timer_create(loop, on_timer, r);
    assert_non_null(timer);
    return timer;
}

static void run(p2p_event_loop_t *loop) {
    p2p_event_loop_run(loop);
    assert_int_equal(p2p_last_error(), 0);
}

/* ---- when ---- */

static void the_wait_is_given_the_distance_to_the_next_deadline(void **state) {
    (void)state;
    static const uint64_t delays_ns[] = { 1, 999, 1000000, 1000001, 123456789, 3600 * P2P_NS_PER_SECOND };
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    for (size_t i = 0; i < COUNT_OF(delays_ns); i++) {
        record r, later;
        p2p_timer_t *timer = create(loop, &r, 'a'), *after = create(loop, &later, 'b');
        int64_t begin = fake_clock_ns;
        assert_int_equal(p2p_timer_start(after, delays_ns[i] * 2, 0), 0);
        assert_int_equal(p2p_timer_start(timer, delays_ns[i], 0), 0);
        assert_int_equal(p2p_event_loop_run_once(loop, -1), 0); /* waits; the timer is due in the next turn */
        assert_int_equal(mock.timeout_ns, delays_ns[i]);
        assert_int_equal(r.fired, 0);
        assert_int_equal(mock_turn(loop), 1);
        assert_int_equal(r.fired, 1);
        assert_int_equal(r.at_ns[0] - begin, delays_ns[i]);
        assert_int_equal(p2p_event_loop_run_once(loop, -1), 0);
        assert_int_equal(mock.timeout_ns, delays_ns[i]);
        p2p_timer_free(timer);
        p2p_timer_free(after);
    }
    p2p_event_loop_free(loop);
}

static void the_callers_limit_holds_when_it_is_nearer(void **state) {
    (void)state;
    record r;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_timer_t *timer = create(loop, &r, 'a');
    p2p_timer_start(timer, 10 * P2P_NS_PER_MS, 0);
    assert_int_equal(p2p_event_loop_run_once(loop, 3), 0);
    assert_int_equal(mock.timeout_ns, 3 * MS);
    assert_int_equal(p2p_event_loop_run_once(loop, 50), 0);
    assert_int_equal(mock.timeout_ns, 7 * MS);
    assert_int_equal(mock_turn(loop), 1);
    p2p_event_loop_free(loop);
}

static void take_4_ms(p2p_timer_t *timer) {
    (void)timer;
    fake_clock_ns += 4 * MS;
}

/* The distance is measured just before the wait, not from the turn's time. */
static void a_slow_callback_shortens_the_wait(void **state) {
    (void)state;
    record r, later;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_timer_t *timer = create(loop, &r, 'a'), *after = create(loop, &later, 'b');
    r.then = take_4_ms;
    p2p_timer_start(timer, 0, 0);
    p2p_timer_start(after, 10 * P2P_NS_PER_MS, 0);
    run(loop);
    EXPECT_JOURNAL("bind_thread a wait(6000000) b wait(0)");
    p2p_event_loop_free(loop);
}

/* The mock then adds the whole timeout. */
static void return_early(void) {
    if (mock.timeout_ns > 1) fake_clock_ns -= mock.timeout_ns / 2;
}

static void a_wait_that_returns_early_fires_nothing_early(void **state) {
    (void)state;
    record r;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_timer_t *timer = create(loop, &r, 'a');
    int64_t begin = fake_clock_ns;
    p2p_timer_start(timer, 1000, 0);
    mock.on_wait = return_early;
    run(loop);
    mock.on_wait = NULL;
    assert_int_equal(r.fired, 1);
    assert_true(r.at_ns[0] - begin >= 1000);
    assert_in_range(mock.waits, 5, 30); /* each half as long as the one before: no spinning */
    p2p_event_loop_free(loop);
}

static void start_counts_from_the_clock_not_from_the_turns_time(void **state) {
    (void)state;
    record r;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_timer_t *timer = create(loop, &r, 'a');
    mock_turn(loop);
    fake_clock_ns += 7 * MS;
    p2p_timer_start(timer, P2P_NS_PER_MS, 0);
    int64_t begin = fake_clock_ns;
    run(loop);
    assert_int_equal(r.at_ns[0] - begin, MS);
    p2p_timer_start_at(timer, p2p_event_loop_now(loop) + 2 * MS, 0);
    begin = p2p_event_loop_now(loop);
    run(loop);
    assert_int_equal(r.at_ns[1] - begin, 2 * MS);
    p2p_event_loop_free(loop);
}

static void deadlines_of_all_sizes(void **state) {
    (void)state;
    static const int64_t past_ns[] = { 0, -1, -1000000000, INT64_MIN / 2, INT64_MIN + 1, INT64_MIN };
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    record r;
    p2p_timer_t *timer = create(loop, &r, 'a');
    for (size_t i = 0; i < COUNT_OF(past_ns); i++) {
        assert_int_equal(p2p_timer_start_at(timer, past_ns[i], 0), 0);
        assert_int_equal(mock_turn(loop), 1);
    }
    for (size_t i = 0; i < COUNT_OF(past_ns); i++) { /* repeating ones skip all that is past */
        assert_int_equal(p2p_timer_start_at(timer, past_ns[i], 1000), 0);
        assert_int_equal(mock_turn(loop), 1);
        assert_int_equal(p2p_event_loop_run_once(loop, -1), 0);
        assert_in_range(mock.timeout_ns, 1, 1000);
    }
    p2p_timer_stop(timer);
    r.fired = 0;
    assert_int_equal(p2p_timer_start_at(timer, INT64_MAX, 0), 0);
    assert_int_equal(p2p_event_loop_run_once(loop, 1), 0);
    assert_int_equal(mock.timeout_ns, MS);
    assert_int_equal(p2p_timer_start(timer, UINT64_MAX, UINT64_MAX), 0);
    assert_int_equal(p2p_event_loop_run_once(loop, 1), 0);
    assert_int_equal(p2p_timer_start(timer, INT64_MAX, 1), 0);
    assert_int_equal(p2p_event_loop_run_once(loop, 1), 0);
    assert_int_equal(p2p_timer_start_at(timer, INT64_MAX - 1, 0), 0);
    assert_int_equal(p2p_event_loop_run_once(loop, 1), 0);
    assert_int_equal(r.fired, 0);
    assert_int_equal(p2p_timer_start(timer, 0, UINT64_MAX), 0);
    assert_int_equal(mock_turn(loop), 1);
    assert_int_equal(mock_turn(loop), 0);
    p2p_event_loop_free(loop);
}

/* ---- order ---- */

static void timers_fire_by_deadline_then_by_order_of_starting(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    record records[6];
    p2p_timer_t *timers[6];
    for (size_t i = 0; i < COUNT_OF(timers); i++) timers[i] = create(loop, &records[i], (char)('a' + i));
    static const int64_t deadlines_ms[] = { 3, 1, 2, 1, 3, 1 };
    for (size_t i = 0; i < COUNT_OF(timers); i++)
        p2p_timer_start_at(timers[i], fake_clock_ns + deadlines_ms[i] * MS, 0);
    p2p_timer_start_at(timers[1], fake_clock_ns + MS, 0); /* starting again puts it behind its equals */
    fake_clock_ns += 5 * MS;
    assert_int_equal(mock_turn(loop), 6);
    EXPECT_JOURNAL("bind_thread d f b c a e wait(0)");
    p2p_event_loop_free(loop);
}

/* ---- what a callback may do ---- */

static void stop_the_next_free_the_one_after(p2p_timer_t *timer) {
    (void)timer;
    p2p_timer_stop(others[0]);
    p2p_timer_free(others[1]);
}

static void stopping_and_freeing_hold_for_timers_that_are_due(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    record a, b, c, d;
    p2p_timer_t *timer = create(loop, &a, 'a');
    others[0] = create(loop, &b, 'b');
    others[1] = create(loop, &c, 'c');
    p2p_timer_t *last = create(loop, &d, 'd');
    a.then = stop_the_next_free_the_one_after;
    p2p_timer_start(timer, 0, 0);
    p2p_timer_start(others[0], 0, 1000);
    p2p_timer_start(others[1], 0, 1000);
    p2p_timer_start(last, 0, 0);
    run(loop);
    EXPECT_JOURNAL("bind_thread a d wait(0)");
    p2p_event_loop_free(loop);
}

static void restart_all(p2p_timer_t *timer) {
    p2p_timer_start(timer, 0, 0);
    p2p_timer_start(others[0], 0, 0);
}

static void what_a_callback_starts_waits_for_the_next_turn(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    record a, b;
    p2p_timer_t *timer = create(loop, &a, 'a');
    others[0] = create(loop, &b, 'b');
    a.then = restart_all;
    p2p_timer_start(timer, 0, 0);
    p2p_timer_start(others[0], 0, 0); /* due as well, but restarted before it ran */
    assert_int_equal(mock_turn(loop), 1);
    EXPECT_JOURNAL("bind_thread a wait(0)");
    a.then = NULL;
    assert_int_equal(mock_turn(loop), 2);
    EXPECT_JOURNAL("a b wait(0)");
    p2p_event_loop_free(loop);
}

static void stop_itself(p2p_timer_t *timer) {
    p2p_timer_stop(timer);
}

static void a_repeating_timer_may_free_or_stop_itself(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    record a, b;
    p2p_timer_t *timer = create(loop, &a, 'a'), *other = create(loop, &b, 'b');
    a.then = p2p_timer_free;
    b.then = stop_itself;
    p2p_timer_start(timer, 1000, 1000);
    p2p_timer_start(other, 2000, 1000);
    run(loop);
    assert_int_equal(a.fired + b.fired, 2);
    p2p_event_loop_free(loop);
}

/* ---- repeating ---- */

static void repeating_does_not_drift(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    record r;
    p2p_timer_t *timer = create(loop, &r, 'a');
    int64_t begin = fake_clock_ns;
    r.then = take_4_ms; /* as long as it takes, the next one is 10 ms after the last one's deadline */
    p2p_timer_start(timer, 3 * P2P_NS_PER_MS, 10 * P2P_NS_PER_MS);
    while (r.fired < 10) assert_true(p2p_event_loop_run_once(loop, -1) >= 0);
    for (int i = 0; i < 10; i++) assert_int_equal(r.at_ns[i] - begin, (3 + 10 * i) * MS);
    p2p_event_loop_free(loop);
}

static void a_stall_makes_no_burst_and_keeps_the_rhythm(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    record r;
    p2p_timer_t *timer = create(loop, &r, 'a');
    int64_t begin = fake_clock_ns;
    p2p_timer_start(timer, 10 * P2P_NS_PER_MS, 10 * P2P_NS_PER_MS);
    fake_clock_ns += 47 * MS;
    for (int i = 0; i < 5; i++) mock_turn(loop);
    assert_int_equal(r.fired, 1);
    assert_int_equal(p2p_event_loop_run_once(loop, -1), 0);
    assert_int_equal(mock.timeout_ns, 3 * MS); /* at 50, where it would have been anyway */
    assert_int_equal(mock_turn(loop), 1);
    fake_clock_ns += 20 * MS; /* just at a deadline: that one counts, the one before is skipped */
    assert_int_equal(mock_turn(loop), 1);
    assert_int_equal(mock_turn(loop), 0);
    assert_int_equal(p2p_event_loop_run_once(loop, -1), 0);
    assert_int_equal(fake_clock_ns - begin, 80 * MS);
    p2p_event_loop_free(loop);
}

/* ---- many ---- */

#define MANY 100000u

typedef struct model {
    int64_t deadline_ns;
    uint64_t sequence;
    bool active;
} model;

static model models[MANY];
static p2p_timer_t *timers[MANY];
static uint32_t fired[MANY], expected[MANY], fired_count, expected_count;

static void on_one_of_many(p2p_timer_t *timer, void *user_data) {
    (void)timer;
    fired[fired_count++] = (uint32_t)(uintptr_t)user_data;
}

static int by_deadline_then_start(const void *a, const void *b) {
    const model *x = &models[*(const uint32_t *)a], *y = &models[*(const uint32_t *)b];
    if (x->deadline_ns != y->deadline_ns) return x->deadline_ns < y->deadline_ns ? -1 : 1;
    return x->sequence < y->sequence ? -1 : 1;
}

static uint32_t next_random(void) {
    static uint64_t seed = 42;
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33);
}

static void expect_due(p2p_event_loop_t *loop) {
    fired_count = expected_count = 0;
    for (uint32_t i = 0; i < MANY; i++)
        if (models[i].active && models[i].deadline_ns <= fake_clock_ns) expected[expected_count++] = i;
    qsort(expected, expected_count, sizeof *expected, by_deadline_then_start);
    assert_int_equal(mock_turn(loop), expected_count);
    assert_int_equal(fired_count, expected_count);
    assert_memory_equal(fired, expected, expected_count * sizeof *fired);
    for (uint32_t i = 0; i < expected_count; i++) models[expected[i]].active = false;
}

static void a_hundred_thousand_timers_agree_with_a_sorted_list(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    uint64_t sequence = 0;
    for (uintptr_t i = 0; i < MANY; i++) {
        timers[i] = p2p_timer_create(loop, on_one_of_many, (void *)i);
        assert_non_null(timers[i]);
        models[i] = (model){ 0 };
    }
    for (int phase = 0; phase < 4; phase++) {
        for (int i = 0; i < 100000; i++) {
            uint32_t k = next_random() % MANY;
            if (next_random() % 3 == 0) {
                p2p_timer_stop(timers[k]);
                models[k].active = false;
                continue;
            }
            /* few enough moments that many timers share one */
            models[k] = (model){ fake_clock_ns + (int64_t)(next_random() % 5000) * MS, sequence++, true };
            p2p_timer_start_at(timers[k], models[k].deadline_ns, 0);
        }
        fake_clock_ns += 900 * MS;
        expect_due(loop);
    }
    fake_clock_ns += 5000 * MS;
    expect_due(loop);
    assert_int_equal(loop_stats(loop).timers_active, 0);
    journal_take();
    p2p_event_loop_free(loop);
}

static void creating_without_memory_fails_and_starting_never_does(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    record r, other;
    p2p_timer_t *made[40];
    for (size_t i = 0; i < COUNT_OF(made); i++) made[i] = create(loop, i == 0 ? &r : &other, 'a');
    memory_fail(1, true);
    assert_null(p2p_timer_create(loop, on_timer, &r));
    assert_int_equal(p2p_last_error(), P2P_ERR_NO_MEMORY);
    for (size_t i = 0; i < COUNT_OF(made); i++) assert_int_equal(p2p_timer_start(made[i], 0, 0), 0);
    assert_int_equal(mock_turn(loop), COUNT_OF(made));
    memory_fail(0, false);
    p2p_event_loop_free(loop);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        MOCK_CASE(the_wait_is_given_the_distance_to_the_next_deadline),
        MOCK_CASE(the_callers_limit_holds_when_it_is_nearer),
        MOCK_CASE(a_slow_callback_shortens_the_wait),
        MOCK_CASE(a_wait_that_returns_early_fires_nothing_early),
        MOCK_CASE(start_counts_from_the_clock_not_from_the_turns_time),
        MOCK_CASE(deadlines_of_all_sizes),
        MOCK_CASE(timers_fire_by_deadline_then_by_order_of_starting),
        MOCK_CASE(stopping_and_freeing_hold_for_timers_that_are_due),
        MOCK_CASE(what_a_callback_starts_waits_for_the_next_turn),
        MOCK_CASE(a_repeating_timer_may_free_or_stop_itself),
        MOCK_CASE(repeating_does_not_drift),
        MOCK_CASE(a_stall_makes_no_burst_and_keeps_the_rhythm),
        MOCK_CASE(a_hundred_thousand_timers_agree_with_a_sorted_list),
        MOCK_CASE(creating_without_memory_fails_and_starting_never_does),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
