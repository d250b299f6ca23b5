/* io_uring of the made-up system of case b01: polls, looked at in each enter, and what changes or cancels them. */
#include "sim_uring.h"

#include <errno.h>
#include <string.h>

#if defined(__linux__) && __has_include(<linux/io_uring.h>)
#include <linux/io_uring.h>
#include <poll.h>
#endif

#if defined(IORING_FEAT_CQE_SKIP)
enum { CALLS = 16, COMPLETIONS = 64, POLLS = 16, RING = 3104 };

typedef struct rings {
    uint32_t call_head, call_tail, call_flags, completion_head, completion_tail, places[CALLS];
    struct { uint64_t name; int32_t result; uint32_t flags; } completions[COMPLETIONS];
} rings;

static struct {
    rings rings;
    struct io_uring_sqe calls[CALLS];
    struct io_uring_sqe polls[POLLS]; /* user_data 0: none */
    sim_state_function *state;
    unsigned *maps;
} sim;

#define OFFSET(field) ((uint32_t)offsetof(rings, field))

static int setup(uint32_t entries, struct io_uring_params *params) {
    params->sq_entries = entries < CALLS ? entries : CALLS;
    params->cq_entries = COMPLETIONS;
    params->features = IORING_FEAT_EXT_ARG | IORING_FEAT_CQE_SKIP;
    params->sq_off = (struct io_sqring_offsets){ .head = OFFSET(call_head), .tail = OFFSET(call_tail),
                                                 .flags = OFFSET(call_flags), .array = OFFSET(places) };
    params->cq_off = (struct io_cqring_offsets){ .head = OFFSET(completion_head), .tail = OFFSET(completion_tail),
                                                 .cqes = OFFSET(completions) };
    return RING;
}

static void complete(uint64_t name, int32_t result) {
    uint32_t place = sim.rings.completion_tail++ % COMPLETIONS;
    sim.rings.completions[place].name = name;
    sim.rings.completions[place].result = result;
}

/* The poll with this name, or with 0 a place for one. */
static struct io_uring_sqe *poll_named(uint64_t name) {
    int i = 0;
    while (i < POLLS - 1 && sim.polls[i].user_data != name) {
        i++;
    }
    return &sim.polls[i];
}

static void take(const struct io_uring_sqe *call) {
    struct io_uring_sqe *poll = poll_named(call->opcode == IORING_OP_POLL_ADD ? 0 : call->addr);
    if (call->opcode == IORING_OP_POLL_ADD) {
        *poll = *call;
    } else if (call->opcode == IORING_OP_POLL_REMOVE) {
        poll->poll32_events = call->poll32_events;
    } else {
        poll->user_data = 0;
        complete(call->addr, -ECANCELED);
    }
}

static int enter(int ring, uint32_t to_submit, uint32_t min_complete, uint32_t flags, const void *argument,
                 size_t argument_size) {
    (void)min_complete, (void)argument, (void)argument_size;
    for (uint32_t i = 0; i < to_submit; i++) {
        take(&sim.calls[sim.rings.places[sim.rings.call_head++ % CALLS]]);
    }
    for (int i = 0; (flags & IORING_ENTER_GETEVENTS) && i < POLLS; i++) {
        uint32_t ready = sim.polls[i].user_data != 0 ? sim.state(sim.polls[i].fd) : 0;
        uint32_t found = (ready & P2P_IN ? POLLIN : 0u) | (ready & P2P_OUT ? POLLOUT : 0u);
        found &= sim.polls[i].poll32_events | sim.polls[i].poll32_events >> 16; /* swapped where big-endian */
        if (found != 0) {
            complete(sim.polls[i].user_data, (int32_t)found);
            sim.polls[i].user_data = 0;
        }
    }
    return ring == RING ? (int)to_submit : -EBADF;
}

static int register_with(int ring, uint32_t operation, void *argument, uint32_t count) {
    (void)operation, (void)argument, (void)count;
    return ring == RING ? 0 : -EBADF;
}

static int map(int ring, uint64_t offset, size_t size, void **out) {
    (void)size;
    *out = offset == IORING_OFF_SQES ? (void *)sim.calls : (void *)&sim.rings;
    ++*sim.maps;
    return ring == RING ? 0 : -EBADF;
}

static void unmap(void *memory, size_t size) {
    *sim.maps -= (memory == sim.calls && size == sizeof(sim.calls)) || memory == &sim.rings;
}

void sim_uring_install(p2p_sys_ops *sys, sim_state_function *state, unsigned *maps) {
    memset(&sim, 0, sizeof(sim));
    sim.state = state;
    sim.maps = maps;
    sys->uring_setup = setup;
    sys->uring_enter = enter;
    sys->uring_register = register_with;
    sys->uring_map = map;
    sys->uring_unmap = unmap;
}
#else
void sim_uring_install(p2p_sys_ops *sys, sim_state_function *state, unsigned *maps) {
    (void)state, (void)maps;
    sys->uring_setup = NULL;
}
#endif
