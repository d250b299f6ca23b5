/* Watches: raw readiness of pipes, where they can be waited for, and of other libraries' sockets. */
#include "fixture.h"

typedef struct record {
    p2p_watch_t *watch, *other;
    unsigned calls;
    uint32_t ready; /* of the last call */
} record;

static void on_ready(p2p_watch_t *watch, uint32_t ready, void *user_data) {
    record *r = user_data;
    assert_ptr_equal(watch, r->watch);
    assert_int_not_equal(ready, 0);
    r->calls++;
    r->ready = ready;
}

static void watch(record *r, p2p_event_loop_t *loop, p2p_handle_t fd, uint32_t interest, p2p_watch_callback callback) {
    r->watch = p2p_event_loop_watch(loop, fd, interest, callback, r);
    if (r->watch == NULL) fail_msg("no watch: %s", p2p_error_message(p2p_last_error()));
}

static void put(p2p_handle_t end) {
    assert_int_equal(os_write(end, "x", 1), 1);
}

static void get(p2p_handle_t end) {
    char byte;
    assert_int_equal(os_read(end, &byte, 1), 1);
}

static void expect_no_wakeups(p2p_event_loop_t *loop) {
    loop_settle(loop);
    uint64_t wakeups = loop_stats(loop).wakeups;
    loop_settle(loop);
    assert_int_equal(loop_stats(loop).wakeups, wakeups);
}

static void a_pipe_is_readable_each_turn_while_data_waits(void **state) {
    (void)state;
    record r = { 0 };
    p2p_handle_t ends[2];
    p2p_event_loop_t *loop = loop_create(NULL);
    assert_int_equal(os_pipe(ends), 0);
    watch(&r, loop, ends[0], P2P_READABLE, on_ready);
    loop_settle(loop);
    assert_int_equal(r.calls, 0);
    put(ends[1]);
    for (unsigned i = 1; i <= 3; i++) {
        assert_int_equal(p2p_event_loop_run_once(loop, -1), 1);
        assert_int_equal(r.calls, i);
        assert_int_equal(r.ready, P2P_READABLE);
    }
    get(ends[0]);
    expect_no_wakeups(loop);
    assert_int_equal(r.calls, 3);
    p2p_watch_free(r.watch);
    os_close(ends[0]);
    os_close(ends[1]);
    p2p_event_loop_free(loop);
}

static void the_write_end_is_writable_until_it_is_full(void **state) {
    (void)state;
    static char data[4096];
    record r = { 0 };
    p2p_handle_t ends[2];
    p2p_event_loop_t *loop = loop_create(NULL);
    assert_int_equal(os_pipe(ends), 0);
    for (int i = 0; i < 2; i++) assert_int_equal(os_set_nonblocking(ends[i], true), 0);
    watch(&r, loop, ends[1], P2P_WRITABLE, on_ready);
    RUN_UNTIL(loop, r.calls > 0);
    assert_int_equal(r.ready, P2P_WRITABLE);
    while (os_write(ends[1], data, sizeof data) > 0) {
    }
    expect_no_wakeups(loop);
    unsigned before = r.calls;
    while (os_read(ends[0], data, sizeof data) > 0) {
    }
    RUN_UNTIL(loop, r.calls > before);
    p2p_watch_free(r.watch);
    os_close(ends[0]);
    os_close(ends[1]);
    p2p_event_loop_free(loop);
}

static void both_directions_come_in_one_call(void **state) {
    (void)state;
    record r = { 0 };
    p2p_handle_t ends[2];
    p2p_event_loop_t *loop = loop_create(NULL);
    assert_int_equal(os_stream_pair(ends), 0);
    put(ends[1]);
    watch(&r, loop, ends[0], P2P_READABLE | P2P_WRITABLE, on_ready);
    assert_int_equal(p2p_event_loop_run_once(loop, -1), 1);
    assert_int_equal(r.ready, P2P_READABLE | P2P_WRITABLE);
    p2p_watch_free(r.watch);
    os_close(ends[0]);
    os_close(ends[1]);
    p2p_event_loop_free(loop);
}

