/**
 * @file p2pnet/event_loop.h
 * @brief The reactor: one thread, many connections, no blocking, a backend of your choice.
 *
 * One turn, always in this order:
 *   1. tasks posted before the turn began      2. timers due at the turn's time
 *   3. output written, interest changes told to the backend, timeout computed from a fresh clock
 *   4. the backend waits                       5. the turn's time is taken
 *   6. I/O callbacks: read before write, error last
 *   7. queued output written, one gathered system call a socket
 *   8. on_close callbacks, deferred frees
 *
 * A callback never runs inside the call that caused it, and if a function that takes a callback
 * returns an error, the callback never runs. Any callback may remove, close or add any socket,
 * start or free any timer, stop or free the loop. After remove, close or timer_stop has returned,
 * no callback of it runs (on_close excepted).
 *
 * A loop belongs to the thread of its first run; it may be created in another. Only
 * p2p_event_loop_post, p2p_event_loop_wake and p2p_event_loop_stop may be called from other
 * threads. "Thread: the loop's" below means that.
 */
#ifndef P2PNET_EVENT_LOOP_H
#define P2PNET_EVENT_LOOP_H

#include <p2pnet/base.h>
#include <p2pnet/error.h>
#include <p2pnet/message.h>
#include <p2pnet/socket.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct p2p_event_loop p2p_event_loop_t;

/* ---- callbacks: all run in the loop's thread ------------------------------------------- */

/** A message, a connection (listener) or a datagram waits, or the end of the connection is to be told. */
typedef void (*p2p_read_callback)(p2p_socket_t *sock, void *user_data);

/** The output queue, once full, has drained below low_water; or the system takes datagrams again: send again. */
typedef void (*p2p_write_callback)(p2p_socket_t *sock, void *user_data);

/** Input or output has failed for good, or a listener could not accept (it resumes by itself). `error`: P2P_ERR_*.
 *  With on_message on a P2P_UDP socket: a datagram did not arrive (REFUSED, UNREACHABLE) or was dropped (TOO_LONG),
 *  once each, and the socket goes on; only INVALID (no socket any more) ends its input. */
typedef void (*p2p_error_callback)(p2p_socket_t *sock, int error, void *user_data);

/** A message; on a P2P_UDP socket a datagram, of 64 KiB at most, with p2p_datagram_sender. `data` is lent until the
 *  callback returns; never NULL. */
typedef void (*p2p_message_callback)(p2p_socket_t *sock, const void *data, uint32_t length, void *user_data);

/** The answer to a connect: 0, or P2P_ERR_*. Exactly one a connect. */
typedef void (*p2p_connect_callback)(p2p_socket_t *sock, int error, void *user_data);

/**
 * The last callback of a socket, once, just before it is freed, whoever closed it: in the closing phase of the
 * turn, or when the messages still queued then have been written. Do no more than compare `sock` with your
 * records. `reason`: 0 = closed in good health, everything written; P2P_ERR_TIMED_OUT = drain_timeout_ms was
 * not enough; P2P_ERR_CANCELLED = the loop was freed; else how the connection had ended (CLOSED, RESET …).
 */
typedef void (*p2p_close_callback)(p2p_socket_t *sock, int reason, void *user_data);

/** A posted task. */
typedef void (*p2p_task_callback)(void *user_data);

/**
 * What to call for one socket. Each may be NULL. Borrowed, so usually static const: it must live until
 * on_close or until the socket was removed.
 *
 * With neither on_read nor on_message, messages wait for p2p_message_recv, and the end is told after
 * the last one was taken: a connection that only sends should have an on_message that does nothing.
 *
 * With on_message, messages go there, and on_read is called for a clean end only. A failed
 * connection is told to on_error, or without it to on_read. A P2P_UDP socket has no end: with on_message, on_read is
 * never called.
 */
