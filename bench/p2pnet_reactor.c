/* The library as a loop of watches, timers and tasks, on the backend that the subject is named after. */
#include "subjects.h"

#include <p2pnet/p2pnet.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* What is called, and for whom. */
typedef struct listener {
    bench_callback callback;
    void *argument;
    p2p_timer_t *timer;
    struct listener *next;
} listener;

/* A process has one loop at a time: with the next one the last is freed. */
static p2p_event_loop_t *current;
static listener *listeners;

static _Noreturn void fail(const char *what) {
    static char text[256];
    snprintf(text, sizeof text, "%s: %s", what, p2p_error_message(p2p_last_error()));
    errno = 0;
    bench_fail(text);
}

static listener *new_listener(bench_callback callback, void *argument) {
    listener *made = malloc(sizeof *made);
    if (made == NULL) bench_fail("malloc");
    *made = (listener){ callback, argument, NULL, listeners };
    listeners = made;
    return made;
}

static void *create(const char *subject) {
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.backend = subject;
    p2p_event_loop_free(current);
    while (listeners != NULL) {
        listener *next = listeners->next;
        free(listeners);
        listeners = next;
    }
    current = p2p_event_loop_create_with(&options);
    if (current == NULL) fail(subject);
    return current;
}

static void turn(void *loop) {
    if (p2p_event_loop_run_once(loop, -1) < 0) fail("run_once");
}

static void on_ready(p2p_watch_t *watch, uint32_t ready, void *user_data) {
    const listener *to = user_data;
    (void)watch, (void)ready;
    to->callback(to->argument);
}

static void watch(void *loop, int fd, bench_callback ready, void *argument) {
    listener *to = new_listener(ready, argument);
    if (p2p_event_loop_watch(loop, fd, P2P_READABLE, on_ready, to) == NULL) fail("watch");
}

static void on_timer(p2p_timer_t *timer, void *user_data) {
    const listener *to = user_data;
    (void)timer;
    to->callback(to->argument);
}

static void *timer(void *loop, bench_callback fired, void *argument) {
    listener *to = new_listener(fired, argument);
    to->timer = p2p_timer_create(loop, on_timer, to);
    if (to->timer == NULL) fail("timer");
    return to;
}

static void timer_start(void *timer, uint64_t delay_ns) {
    if (p2p_timer_start(((listener *)timer)->timer, delay_ns, 0) < 0) fail("timer_start");
}

static void timer_stop(void *timer) {
    if (p2p_timer_stop(((listener *)timer)->timer) < 0) fail("timer_stop");
}

static void post(void *loop, bench_callback task, void *argument) {
    if (p2p_event_loop_post(loop, task, argument) < 0) fail("post");
}

const bench_reactor bench_p2pnet_reactor = {
    .create = create,
    .turn = turn,
    .watch = watch,
    .timer = timer,
    .timer_start = timer_start,
    .timer_stop = timer_stop,
    .post = post,
};
