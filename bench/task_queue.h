/*
 * Tasks that other threads hand to a loop's thread: a queue behind a lock, for loops that leave this to their users;
 * and with an eventfd as well, for those that leave waking to them, too.
 */
#ifndef P2P_BENCH_TASK_QUEUE_H
#define P2P_BENCH_TASK_QUEUE_H

#include "bench.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct bench_task {
    bench_callback run;
    void *argument;
} bench_task;

typedef struct bench_tasks {
    bench_task *tasks;
    size_t count, capacity;
} bench_tasks;

typedef struct bench_task_queue {
    pthread_mutex_t lock;
    bench_tasks waiting; /* under the lock */
    bench_tasks running; /* the loop's thread alone */
} bench_task_queue;

void bench_task_queue_init(bench_task_queue *queue);
/* Any thread. @return whether the queue was empty: then the loop has to be told. */
bool bench_task_queue_add(bench_task_queue *queue, bench_callback run, void *argument);
/* The loop's thread: runs all that waited when this began, oldest first. */
void bench_task_queue_run(bench_task_queue *queue);

/* ---- with an eventfd, which is readable while tasks wait ---------------------------------------- */

typedef struct bench_inbox {
    int fd;
    bench_task_queue tasks;
} bench_inbox;

void bench_inbox_init(bench_inbox *inbox);
void bench_inbox_ready(void *inbox); /* the loop's thread, when it is readable */
void bench_inbox_post(bench_inbox *inbox, bench_callback task, void *argument);

#endif
