/**
 * @file p2pnet/timer.h
 * @brief Timers of an event loop: one-shot or repeating, monotonic nanoseconds, never early.
 */
#ifndef P2PNET_TIMER_H
#define P2PNET_TIMER_H

#include <p2pnet/base.h>
#include <p2pnet/event_loop.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct p2p_timer p2p_timer_t;

/** Runs in the loop's thread. It may start, stop or free any timer, this one included. */
typedef void (*p2p_timer_callback)(p2p_timer_t *timer, void *user_data);

#define P2P_NS_PER_MS 1000000ull
#define P2P_NS_PER_SECOND 1000000000ull

/**
 * Make a timer; it does nothing until started.
 *
 * @return the timer, freed by p2p_timer_free or with its loop; NULL with P2P_ERR_INVALID or NO_MEMORY.
 * Thread: the loop's.
 */
P2P_API p2p_timer_t *p2p_timer_create(p2p_event_loop_t *loop, p2p_timer_callback callback, void *user_data);

/**
 * Start, or restart, counting from now (a fresh clock reading, so it never fires early).
 *
 * @param delay_ns   until the first call. Any value is legal: 2^64-1 never comes.
 * @param repeat_ns  from one scheduled time to the next; 0 = once. Times that have passed while the
 *                   loop was busy are skipped, not made up for.
 * @return 0; P2P_ERR_INVALID, NO_MEMORY (and then it keeps the setting it had).
 * Thread: the loop's.
 */
P2P_API int p2p_timer_start(p2p_timer_t *timer, uint64_t delay_ns, uint64_t repeat_ns);

/**
 * Start, or restart, for a moment on the clock of p2p_event_loop_now. Reads no clock.
 *
 * @param deadline_ns  a moment in the past is due in the next turn.
 * @return as p2p_timer_start.
 * Thread: the loop's.
 */
P2P_API int p2p_timer_start_at(p2p_timer_t *timer, int64_t deadline_ns, uint64_t repeat_ns);

/**
 * Stop. Its callback does not run any more, even if it was due this turn.
 * @return 0; P2P_ERR_INVALID.
 * Thread: the loop's.
 */
P2P_API int p2p_timer_stop(p2p_timer_t *timer);

/** Stop and free. NULL is ignored. The pointer is dead afterwards. Thread: the loop's. */
P2P_API void p2p_timer_free(p2p_timer_t *timer);

#ifdef __cplusplus
}
#endif
#endif
