/*
 * What the two Winsock backends share: a wake-up that is sent once, and the connects that have not ended, since
 * the exceptional set of select is the one place where every Windows tells that one has failed.
 */
#ifndef P2PI_BACKENDS_WINSOCK_H
#define P2PI_BACKENDS_WINSOCK_H

#include "slots.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

/* io->state. */
typedef struct p2pi_winsock_state {
    p2pi_slot_state slot; /* first: slots.h finds it there */
    uint32_t wanted;
    uint32_t connecting; /* OUT is wanted and the stream had no peer yet */
} p2pi_winsock_state;

static inline p2pi_winsock_state *p2pi_winsock_state_of(const p2p_io *io) {
    return io->state;
}

/* ---- wake-up ---- */

typedef struct p2pi_winsock_wake {
    p2p_handle_t ends[2];
    atomic_bool pending; /* a byte is under way: more wakes need none of their own */
} p2pi_winsock_wake;

static inline int p2pi_winsock_wake_signal(p2pi_winsock_wake *wake, const p2p_sys_ops *sys) {
    if (atomic_exchange(&wake->pending, true)) {
        return 0;
    }
    int result = sys->wake_signal(wake->ends[1]);
    if (result < 0) {
        atomic_store(&wake->pending, false);
    }
    return result;
}

/* The byte first and the flag second, so that there are never two. A wake in between sends none, and needs none: this
 * wait is about to return. The exchange reads what that wake wrote, and so sees what its thread did before. */
static inline void p2pi_winsock_wake_drain(p2pi_winsock_wake *wake, const p2p_sys_ops *sys) {
    (void)sys->wake_drain(wake->ends[0]);
    (void)atomic_exchange(&wake->pending, false);
}

/* ---- sets of handles ---- */

/* Windows' fd_set, with room for as many as there are: select looks at `count` and knows no FD_SETSIZE. */
typedef struct p2pi_handle_set {
    u_int count;
    SOCKET handles[];
} p2pi_handle_set;

_Static_assert(offsetof(p2pi_handle_set, handles) == offsetof(fd_set, fd_array), "p2pi_handle_set is an fd_set");

static inline int p2pi_handle_set_resize(p2pi_handle_set **set, const p2p_allocator *allocator, uint32_t capacity) {
    p2pi_handle_set *resized =
        allocator->realloc(*set, sizeof(**set) + capacity * sizeof((*set)->handles[0]), allocator->user);
    if (resized == NULL) {
        return -P2PI_OS_NO_MEMORY;
    }
    *set = resized;
    return 0;
}

static inline int p2pi_handle_compare(const void *a, const void *b) {
    SOCKET x = *(const SOCKET *)a, y = *(const SOCKET *)b;
    return (x > y) - (x < y);
}

/* After select: so that each handle is found in a few steps. It is not written anywhere that the order is kept. */
static inline void p2pi_handle_set_sort(p2pi_handle_set *set) {
    qsort(set->handles, set->count, sizeof(set->handles[0]), p2pi_handle_compare);
}

static inline int p2pi_handle_set_has(const p2pi_handle_set *set, p2p_handle_t handle) {
    SOCKET key = handle;
    return set->count > 0 &&
           bsearch(&key, set->handles, set->count, sizeof(set->handles[0]), p2pi_handle_compare) != NULL;
}

/* ---- connects ---- */

/* Is this a connect under way? A stream that wants OUT and has no peer. Asked when OUT comes to be wanted, which is
 * once a connect and once for each time that output had to wait. */
static inline uint32_t p2pi_winsock_is_connecting(const p2p_sys_ops *sys, p2p_handle_t handle) {
    int bits = sys->inspect(handle);
    return bits > 0 && ((uint32_t)bits & P2P_SYS_STREAM) != 0 &&
           ((uint32_t)bits & (P2P_SYS_CONNECTED | P2P_SYS_LISTENING)) == 0;
}

#endif
