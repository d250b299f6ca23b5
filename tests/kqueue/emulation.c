/*
 * kqueue made of epoll, as far as backends/kqueue.c uses it, so that the backend's own logic can be run on Linux. It
 * shows nothing about a real kqueue.
 *
 * A queue is an epoll set. Both filters of a handle share one entry of it; the one EVFILT_USER there can be is an
 * eventfd. As on macOS and the BSDs a child process does not inherit it.
 */
#include "emulation.h"

#include <p2pnet/backend.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/event.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

extern const p2p_backend_ops p2pi_backend_kqueue;

enum { QUEUES_MAX = 256, BATCH_MAX = 512 };

/* Of the handle with the index's number. */
typedef struct entry {
    uint32_t asked; /* EPOLLIN: it has an EVFILT_READ; EPOLLOUT: an EVFILT_WRITE */
    void *read_udata, *write_udata;
} entry;

typedef struct queue {
    atomic_int number; /* the descriptor + 1; 0: this queue is free; -1: it is taken */
    int user;          /* the eventfd */
    struct kevent user_event;
    entry *entries;
    size_t entry_count;
    unsigned turn;
} queue;

/* Found without a lock, since signal handlers wake a loop by kevent. */
static queue queues[QUEUES_MAX];

static queue *find(int descriptor) {
    for (int i = 0; descriptor >= 0 && i < QUEUES_MAX; i++) {
        if (atomic_load(&queues[i].number) == descriptor + 1) return &queues[i];
    }
    return NULL;
}

static void dispose(queue *q) {
    int descriptor = atomic_exchange(&q->number, -1) - 1;
    if (q->user >= 0) close(q->user);
    if (descriptor >= 0) close(descriptor);
    free(q->entries);
    q->entries = NULL;
    q->entry_count = 0;
    atomic_store(&q->number, 0);
}

static int make(queue *q) {
    int set = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event readable = { .events = EPOLLIN };
    q->user = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    readable.data.fd = q->user;
    if (epoll_ctl(set, EPOLL_CTL_ADD, q->user, &readable) == 0) return set;
    if (set >= 0) close(set);
    return -EMFILE; /* one of the two is missing */
}

static int emulated_kqueue(void) {
    for (int i = 0; i < QUEUES_MAX; i++) {
        int is_free = 0;
        if (atomic_compare_exchange_strong(&queues[i].number, &is_free, -1)) {
            int descriptor = make(&queues[i]);
            if (descriptor < 0) {
                dispose(&queues[i]);
            } else {
                atomic_store(&queues[i].number, descriptor + 1);
            }
            return descriptor;
        }
    }
    return -ENOMEM;
}

static int emulated_close(p2p_handle_t handle) {
    queue *q = find(handle);
    if (q == NULL) return p2p_sys_default()->close(handle);
    dispose(q);
    return 0;
}

static void leave_all_to_the_parent(void) {
    for (int i = 0; i < QUEUES_MAX; i++) {
        if (atomic_load(&queues[i].number) > 0) dispose(&queues[i]);
    }
}

/* ---- changes: 0 or an errno number ---- */

static entry *entry_of(queue *q, size_t handle) {
    if (handle >= q->entry_count) {
        size_t count = handle * 2 + 16;
        entry *entries = realloc(q->entries, count * sizeof *entries);
        if (entries == NULL) return NULL;
        memset(entries + q->entry_count, 0, (count - q->entry_count) * sizeof *entries);
        q->entries = entries;
        q->entry_count = count;
    }
    return &q->entries[handle];
}

static int tell_epoll(queue *q, int handle, int operation, uint32_t asked) {
    struct epoll_event event = { .events = asked | (asked & EPOLLIN ? (uint32_t)EPOLLRDHUP : 0) };
    event.data.fd = handle;
    return epoll_ctl(atomic_load(&q->number) - 1, operation, handle, &event) < 0 ? errno : 0;
}

