/* The rings; see io_uring_ring.h. */
#include "io_uring_ring.h"

#include <errno.h>
#include <stdatomic.h>

/* Calls beyond these are handed over in between. Completions beyond these are kept by the kernel. */
#define CALLS 256u
#define COMPLETIONS 4096u

static uint32_t load(const uint32_t *shared) {
    return atomic_load_explicit((const _Atomic uint32_t *)shared, memory_order_acquire);
}

static void store(uint32_t *shared, uint32_t value) {
    atomic_store_explicit((_Atomic uint32_t *)shared, value, memory_order_release);
}

static uint32_t *at(const p2pi_uring *ring, uint32_t offset) {
    return (uint32_t *)(void *)((char *)ring->rings + offset);
}

static int map(p2pi_uring *ring, const struct io_uring_params *params) {
    size_t calls_end = params->sq_off.array + params->sq_entries * sizeof(uint32_t);
    size_t completions_end = params->cq_off.cqes + params->cq_entries * sizeof(struct io_uring_cqe);
    ring->rings_size = calls_end > completions_end ? calls_end : completions_end;
    ring->calls_size = params->sq_entries * sizeof(struct io_uring_sqe);
    int result = ring->sys->uring_map(ring->handle, IORING_OFF_SQ_RING, ring->rings_size, &ring->rings);
    if (result < 0) {
        return result;
    }
    void *calls = NULL;
    result = ring->sys->uring_map(ring->handle, IORING_OFF_SQES, ring->calls_size, &calls);
    if (result < 0) {
        ring->sys->uring_unmap(ring->rings, ring->rings_size);
        return result;
    }
    ring->calls = calls;
    ring->call_count = params->sq_entries;
    ring->call_head = at(ring, params->sq_off.head);
    ring->call_tail = at(ring, params->sq_off.tail);
    ring->call_flags = at(ring, params->sq_off.flags);
    ring->completions = (struct io_uring_cqe *)(void *)at(ring, params->cq_off.cqes);
    ring->completion_count = params->cq_entries;
    ring->completion_head = at(ring, params->cq_off.head);
    ring->completion_tail = at(ring, params->cq_off.tail);
    for (uint32_t i = 0; i < params->sq_entries; i++) {
        at(ring, params->sq_off.array)[i] = i; /* calls are handed over in the order of their places */
    }
    return 0;
}

int p2pi_uring_open(p2pi_uring *ring, const p2p_sys_ops *sys, uint32_t flags, const char **call) {
    struct io_uring_params params;
    memset(&params, 0, sizeof(params));
    params.flags = flags | IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED;
    params.cq_entries = COMPLETIONS;
    ring->sys = sys;
    *call = "io_uring_setup";
    int result = ring->handle = sys->uring_setup(CALLS, &params);
    if (result < 0) {
        return result;
    }
    *call = "io_uring without IORING_FEAT_CQE_SKIP"; /* Linux 5.17: a cancel that tells of failures only */
    result = params.features & IORING_FEAT_CQE_SKIP ? 0 : -ENOSYS;
    if (result == 0) {
        *call = "io_uring: mmap";
        result = map(ring, &params);
    }
    if (result < 0) {
        sys->close(ring->handle);
    }
    return result;
}

void p2pi_uring_close(p2pi_uring *ring, bool mapped) {
    if (mapped) {
        ring->sys->uring_unmap(ring->calls, ring->calls_size);
        ring->sys->uring_unmap(ring->rings, ring->rings_size);
    }
    ring->sys->close(ring->handle);
}

int p2pi_uring_enable(p2pi_uring *ring) {
    return ring->sys->uring_register(ring->handle, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

uint32_t p2pi_uring_pending(const p2pi_uring *ring) {
    return ring->next_call - load(ring->call_head);
}

struct io_uring_sqe *p2pi_uring_pending_call(const p2pi_uring *ring, uint32_t nth) {
    return &ring->calls[(load(ring->call_head) + nth) & (ring->call_count - 1)];
}

struct io_uring_sqe *p2pi_uring_call(p2pi_uring *ring, uint8_t code, p2p_handle_t handle) {
    if (p2pi_uring_pending(ring) == ring->call_count) {
        (void)p2pi_uring_submit(ring);
    }
    if (p2pi_uring_pending(ring) == ring->call_count) {
        return NULL;
    }
    struct io_uring_sqe *call = &ring->calls[ring->next_call++ & (ring->call_count - 1)];
    p2pi_uring_set_call(call, code, handle);
    return call;
}

/* The time is up, a signal came, the kernel wants its completions to be read, or has no memory now. */
static int unless_passing(int result) {
    bool passing = result == -ETIME || result == -EINTR || result == -EBUSY || result == -EAGAIN;
    return result < 0 && !passing ? result : 0;
}

int p2pi_uring_submit(p2pi_uring *ring) {
    store(ring->call_tail, ring->next_call);
    return unless_passing(ring->sys->uring_enter(ring->handle, p2pi_uring_pending(ring), 0, 0, NULL, 0));
}

/* A stack trace that ends here shows a loop that waits for events, on purpose. */
#if defined(__GNUC__)
__attribute__((noinline))
#endif
int p2pi_uring_wait(p2pi_uring *ring, uint32_t complete, int64_t timeout_ns) {
    struct __kernel_timespec limit = { .tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000 };
    struct io_uring_getevents_arg argument;
    memset(&argument, 0, sizeof(argument));
    argument.ts = timeout_ns < 0 ? 0 : (uint64_t)(uintptr_t)&limit;
    store(ring->call_tail, ring->next_call);
    return unless_passing(ring->sys->uring_enter(ring->handle, p2pi_uring_pending(ring), complete,
                                                 IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &argument,
                                                 sizeof(argument)));
}

bool p2pi_uring_overflown(const p2pi_uring *ring) {
    return (load(ring->call_flags) & IORING_SQ_CQ_OVERFLOW) != 0;
}

/* Work is put off by an event on another processor, which raises the flag a moment later: it may be up for nothing. */
bool p2pi_uring_continue(p2pi_uring *ring) {
    uint32_t tail = load(ring->completion_tail);
    bool more = (load(ring->call_flags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
    return more && p2pi_uring_wait(ring, 0, 0) == 0 && load(ring->completion_tail) != tail;
}

uint32_t p2pi_uring_completions(const p2pi_uring *ring, uint32_t *head) {
    *head = *ring->completion_head;
    return load(ring->completion_tail);
}

void p2pi_uring_completions_read(p2pi_uring *ring, uint32_t head) {
    store(ring->completion_head, head);
}
