/*
 * The structs that core files share: the map of what owns what.
 *
 *   loop ── registry ── entry ── owner: a socket (connection, listener, datagram) or a watch
 *        ── timers, tasks, backend, receive buffers
 *   socket ── inbox (a partial message), outbox (chunks), request (what a send or connect has in flight)
 *          ── extras ── connect (by name: a lookup, and a private socket for each address that is tried)
 *
 * A socket that is registered is freed in step 8 of a turn only, so a pointer to it stays good for the rest
 * of a batch; whether it is still the one meant is asked of the token (events) or of loop->input (callbacks).
 */
#ifndef P2PI_INTERNAL_H
#define P2PI_INTERNAL_H

#include "check.h"
#include "frame.h"
#include "list.h"
#include "outbox.h"
#include "registry.h"
#include "socket.h"

#include <p2pnet/backend.h>
#include <p2pnet/p2pnet.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Kept out of line, so that the usual case beside it stays short; what is usual with some backend, only apart. */
#if defined(__GNUC__)
#  define P2PI_APART __attribute__((noinline))
#  define P2PI_UNUSUAL __attribute__((noinline, cold))
#else
#  define P2PI_APART
#  define P2PI_UNUSUAL
#endif

/* ---- process: init.c, alloc.c, error.c ---------------------------------------------------- */

