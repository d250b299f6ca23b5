/*
 * What the parts of backend io_uring share. io_uring.c is the table and the wait, io_uring_calls.c what the kernel is
 * asked, io_uring_answers.c what it says, io_uring_buffers.c where it receives to.
 *
 * A socket has up to three calls with the kernel: a poll, a stream (multishot receive or accept) and a request (send,
 * connect). Each is in one phase; afd.c has the same machine with one call.
 */
#ifndef P2PI_BACKENDS_IO_URING_H
#define P2PI_BACKENDS_IO_URING_H

#include "check.h"
#include "io_uring_ring.h"
#include "slots.h"

typedef enum p2pi_uring_phase {
    P2PI_IDLE,
    P2PI_QUEUED,    /* requests only: to be handed over */
    P2PI_WAITING,   /* sends only: there was no room, and the poll is to tell when there is */
    P2PI_PENDING,   /* with the kernel */
    P2PI_UNWANTED,  /* requests only: with the kernel, to be cancelled */
    P2PI_CANCELLED, /* with the kernel, which has been told; its completion will come */
    P2PI_FINISHED   /* requests only: cancelled before the kernel had it, to be told */
} p2pi_uring_phase;

typedef enum p2pi_uring_list {
    P2PI_URING_CHANGED, /* something is to be handed over */
    P2PI_URING_STARVED, /* its receive found no buffer; first come, first served */
    P2PI_URING_LISTS
} p2pi_uring_list;

/* io->state */
typedef struct p2pi_uring_io {
    p2p_io *io;
    p2p_op *op;                          /* the request */
    struct p2pi_uring_io *next[P2PI_URING_LISTS], *previous[P2PI_URING_LISTS];
    struct p2pi_uring_io *next_finished;
    uint8_t poll, stream, request; /* phases */
    uint8_t interest, asked;       /* what is wanted; what the pending poll asks for */
    bool stays;                    /* the pending poll is multishot: it tells of changes only */
    bool stale;                    /* it has told of one, and is to look again */
    bool other_poll;               /* the poll's name is the other one: the last but one may still come back */
    bool streaming;                /* a receive or an accept is wanted */
    bool accepts;                  /* which of them */
    bool listed[P2PI_URING_LISTS], finished, quiet; /* where it is */
    bool checked : 1;              /* the handle is one that can be polled */
    bool waited : 1;               /* the send found no room before: more may have been queued behind it since */
    bool sparing : 1;              /* it found no buffer: takes one, and leaves the others to those behind it */
    bool detaching;
} p2pi_uring_io;

/* Sends whose success nobody waits for make no completion then; that none has come is what is known of them. While the
 * backend waits it keeps their memory, so it waits with a few of them only. */
#define P2PI_URING_QUIET_MAX 512u
#define P2PI_URING_QUIET_WAITING_MAX 32u

typedef struct p2pi_uring_backend {
    p2p_backend head;
    const p2p_allocator *allocator;
    const p2p_sys_ops *sys;
    int64_t process_id;
    p2pi_uring ring;
    bool enabled; /* bind_thread has been called: before, the kernel takes nothing */
    p2p_handle_t wake[2];
    bool wake_armed;
    int wake_error;      /* it can't be woken any more */
    p2pi_uring_io **ios; /* by slot; NULL: nobody's */
    uint32_t capacity;
    p2pi_uring_io *first[P2PI_URING_LISTS], *last[P2PI_URING_LISTS];
    p2pi_uring_io *finished, **last_finished; /* something is to be told that no completion brings */
    p2pi_uring_io *quiet[P2PI_URING_QUIET_MAX];
    uint32_t quiet_count;
    bool quietly; /* in a wait, which tells them before it returns; the handle does not */
    p2p_buffer_pool pool;
    uint32_t buffers_reserved; /* room in the ring of those that the kernel has */
    struct io_uring_buf_ring *buffers;
    size_t buffers_size;
    uint16_t buffers_tail;
    uint32_t buffers_full; /* used up, and not given back yet */
    struct p2pi_uring_use {
        uint32_t used, lent; /* bytes of the buffer that were received; pieces of it that are lent */
    } *use;
} p2pi_uring_backend;

