/* Making a loop from its options, and freeing it with what it still holds. */
#include "internal.h"

#include <string.h>

#define KIB 1024u

static void use_default(uint32_t *option, uint32_t value) {
    if (*option == 0) *option = value;
}

static int read_options(p2p_event_loop_options_t *options, const p2p_event_loop_options_t *given) {
    *options = (p2p_event_loop_options_t)P2P_EVENT_LOOP_OPTIONS_INIT;
    if (given != NULL) {
        if (given->size < sizeof *options) return P2P_ERR_INVALID;
        *options = *given;
    }
    use_default(&options->max_message_size, P2P_DEFAULT_MAX_MESSAGE_SIZE);
    use_default(&options->high_water, 256 * KIB);
    use_default(&options->low_water, options->high_water / 4);
    use_default(&options->low_water, 1); /* 0 would never be undercut */
    use_default(&options->max_events, 512);
    use_default(&options->read_budget, 320 * KIB); /* a message of 256 KiB in one turn */
    use_default(&options->message_budget, 1024);
    use_default(&options->accept_budget, 64);
    use_default(&options->receive_buffer_size, 64 * KIB);
    use_default(&options->receive_buffers, 16);
    use_default(&options->connect_timeout_ms, 30000);
    use_default(&options->idle_timeout_ms, P2P_NO_TIMEOUT);
    use_default(&options->read_timeout_ms, 60000);
    use_default(&options->write_timeout_ms, 30000);
    use_default(&options->drain_timeout_ms, 5000);
    use_default(&options->accept_pause_ms, 100);
    bool power_of_two = (options->receive_buffers & (options->receive_buffers - 1)) == 0;
    bool in_range = options->max_message_size <= INT32_MAX && options->high_water <= (1u << 30) &&
                    options->low_water <= options->high_water && options->max_events <= 65536 && power_of_two &&
                    options->receive_buffers <= 32768 && options->receive_buffer_size >= 4 * KIB &&
                    options->receive_buffer_size <= 1024 * KIB;
    return in_range ? P2P_OK : P2P_ERR_INVALID;
}

static void init(p2p_event_loop_t *loop) {
    loop->sys = p2pi_sys();
    loop->process_id = loop->sys->process_id();
    loop->now_ns = loop->sys->now_ns();
    loop->done_last = &loop->done_first;
    p2pi_list_init(&loop->again);
    p2pi_list_init(&loop->flush);
    p2pi_list_init(&loop->in_flight);
    p2pi_list_init(&loop->closing);
    p2pi_list_init(&loop->dead_watches);
    p2pi_list_init(&loop->failed_watches);
    p2pi_timers_init(&loop->timers);
    p2pi_lookups_init(&loop->lookups);
    p2pi_limits_init(loop);
    atomic_init(&loop->tasks, NULL);
    atomic_init(&loop->stop_requested, false);
    atomic_init(&loop->wake_pending, false);
}

/* Everything but the sockets, timers and watches. */
static void fini(p2p_event_loop_t *loop) {
    if (loop->backend != NULL) loop->ops.destroy(loop->backend);
    p2pi_buffers_fini(loop);
    p2pi_chunk_pool_fini(&loop->chunks);
    p2pi_messages_fini(&loop->messages);
    p2pi_free(loop->stage.data);
    p2pi_free(loop->datagrams);
    p2pi_link *link; /* the backend is gone: no OP_DONE will come for these */
    while ((link = p2pi_list_pop(&loop->in_flight)) != NULL) {
        p2pi_request *request = P2PI_CONTAINER(link, p2pi_request, in_flight);
        p2pi_outbox_clear(&request->orphan, NULL);
        p2pi_free(request);
    }
    while (loop->requests != NULL) {
        p2pi_request *request = loop->requests;
        loop->requests = request->next;
        p2pi_free(request);
    }
    p2pi_batch_fini(loop);
    p2pi_registry_fini(&loop->registry);
    p2pi_free(loop);
}

static int make_stage(p2pi_stage *stage, uint32_t high_water) {
    if (stage->capacity == 0) return P2P_OK;
    stage->share = high_water <= P2PI_STAGE_SHARE ? high_water - 1 : P2PI_STAGE_SHARE;
    stage->begin_end = stage->capacity - P2PI_STAGE_SHARE + 1;
    stage->data = p2pi_alloc(stage->capacity);
    return stage->data == NULL ? P2P_ERR_NO_MEMORY : P2P_OK;
}

static int build(p2p_event_loop_t *loop, const p2p_event_loop_options_t *options) {
    int result = read_options(&loop->options, options);
    if (result < 0) return p2pi_fail(result);
    loop->batch.most = options != NULL && options->max_events > 0 ? options->max_events : P2PI_EVENTS_MOST;
    result = p2pi_resolve_backend(loop);
    if (result < 0) return result;
    loop->input.budget = loop->options.message_budget;
    loop->options.backend = NULL; /* the caller's string, not needed any more */
    p2pi_registry_init(&loop->registry, loop->ops.io_state_size);
    if (make_stage(&loop->stage, loop->options.high_water) < 0 || p2pi_batch_init(loop) < 0)
        return p2pi_fail(P2P_ERR_NO_MEMORY);
    return p2pi_buffers_init(loop);
}