const p2p_sys_ops *p2pi_sys(void);
extern const p2p_allocator p2pi_default_allocator;
const p2p_allocator *p2pi_allocator(void);
void p2pi_log(p2p_log_level_t level, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;

/* The backends that programs registered. */
size_t p2pi_registered_count(void);
const p2p_backend_ops *p2pi_registered_at(size_t index);

void *p2pi_alloc(size_t size);
void *p2pi_alloc_zeroed(size_t size);
void *p2pi_realloc(void *block, size_t size);
void p2pi_free(void *block);

/* Remember a failure for p2p_last_error; gives `error` back. */
int p2pi_fail(int error);
/* The same for a negative operating system error. */
int p2pi_fail_os(const p2p_sys_ops *sys, int64_t os_result);
/* The same for one that was kept. */
int p2pi_fail_with(int error, int os_error);
void p2pi_clear_error(void);

/* ---- timer.c, post.c ----------------------------------------------------------------------------- */

typedef struct p2pi_timers {
    p2p_timer_t **heap; /* by deadline, then by order of starting */
    uint32_t active, capacity, created;
    uint64_t sequence;
    p2pi_link all;
} p2pi_timers;

void p2pi_timers_init(p2pi_timers *timers);
void p2pi_timers_run(p2p_event_loop_t *loop);
void p2pi_timers_stop_public(p2pi_timers *timers);
void p2pi_timers_fini(p2pi_timers *timers);
/* The next deadline, INT64_MAX when none. */
int64_t p2pi_timers_next(const p2pi_timers *timers);
/* A timer of the library's own: its callbacks are not counted as the user's. */
p2p_timer_t *p2pi_timer_create_private(p2p_event_loop_t *loop, p2p_timer_callback callback, void *user_data);

typedef struct p2pi_task {
    struct p2pi_task *next;
    p2p_task_callback callback;
    void *user_data;
    bool own; /* the library's, inside something else: neither freed nor counted, and without a turn it never runs */
} p2pi_task;

/* Any thread. Never fails. */
void p2pi_task_post(p2p_event_loop_t *loop, p2pi_task *task);
void p2pi_tasks_run(p2p_event_loop_t *loop);
void p2pi_tasks_fini(p2p_event_loop_t *loop);

/* ---- resolver.c: names, looked up in threads -------------------------------------------------------------- */

typedef struct p2pi_lookups {
    p2pi_link waiting, running; /* not begun; with a thread, or posted by it */
    uint32_t running_count;
    atomic_uint threads; /* that may still touch the loop */
} p2pi_lookups;

void p2pi_lookups_init(p2pi_lookups *lookups);
/* When nobody waits for one any more. Does not wait for the system's answers. */
void p2pi_lookups_fini(p2p_event_loop_t *loop, bool forked);

/* ---- batch.c: what waits have brought --------------------------------------------------------------------- */

#define P2PI_EVENTS_MOST 4096u /* by one wait, where max_events is left to us */

typedef struct p2pi_batch {
    p2p_backend_event *events;
    uint32_t next, count; /* dispatched so far, harvested */
    uint32_t capacity;
    uint32_t wanted, most; /* by one wait: now, and at most */
    bool was_full;         /* the last wait brought all that it might */
} p2pi_batch;

int p2pi_batch_init(p2p_event_loop_t *loop);
void p2pi_batch_fini(p2p_event_loop_t *loop);
/* Wait, and add what there is. */
void p2pi_batch_fill(p2p_event_loop_t *loop, int64_t timeout_ns);
/* Hear what has become of requests in flight, as far as it is known by now. */
void p2pi_batch_hear_requests(p2p_event_loop_t *loop);
/* Hear the backend out about a detached entry, so that its handle can be closed or go back to its owner now. */
void p2pi_batch_settle(p2p_event_loop_t *loop, p2pi_entry *entry);

/* ---- datagram.c: one at a time, lent to on_message ------------------------------------------------------ */

#define P2PI_DATAGRAM_MAX 65536 /* more than any over UDP has; unix-domain ones may be longer */

typedef struct p2pi_datagrams {
    p2p_socket_t *socket; /* whose on_message runs now */
    p2p_address_t from;
    uint8_t data[P2PI_DATAGRAM_MAX + 1];
} p2pi_datagrams;

/* ---- the loop --------------------------------------------------------------------------------------- */

struct p2p_event_loop {
    /* Loop thread only. */
    const p2p_sys_ops *sys;
    p2p_backend_ops ops; /* complete: resolve.c has filled every slot */
    p2p_backend *backend;
    p2p_event_loop_options_t options;
    p2pi_registry registry;
    p2pi_batch batch;
    p2p_buffer_pool buffers;
    p2pi_chunk_pool chunks;
    p2pi_message_pool messages;
    p2pi_stage stage;
    p2pi_datagrams *datagrams; /* NULL until a socket needs it */
    p2pi_request *requests; /* spare ones */
    p2pi_link in_flight;    /* requests that an OP_DONE is to come for */
    p2pi_request *done_first, **done_last;
    p2pi_link again, flush, closing;
    p2pi_link dead_watches, failed_watches;
    p2pi_timers timers;
    p2pi_lookups lookups;
    int64_t now_ns;
    struct {
        p2p_socket_t *socket; /* whose callbacks run now; NULL as soon as that registration is over */
        const uint8_t *data, *end; /* received, not looked at yet */
        uint32_t budget; /* messages that may be delivered at a time */
        bool announced;  /* on_read runs, and has not taken what it was called for */
        bool at_hand;    /* the same, where it is known to lie whole at `data` */
        uint32_t size;   /* and how long it is, then */
    } input;
    uint32_t socket_count, watch_count, remainder_count;
    p2pi_limits limits;
    int64_t process_id;
    const void *thread; /* of the first run */
    int fatal_error, fatal_os_error;
    p2p_timer_t *drain_end; /* p2p_event_loop_drain is under way */
    int drain_error;        /* how it ended: run is to tell */
    bool end_when_idle; /* run, not run_once */
    bool running, in_turn, thread_bound, free_when_done, freeing;
    p2p_event_loop_stats_t stats;
    p2p_backend_report_t report[P2P_BACKEND_CANDIDATES_MAX];
    size_t report_count;

    /* Any thread. */
    _Atomic(p2pi_task *) tasks; /* newest first */
    atomic_bool stop_requested;
    atomic_bool wake_pending; /* a wake is on its way: no need for another */
};

static inline bool p2pi_connections_full(const p2p_event_loop_t *loop) {
    uint32_t limit = loop->options.max_connections;
    return limit != 0 && loop->limits.connections >= limit;
}

/* resolve.c */
int p2pi_resolve_table(const p2p_backend_ops *given, p2p_backend_ops *complete);
int p2pi_resolve_backend(p2p_event_loop_t *loop);

/* emul.c: receive, accept, send and connect built on readiness */
extern const p2p_backend_ops p2pi_emulation;

/* Work a READY event off as the completions it stands for. */
void p2pi_emul_ready(p2p_event_loop_t *loop, p2pi_entry *entry, uint32_t flags);

/* dispatch.c: the whole batch, which may grow and move meanwhile */
void p2pi_dispatch(p2p_event_loop_t *loop);
/* Give back what an event carries: a piece of a buffer, and a new handle unless somebody keeps it. */
void p2pi_event_release(p2p_event_loop_t *loop, const p2p_backend_event *event, bool keep_handle);
void p2pi_callback_measured(p2p_event_loop_t *loop, int64_t entered_ns);

/* Brackets around each call of a user's function. */
static inline int64_t p2pi_callback_enter(p2p_event_loop_t *loop) {
    loop->stats.callbacks++;
    return loop->options.measure_callbacks ? loop->sys->now_ns() : 0;
}

static inline void p2pi_callback_leave(p2p_event_loop_t *loop, int64_t entered_ns) {
    if (entered_ns != 0) p2pi_callback_measured(loop, entered_ns);
}

/* event_loop.c, loop_create.c */
void p2pi_loop_wake(p2p_event_loop_t *loop);
/* The backend can't go on. */
void p2pi_loop_failed(p2p_event_loop_t *loop, const char *call, int os_result);
void p2pi_loop_drain(p2p_event_loop_t *loop, uint32_t drain_ms);
void p2pi_loop_free_now(p2p_event_loop_t *loop);

/* buffer_pool.c */
int p2pi_buffers_init(p2p_event_loop_t *loop);
void p2pi_buffers_fini(p2p_event_loop_t *loop);
/* The bytes that a RECV event lends. */
static inline const uint8_t *p2pi_buffer_of(const p2p_event_loop_t *loop, const p2p_backend_event *event) {
    P2P_ASSERT(event->u.buffer.index < loop->buffers.count && event->u.buffer.offset < loop->buffers.size);
    return loop->buffers.slab + (size_t)event->u.buffer.index * loop->buffers.size + event->u.buffer.offset;
}

#endif