typedef struct p2p_socket_callbacks {
    size_t size; /**< sizeof(p2p_socket_callbacks_t) */
    p2p_read_callback on_read;
    p2p_message_callback on_message;
    p2p_write_callback on_write;
    p2p_error_callback on_error;
    p2p_connect_callback on_connect;
    p2p_close_callback on_close;
} p2p_socket_callbacks_t;

#define P2P_SOCKET_CALLBACKS_INIT { sizeof(p2p_socket_callbacks_t), NULL, NULL, NULL, NULL, NULL, NULL }

/* ---- creation --------------------------------------------------------------------------- */

/** Start from P2P_EVENT_LOOP_OPTIONS_INIT. A number left 0 means its default. */
typedef struct p2p_event_loop_options {
    size_t size; /**< sizeof(p2p_event_loop_options_t) */

    /**
     * "epoll": that one or failure. "io_uring,epoll": the first that this machine has. NULL: automatic,
     * which the environment variable P2P_BACKEND (same forms) overrides. Read during creation.
     */
    const char *backend;
    int ignore_environment; /**< 1: P2P_BACKEND has no say. It never has in a setuid process. */
    int keep_running;       /**< 1: run goes on when nothing is left to wait for */
    int auto_backpressure;  /**< 1 (default): a connection whose queue is at high_water is not read; 0: it is */
    int measure_callbacks;  /**< 1: stats.callback_max_ns is kept; two clock readings a dispatch */

    uint32_t max_message_size; /**< bytes of payload, sent or received; default 1 MiB */
    uint32_t high_water;       /**< bytes of memory of queued output from which a send is refused; default 256 KiB, at
                                    most 1 GiB */
    uint32_t low_water;        /**< bytes below which on_write runs again; default high_water / 4, at most high_water */

    uint32_t max_events;          /**< events taken in one wait; default 512, and after a full wait twice as
                                       many, up to 4096 (not epoll, kqueue, afd) */
    uint32_t read_budget;         /**< bytes read from one socket in a turn; default 320 KiB */
    uint32_t message_budget;      /**< messages delivered by on_message to one socket in a turn; default 1024 */
    uint32_t accept_budget;       /**< connections one listener accepts in a turn; default 64 */
    uint32_t receive_buffer_size; /**< bytes of one loop-owned receive buffer; default 64 KiB, 4 KiB to 1 MiB */
    uint32_t receive_buffers;     /**< their number, a power of two up to 32768; default 16 */

    uint32_t drain_timeout_ms; /**< how long a closed socket may go on writing what was queued; default 5000 */
    uint32_t free_drain_ms;    /**< how long p2p_event_loop_free may wait for output; default 0: tries once */
    uint32_t accept_pause_ms;  /**< how long a listener rests when descriptors run out; default 100 */

    /* deadlines of each socket, see p2p_deadline_t; P2P_NO_TIMEOUT: none */
    uint32_t connect_timeout_ms; /**< default 30000 */
    uint32_t idle_timeout_ms;    /**< default P2P_NO_TIMEOUT */
    uint32_t read_timeout_ms;    /**< default 60000 */
    uint32_t write_timeout_ms;   /**< default 30000 */

    /**
     * Connections (closing ones included) at which the loop's listeners stop accepting; 0: no limit. Others wait in
     * the system's queue, and on_error of a listener is told P2P_ERR_LIMIT once, each time it stops. Accepting
     * goes on when a connection is gone. Connecting and adding are not refused. An accepted connection counts
     * from when it is added.
     */
    uint32_t max_connections;
    /**
     * Accepted connections in the loop from one IPv4 address or one IPv6 /64 network; 0: no limit. One more is reset,
     * and counted in stats.connections_refused. Those of local sockets don't count.
     */
    uint32_t max_connections_per_address;
    /**
     * Accepted connections that have not sent a whole message yet; 0: no limit. When one more is added, the oldest of
     * them is ended: its on_error is told P2P_ERR_LIMIT, and it is yours to close. With a limit, each of them has
     * read_timeout_ms from when it was added, begun or not.
     */
    uint32_t max_half_open;
} p2p_event_loop_options_t;