p2p_event_loop_t *p2p_event_loop_create_with(const p2p_event_loop_options_t *options) {
    p2p_event_loop_t *loop = p2pi_alloc_zeroed(sizeof *loop);
    if (loop == NULL) {
        p2pi_fail(P2P_ERR_NO_MEMORY);
        return NULL;
    }
    init(loop);
    if (build(loop, options) < 0) {
        fini(loop);
        return NULL;
    }
    return loop;
}

p2p_event_loop_t *p2p_event_loop_create(void) {
    return p2p_event_loop_create_with(NULL);
}

/* ---- freeing ------------------------------------------------------------------------------------------------ */

static int detach_nothing(p2p_backend *backend, p2p_io *io) {
    (void)backend, (void)io;
    return 0;
}

/* What the backend shares with the kernel a forked child shares with its parent. */
static void leave_to_parent(p2p_event_loop_t *loop) {
    loop->ops.detach = detach_nothing;
    loop->ops.cancel = p2pi_emulation.cancel;
    loop->ops.buf_recycle = p2pi_emulation.buf_recycle;
}

static p2p_socket_t *socket_at(const p2p_event_loop_t *loop, size_t slot) {
    p2pi_entry *entry = p2pi_registry_at(&loop->registry, slot);
    bool is_socket = entry->kind == P2PI_FRESH || entry->kind == P2PI_CONNECTION || entry->kind == P2PI_LISTENER ||
                     entry->kind == P2PI_DATAGRAM;
    return is_socket ? entry->owner : NULL;
}

/* Accepted sockets are the loop's to close, the others the user's. */
static void release_sockets(p2p_event_loop_t *loop, bool forked) {
    for (size_t slot = 0; slot < loop->registry.size; slot++) {
        p2p_socket_t *sock = socket_at(loop, slot);
        if (sock == NULL || sock->closing || p2pi_connect_is_attempt(sock)) continue;
        if (!sock->accepted) {
            /* The blocking mode belongs to the open socket, which a forked child shares with its parent. */
            if (forked) sock->want_nonblocking = sock->is_nonblocking;
            p2p_event_loop_remove_socket(loop, sock);
        } else if (forked) {
            sock->closing = true; /* without a word to the peer, which still talks to the parent */
            p2pi_socket_finish(sock);
        } else {
            bool cut = loop->options.free_drain_ms == 0 && sock->out.queued > 0; /* shall not look like a clean end */
            p2pi_socket_close_registered(sock, cut);
        }
    }
}

static void release_watches(p2p_event_loop_t *loop) {
    for (size_t slot = 0; slot < loop->registry.size; slot++) {
        p2pi_entry *entry = p2pi_registry_at(&loop->registry, slot);
        if (entry->kind == P2PI_WATCH) p2p_watch_free(entry->owner);
    }
}

static void finish_remainders(p2p_event_loop_t *loop, bool forked) {
    for (size_t slot = 0; slot < loop->registry.size; slot++) {
        p2p_socket_t *sock = socket_at(loop, slot);
        if (sock == NULL || !sock->remainder) continue;
        sock->resetting = !forked && !sock->shut;
        p2pi_remainder_finish(sock);
    }
}

/* Handles that wait for a DETACHED event which no wait will bring any more. */
static void close_detaching(p2p_event_loop_t *loop) {
    for (size_t slot = 0; slot < loop->registry.size; slot++) {
        p2pi_entry *entry = p2pi_registry_at(&loop->registry, slot);
        if ((entry->flags & P2PI_ENTRY_DETACHING) != 0 && (entry->flags & P2PI_ENTRY_CLOSE) != 0)
            loop->sys->close(entry->io.handle);
    }
}

static void run_owed(p2p_event_loop_t *loop) {
    p2pi_tasks_run(loop);
    p2pi_output_flush(loop);
    bool never_ran = !loop->thread_bound && !p2pi_list_empty(&loop->in_flight);
    if (never_ran) loop->thread_bound = loop->ops.bind_thread(loop->backend) >= 0;
    p2pi_batch_hear_requests(loop);
    p2pi_closing_run(loop);
}

/* Free a loop that is not running. */
void p2pi_loop_free_now(p2p_event_loop_t *loop) {
    bool forked = loop->sys->process_id() != loop->process_id;
    loop->running = loop->in_turn = true; /* callbacks can neither run nor free it, and frees wait for the end */
    if (forked)
        leave_to_parent(loop);
    else
        run_owed(loop);
    loop->freeing = true;
    release_watches(loop);
    release_sockets(loop, forked);
    p2pi_timers_stop_public(&loop->timers);
    p2pi_closing_run(loop);
    if (!forked) p2pi_loop_drain(loop, loop->options.free_drain_ms);
    finish_remainders(loop, forked);
    while (!p2pi_list_empty(&loop->closing)) p2pi_closing_run(loop);
    p2pi_watch_bury(loop);
    p2pi_timers_fini(&loop->timers);
    p2pi_tasks_fini(loop);
    p2pi_lookups_fini(loop, forked);
    p2pi_dispatch(loop); /* whoever it was for is gone: what the events carry is given back */
    close_detaching(loop);
    fini(loop);
}

void p2p_event_loop_free(p2p_event_loop_t *loop) {
    if (loop == NULL) return;
    if (loop->running && loop->sys->process_id() == loop->process_id) {
        loop->free_when_done = true;
        p2p_event_loop_stop(loop);
        return;
    }
    p2pi_loop_free_now(loop);
}
