/*
 * What the two Winsock backends share: a wake-up that is sent once, and waiting in select with sets as long as need
 * be. wsapoll needs that too, for the sockets of which WSAPoll doesn't tell what is asked.
 */
#ifndef P2PI_BACKENDS_WINSOCK_SETS_H
#define P2PI_BACKENDS_WINSOCK_SETS_H

#include "slots.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

/* io->state. */
typedef struct p2pi_winsock_state {
    p2pi_slot_state slot; /* first: slots.h finds it there */
    uint32_t wanted;
    bool connecting;  /* OUT is wanted, and the stream had no peer yet */
    bool half_closed; /* wsapoll: only OUT is wanted, and the peer has ended its side */
} p2pi_winsock_state;

static inline p2pi_winsock_state *p2pi_winsock_state_of(const p2p_io *io) {
    return io->state;
}

/* Is a connect under way? A stream that wants OUT and has no peer. Asked when OUT comes to be wanted, which is once a
 * connect and once for each time that output had to wait. */
static inline bool p2pi_winsock_is_connecting(const p2p_sys_ops *sys, p2p_handle_t handle) {
    int bits = sys->inspect(handle);
    return bits > 0 && ((uint32_t)bits & P2P_SYS_STREAM) != 0 &&
           ((uint32_t)bits & (P2P_SYS_CONNECTED | P2P_SYS_LISTENING)) == 0;
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
 * wait is about to return. The exchange reads what that wake wrote, and so sees what its thread did before.
 * @return an error when the pair is broken, and nothing would end a wait any more. */
static inline int p2pi_winsock_wake_drain(p2pi_winsock_wake *wake, const p2p_sys_ops *sys) {
    int result = sys->wake_drain(wake->ends[0]);
    (void)atomic_exchange(&wake->pending, false);
    return result;
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

/* ---- waiting in select ---- */

/* A failed connect is in the exceptional set, on every Windows. Only connects under way are put there: it also means
 * urgent data, which would wake the loop for each urgent byte that nobody reads. */
enum { P2PI_SET_IN, P2PI_SET_OUT, P2PI_SET_FAILED, P2PI_SET_COUNT };

typedef struct p2pi_handle_sets {
    p2pi_handle_set *at[P2PI_SET_COUNT]; /* each with room for every slot */
} p2pi_handle_sets;

static inline int p2pi_handle_sets_resize(p2pi_handle_sets *sets, const p2p_allocator *allocator, uint32_t capacity) {
    int result = 0;
    for (int i = 0; i < P2PI_SET_COUNT && result == 0; i++) {
        result = p2pi_handle_set_resize(&sets->at[i], allocator, capacity);
    }
    return result;
}

static inline void p2pi_handle_sets_free(p2pi_handle_sets *sets, const p2p_allocator *allocator) {
    for (int i = 0; i < P2PI_SET_COUNT; i++) {
        if (sets->at[i] != NULL) {
            allocator->free(sets->at[i], allocator->user);
        }
    }
}

static inline void p2pi_handle_sets_put(p2pi_handle_sets *sets, int set, p2p_handle_t handle) {
    p2pi_handle_set *into = sets->at[set];
    into->handles[into->count++] = handle;
}

/* "Any non-null descriptor set must contain at least one handle to a socket": the documentation of select. */
static inline p2pi_handle_set *p2pi_handle_sets_or_null(const p2pi_handle_sets *sets, int set) {
    return sets->at[set]->count > 0 ? sets->at[set] : NULL;
}

/* The sets are made anew for each wait, since select leaves only the ready ones in them. */
static inline void p2pi_handle_sets_fill(p2pi_handle_sets *sets, const p2pi_slots *slots, p2p_handle_t wake) {
    for (int i = 0; i < P2PI_SET_COUNT; i++) {
        sets->at[i]->count = 0;
    }
    p2pi_handle_sets_put(sets, P2PI_SET_IN, wake);
    for (uint32_t slot = 1; slot < slots->count; slot++) {
        const p2p_io *io = slots->ios[slot];
        const p2pi_winsock_state *state = p2pi_winsock_state_of(io);
        if (state->wanted & P2P_IN) {
            p2pi_handle_sets_put(sets, P2PI_SET_IN, io->handle);
        }
        if (state->wanted & P2P_OUT) {
            p2pi_handle_sets_put(sets, P2PI_SET_OUT, io->handle);
        }
        if (state->connecting) {
            p2pi_handle_sets_put(sets, P2PI_SET_FAILED, io->handle);
        }
    }
}

/* After select returned `count`: nothing is ready if that is none or an error, whatever the sets hold. */
static inline void p2pi_handle_sets_sort(p2pi_handle_sets *sets, int count) {
    for (int i = 0; i < P2PI_SET_COUNT; i++) {
        if (count <= 0) {
            sets->at[i]->count = 0;
        }
        p2pi_handle_set_sort(sets->at[i]);
    }
}

/* After that: what a socket has to report. */
static inline uint32_t p2pi_handle_sets_flags(const p2pi_handle_sets *sets, const p2p_io *io) {
    const p2pi_winsock_state *state = p2pi_winsock_state_of(io);
    uint32_t flags = (p2pi_handle_set_has(sets->at[P2PI_SET_IN], io->handle) ? P2P_IN : 0) |
                     (p2pi_handle_set_has(sets->at[P2PI_SET_OUT], io->handle) ? P2P_OUT : 0);
    if (state->connecting && p2pi_handle_set_has(sets->at[P2PI_SET_FAILED], io->handle)) {
        flags |= P2P_OUT | P2P_ERR;
    }
    return flags & (state->wanted | P2P_ERR);
}

#endif
