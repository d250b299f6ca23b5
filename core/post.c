/*
 * Tasks from any thread: pushed on a lock-free stack, taken all at once and turned round by the loop, which
 * gives the order of posting. A push only swaps the head, so there is no ABA.
 */
#include "internal.h"

void p2pi_task_post(p2p_event_loop_t *loop, p2pi_task *task) {
    task->next = atomic_load_explicit(&loop->tasks, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&loop->tasks, &task->next, task, memory_order_release,
                                                  memory_order_relaxed)) {
    }
    p2pi_loop_wake(loop);
}

int p2p_event_loop_post(p2p_event_loop_t *loop, p2p_task_callback task, void *user_data) {
    if (loop == NULL || task == NULL) return p2pi_fail(P2P_ERR_INVALID);
    p2pi_task *node = p2pi_alloc_zeroed(sizeof *node);
    if (node == NULL) return p2pi_fail(P2P_ERR_NO_MEMORY);
    node->callback = task;
    node->user_data = user_data;
    p2pi_task_post(loop, node);
    return P2P_OK;
}

/* A task that the relaxed look misses is no loss: its poster's wake ends the next wait, and then it is seen. */
static p2pi_task *take_all(p2p_event_loop_t *loop) {
    if (atomic_load_explicit(&loop->tasks, memory_order_relaxed) == NULL) return NULL;
    p2pi_task *newest = atomic_exchange_explicit(&loop->tasks, NULL, memory_order_acquire);
    p2pi_task *oldest = NULL;
    while (newest != NULL) {
        p2pi_task *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    return oldest;
}

/* Step 1. Tasks posted by tasks belong to the next turn. */
void p2pi_tasks_run(p2p_event_loop_t *loop) {
    p2pi_task *task = take_all(loop);
    while (task != NULL) {
        p2pi_task *next = task->next;
        p2p_task_callback callback = task->callback;
        void *user_data = task->user_data;
        if (task->own) { /* may be gone afterwards */
            callback(user_data);
            task = next;
            continue;
        }
        p2pi_free(task);
        loop->stats.tasks_run++;
        int64_t entered_ns = p2pi_callback_enter(loop);
        callback(user_data);
        p2pi_callback_leave(loop, entered_ns);
        task = next;
    }
}

void p2pi_tasks_fini(p2p_event_loop_t *loop) {
    p2pi_task *task = take_all(loop);
    while (task != NULL) {
        p2pi_task *next = task->next;
        if (!task->own) p2pi_free(task);
        task = next;
    }
}
