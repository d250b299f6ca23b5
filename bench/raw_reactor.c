/*
 * The bare epoll loop as a reactor: level-triggered, an epoll_wait a turn, each event's pointer is what to call. It has
 * no timers. What other threads post waits in a queue, of which an eventfd tells.
 */
#include "subjects.h"

#include "bytes.h"
#include "task_queue.h"

#include <errno.h>
#include <sys/epoll.h>

enum { EVENTS = 512 };

typedef struct reactor {
    int epoll;
    bench_inbox inbox;
} reactor;

typedef struct watch {
    bench_callback ready;
    void *argument;
} watch;

static void raw_watch(void *loop, int fd, bench_callback ready, void *argument) {
    reactor *r = loop;
    watch *w = bench_memory(NULL, sizeof *w);
    *w = (watch){ ready, argument };
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = w };
    if (epoll_ctl(r->epoll, EPOLL_CTL_ADD, fd, &event) < 0) bench_fail("epoll_ctl");
}

static void *raw_create(const char *subject) {
    (void)subject;
    reactor *r = bench_memory(NULL, sizeof *r);
    r->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (r->epoll < 0) bench_fail("epoll_create1");
    bench_inbox_init(&r->inbox);
    raw_watch(r, r->inbox.fd, bench_inbox_ready, &r->inbox);
    return r;
}

static void raw_turn(void *loop) {
    reactor *r = loop;
    struct epoll_event events[EVENTS];
    int count = epoll_wait(r->epoll, events, EVENTS, -1);
    if (count < 0 && errno != EINTR) bench_fail("epoll_wait");
    for (int i = 0; i < count; i++) {
        const watch *w = events[i].data.ptr;
        w->ready(w->argument);
    }
}

static void raw_post(void *loop, bench_callback task, void *argument) {
    reactor *r = loop;
    bench_inbox_post(&r->inbox, task, argument);
}

const bench_reactor bench_raw_reactor = {
    .create = raw_create,
    .turn = raw_turn,
    .watch = raw_watch,
    .post = raw_post,
};