static inline p2pi_uring_io *p2pi_uring_io_of(const p2p_io *io) {
    return io->state;
}

/* What a completion is about. With the slot it is the low half of its name, and the generation is the high one. */
enum {
    P2PI_ABOUT_CHANGE,
    P2PI_ABOUT_WAKE,
    P2PI_ABOUT_POLL,
    P2PI_ABOUT_OTHER_POLL,
    P2PI_ABOUT_RECV,
    P2PI_ABOUT_ACCEPT,
    P2PI_ABOUT_REQUEST
};
#define P2PI_ABOUT_SHIFT 29
#define P2PI_SLOT_MASK ((1u << P2PI_ABOUT_SHIFT) - 1)

/* ---- io_uring_calls.c ---- */

void p2pi_uring_append(p2pi_uring_backend *backend, p2pi_uring_list list, p2pi_uring_io *of);
void p2pi_uring_remove(p2pi_uring_backend *backend, p2pi_uring_list list, p2pi_uring_io *of);
static inline void p2pi_uring_change(p2pi_uring_backend *backend, p2pi_uring_io *of) {
    p2pi_uring_append(backend, P2PI_URING_CHANGED, of);
}
/* Some found no buffer, and there is one now. */
static inline bool p2pi_uring_can_feed(const p2pi_uring_backend *backend) {
    return backend->first[P2PI_URING_STARVED] != NULL && backend->buffers_full < backend->pool.count;
}
/* The first of them try again. */
void p2pi_uring_feed(p2pi_uring_backend *backend);
/* What the poll is for: interest, and a send that waits for room. */
uint32_t p2pi_uring_to_poll(const p2pi_uring_io *of);
/* Put down for the kernel what has changed; what finds no room stays changed. */
void p2pi_uring_hand_over(p2pi_uring_backend *backend);
/* The kernel is to let go of the handle now, as far as a poll holds it. */
void p2pi_uring_drop_poll(p2pi_uring_backend *backend, p2pi_uring_io *of);

/* ---- io_uring_take_back.c: the kernel is to be handed nothing more that names the handle ---- */

void p2pi_uring_take_back(p2pi_uring_backend *backend, p2pi_uring_io *of);

/* ---- io_uring_answers.c ---- */

void p2pi_uring_finish(p2pi_uring_backend *backend, p2pi_uring_io *of);
void p2pi_uring_forget(p2pi_uring_backend *backend, p2pi_uring_io *of);
bool p2pi_uring_at_rest(const p2pi_uring_io *of);
/* Its send is not one that succeeded quietly. */
void p2pi_uring_not_quiet(p2pi_uring_backend *backend, p2pi_uring_io *of);
/* Turn completions, and what needs none, into events; each gives how many. */
int p2pi_uring_harvest(p2pi_uring_backend *backend, p2p_backend_event *out, int capacity);
int p2pi_uring_tell_finished(p2pi_uring_backend *backend, p2p_backend_event *out, int capacity);
int p2pi_uring_tell_quiet(p2pi_uring_backend *backend, p2p_backend_event *out, int capacity);

/* ---- io_uring_buffers.c ---- */

/* The kernel makes the ring for them, or says why not. */
int p2pi_uring_buffers_reserve(p2pi_uring_backend *backend, uint32_t count);
int p2pi_uring_pool_bind(p2p_backend *head, const p2p_buffer_pool *pool);
void p2pi_uring_buf_recycle(p2p_backend *head, uint32_t buffer_index);
/* Bytes were received into a buffer, behind those before. @return at which offset. */
uint32_t p2pi_uring_lend(p2pi_uring_backend *backend, uint32_t index, uint32_t size);

#endif
