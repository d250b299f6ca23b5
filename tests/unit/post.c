/* Tasks (core/post.c): each runs once, in the order of posting, in the turn after. */
#include "mock_backend.h"

static p2p_event_loop_t *the_loop;

static void write_down(void *user_data) {
    journal("%s", (const char *)user_data);
}

static void post(p2p_event_loop_t *loop, p2p_task_callback task, const char *name) {
    assert_int_equal(p2p_event_loop_post(loop, task, (void *)(uintptr_t)name), 0);
}

static void tasks_run_in_the_order_of_posting(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    post(loop, write_down, "a");
    post(loop, write_down, "b");
    post(loop, write_down, "c");
    assert_int_equal(mock_turn(loop), 3);
    EXPECT_JOURNAL("bind_thread a b c wait(0)");
    assert_int_equal(mock_turn(loop), 0);
    p2p_event_loop_free(loop);
}

static void post_another(void *user_data) {
    journal("%s", (const char *)user_data);
    post(the_loop, write_down, "second");
}

/* Or tasks that post themselves would keep the loop from its sockets. */
static void a_task_posted_by_a_task_waits_for_the_next_turn(void **state) {
    (void)state;
    the_loop = mock_loop(0, NULL);
    post(the_loop, post_another, "first");
    post(the_loop, write_down, "beside");
    assert_int_equal(p2p_event_loop_run_once(the_loop, -1), 2);
    EXPECT_JOURNAL("bind_thread first beside wait(0)"); /* and the wait is a short one */
    assert_int_equal(mock_turn(the_loop), 1);
    EXPECT_JOURNAL("second wait(0)");
    p2p_event_loop_free(the_loop);
}

static void run_goes_on_until_all_tasks_have_run(void **state) {
    (void)state;
    the_loop = mock_loop(0, NULL);
    post(the_loop, post_another, "first");
    p2p_event_loop_run(the_loop);
    assert_int_equal(p2p_last_error(), 0);
    EXPECT_JOURNAL("bind_thread first wait(0) second wait(0)");
    p2p_event_loop_free(the_loop);
}

static void many_posts_before_a_wait_cause_one_wake(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    for (int i = 0; i < 10; i++) post(loop, write_down, "a");
    assert_int_equal(mock.wakes, 1);
    mock_turn(loop);
    post(loop, write_down, "b");
    assert_int_equal(mock.wakes, 2); /* the first one is used up */
    mock_turn(loop);
    p2p_event_loop_free(loop);
}

static void a_wake_that_failed_is_tried_again_by_the_next_post(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    mock.wake_fails = true;
    post(loop, write_down, "a");
    assert_int_equal(mock.wakes, 1);
    mock.wake_fails = false;
    post(loop, write_down, "b");
    assert_int_equal(mock.wakes, 2);
    mock_turn(loop);
    p2p_event_loop_free(loop);
}

static void tasks_left_over_run_once_when_the_loop_is_freed(void **state) {
    (void)state;
    the_loop = mock_loop(0, NULL);
    post(the_loop, post_another, "first");
    p2p_event_loop_free(the_loop);
    EXPECT_JOURNAL("first destroy");
}

static void a_refused_post_never_runs(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    memory_fail(1, false);
    assert_int_equal(p2p_event_loop_post(loop, write_down, (void *)(uintptr_t) "a"), P2P_ERR_NO_MEMORY);
    assert_int_equal(p2p_event_loop_post(NULL, write_down, NULL), P2P_ERR_INVALID);
    assert_int_equal(p2p_event_loop_post(loop, NULL, NULL), P2P_ERR_INVALID);
    assert_int_equal(mock_turn(loop), 0);
    EXPECT_JOURNAL("bind_thread wait(0)");
    p2p_event_loop_free(loop);
}

/* ---- threads ---- */

#define THREADS 4u
#define TASKS_EACH 5000u

/* Changed in the loop's thread only; that each task runs after it was posted is the queue's to see to. */
static struct lane {
    uint32_t next;
    os_thread thread;
} lanes[THREADS];

typedef struct numbered {
    struct lane *lane;
    uint32_t number;
} numbered;

static numbered all[THREADS][TASKS_EACH];

static void count(void *user_data) {
    numbered *n = user_data;
    assert_int_equal(n->number, n->lane->next);
    n->lane->next++;
}

static void post_all(void *argument) {
    numbered *mine = argument;
    for (uint32_t i = 0; i < TASKS_EACH; i++) {
        mine[i].number = i;
        while (p2p_event_loop_post(the_loop, count, &mine[i]) != 0) {
        }
    }
}

static void each_threads_tasks_run_once_and_in_its_order(void **state) {
    (void)state;
    the_loop = mock_loop(0, NULL);
    for (uint32_t t = 0; t < THREADS; t++) {
        lanes[t].next = 0;
        for (uint32_t i = 0; i < TASKS_EACH; i++) all[t][i].lane = &lanes[t];
        assert_int_equal(os_thread_start(&lanes[t].thread, post_all, all[t]), 0);
    }
    RUN_UNTIL(the_loop, loop_stats(the_loop).tasks_run == THREADS * TASKS_EACH);
    for (uint32_t t = 0; t < THREADS; t++) {
        os_thread_join(&lanes[t].thread);
        assert_int_equal(lanes[t].next, TASKS_EACH);
    }
    assert_int_equal(mock_turn(the_loop), 0);
    journal_take();
    p2p_event_loop_free(the_loop);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        MOCK_CASE(tasks_run_in_the_order_of_posting),
        MOCK_CASE(a_task_posted_by_a_task_waits_for_the_next_turn),
        MOCK_CASE(run_goes_on_until_all_tasks_have_run),
        MOCK_CASE(many_posts_before_a_wait_cause_one_wake),
        MOCK_CASE(a_wake_that_failed_is_tried_again_by_the_next_post),
        MOCK_CASE(tasks_left_over_run_once_when_the_loop_is_freed),
        MOCK_CASE(a_refused_post_never_runs),
        MOCK_CASE(each_threads_tasks_run_once_and_in_its_order),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