static int change_handle(queue *q, const struct kevent *change, uint32_t bit) {
    int handle = (int)change->ident;
    entry *e = handle >= 0 ? entry_of(q, change->ident) : NULL;
    if (e == NULL) return handle >= 0 ? ENOMEM : EBADF;
    /* Closing has emptied epoll's entry, as it empties a kqueue. */
    int error = tell_epoll(q, handle, EPOLL_CTL_MOD, e->asked);
    if (error != 0) e->asked = 0;
    if (error == EBADF) return EBADF;
    if (!(change->flags & EV_ADD) && !(e->asked & bit)) return ENOENT;
    uint32_t asked = change->flags & EV_DELETE ? e->asked & ~bit : e->asked | bit;
    error = tell_epoll(q, handle, e->asked == 0 ? EPOLL_CTL_ADD : asked == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD, asked);
    if (error != 0) return error;
    e->asked = asked;
    *(bit == EPOLLIN ? &e->read_udata : &e->write_udata) = change->udata;
    return 0;
}

static int change_user(queue *q, const struct kevent *change) {
    uint64_t one = 1;
    if (change->flags & EV_ADD) q->user_event = *change;
    if (change->ident != q->user_event.ident) return ENOENT;
    return change->fflags & NOTE_TRIGGER && write(q->user, &one, sizeof one) < 0 ? errno : 0;
}

static int apply(queue *q, const struct kevent *change) {
    switch (change->filter) {
    case EVFILT_READ: return change_handle(q, change, EPOLLIN);
    case EVFILT_WRITE: return change_handle(q, change, EPOLLOUT);
    case EVFILT_USER: return change_user(q, change);
    default: return EINVAL;
    }
}

/* ---- events ---- */

/* What there is to be told of one filter of a handle. @return whether there is anything. */
static bool event_of(const queue *q, const struct epoll_event *ready, uint32_t bit, struct kevent *event) {
    const entry *e = &q->entries[ready->data.fd];
    uint32_t ends = EPOLLHUP | EPOLLERR | (bit == EPOLLIN ? (uint32_t)EPOLLRDHUP : 0);
    if (!(e->asked & bit) || !(ready->events & (bit | ends))) return false;
    memset(event, 0, sizeof *event);
    event->ident = (uintptr_t)ready->data.fd;
    event->filter = bit == EPOLLIN ? EVFILT_READ : EVFILT_WRITE;
    event->flags = ready->events & ends ? EV_EOF : 0;
    event->fflags = ready->events & EPOLLERR ? EIO : 0; /* a read tells which error it is */
    event->udata = bit == EPOLLIN ? e->read_udata : e->write_udata;
    return true;
}

static bool take_user(const queue *q, struct kevent *event) {
    uint64_t triggers;
    if (read(q->user, &triggers, sizeof triggers) < 0) return false;
    if (!(q->user_event.flags & EV_CLEAR) && write(q->user, &triggers, sizeof triggers) < 0) return false;
    *event = q->user_event;
    return true;
}

/* One event for each handle, and the other filter's while there is room; which comes first changes with each wait.
 * epoll puts a handle that it has handed out at the end of its list. */
static int collect(queue *q, struct kevent *events, int capacity) {
    struct epoll_event ready[BATCH_MAX];
    uint32_t first = q->turn++ % 2 ? EPOLLIN : EPOLLOUT, second = first ^ (EPOLLIN | EPOLLOUT);
    int set = atomic_load(&q->number) - 1, count = 0;
    int ready_count = epoll_wait(set, ready, capacity < BATCH_MAX ? capacity : BATCH_MAX, 0);
    for (int i = 0; i < ready_count; i++) {
        if (ready[i].data.fd == q->user) {
            count += take_user(q, &events[count]);
        } else if (event_of(q, &ready[i], first, &events[count])) {
            count++;
        } else {
            count += event_of(q, &ready[i], second, &events[count]);
            ready[i].events = 0;
        }
    }
    for (int i = 0; i < ready_count && count < capacity; i++) {
        if (ready[i].data.fd != q->user) count += event_of(q, &ready[i], second, &events[count]);
    }
    return count;
}

