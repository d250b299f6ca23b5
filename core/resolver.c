/*
 * Names are looked up by a call that may block for many seconds, so a thread makes it. The thread posts the answer to
 * the loop by a task that it brings along. A loop has a few threads at most; further lookups wait in line.
 *
 * A loop may be freed while the system is still being asked, and does not wait for that. Thread and loop agree by one
 * atomic step from PENDING: to POSTING, and then the lookup is the loop's, which waits for the short way from there to
 * the end of the thread's wake-up; or to ABANDONED, and then the thread never looks at the loop again, and frees it.
 */
#include "resolver.h"

#include <string.h>

enum { PENDING, POSTING, ABANDONED };

/* ---- names --------------------------------------------------------------------------------------------------- */

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_name_character(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_';
}

static size_t label_length(const char *text) {
    size_t length = 0;
    while (is_name_character(text[length])) length++;
    return length;
}

/* Of a last label: "999.1.1.1", and "127.1" and "0x7f000001", which old functions take for addresses. */
static bool is_number(const char *label, size_t length) {
    if (length > 1 && label[0] == '0' && (label[1] == 'x' || label[1] == 'X')) return true;
    size_t digits = 0;
    while (digits < length && is_digit(label[digits])) digits++;
    return digits == length;
}

/* RFC 1123 and '_': labels of 1 to 63 characters, none with a hyphen at an end; a dot may end the name. */
bool p2pi_is_host_name(const char *text) {
    size_t at = 0;
    for (;;) {
        const char *label = text + at;
        size_t length = label_length(label);
        if (length == 0 || length > 63 || label[0] == '-' || label[length - 1] == '-') return false;
        at += length;
        bool last = label[length] == '\0' || (label[length] == '.' && label[length + 1] == '\0');
        if (last) return at <= P2PI_NAME_MAX && !is_number(label, length);
        if (label[length] != '.') return false;
        at++;
    }
}

/* ---- the thread ------------------------------------------------------------------------------------------------ */

static void run(p2p_sys_thread *thread) {
    p2pi_lookup *lookup = P2PI_CONTAINER(thread, p2pi_lookup, thread);
    p2p_event_loop_t *loop = lookup->loop;
    int phase = PENDING;
    lookup->result =
        lookup->resolve(lookup->name, lookup->port, lookup->type, lookup->addresses, P2PI_ADDRESSES_MAX);
    if (!atomic_compare_exchange_strong_explicit(&lookup->phase, &phase, POSTING, memory_order_acq_rel,
                                                 memory_order_acquire)) {
        p2p_allocator allocator = lookup->allocator;
        allocator.free(lookup, allocator.user);
        return;
    }
    p2pi_task_post(loop, &lookup->task); /* the loop may free the lookup from now on, and itself after the next line */
    atomic_fetch_sub_explicit(&loop->lookups.threads, 1u, memory_order_release);
}

/* ---- the loop ---------------------------------------------------------------------------------------------------- */

static int begin(p2pi_lookup *lookup) {
    p2p_event_loop_t *loop = lookup->loop;
    lookup->begun = true;
    atomic_fetch_add_explicit(&loop->lookups.threads, 1u, memory_order_relaxed);
    int result = loop->sys->thread_start(&lookup->thread);
    if (result < 0) {
        atomic_fetch_sub_explicit(&loop->lookups.threads, 1u, memory_order_relaxed);
        return p2pi_fail_os(loop->sys, result);
    }
    p2pi_list_append(&loop->lookups.running, &lookup->link);
    loop->lookups.running_count++;
    return P2P_OK;
}

static void tell_owner(p2pi_lookup *lookup) {
    lookup->heard = true;
    if (lookup->owner != NULL)
        lookup->answered(lookup->owner);
    else
        p2pi_free(lookup);
}

