/*
 * What the readiness backends share: a reason for a failed create, and for poll and select a dense array
 * of the sockets they scan. Slot 0 of the array is the wake-up's, so a socket's slot is never 0.
 */
#ifndef P2PI_BACKENDS_SLOTS_H
#define P2PI_BACKENDS_SLOTS_H

#include "os_error.h"

#include <p2pnet/backend.h>

#include <stdio.h>
#include <string.h>

/* The blocking call of each backend has a function of its own, which a stack trace then shows. */
#if defined(__GNUC__)
#  define P2PI_NOINLINE __attribute__((noinline))
#else
#  define P2PI_NOINLINE
#endif

/* Why create failed: "epoll_create1: EMFILE". @return the P2P_ERR_* for create. */
static inline int p2pi_create_failed(const p2p_backend_env *env, const char *call, int os_result) {
    static const struct { int error; const char *name; } names[] = { P2PI_OS_ERROR_NAMES };
    size_t i = 0, count = sizeof(names) / sizeof(names[0]);
    while (i < count && names[i].error != -os_result) {
        i++;
    }
    if (env->reason != NULL && env->reason_size > 0) {
        if (i < count) {
            snprintf(env->reason, env->reason_size, "%s: %s", call, names[i].name);
        } else {
            snprintf(env->reason, env->reason_size, "%s: system error %d", call, -os_result);
        }
    }
    return env->sys->translate_error(-os_result);
}

/* io->state of poll and select. */
typedef struct p2pi_slot_state {
    uint32_t slot;    /* 0: not in the array */
    uint32_t checked; /* the handle was found fit to be waited for */
} p2pi_slot_state;

typedef struct p2pi_slots {
    p2p_io **ios;
    uint32_t count, capacity;
    uint32_t next; /* where the next scan begins, so that low slots don't always win (B3) */
} p2pi_slots;

static inline p2pi_slot_state *p2pi_slot_state_of(const p2p_io *io) {
    return io->state;
}

/* epoll refuses closed handles and regular files; where the system doesn't, it is asked. */
static inline int p2pi_check_pollable(const p2p_sys_ops *sys, p2p_handle_t handle) {
    if (handle == P2P_INVALID_HANDLE) {
        return -P2PI_OS_BAD_HANDLE;
    }
    int bits = sys->inspect(handle);
    if (bits < 0) {
        return bits;
    }
    return (unsigned)bits & P2P_SYS_REGULAR_FILE ? -P2PI_OS_NOT_POLLABLE : 0;
}

/* Once is enough: resuming a socket that was paused costs no system call. */
static inline int p2pi_slots_check(const p2p_sys_ops *sys, const p2p_io *io) {
    p2pi_slot_state *state = p2pi_slot_state_of(io);
    int result = state->checked ? 0 : p2pi_check_pollable(sys, io->handle);
    state->checked = result == 0;
    return result;
}

/* How many slots to have next; 0: enough are free. */
static inline uint32_t p2pi_slots_growth(const p2pi_slots *slots) {
    if (slots->count < slots->capacity) {
        return 0;
    }
    return slots->capacity == 0 ? 16 : slots->capacity * 2;
}

static inline int p2pi_slots_resize(p2pi_slots *slots, const p2p_allocator *allocator, uint32_t capacity) {
    p2p_io **ios = allocator->realloc(slots->ios, capacity * sizeof(*ios), allocator->user);
    if (ios == NULL) {
        return -P2PI_OS_NO_MEMORY;
    }
    slots->ios = ios;
    slots->capacity = capacity;
    return 0;
}

/* There must be room. `io` is NULL for the wake-up, which comes first. @return the slot. */
static inline uint32_t p2pi_slots_add(p2pi_slots *slots, p2p_io *io) {
    uint32_t slot = slots->count++;
    slots->ios[slot] = io;
    if (io != NULL) {
        p2pi_slot_state_of(io)->slot = slot;
    }
    return slot;
}

/* The last one moves into the hole. @return its old slot, for a parallel array. */
static inline uint32_t p2pi_slots_remove(p2pi_slots *slots, p2p_io *io) {
    p2pi_slot_state *state = p2pi_slot_state_of(io);
    uint32_t last = --slots->count;
    slots->ios[state->slot] = slots->ios[last];
    p2pi_slot_state_of(slots->ios[last])->slot = state->slot;
    state->slot = 0;
    return last;
}

/* Walk all but the wake-up's slot once, from where the last walk stopped. */
static inline uint32_t p2pi_slots_step(p2pi_slots *slots) {
    uint32_t slot = slots->next > 0 && slots->next < slots->count ? slots->next : 1;
    slots->next = slot + 1;
    return slot;
}

/* After a walk that saw all: the next begins one further on, so that the order of the ready rotates too. */
static inline void p2pi_slots_rotate(p2pi_slots *slots, uint32_t begin) {
    slots->next = begin + 1;
}

static inline p2p_backend_event p2pi_ready(uint64_t token, uint32_t flags) {
    return (p2p_backend_event){ .token = token, .kind = P2P_EVENT_READY, .flags = (uint16_t)flags };
}

#endif
