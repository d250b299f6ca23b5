/* The turn. Its order is a guarantee, written down in <p2pnet/event_loop.h>. */
#include "internal.h"

/* ---- from other threads ------------------------------------------------------------------------------------- */

/* One wake is enough for everything that was there before the loop came round to look. */
void p2pi_loop_wake(p2p_event_loop_t *loop) {
    if (atomic_exchange_explicit(&loop->wake_pending, true, memory_order_acq_rel)) return;
    if (loop->ops.wake(loop->backend) < 0) atomic_store_explicit(&loop->wake_pending, false, memory_order_release);
}

void p2p_event_loop_wake(p2p_event_loop_t *loop) {
    if (loop != NULL) p2pi_loop_wake(loop);
}

void p2p_event_loop_stop(p2p_event_loop_t *loop) {
    if (loop == NULL) return;
    atomic_store_explicit(&loop->stop_requested, true, memory_order_release);
    p2pi_loop_wake(loop);
}

/* ---- one turn ------------------------------------------------------------------------------------------------ */

static void interest_failed(p2pi_entry *entry, int error) {
    if (entry->kind == P2PI_WATCH) {
        p2pi_watch_fail(entry->owner);
        return;
    }
    p2p_socket_t *sock = entry->owner;
    if (sock->state == P2PI_STATE_CONNECTING) {
        p2pi_connecting_failed(sock, error);
    } else if (entry->kind == P2PI_CONNECTION) {
        p2pi_connection_end(sock, error);
        if (sock->remainder)
            p2pi_remainder_finish(sock);
        else
            p2pi_socket_tell(sock, P2PI_TELL_INPUT);
    } else {
        sock->output_error = (int8_t)error;
        p2pi_socket_tell(sock, P2PI_TELL_ERROR);
    }
}

static void flush_interest(p2p_event_loop_t *loop) {
    p2pi_entry *entry;
    while ((entry = p2pi_registry_next_dirty(&loop->registry)) != NULL) {
        if (entry->owner == NULL) {
            p2pi_registry_remove(entry); /* it only waited to leave this list */
            continue;
        }
        int result = p2pi_entry_apply(entry);
        if (result < 0) interest_failed(entry, result);
    }
}

/* Step 3, first half. */
static void flush(p2p_event_loop_t *loop) {
    p2pi_output_flush(loop);
    flush_interest(loop);
}

static bool work_left(p2p_event_loop_t *loop) {
    return !p2pi_list_empty(&loop->again) || !p2pi_list_empty(&loop->closing) || !p2pi_list_empty(&loop->flush) ||
           !p2pi_list_empty(&loop->failed_watches) || loop->batch.next < loop->batch.count ||
           atomic_load_explicit(&loop->stop_requested, memory_order_acquire) ||
           atomic_load_explicit(&loop->tasks, memory_order_acquire) != NULL;
}

static bool anything_to_wait_for(p2p_event_loop_t *loop) {
    return loop->socket_count > 0 || loop->watch_count > 0 || loop->timers.active > 0 || loop->remainder_count > 0 ||
           work_left(loop);
}

/* Step 3, second half: how long the backend may wait. */
static int64_t wait_limit(p2p_event_loop_t *loop, int64_t limit_ns) {
    if (work_left(loop) || (loop->end_when_idle && !anything_to_wait_for(loop))) return 0;
    int64_t next_ns = p2pi_timers_next(&loop->timers);
    if (next_ns == INT64_MAX || limit_ns == 0) return limit_ns;
    int64_t now_ns = loop->sys->now_ns();
    int64_t left_ns = next_ns > now_ns ? next_ns - now_ns : 0;
    return limit_ns < 0 || left_ns < limit_ns ? left_ns : limit_ns;
}

void p2pi_loop_failed(p2p_event_loop_t *loop, const char *call, int os_result) {
    loop->fatal_error = p2pi_fail_os(loop->sys, os_result);
    loop->fatal_os_error = -os_result;
    p2pi_log(P2P_LOG_ERROR, "backend %s: %s: system error %d", loop->ops.name, call, -os_result);
}

/* Somebody else's code runs next, for as long as it likes: the backend is to keep nothing for its next wait. */
static void submit(p2p_event_loop_t *loop) {
    int result = loop->fatal_error == 0 ? loop->ops.submit(loop->backend) : 0;
    if (result < 0) p2pi_loop_failed(loop, "submit", result);
}

static void turn(p2p_event_loop_t *loop, int64_t timeout_ns, bool once) {
    uint64_t callbacks_before = loop->stats.callbacks;
    loop->in_turn = true;
    loop->stats.turns++;
    p2pi_tasks_run(loop);
    p2pi_timers_run(loop);
    flush(loop);
    if (loop->drain_end != NULL) p2pi_drain_advance(loop);
    /* A single turn that has had something to do returns to its caller rather than wait for more. */
    if (once && loop->stats.callbacks != callbacks_before) timeout_ns = 0;
    p2pi_batch_fill(loop, wait_limit(loop, timeout_ns));
    loop->now_ns = loop->sys->now_ns();
    p2pi_link owed; /* what the I/O callbacks leave over is for the next turn */
    p2pi_list_take(&owed, &loop->again);
    p2pi_dispatch(loop);
    p2pi_tell_run(loop, &owed);
    p2pi_watch_tell_failed(loop);
    p2pi_output_flush(loop);
    if (!p2pi_list_empty(&loop->closing)) submit(loop); /* what was sent has left before anybody is told the last */
    p2pi_closing_run(loop);
    p2pi_watch_bury(loop);
    p2pi_output_flush(loop);
    loop->in_turn = false;
}