#define P2P_EVENT_LOOP_OPTIONS_INIT \
    { sizeof(p2p_event_loop_options_t), NULL, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/**
 * Make a loop with default options.
 *
 * @return the loop; NULL with P2P_ERR_NOT_SUPPORTED (no backend works here: see
 *         p2p_event_loop_backend_report), NOT_FOUND (P2P_BACKEND names an unknown one), NO_MEMORY,
 *         TOO_MANY_FILES, SYSTEM.
 * Thread: any.
 */
P2P_API p2p_event_loop_t *p2p_event_loop_create(void);

/**
 * Make a loop.
 *
 * A backend named alone never falls back: creation fails with its reason. A list and the automatic
 * choice go on to the next only when a backend is unavailable on this machine, not when
 * memory or descriptors have run out.
 *
 * @param options  read during the call; NULL = defaults.
 * @return as p2p_event_loop_create; also P2P_ERR_INVALID (size, or a limit out of range).
 * Thread: any.
 */
P2P_API p2p_event_loop_t *p2p_event_loop_create_with(const p2p_event_loop_options_t *options);

/**
 * Free the loop. NULL is ignored. Tasks still queued run once. Sockets that were accepted and are still
 * registered are closed and freed; those you created or adopted are only unregistered and stay yours.
 * on_close runs for each socket freed. Timers and watches die with the loop.
 * Inside a callback of this loop it takes effect when run returns. In a forked child it only
 * closes descriptors and frees memory; the parent's loop is not disturbed.
 *
 * Thread: the loop's, or any once run has returned for good.
 */
P2P_API void p2p_event_loop_free(p2p_event_loop_t *loop);

/* ---- sockets ------------------------------------------------------------------------------ */

/**
 * Register a socket: listening, connected, connecting or fresh (to be connected or listened on later).
 * A TCP connection is in message mode from here on. Same as _with and only on_read.
 *
 * @param on_read  may be NULL.
 * @return 0; P2P_ERR_ALREADY (registered, here or in another loop), INVALID, LIMIT (the backend can't
 *         take more, or not this handle), NO_MEMORY, SYSTEM. On failure the socket is unchanged and yours.
 * Thread: the loop's.
 */
P2P_API int p2p_event_loop_add_socket(p2p_event_loop_t *loop, p2p_socket_t *socket, p2p_read_callback on_read,
                                      void *user_data);

/** As p2p_event_loop_add_socket, with all callbacks. @param callbacks borrowed, see there; not NULL. */
P2P_API int p2p_event_loop_add_socket_with(p2p_event_loop_t *loop, p2p_socket_t *socket,
                                           const p2p_socket_callbacks_t *callbacks, void *user_data);

/**
 * Unregister. The socket is yours again, in the blocking mode last asked for; partial messages and
 * unsent output stay with it. No callback of it runs any more, on_close neither.
 *
 * @return 0; P2P_ERR_NOT_FOUND (not registered with this loop), INVALID.
 * Thread: the loop's.
 */
P2P_API int p2p_event_loop_remove_socket(p2p_event_loop_t *loop, p2p_socket_t *socket);

/** @return the number of registered sockets; P2P_ERR_INVALID. Thread: the loop's. */
P2P_API int p2p_event_loop_socket_count(p2p_event_loop_t *loop);

/* ---- running ------------------------------------------------------------------------------ */

/**
 * Run turns until p2p_event_loop_stop, until a drain is over, or until nothing is left to wait for: no socket, watch,
 * active timer, closing remainder or task. p2p_last_error() afterwards: 0, P2P_ERR_BUSY (called inside a callback of
 * this loop), INVALID (NULL, or another thread's loop), TIMED_OUT (a drain's time was over), or what stopped the
 * backend.
 *
 * Thread: the loop's.
 */
P2P_API void p2p_event_loop_run(p2p_event_loop_t *loop);

/**
 * Run one turn.
 *
 * @param timeout_ms  how long step 4 may wait at most; 0 only looks, -1 waits until something happens. When a task
 *                    or a timer has run in this turn, step 4 only looks.
 * @return the number of callbacks that ran; P2P_ERR_BUSY, INVALID, or what stopped the backend.
 * Thread: the loop's.
 */
P2P_API int p2p_event_loop_run_once(p2p_event_loop_t *loop, int timeout_ms);

/**
 * Make run return after the turn under way. Before run it is remembered; one run or run_once spends it.
 * Thread: any; safe in a signal handler on POSIX.
 */
P2P_API void p2p_event_loop_stop(p2p_event_loop_t *loop);

/** Make a turn under way stop waiting. Many calls may cause one turn. Thread: any; safe in a signal handler (POSIX). */
P2P_API void p2p_event_loop_wake(p2p_event_loop_t *loop);

/**
 * Have a task run in the loop's thread: exactly once, in the order of posting a thread, in the next turn.
 *
 * @return 0; P2P_ERR_INVALID, NO_MEMORY.
 * Thread: any, until p2p_event_loop_free is called.
 */
P2P_API int p2p_event_loop_post(p2p_event_loop_t *loop, p2p_task_callback task, void *user_data);

/** @return the turn's time: monotonic nanoseconds, taken after the last wait; 0 for NULL. Thread: the loop's. */
P2P_API int64_t p2p_event_loop_now(const p2p_event_loop_t *loop);

/**
 * End the loop in order: listeners accept no more, every connection is shut down as by p2p_socket_shutdown, and run
 * returns as soon as each has written what was queued and its peer has ended too, or when the time is over. Until
 * then messages are received and callbacks run as ever. Sockets and loop stay yours to close and to free.
 *
 * Afterwards p2p_last_error() is 0, or P2P_ERR_TIMED_OUT when a connection was not done in time. run_once gives that
 * once, too. stats.output_queued tells how much is left.
 *
 * @param drain_ms  milliseconds from now; 0: the loop's drain_timeout_ms; P2P_NO_TIMEOUT: as long as it takes.
 * @return 0; P2P_ERR_ALREADY (a drain is under way), NO_MEMORY, INVALID.
 * Thread: the loop's.
 */
P2P_API int p2p_event_loop_drain(p2p_event_loop_t *loop, uint32_t drain_ms);

/* ---- embedding in somebody else's loop ---------------------------------------------------- */

/**
 * What a foreign loop may wait for at most, before it calls p2p_event_loop_run_once(loop, 0). Writes queued
 * output and tells interest changes to the backend first. Runs no callback.
 *
 * @return milliseconds, rounded up; 0 = call at once; -1 = no limit; P2P_ERR_INVALID is -1 too, by number.
 * Thread: the loop's.
 */
P2P_API int p2p_event_loop_next_timeout(p2p_event_loop_t *loop);

/**
 * A handle that is readable while the loop has something to do (level-triggered). Not to be closed.
 *
 * @return the handle; P2P_INVALID_HANDLE with P2P_ERR_NOT_SUPPORTED for backends that have none (poll, select).
 * Thread: the loop's.
 */
P2P_API p2p_handle_t p2p_event_loop_backend_handle(const p2p_event_loop_t *loop);

/* ---- backends ------------------------------------------------------------------------------ */

/** @return the name of the loop's backend; "" for NULL. Lives as long as the loop. Thread: any. */
P2P_API const char *p2p_event_loop_backend_name(const p2p_event_loop_t *loop);

/**
 * List the backends built in and registered, best first. All work by name; whether one works on
 * this machine is known when a loop is created.
 *
 * @param names     receives up to `capacity` static names; may be NULL when capacity is 0.
 * @return how many there are, which may be more than `capacity`.
 * Thread: any.
 */
P2P_API size_t p2p_backend_list(const char **names, size_t capacity);

typedef enum p2p_backend_verdict {
    P2P_BACKEND_CHOSEN = 1,
    P2P_BACKEND_REFUSED,   /**< tried; `error` and `reason` say why not */
    P2P_BACKEND_NOT_BUILT, /**< known by name, not in this build */
    P2P_BACKEND_UNKNOWN,   /**< no backend has that name */
    P2P_BACKEND_NOT_TRIED  /**< an earlier candidate was chosen, or failed for good */
} p2p_backend_verdict_t;

/** What became of one candidate. */
typedef struct p2p_backend_report {
    char name[32];
    p2p_backend_verdict_t verdict;
    int error;        /**< 0 or P2P_ERR_* */
    char reason[128]; /**< in words, the system's error by name; "" when chosen or not tried */
} p2p_backend_report_t;

/** Never more candidates than this. */
#define P2P_BACKEND_CANDIDATES_MAX 16

/**
 * Tell how the backend was chosen, a record a candidate, in the order tried.
 *
 * @param loop  NULL: this thread's last creation, also a failed one.
 * @param out   receives up to `capacity` records; may be NULL when capacity is 0.
 * @return how many there are.
 * Thread: the loop's; any for NULL.
 */
P2P_API size_t p2p_event_loop_backend_report(const p2p_event_loop_t *loop, p2p_backend_report_t *out, size_t capacity);

/** @return "chosen", "refused", "not built", "unknown", "not tried"; static. Thread: any. */
P2P_API const char *p2p_backend_verdict_name(p2p_backend_verdict_t verdict);

/* ---- looking inside ------------------------------------------------------------------------ */

/** Counters since creation, unless said otherwise. Set `size` before the call. */
typedef struct p2p_loop_stats {
    size_t size;
    uint64_t turns;
    uint64_t waits;            /**< calls into the backend */
    uint64_t wakeups;          /**< waits that returned with at least one event */
    uint64_t events;           /**< events the backend reported */
    uint64_t events_max;       /**< most of them in one wait */
    uint64_t stale_events;     /**< dropped: the socket was gone */
    uint64_t spurious_events;  /**< readiness that turned out to be none */
    uint64_t callbacks;        /**< calls of user functions, tasks and timers included */
    uint64_t callback_max_ns;  /**< the longest one; 0 unless measure_callbacks */
    uint64_t timers_fired;
    uint64_t timer_lag_max_ns; /**< how late a timer fired at most: the loop's lag */
    uint64_t tasks_run;
    uint64_t accepted;
    uint64_t bytes_in, bytes_out;       /**< of connections, headers included; of datagrams that were messages */
    uint64_t messages_in, messages_out; /**< delivered or taken; queued for sending */
    uint64_t sends_refused;             /**< P2P_ERR_QUEUE_FULL */
    uint64_t deadlines_passed;          /**< of sockets */
    uint64_t output_queued;    /**< bytes of memory of queued output now, all sockets */
    uint64_t timers_active;    /**< now */
    uint64_t watches;          /**< now */
    uint64_t remainders;       /**< closed sockets still writing, now */
    uint64_t buffers_lent;     /**< receive buffers in use, now */
    uint64_t lookups;          /**< threads that look a name up, now; those nobody waits for any more, too */
    uint64_t connections_refused; /**< by max_connections_per_address */
    uint64_t connections;      /**< now, closing ones included */
    uint64_t half_open;        /**< now; counted only with max_half_open */
} p2p_event_loop_stats_t;

/** @return 0, and *out filled up to out->size; P2P_ERR_INVALID. Thread: the loop's. */
P2P_API int p2p_event_loop_stats(const p2p_event_loop_t *loop, p2p_event_loop_stats_t *out);

/** Receives one line of p2p_event_loop_dump, without a newline, valid during the call. */
typedef void (*p2p_dump_callback)(const char *line, void *user_data);

/**
 * Describe what is registered and what it waits for, a line each.
 *
 * @param callback  must not change the loop.
 * @return the number of lines; P2P_ERR_INVALID.
 * Thread: the loop's.
 */
P2P_API int p2p_event_loop_dump(const p2p_event_loop_t *loop, p2p_dump_callback callback, void *user_data);

#ifdef __cplusplus
}
#endif
#endif
