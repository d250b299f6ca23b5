/*
 * Timers: a binary heap by deadline, and by order of starting among equals. Room for every timer is set aside
 * when it is created, so that starting one never fails.
 */
#include "internal.h"

struct p2p_timer {
    p2p_event_loop_t *loop;
    p2p_timer_callback callback;
    void *user_data;
    int64_t deadline_ns;
    uint64_t repeat_ns;
    uint64_t sequence;
    uint32_t index; /* in the heap, NOT_IN_HEAP when stopped */
    bool private_timer;
    p2pi_link all, due;
};

#define NOT_IN_HEAP UINT32_MAX

void p2pi_timers_init(p2pi_timers *timers) {
    p2pi_list_init(&timers->all);
}

static bool before(const p2p_timer_t *a, const p2p_timer_t *b) {
    return a->deadline_ns < b->deadline_ns || (a->deadline_ns == b->deadline_ns && a->sequence < b->sequence);
}

static void place(p2pi_timers *timers, p2p_timer_t *timer, uint32_t index) {
    timers->heap[index] = timer;
    timer->index = index;
}

static void sift_up(p2pi_timers *timers, p2p_timer_t *timer, uint32_t index) {
    while (index > 0) {
        uint32_t parent = (index - 1) / 2;
        if (!before(timer, timers->heap[parent])) break;
        place(timers, timers->heap[parent], index);
        index = parent;
    }
    place(timers, timer, index);
}

static void sift_down(p2pi_timers *timers, p2p_timer_t *timer, uint32_t index) {
    for (;;) {
        uint64_t child = (uint64_t)index * 2 + 1;
        if (child >= timers->active) break;
        if (child + 1 < timers->active && before(timers->heap[child + 1], timers->heap[child])) child++;
        if (!before(timers->heap[child], timer)) break;
        place(timers, timers->heap[child], index);
        index = (uint32_t)child;
    }
    place(timers, timer, index);
}

static void heap_insert(p2pi_timers *timers, p2p_timer_t *timer) {
    P2P_ASSERT(timers->active < timers->capacity);
    timer->sequence = timers->sequence++;
    sift_up(timers, timer, timers->active++);
}

static void heap_remove(p2pi_timers *timers, p2p_timer_t *timer) {
    if (timer->index == NOT_IN_HEAP) return;
    uint32_t index = timer->index;
    p2p_timer_t *last = timers->heap[--timers->active];
    timer->index = NOT_IN_HEAP;
    if (last == timer) return;
    if (index > 0 && before(last, timers->heap[(index - 1) / 2]))
        sift_up(timers, last, index);
    else
        sift_down(timers, last, index);
}

static int reserve(p2pi_timers *timers) {
    if (timers->created < timers->capacity) return P2P_OK;
    uint32_t capacity = timers->capacity == 0 ? 16 : timers->capacity * 2;
    if (capacity <= timers->capacity) return P2P_ERR_LIMIT;
    p2p_timer_t **heap = p2pi_realloc(timers->heap, capacity * sizeof *heap);
    if (heap == NULL) return P2P_ERR_NO_MEMORY;
    timers->heap = heap;
    timers->capacity = capacity;
    return P2P_OK;
}

p2p_timer_t *p2pi_timer_create_private(p2p_event_loop_t *loop, p2p_timer_callback callback, void *user_data) {
    p2p_timer_t *timer = p2p_timer_create(loop, callback, user_data);
    if (timer != NULL) timer->private_timer = true;
    return timer;
}

p2p_timer_t *p2p_timer_create(p2p_event_loop_t *loop, p2p_timer_callback callback, void *user_data) {
    int result = loop == NULL || callback == NULL ? P2P_ERR_INVALID : reserve(&loop->timers);
    p2p_timer_t *timer = result < 0 ? NULL : p2pi_alloc_zeroed(sizeof *timer);
    if (timer == NULL) {
        p2pi_fail(result < 0 ? result : P2P_ERR_NO_MEMORY);
        return NULL;
    }
    timer->loop = loop;
    timer->callback = callback;
    timer->user_data = user_data;
    timer->index = NOT_IN_HEAP;
    loop->timers.created++;
    p2pi_list_append(&loop->timers.all, &timer->all);
    return timer;
}