/* Turns for closed sockets only, to write what they still have. */
void p2pi_loop_drain(p2p_event_loop_t *loop, uint32_t drain_ms) {
    int64_t end_ns = loop->sys->now_ns() + (int64_t)(drain_ms * P2P_NS_PER_MS);
    while (loop->remainder_count > 0 && loop->fatal_error == 0 && loop->now_ns < end_ns) {
        p2pi_tasks_run(loop);
        p2pi_timers_run(loop);
        flush(loop);
        int64_t left_ns = end_ns - loop->sys->now_ns();
        p2pi_batch_fill(loop, wait_limit(loop, left_ns > 0 ? left_ns : 0));
        loop->now_ns = loop->sys->now_ns();
        p2pi_dispatch(loop);
        p2pi_closing_run(loop);
    }
}

/* ---- running -------------------------------------------------------------------------------------------------- */

/* The address of a thread's own variable names the thread, without asking the system. */
static _Thread_local char this_thread;

/* The loop is this thread's, from its first call of one of these functions on. */
static int bind_thread(p2p_event_loop_t *loop) {
    if (loop->thread != NULL && loop->thread != &this_thread) return p2pi_fail(P2P_ERR_INVALID);
    if (loop->fatal_error != 0) return p2pi_fail_with(loop->fatal_error, loop->fatal_os_error);
    loop->thread = &this_thread;
    if (loop->thread_bound) return P2P_OK;
    int result = loop->ops.bind_thread(loop->backend);
    if (result < 0) return p2pi_fail_os(loop->sys, result);
    loop->thread_bound = true;
    return P2P_OK;
}

static int enter(p2p_event_loop_t *loop) {
    if (loop == NULL) return p2pi_fail(P2P_ERR_INVALID);
    if (loop->running) return p2pi_fail(P2P_ERR_BUSY);
    int result = bind_thread(loop);
    if (result < 0) return result;
    loop->running = true;
    p2pi_messages_enter(&loop->messages);
    loop->now_ns = loop->sys->now_ns();
    return P2P_OK;
}

/* Gives the result of the run; the loop may be gone afterwards. */
static int leave(p2p_event_loop_t *loop) {
    submit(loop);
    int result = loop->fatal_error != 0 ? loop->fatal_error : loop->drain_error;
    int os_error = loop->fatal_os_error;
    loop->drain_error = 0;
    loop->running = false;
    p2pi_messages_leave(&loop->messages);
    if (loop->free_when_done) p2pi_loop_free_now(loop);
    if (result < 0) return p2pi_fail_with(result, os_error);
    p2pi_clear_error();
    return P2P_OK;
}

static bool stop_spent(p2p_event_loop_t *loop) {
    return atomic_exchange_explicit(&loop->stop_requested, false, memory_order_acq_rel);
}

void p2p_event_loop_run(p2p_event_loop_t *loop) {
    int result = enter(loop);
    if (result < 0) return;
    loop->end_when_idle = !loop->options.keep_running;
    while (!stop_spent(loop) && loop->fatal_error == 0) {
        if (loop->end_when_idle && !anything_to_wait_for(loop)) break;
        turn(loop, -1, false);
    }
    loop->end_when_idle = false;
    leave(loop);
}

int p2p_event_loop_run_once(p2p_event_loop_t *loop, int timeout_ms) {
    int result = enter(loop);
    if (result < 0) return result;
    uint64_t before = loop->stats.callbacks;
    turn(loop, timeout_ms < 0 ? -1 : timeout_ms * (int64_t)P2P_NS_PER_MS, true);
    uint64_t ran = loop->stats.callbacks - before;
    stop_spent(loop);
    result = leave(loop);
    if (result < 0) return result;
    return ran > INT32_MAX ? INT32_MAX : (int)ran;
}

/* ---- embedding and asking ---------------------------------------------------------------------------------------- */

int p2p_event_loop_next_timeout(p2p_event_loop_t *loop) {
    if (loop == NULL) return p2pi_fail(P2P_ERR_INVALID);
    int result = bind_thread(loop);
    if (result < 0) return result;
    flush(loop);
    if (loop->drain_end != NULL) p2pi_drain_advance(loop);
    if (!loop->running) submit(loop);
    int64_t limit_ns = wait_limit(loop, -1);
    if (limit_ns < 0) return -1;
    int64_t limit_ms = limit_ns / (int64_t)P2P_NS_PER_MS + (limit_ns % (int64_t)P2P_NS_PER_MS != 0);
    return limit_ms > INT32_MAX ? INT32_MAX : (int)limit_ms;
}

p2p_handle_t p2p_event_loop_backend_handle(const p2p_event_loop_t *loop) {
    p2p_handle_t handle = P2P_INVALID_HANDLE;
    if (loop != NULL) handle = loop->ops.handle(loop->backend);
    if (handle == P2P_INVALID_HANDLE) p2pi_fail(loop == NULL ? P2P_ERR_INVALID : P2P_ERR_NOT_SUPPORTED);
    return handle;
}

int64_t p2p_event_loop_now(const p2p_event_loop_t *loop) {
    return loop == NULL ? 0 : loop->now_ns;
}

const char *p2p_event_loop_backend_name(const p2p_event_loop_t *loop) {
    return loop == NULL ? "" : loop->ops.name;
}