static void a_hang_up_shows_as_every_wanted_bit(void **state) {
    (void)state;
    static const uint32_t interests[] = { P2P_READABLE, P2P_WRITABLE, P2P_READABLE | P2P_WRITABLE };
    for (size_t i = 0; i < COUNT_OF(interests); i++) {
        record r = { 0 };
        p2p_handle_t ends[2];
        p2p_event_loop_t *loop = loop_create(NULL);
        assert_int_equal(os_pipe(ends), 0);
        int watched = interests[i] == P2P_READABLE ? 0 : 1; /* the writer of a pipe without a reader gets ERR */
        os_close(ends[1 - watched]);
        assert_true(os_poll(ends[watched], POLLIN, RAW_DEADLINE_S * 1000) > 0);
        watch(&r, loop, ends[watched], interests[i], on_ready);
        RUN_UNTIL(loop, r.calls > 0);
        assert_int_equal(r.ready, interests[i]);
        p2p_watch_free(r.watch);
        os_close(ends[watched]);
        p2p_event_loop_free(loop);
    }
}

static void no_interest_means_no_wakeups_whatever_happens(void **state) {
    (void)state;
    for (int with_end = 0; with_end < 2; with_end++) {
        record r = { 0 };
        p2p_handle_t ends[2];
        p2p_event_loop_t *loop = loop_create(NULL);
        assert_int_equal(os_stream_pair(ends), 0);
        watch(&r, loop, ends[0], with_end ? 0 : P2P_READABLE, on_ready); /* from the start, or later */
        assert_int_equal(p2p_watch_set(r.watch, 0), 0);
        put(ends[1]);
        if (with_end) os_close(ends[1]);
        expect_no_wakeups(loop);
        assert_int_equal(r.calls, 0);
        assert_int_equal(p2p_watch_set(r.watch, P2P_READABLE), 0);
        assert_int_equal(p2p_event_loop_run_once(loop, -1), 1);
        assert_int_equal(r.calls, 1);
        p2p_watch_free(r.watch);
        os_close(ends[0]);
        if (!with_end) os_close(ends[1]);
        p2p_event_loop_free(loop);
    }
}

static void interest_changes_are_exact(void **state) {
    (void)state;
    record r = { 0 };
    p2p_handle_t ends[2];
    p2p_event_loop_t *loop = loop_create(NULL);
    assert_int_equal(os_stream_pair(ends), 0);
    put(ends[1]);
    watch(&r, loop, ends[0], P2P_READABLE, on_ready);
    static const uint32_t masks[] = { P2P_WRITABLE, P2P_READABLE, P2P_READABLE | P2P_WRITABLE, P2P_READABLE };
    for (size_t i = 0; i < COUNT_OF(masks); i++) {
        assert_int_equal(p2p_watch_set(r.watch, masks[i]), 0);
        assert_int_equal(p2p_watch_set(r.watch, masks[i]), 0); /* the same again: no harm */
        r.ready = 0;
        RUN_UNTIL(loop, r.ready != 0);
        assert_int_equal(r.ready, masks[i]);
    }
    assert_int_equal(p2p_watch_set(r.watch, 0x100), P2P_ERR_INVALID);
    p2p_watch_free(r.watch);
    os_close(ends[0]);
    os_close(ends[1]);
    p2p_event_loop_free(loop);
}

static void off_and_on(p2p_watch_t *watched, uint32_t ready, void *user_data) {
    on_ready(watched, ready, user_data);
    assert_int_equal(p2p_watch_set(watched, 0), 0);
    assert_int_equal(p2p_watch_set(watched, P2P_READABLE), 0);
}

static void switched_off_and_on_in_its_callback_a_watch_goes_on_next_turn(void **state) {
    (void)state;
    record r = { 0 };
    p2p_handle_t ends[2];
    p2p_event_loop_t *loop = loop_create(NULL);
    assert_int_equal(os_pipe(ends), 0);
    watch(&r, loop, ends[0], P2P_READABLE, off_and_on);
    put(ends[1]);
    for (unsigned i = 1; i <= 3; i++) {
        assert_int_equal(p2p_event_loop_run_once(loop, -1), 1);
        assert_int_equal(r.calls, i);
    }
    get(ends[0]);
    expect_no_wakeups(loop);
    p2p_watch_free(r.watch);
    os_close(ends[0]);
    os_close(ends[1]);
    p2p_event_loop_free(loop);
}

/* ---- what can't be watched ---- */

static void a_closed_number_is_INVALID_and_the_next_watch_works(void **state) {
    (void)state;
    record r = { 0 };
    p2p_handle_t ends[2];
    p2p_event_loop_t *loop = loop_create(NULL);
    assert_int_equal(os_pipe(ends), 0);
    os_close(ends[0]);
    for (uint32_t interest = 0; interest <= 1; interest++) {
        assert_null(p2p_event_loop_watch(loop, ends[0], interest, on_ready, &r));
        assert_int_equal(p2p_last_error(), P2P_ERR_INVALID);
    }
    assert_int_equal(loop_stats(loop).watches, 0);
    watch(&r, loop, ends[1], P2P_WRITABLE, on_ready);
    RUN_UNTIL(loop, r.calls > 0);
    p2p_watch_free(r.watch);
    os_close(ends[1]);
    p2p_event_loop_free(loop);
}

