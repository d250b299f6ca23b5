#include "task_queue.h"

#include "bytes.h"

#include <sys/eventfd.h>
#include <unistd.h>

void bench_task_queue_init(bench_task_queue *queue) {
    *queue = (bench_task_queue){ .lock = PTHREAD_MUTEX_INITIALIZER };
}

bool bench_task_queue_add(bench_task_queue *queue, bench_callback run, void *argument) {
    pthread_mutex_lock(&queue->lock);
    bench_tasks *waiting = &queue->waiting;
    if (waiting->count == waiting->capacity) {
        waiting->capacity = 2 * waiting->capacity + 64;
        waiting->tasks = bench_memory(waiting->tasks, waiting->capacity * sizeof *waiting->tasks);
    }
    waiting->tasks[waiting->count++] = (bench_task){ run, argument };
    bool was_empty = waiting->count == 1;
    pthread_mutex_unlock(&queue->lock);
    return was_empty;
}

/* Both arrays are kept and change places, so that a task costs no allocation and runs without the lock. */
void bench_task_queue_run(bench_task_queue *queue) {
    pthread_mutex_lock(&queue->lock);
    bench_tasks taken = queue->waiting;
    queue->waiting = queue->running;
    queue->running = taken;
    pthread_mutex_unlock(&queue->lock);
    for (size_t i = 0; i < taken.count; i++) taken.tasks[i].run(taken.tasks[i].argument);
    queue->running.count = 0;
}

void bench_inbox_init(bench_inbox *inbox) {
    bench_task_queue_init(&inbox->tasks);
    inbox->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (inbox->fd < 0) bench_fail("eventfd");
}

void bench_inbox_ready(void *inbox) {
    bench_inbox *in = inbox;
    uint64_t times;
    if (read(in->fd, &times, sizeof times) < 0) bench_fail("read of an eventfd");
    bench_task_queue_run(&in->tasks);
}

void bench_inbox_post(bench_inbox *inbox, bench_callback task, void *argument) {
    uint64_t one = 1;
    if (!bench_task_queue_add(&inbox->tasks, task, argument)) return;
    if (write(inbox->fd, &one, sizeof one) < 0) bench_fail("write to an eventfd");
}