static void begin_waiting(p2p_event_loop_t *loop) {
    p2pi_link *link;
    while (loop->lookups.running_count < P2PI_LOOKUPS_MAX && (link = p2pi_list_pop(&loop->lookups.waiting)) != NULL) {
        p2pi_lookup *lookup = P2PI_CONTAINER(link, p2pi_lookup, link);
        int result = begin(lookup); /* from then on the rest is the thread's */
        if (result == P2P_OK) continue;
        lookup->result = result;
        tell_owner(lookup);
    }
}

static void on_posted(void *user_data) {
    p2pi_lookup *lookup = user_data;
    p2p_event_loop_t *loop = lookup->loop;
    p2pi_list_remove(&lookup->link);
    loop->lookups.running_count--;
    begin_waiting(loop);
    tell_owner(lookup);
}

p2pi_lookup *p2pi_lookup_start(p2p_event_loop_t *loop, const char *name, uint16_t port, p2p_socket_type_t type,
                               void (*answered)(void *owner), void *owner) {
    const p2p_sys_ops *sys = loop->sys;
    bool able = sys->resolve != NULL && sys->thread_start != NULL && sys->thread_rest != NULL;
    p2pi_lookup *lookup = able ? p2pi_alloc_zeroed(sizeof *lookup) : NULL;
    if (lookup == NULL) {
        p2pi_fail(able ? P2P_ERR_NO_MEMORY : P2P_ERR_NOT_SUPPORTED);
        return NULL;
    }
    lookup->thread.run = run;
    lookup->task = (p2pi_task){ .callback = on_posted, .user_data = lookup, .own = true };
    lookup->loop = loop;
    lookup->answered = answered;
    lookup->owner = owner;
    atomic_init(&lookup->phase, PENDING);
    lookup->port = port;
    lookup->type = type;
    lookup->allocator = *p2pi_allocator();
    lookup->resolve = sys->resolve;
    memcpy(lookup->name, name, strlen(name) + 1);
    if (loop->lookups.running_count == P2PI_LOOKUPS_MAX) {
        p2pi_list_append(&loop->lookups.waiting, &lookup->link);
    } else if (begin(lookup) < 0) {
        p2pi_free(lookup);
        return NULL;
    }
    return lookup;
}

/* One under way keeps its thread, and its place among the few: it is freed when it has been heard. */
void p2pi_lookup_drop(p2pi_lookup *lookup) {
    if (lookup == NULL) return;
    lookup->owner = NULL;
    if (lookup->begun && !lookup->heard) return;
    p2pi_list_remove(&lookup->link);
    p2pi_free(lookup);
}

void p2pi_lookups_init(p2pi_lookups *lookups) {
    p2pi_list_init(&lookups->waiting);
    p2pi_list_init(&lookups->running);
    atomic_init(&lookups->threads, 0u);
}

/* In a forked child there are no threads, whatever they were at. */
void p2pi_lookups_fini(p2p_event_loop_t *loop, bool forked) {
    p2pi_lookups *lookups = &loop->lookups;
    p2pi_link all, *link;
    P2P_ASSERT(p2pi_list_empty(&lookups->waiting));
    p2pi_list_take(&all, &lookups->running);
    while ((link = p2pi_list_pop(&all)) != NULL) {
        p2pi_lookup *lookup = P2PI_CONTAINER(link, p2pi_lookup, link);
        int phase = PENDING;
        if (!forked && atomic_compare_exchange_strong_explicit(&lookup->phase, &phase, ABANDONED,
                                                               memory_order_acq_rel, memory_order_acquire))
            atomic_fetch_sub_explicit(&lookups->threads, 1u, memory_order_relaxed);
        else
            p2pi_list_append(&lookups->running, link);
    }
    while (atomic_load_explicit(&lookups->threads, memory_order_acquire) > 0 && !forked) loop->sys->thread_rest();
    while ((link = p2pi_list_pop(&lookups->running)) != NULL) p2pi_free(P2PI_CONTAINER(link, p2pi_lookup, link));
}