static int wait_for(const queue *q, int64_t timeout_ns) {
    struct pollfd set = { .fd = atomic_load(&q->number) - 1, .events = POLLIN };
    struct timespec timeout = { (time_t)(timeout_ns / 1000000000), (long)(timeout_ns % 1000000000) };
    return ppoll(&set, 1, timeout_ns < 0 ? NULL : &timeout, NULL) < 0 ? -errno : 0;
}

static int emulated_kevent(int descriptor, const struct kevent *changes, int change_count, struct kevent *events,
                           int capacity, int64_t timeout_ns) {
    int saved_errno = errno;
    queue *q = find(descriptor);
    if (q == NULL) return -EBADF;
    int receipts = 0, failed = 0;
    for (int i = 0; i < change_count && failed == 0; i++) {
        int error = apply(q, &changes[i]);
        if (receipts < capacity && (error != 0 || changes[i].flags & EV_RECEIPT)) {
            events[receipts] = changes[i];
            events[receipts].flags = EV_ERROR;
            events[receipts++].data = error;
        } else {
            failed = error;
        }
    }
    int result = receipts > 0 ? receipts : -failed;
    if (receipts == 0 && failed == 0 && capacity > 0) {
        result = wait_for(q, timeout_ns);
        if (result == 0) result = collect(q, events, capacity);
    }
    errno = saved_errno;
    return result;
}

/* ---- for the tests ---- */

const p2p_sys_ops *kqueue_emulation(void) {
    static p2p_sys_ops table;
    if (table.size == 0) {
        pthread_atfork(NULL, NULL, leave_all_to_the_parent);
        table = *p2p_sys_default();
        table.kqueue = emulated_kqueue;
        table.kevent = emulated_kevent;
        table.close = emulated_close;
    }
    (void)p2p_backend_register(&p2pi_backend_kqueue);
    return &table;
}

#define ENDS "what EV_EOF and fflags are for this is for a real kqueue to show"
#define ORDER "in which order events come that do not fit is for a real kqueue to show"
#define CLOSING "that closing takes a handle out of the queue is for a real kqueue to show"

/* The cases of tests/conformance whose outcome is the kernel's doing rather than the backend's. */
static const struct {
    const char *test_case, *reason;
} objections[] = {
    { "matrix_of_readiness", ENDS },
    { "b04_a_refused_connect_is_reported_as_an_error", ENDS },
    { "c55_a_shutdown_of_receiving_is_readable", ENDS },
    { "c55_room_is_waited_for_quietly_after_the_peer_has_ended_its_side",
      "low-water marks are for a real kqueue to show" },
    { "c54_urgent_data_makes_no_read_events", "macOS and the BSDs differ in what urgent data does" },
    { "c60_the_own_handle_cannot_be_added", "whether a queue can hold itself is for a real kqueue to show" },
    { "c64_a_million_wakes_neither_block_nor_stay", "when EV_CLEAR fires again is for a real kqueue to show" },
    { "b03_every_ready_socket_is_reported_within_a_round_of_small_batches", ORDER },
    { "c18_thousands_of_ready_sockets_are_all_served", ORDER },
    { "c62_removing_between_waits_loses_nobody", ORDER },
    { "c25_a_socket_closed_without_remove_disturbs_no_other", CLOSING },
    { "c25_a_closed_and_reopened_handle_can_be_asked_for_again", CLOSING },
    { "c25_one_closed_among_many_that_are_quiet_is_told_once", CLOSING },
    { "c26_all_sockets_closed_without_remove", CLOSING },
    { "c27_a_socket_closed_by_another_thread_during_the_wait", CLOSING },
};

const char *kqueue_emulation_objection(const char *test_case) {
    for (size_t i = 0; i < sizeof objections / sizeof objections[0]; i++) {
        if (strcmp(objections[i].test_case, test_case) == 0) return objections[i].reason;
    }
    return NULL;
}