/* a + b, no further than the end of time. */
static int64_t later(int64_t a, uint64_t b) {
    return a > 0 && b > (uint64_t)(INT64_MAX - a) ? INT64_MAX
           : b > INT64_MAX                        ? INT64_MAX
                                                  : a + (int64_t)b;
}

int p2p_timer_start_at(p2p_timer_t *timer, int64_t deadline_ns, uint64_t repeat_ns) {
    if (timer == NULL) return p2pi_fail(P2P_ERR_INVALID);
    p2pi_timers *timers = &timer->loop->timers;
    p2pi_list_remove(&timer->due);
    heap_remove(timers, timer);
    timer->deadline_ns = deadline_ns;
    timer->repeat_ns = repeat_ns;
    heap_insert(timers, timer);
    return P2P_OK;
}

int p2p_timer_start(p2p_timer_t *timer, uint64_t delay_ns, uint64_t repeat_ns) {
    if (timer == NULL) return p2pi_fail(P2P_ERR_INVALID);
    return p2p_timer_start_at(timer, later(timer->loop->sys->now_ns(), delay_ns), repeat_ns);
}

int p2p_timer_stop(p2p_timer_t *timer) {
    if (timer == NULL) return p2pi_fail(P2P_ERR_INVALID);
    p2pi_list_remove(&timer->due);
    heap_remove(&timer->loop->timers, timer);
    return P2P_OK;
}

void p2p_timer_free(p2p_timer_t *timer) {
    if (timer == NULL) return;
    p2p_timer_stop(timer);
    p2pi_list_remove(&timer->all);
    timer->loop->timers.created--;
    p2pi_free(timer);
}

int64_t p2pi_timers_next(const p2pi_timers *timers) {
    return timers->active == 0 ? INT64_MAX : timers->heap[0]->deadline_ns;
}

/* From the scheduled time on, so that a repeating timer doesn't drift; times already past are skipped. */
static int64_t next_time(const p2p_timer_t *timer, int64_t now_ns) {
    int64_t next_ns = later(timer->deadline_ns, timer->repeat_ns);
    if (next_ns > now_ns) return next_ns;
    uint64_t behind_ns = (uint64_t)now_ns - (uint64_t)timer->deadline_ns;
    return later(now_ns, timer->repeat_ns - behind_ns % timer->repeat_ns);
}

static void fire(p2p_event_loop_t *loop, p2p_timer_t *timer) {
    uint64_t lag_ns = (uint64_t)loop->now_ns - (uint64_t)timer->deadline_ns; /* due: never negative */
    if (lag_ns > loop->stats.timer_lag_max_ns) loop->stats.timer_lag_max_ns = lag_ns;
    if (timer->repeat_ns > 0) {
        timer->deadline_ns = next_time(timer, loop->now_ns);
        heap_insert(&loop->timers, timer);
    }
    if (timer->private_timer) {
        timer->callback(timer, timer->user_data);
        return;
    }
    if (loop->freeing) return; /* started by an on_close: too late */
    loop->stats.timers_fired++;
    int64_t entered_ns = p2pi_callback_enter(loop);
    timer->callback(timer, timer->user_data); /* may free it */
    p2pi_callback_leave(loop, entered_ns);
}

/* Step 2. What is due is set apart first: timers started by these callbacks belong to the next turn. */
void p2pi_timers_run(p2p_event_loop_t *loop) {
    p2pi_timers *timers = &loop->timers;
    p2pi_link due, *link;
    p2pi_list_init(&due);
    while (p2pi_timers_next(timers) <= loop->now_ns && timers->active > 0) {
        p2p_timer_t *timer = timers->heap[0];
        heap_remove(timers, timer);
        p2pi_list_append(&due, &timer->due);
    }
    while ((link = p2pi_list_pop(&due)) != NULL) fire(loop, P2PI_CONTAINER(link, p2p_timer_t, due));
}

void p2pi_timers_stop_public(p2pi_timers *timers) {
    for (p2pi_link *link = timers->all.next; link != &timers->all; link = link->next) {
        p2p_timer_t *timer = P2PI_CONTAINER(link, p2p_timer_t, all);
        if (!timer->private_timer) p2p_timer_stop(timer);
    }
}

void p2pi_timers_fini(p2pi_timers *timers) {
    while (!p2pi_list_empty(&timers->all)) p2p_timer_free(P2PI_CONTAINER(timers->all.next, p2p_timer_t, all));
    p2pi_free(timers->heap);
}
