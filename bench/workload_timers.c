/*
 * timers: many at once, as connections have deadlines. All are started for some time between 1 and 60 seconds, started
 * anew, and stopped; then started for less than a millisecond and, when all are due, let fire.
 *
 * It is seen to that each fires once, and of some that none is early. Loops that read the time once a turn are right
 * when they count from their last turn, so there is one just before.
 */
#include "workloads.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

enum { NS_PER_MS = 1000000, CHECKED_MAX = 1000 };

/* Some loops count whole milliseconds, or read a clock that ticks every few of them. */
static const int64_t coarse_ns = 10 * NS_PER_MS;

typedef struct entry {
    void *timer;
    int64_t not_before_ns; /* looked at in the check only */
    uint32_t fired;
} entry;

static entry *entries;
static uint64_t fired;
static bool checking;

/* The least that will do (xorshift), since its cost is part of what is measured. */
static uint64_t delay_ns(uint64_t from_ns, uint64_t to_ns) {
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return from_ns + (state >> 40) * (to_ns - from_ns) / (1u << 24);
}

static void on_timer(void *argument) {
    entry *of = argument;
    of->fired++;
    fired++;
    if (checking && bench_now_ns() < of->not_before_ns) {
        errno = 0;
        bench_fail("timers: one fired early");
    }
}

static double thread_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static double start_all(const bench_job *job, const bench_reactor *reactor, uint64_t from_ns, uint64_t to_ns) {
    double begin_ns = thread_ns();
    for (uint32_t i = 0; i < job->conns; i++) reactor->timer_start(entries[i].timer, delay_ns(from_ns, to_ns));
    return thread_ns() - begin_ns;
}

static double stop_all(const bench_job *job, const bench_reactor *reactor) {
    double begin_ns = thread_ns();
    for (uint32_t i = 0; i < job->conns; i++) reactor->timer_stop(entries[i].timer);
    return thread_ns() - begin_ns;
}

static double turn_until(const bench_reactor *reactor, void *loop, uint64_t all) {
    double begin_ns = thread_ns();
    while (fired < all) reactor->turn(loop);
    return thread_ns() - begin_ns;
}

static double fire_all(const bench_job *job, const bench_reactor *reactor, void *loop) {
    const struct timespec until_due = { .tv_nsec = NS_PER_MS + coarse_ns };
    fired = 0;
    (void)start_all(job, reactor, 0, NS_PER_MS);
    nanosleep(&until_due, NULL);
    return turn_until(reactor, loop, job->conns);
}

static void check_early(const bench_reactor *reactor, void *loop, uint32_t count) {
    int64_t begin_ns = bench_now_ns();
    fired = 0;
    reactor->timer_start(entries[0].timer, 0);
    (void)turn_until(reactor, loop, 1);
    checking = true;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t delay = delay_ns(NS_PER_MS, 4 * (uint64_t)coarse_ns);
        entries[i].not_before_ns = begin_ns - coarse_ns + (int64_t)delay;
        reactor->timer_start(entries[i].timer, delay);
    }
    (void)turn_until(reactor, loop, 1 + (uint64_t)count);
    checking = false;
}

static void check_once(uint32_t index, uint32_t expected) {
    errno = 0;
    if (entries[index].fired != expected) bench_fail("timers: one did not fire, or more than once");
}

void bench_run_timers(const bench_job *job, const bench_reactor *reactor, const char *subject, bench_sample *sample) {
    double add_ns = 0, restart_ns = 0, cancel_ns = 0, fire_ns = 0;
    const uint64_t second_ns = 1000 * NS_PER_MS;
    uint32_t rounds = 0, checked = job->conns < CHECKED_MAX ? job->conns : CHECKED_MAX;
    void *loop = reactor->create(subject);
    entries = calloc(job->conns, sizeof *entries);
    if (entries == NULL) bench_fail("timers");
    for (uint32_t i = 0; i < job->conns; i++) entries[i].timer = reactor->timer(loop, on_timer, &entries[i]);

    int64_t end_ns = bench_now_ns() + (int64_t)(job->seconds * 1e9);
    do {
        add_ns += start_all(job, reactor, second_ns, 60 * second_ns);
        restart_ns += start_all(job, reactor, second_ns, 60 * second_ns);
        cancel_ns += stop_all(job, reactor);
        fire_ns += fire_all(job, reactor, loop);
        rounds++;
    } while (bench_now_ns() < end_ns);
    check_early(reactor, loop, checked);
    for (uint32_t i = 0; i < job->conns; i++) check_once(i, rounds + (i < checked) + (i == 0));

    double count = (double)rounds * job->conns;
    sample->value[BENCH_ADD] = add_ns / count;
    sample->value[BENCH_RESTART] = restart_ns / count;
    sample->value[BENCH_CANCEL] = cancel_ns / count;
    sample->value[BENCH_FIRE] = fire_ns / count;
    free(entries);
}
