/* Watches: readiness of handles that belong to somebody else. */
#include "internal.h"

struct p2p_watch {
    p2p_event_loop_t *loop;
    p2pi_entry *entry;
    p2p_watch_callback callback;
    void *user_data;
    p2pi_link link; /* in loop->failed_watches, or in loop->dead_watches: freed during a turn */
};

#define INTEREST_MASK (P2P_READABLE | P2P_WRITABLE)

static int start(p2p_watch_t *watch, p2p_handle_t handle, uint32_t interest) {
    p2p_event_loop_t *loop = watch->loop;
    int facts = loop->sys->inspect(handle);
    if (facts < 0) return p2pi_fail_os(loop->sys, facts);
    if (((uint32_t)facts & P2P_SYS_REGULAR_FILE) != 0) return p2pi_fail(P2P_ERR_NOT_SUPPORTED);
    int result = p2pi_entry_attach(watch->entry, handle, P2P_IO_FOREIGN);
    if (result < 0) return result;
    p2pi_entry_want(watch->entry, interest);
    return p2pi_entry_apply(watch->entry);
}

p2p_watch_t *p2p_event_loop_watch(p2p_event_loop_t *loop, p2p_handle_t handle, uint32_t interest,
                                  p2p_watch_callback callback, void *user_data) {
    if (loop == NULL || callback == NULL || (interest & ~INTEREST_MASK) != 0) {
        p2pi_fail(P2P_ERR_INVALID);
        return NULL;
    }
    if (loop->freeing) {
        p2pi_fail(P2P_ERR_CANCELLED);
        return NULL;
    }
    p2p_watch_t *watch = p2pi_alloc_zeroed(sizeof *watch);
    if (watch != NULL) watch->entry = p2pi_registry_add(loop, P2PI_WATCH, watch);
    if (watch == NULL || watch->entry == NULL) {
        p2pi_free(watch);
        p2pi_fail(P2P_ERR_NO_MEMORY);
        return NULL;
    }
    watch->loop = loop;
    watch->callback = callback;
    watch->user_data = user_data;
    if (start(watch, handle, interest) < 0) {
        p2pi_entry_detach(watch->entry, false);
        p2pi_free(watch);
        return NULL;
    }
    loop->watch_count++;
    return watch;
}

int p2p_watch_set(p2p_watch_t *watch, uint32_t interest) {
    if (watch == NULL || (interest & ~INTEREST_MASK) != 0) return p2pi_fail(P2P_ERR_INVALID);
    p2pi_entry_want(watch->entry, interest);
    return P2P_OK;
}

static void call(p2p_event_loop_t *loop, p2p_watch_t *watch, uint32_t ready) {
    int64_t entered_ns = p2pi_callback_enter(loop);
    watch->callback(watch, ready, watch->user_data);
    p2pi_callback_leave(loop, entered_ns);
}

/* A READY event. Errors and hang-ups show as what was wanted, so that the next read or write finds them. */
void p2pi_watch_ready(p2p_event_loop_t *loop, p2p_watch_t *watch, uint32_t ready) {
    if ((ready & (P2P_HUP | P2P_ERR)) != 0) ready |= INTEREST_MASK;
    ready &= watch->entry->wanted;
    if (ready != 0) call(loop, watch, ready);
}

/* The backend refused a change of interest: in the I/O phase the callback learns that all is ready, and its next
 * read or write finds out. */
void p2pi_watch_fail(p2p_watch_t *watch) {
    if (!p2pi_link_used(&watch->link)) p2pi_list_append(&watch->loop->failed_watches, &watch->link);
}

void p2pi_watch_tell_failed(p2p_event_loop_t *loop) {
    p2pi_link *link;
    while ((link = p2pi_list_pop(&loop->failed_watches)) != NULL)
        call(loop, P2PI_CONTAINER(link, p2p_watch_t, link), INTEREST_MASK);
}

void p2p_watch_free(p2p_watch_t *watch) {
    if (watch == NULL) return;
    p2p_event_loop_t *loop = watch->loop;
    p2pi_entry_detach(watch->entry, false);
    loop->watch_count--;
    p2pi_list_remove(&watch->link);
    if (loop->in_turn)
        p2pi_list_append(&loop->dead_watches, &watch->link);
    else
        p2pi_free(watch);
}

void p2pi_watch_bury(p2p_event_loop_t *loop) {
    p2pi_link *link;
    while ((link = p2pi_list_pop(&loop->dead_watches)) != NULL)
        p2pi_free(P2PI_CONTAINER(link, p2p_watch_t, link));
}