static void null_and_unknown_bits_are_INVALID(void **state) {
    (void)state;
    p2p_event_loop_t *loop = loop_create(NULL);
    assert_null(p2p_event_loop_watch(NULL, 0, P2P_READABLE, on_ready, NULL));
    assert_int_equal(p2p_last_error(), P2P_ERR_INVALID);
    assert_null(p2p_event_loop_watch(loop, 0, P2P_READABLE, NULL, NULL));
    assert_int_equal(p2p_last_error(), P2P_ERR_INVALID);
    assert_null(p2p_event_loop_watch(loop, 0, 0x40, on_ready, NULL));
    assert_int_equal(p2p_last_error(), P2P_ERR_INVALID);
    assert_null(p2p_event_loop_watch(loop, P2P_INVALID_HANDLE, P2P_READABLE, on_ready, NULL));
    assert_int_equal(p2p_last_error(), P2P_ERR_INVALID);
    assert_int_equal(p2p_watch_set(NULL, P2P_READABLE), P2P_ERR_INVALID);
    p2p_watch_free(NULL);
    p2p_event_loop_free(loop);
}

/* ---- the handle stays the owner's ---- */

static void a_watch_neither_closes_its_handle_nor_changes_its_mode(void **state) {
    (void)state;
    record r = { 0 };
    p2p_handle_t ends[2];
    p2p_event_loop_t *loop = loop_create(NULL);
    assert_int_equal(os_stream_pair(ends), 0);
    assert_false(os_is_nonblocking(ends[0]));
    int mode = os_mode(ends[0]);
    watch(&r, loop, ends[0], P2P_READABLE, on_ready);
    put(ends[1]);
    RUN_UNTIL(loop, r.calls > 0);
    get(ends[0]);
    assert_int_equal(os_mode(ends[0]), mode);
    p2p_watch_free(r.watch);
    loop_settle(loop);
    assert_int_equal(os_mode(ends[0]), mode);
    os_close(ends[0]);
    os_close(ends[1]);
    p2p_event_loop_free(loop);
}

/* Freed first, closed then: a duplicate of the descriptor must not go on reporting. */
static void after_free_a_duplicate_of_the_handle_causes_no_wakeups(void **state) {
    (void)state;
    record r = { 0 };
    p2p_handle_t ends[2];
    p2p_event_loop_t *loop = loop_create(NULL);
    assert_int_equal(os_pipe(ends), 0);
    p2p_handle_t duplicate = os_duplicate(ends[0]);
    assert_true(duplicate != P2P_INVALID_HANDLE);
    watch(&r, loop, ends[0], P2P_READABLE, on_ready);
    loop_settle(loop);
    p2p_watch_free(r.watch);
    os_close(ends[0]);
    put(ends[1]);
    expect_no_wakeups(loop);
    assert_int_equal(r.calls, 0);
    os_close(duplicate);
    os_close(ends[1]);
    p2p_event_loop_free(loop);
}

/* ---- in callbacks ---- */

static void free_self(p2p_watch_t *watched, uint32_t ready, void *user_data) {
    on_ready(watched, ready, user_data);
    p2p_watch_free(watched);
}

static void a_watch_can_free_itself_and_run_returns(void **state) {
    (void)state;
    record r = { 0 };
    p2p_handle_t ends[2];
    p2p_event_loop_t *loop = loop_create(NULL);
    assert_int_equal(os_pipe(ends), 0);
    watch(&r, loop, ends[0], P2P_READABLE, free_self);
    put(ends[1]);
    p2p_event_loop_run(loop);
    assert_int_equal(p2p_last_error(), 0);
    assert_int_equal(r.calls, 1);
    os_close(ends[0]);
    os_close(ends[1]);
    p2p_event_loop_free(loop);
}

static void free_other(p2p_watch_t *watched, uint32_t ready, void *user_data) {
    record *r = user_data;
    on_ready(watched, ready, r);
    if (r->other == NULL) return;
    p2p_watch_free(r->other);
    r->other = NULL;
}

