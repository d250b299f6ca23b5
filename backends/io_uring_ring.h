/*
 * The two rings that a process shares with the kernel: calls go out through the submission ring, what came of them
 * comes back through the completion ring. See io_uring(7). Who calls what, and why, is in io_uring.c.
 */
#ifndef P2PI_BACKENDS_IO_URING_RING_H
#define P2PI_BACKENDS_IO_URING_RING_H

#include <p2pnet/backend.h>

#include <linux/io_uring.h>
#include <stdbool.h>
#include <string.h>

typedef struct p2pi_uring {
    const p2p_sys_ops *sys;
    int handle;
    void *rings; /* both rings' heads, and the completions */
    size_t rings_size;
    struct io_uring_sqe *calls; /* one for each place in the submission ring */
    size_t calls_size;
    struct io_uring_cqe *completions;
    uint32_t *call_head, *call_tail, *call_flags, call_count, next_call;
    uint32_t *completion_head, *completion_tail, completion_count;
} p2pi_uring;

/* Make the rings, disabled until p2pi_uring_enable. *call names what failed. @return 0, or a negative error. */
int p2pi_uring_open(p2pi_uring *ring, const p2p_sys_ops *sys, uint32_t flags, const char **call);
/* A forked child has the handle, but never had the memory: something else may be there by now. */
void p2pi_uring_close(p2pi_uring *ring, bool mapped);
int p2pi_uring_enable(p2pi_uring *ring);

/* Room for a call, otherwise zero; to be handed over. NULL: the kernel takes no more for now. */
struct io_uring_sqe *p2pi_uring_call(p2pi_uring *ring, uint8_t code, p2p_handle_t handle);
/* How many calls are yet to be handed over. */
uint32_t p2pi_uring_pending(const p2pi_uring *ring);
/* The nth of them, from 0 on. */
struct io_uring_sqe *p2pi_uring_pending_call(const p2pi_uring *ring, uint32_t nth);
/* Hand them over; no waiting. @return 0, or what is fatal. */
int p2pi_uring_submit(p2pi_uring *ring);
/* Hand them over, and wait until there are `complete` completions, or the time is up. @return 0, or what is fatal. */
int p2pi_uring_wait(p2pi_uring *ring, uint32_t complete, int64_t timeout_ns);

/* The kernel keeps completions that found no room. It adds them in a wait, once those in the ring have been read. */
bool p2pi_uring_overflown(const p2pi_uring *ring);
/* Let the kernel go on where it had more to do, or to tell, than it does in one wait. @return whether there is news. */
bool p2pi_uring_continue(p2pi_uring *ring);
/* The completions from *head to the result are to be read; then *head says how far they were. */
uint32_t p2pi_uring_completions(const p2pi_uring *ring, uint32_t *head);
void p2pi_uring_completions_read(p2pi_uring *ring, uint32_t head);
static inline bool p2pi_uring_has_completions(const p2pi_uring *ring) {
    uint32_t head;
    return p2pi_uring_completions(ring, &head) != head;
}

/* Otherwise zero. */
static inline void p2pi_uring_set_call(struct io_uring_sqe *call, uint8_t code, p2p_handle_t handle) {
    memset(call, 0, sizeof(*call));
    call->opcode = code;
    call->fd = handle;
}

/* The completion of a call has its name. */
static inline void p2pi_uring_set_name(struct io_uring_sqe *call, uint64_t name) {
    call->user_data = name;
}

static inline uint64_t p2pi_uring_name(const struct io_uring_cqe *completion) {
    return completion->user_data;
}

static inline const struct io_uring_cqe *p2pi_uring_completion(const p2pi_uring *ring, uint32_t at) {
    return &ring->completions[at & (ring->completion_count - 1)];
}

#endif
