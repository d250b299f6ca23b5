/*
 * wake: how long it takes to have a loop that sleeps do something, and to hear of it. Another thread sees the loop's
 * thread asleep, posts a task, and waits for its answer.
 */
#include "latency.h"
#include "span.h"
#include "workloads.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static const bench_reactor *reactor;
static void *loop;
static pid_t loop_thread;
static double seconds;
static sem_t answered;
static bench_latency round_trips;
static int64_t round_trips_ns; /* their sum */
static bool ended;

static void answer(void *argument) {
    sem_post(argument);
}

static void end(void *argument) {
    *(bool *)argument = true;
}

/* By the state in /proc/self/task/ID/stat, behind the name in parentheses. */
static bool asleep(int stat) {
    char text[256];
    ssize_t length = pread(stat, text, sizeof text - 1, 0);
    if (length < 0) bench_fail("wake: /proc/self/task");
    text[length] = '\0';
    const char *name_end = strrchr(text, ')');
    return name_end != NULL && strncmp(name_end, ") S", 3) == 0;
}

static void wait_until_asleep(int stat) {
    int64_t limit_ns = bench_now_ns() + 1000000000;
    errno = 0;
    while (!asleep(stat)) {
        if (bench_now_ns() > limit_ns) bench_fail("wake: the loop does not sleep");
    }
}

static int64_t round_trip(void) {
    int64_t begin_ns = bench_now_ns();
    reactor->post(loop, answer, &answered);
    while (sem_wait(&answered) < 0) {
        if (errno != EINTR) bench_fail("sem_wait");
    }
    return bench_now_ns() - begin_ns;
}

static void *wake_again_and_again(void *argument) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%ld/stat", (long)loop_thread);
    int stat = open(path, O_RDONLY | O_CLOEXEC);
    if (stat < 0) bench_fail(path);
    int64_t end_ns = bench_now_ns() + (int64_t)(seconds * 1e9);
    do {
        wait_until_asleep(stat);
        int64_t took_ns = round_trip();
        bench_latency_add(&round_trips, (uint64_t)took_ns);
        round_trips_ns += took_ns;
    } while (bench_now_ns() < end_ns);
    close(stat);
    reactor->post(loop, end, &ended);
    return argument;
}

void bench_run_wake(const bench_job *job, const bench_reactor *of, const char *subject, bench_sample *sample) {
    pthread_t waker;
    reactor = of;
    loop = reactor->create(subject);
    loop_thread = gettid();
    seconds = job->seconds;
    ended = false;
    round_trips_ns = 0;
    sem_init(&answered, 0, 0);
    bench_span span = bench_span_begin(RUSAGE_THREAD);
    errno = pthread_create(&waker, NULL, wake_again_and_again, NULL);
    if (errno != 0) bench_fail("pthread_create");
    while (!ended) reactor->turn(loop);
    pthread_join(waker, NULL);
    bench_span_report(&span, (double)round_trips.count, sample);
    sample->value[BENCH_RATE] = (double)round_trips.count * 1e9 / (double)round_trips_ns;
    bench_latency_report(&round_trips, sample);
    sem_destroy(&answered);
}