static void a_watch_freed_by_another_in_the_same_batch_is_silent(void **state) {
    (void)state;
    record r[2] = { { 0 }, { 0 } };
    p2p_handle_t ends[2][2];
    p2p_event_loop_t *loop = loop_create(NULL);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(os_pipe(ends[i]), 0);
        put(ends[i][1]);
        watch(&r[i], loop, ends[i][0], P2P_READABLE, free_other);
    }
    r[0].other = r[1].watch;
    r[1].other = r[0].watch;
    assert_int_equal(p2p_event_loop_run_once(loop, -1), 1);
    assert_int_equal(r[0].calls + r[1].calls, 1);
    int survivor = r[0].calls == 1 ? 0 : 1;
    assert_int_equal(p2p_event_loop_run_once(loop, -1), 1);
    assert_int_equal(r[survivor].calls, 2);
    assert_int_equal(r[1 - survivor].calls, 0);
    p2p_watch_free(r[survivor].watch);
    for (int i = 0; i < 2; i++) {
        os_close(ends[i][0]);
        os_close(ends[i][1]);
    }
    p2p_event_loop_free(loop);
}

static void switch_other_off(p2p_watch_t *watched, uint32_t ready, void *user_data) {
    record *r = user_data;
    on_ready(watched, ready, r);
    if (r->calls == 1) assert_int_equal(p2p_watch_set(r->other, 0), 0);
}

static void a_watch_switched_off_by_another_in_the_same_batch_is_silent(void **state) {
    (void)state;
    record r[2] = { { 0 }, { 0 } };
    p2p_handle_t ends[2][2];
    p2p_event_loop_t *loop = loop_create(NULL);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(os_pipe(ends[i]), 0);
        put(ends[i][1]);
        watch(&r[i], loop, ends[i][0], P2P_READABLE, switch_other_off);
    }
    r[0].other = r[1].watch;
    r[1].other = r[0].watch;
    assert_int_equal(p2p_event_loop_run_once(loop, -1), 1);
    assert_int_equal(r[0].calls + r[1].calls, 1);
    for (int i = 0; i < 2; i++) {
        p2p_watch_free(r[i].watch);
        os_close(ends[i][0]);
        os_close(ends[i][1]);
    }
    p2p_event_loop_free(loop);
}

typedef struct renewal {
    record fresh;
    p2p_event_loop_t *loop;
    p2p_handle_t fd;
    unsigned calls;
} renewal;

static void free_and_watch_again(p2p_watch_t *watched, uint32_t ready, void *user_data) {
    renewal *r = user_data;
    (void)ready;
    r->calls++;
    p2p_watch_free(watched);
    watch(&r->fresh, r->loop, r->fd, P2P_READABLE, on_ready);
}

static void freed_and_watched_again_a_handle_is_reported_once_a_turn(void **state) {
    (void)state;
    p2p_handle_t ends[2];
    renewal r = { .loop = loop_create(NULL) };
    assert_int_equal(os_pipe(ends), 0);
    r.fd = ends[0];
    put(ends[1]);
    assert_non_null(p2p_event_loop_watch(r.loop, r.fd, P2P_READABLE, free_and_watch_again, &r));
    assert_int_equal(p2p_event_loop_run_once(r.loop, -1), 1);
    assert_int_equal(r.fresh.calls, 0);
    assert_int_equal(p2p_event_loop_run_once(r.loop, -1), 1);
    assert_int_equal(r.fresh.calls, 1);
    assert_int_equal(r.calls, 1);
    p2p_watch_free(r.fresh.watch);
    os_close(ends[0]);
    os_close(ends[1]);
    p2p_event_loop_free(r.loop);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        CASE(a_pipe_is_readable_each_turn_while_data_waits),
        CASE(the_write_end_is_writable_until_it_is_full),
        CASE(both_directions_come_in_one_call),
        CASE(a_hang_up_shows_as_every_wanted_bit),
        CASE(no_interest_means_no_wakeups_whatever_happens),
        CASE(interest_changes_are_exact),
        CASE(switched_off_and_on_in_its_callback_a_watch_goes_on_next_turn),
        CASE(a_closed_number_is_INVALID_and_the_next_watch_works),
        CASE(null_and_unknown_bits_are_INVALID),
        CASE(a_watch_neither_closes_its_handle_nor_changes_its_mode),
        CASE(after_free_a_duplicate_of_the_handle_causes_no_wakeups),
        CASE(a_watch_can_free_itself_and_run_returns),
        CASE(a_watch_freed_by_another_in_the_same_batch_is_silent),
        CASE(a_watch_switched_off_by_another_in_the_same_batch_is_silent),
        CASE(freed_and_watched_again_a_handle_is_reported_once_a_turn),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
