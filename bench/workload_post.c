/*
 * post: another thread posts tasks as fast as it can, so many at a time, while the loop runs them. Each task knows its
 * number, and must come when it is its turn.
 */
#include "span.h"
#include "workloads.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/resource.h>

static const bench_reactor *reactor;
static void *loop;
static uint32_t task_count;
static sem_t wanted; /* once for each burst */
static bool ended;
static uint32_t ran; /* of the burst */

static void task(void *argument) {
    errno = 0;
    if ((uintptr_t)argument != ran) bench_fail("post: a task ran out of turn, or twice, or never");
    ran++;
}

static void wait_for(sem_t *semaphore) {
    while (sem_wait(semaphore) < 0) {
        if (errno != EINTR) bench_fail("sem_wait");
    }
}

static void *post_bursts(void *argument) {
    for (wait_for(&wanted); !ended; wait_for(&wanted)) {
        for (uint32_t i = 0; i < task_count; i++) reactor->post(loop, task, (void *)(uintptr_t)i);
    }
    return argument;
}

static void run_burst(void) {
    ran = 0;
    sem_post(&wanted);
    while (ran < task_count) reactor->turn(loop);
}

void bench_run_post(const bench_job *job, const bench_reactor *of, const char *subject, bench_sample *sample) {
    pthread_t poster;
    double bursts = 0;
    reactor = of;
    loop = reactor->create(subject);
    task_count = job->conns;
    ended = false;
    sem_init(&wanted, 0, 0);
    errno = pthread_create(&poster, NULL, post_bursts, NULL);
    if (errno != 0) bench_fail("pthread_create");
    run_burst();

    bench_span span = bench_span_begin(RUSAGE_SELF);
    int64_t end_ns = span.at_ns + (int64_t)(job->seconds * 1e9);
    do {
        run_burst();
        bursts++;
    } while (bench_now_ns() < end_ns);
    bench_span_report(&span, bursts * task_count, sample);

    ended = true;
    sem_post(&wanted);
    pthread_join(poster, NULL);
    sem_destroy(&wanted);
}
