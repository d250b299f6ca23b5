/*
 * A kernel for backend io_uring that does nothing by itself: it takes the calls that are handed over, and a case says
 * what comes of them and when. It is a system table whose entries for io_uring work on memory of this program.
 *
 * A case reads each call and each event in order. One that it did not read fails the next turn, or the case's end;
 * only the poll of the wake-up is counted instead. Numbers of errors are errno's.
 */
#ifndef MADE_UP_URING_H
#define MADE_UP_URING_H

#include "test_main.h"

#include <p2pnet/backend.h>

#include <errno.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

enum { KERNEL_RING = 900, KERNEL_WAKE = 901, KERNEL_CALLS_MAX = 1024, KERNEL_LATER_MAX = 128 };

typedef struct made_up_kernel {
    /* for create, as the case wants it */
    uint32_t call_room, completion_room; /* of the rings; 0: as much as is asked for */
    int setup_errors[2];                 /* of the first io_uring_setup, and the second */
    int wake_open_error;
    unsigned failing_map; /* the nth: ENOMEM */
    int buffers_error;    /* of each ring of buffers */
    uint32_t receive_buffers;
    bool no_skips;        /* without IORING_FEAT_CQE_SKIP */
    bool no_pieces;       /* without IOU_PBUF_RING_INC */
    bool no_unregister;

    /* for the next enters */
    int enter_error;       /* nothing is taken, and this comes back */
    unsigned enter_errors; /* so many times */
    uint32_t takes;        /* calls in one enter, at most; 0: EAGAIN */
    unsigned works;        /* how much of what is put off is done in one enter */
    void (*on_block)(void); /* it would block now */
    int ready;             /* what wait_one gives */
    int connect_result, drain_error;
    int64_t process;

    /* what was done */
    unsigned setups;
    uint32_t setup_flags[2];
    bool open, wake_open, enabled;
    unsigned maps, registrations; /* there are now */
    unsigned trials;              /* how often a ring of buffers was asked for */
    unsigned enters;
    uint32_t submitted, min_complete, enter_flags; /* of the last enter */
    int64_t timeout_ns;                            /* likewise; -1: none */
    unsigned wake_polls, drains, inspections, looks; /* looks: calls of wait_one */
    int looked_for;                                /* the mask of the last */
    p2p_handle_t closed[16];                       /* but for its own */
    unsigned closed_count;
    p2p_handle_t mode_of; /* the last that set_nonblocking was called for, and how */
    int mode;
} made_up_kernel;

extern made_up_kernel kernel;

/* ---- what the kernel does ---- */

/** A completion, which is in the ring now; kept, when there is no room. */
void completes(uint64_t name, int32_t result, uint32_t flags);
/** A completion that the next enter adds which looks for completions (IORING_SQ_TASKRUN). */
void completes_later(uint64_t name, int32_t result, uint32_t flags);
/** The next call with this code completes while it is handed over. */
void answers(uint8_t code, int32_t result);
/** Bytes for a receive: into the next buffer that the kernel has, as far as it has room. Without one: ENOBUFS. */
void receives(uint64_t name, uint32_t size, uint32_t flags);
/** The poll of the wake-up comes back. */
void wake_fires(int32_t result);
void raises(uint32_t flags); /**< IORING_SQ_*, for nothing, and for ever */
/** This process is a child of the one that made the rings, and does not have them: not even to unmap. */
void forks(void);
/** The buffers that the kernel has, and how much room is in each: "2:32 3:64". */
const char *buffers_of_kernel(const p2p_buffer_pool *pool);

/* ---- the backend on it ---- */

#define IO_COUNT 520

extern const p2p_backend_ops *ops;
extern p2p_backend *backend;
extern p2p_sys_ops made_up_system;
extern char reason[200];

/** @return what create returned; bytes were given back when it failed. */
int create_named(const char *name);
/** create and bind_thread; *ops is the instance's table. */
void start(const char *name);
/** A socket, number 0 to IO_COUNT - 1, in its slot; the handle is 1000 + number. */
p2p_io *attach(unsigned number, uint32_t flags);
p2p_io *io_at(unsigned number);
void want(p2p_io *io, uint32_t mask);
/** Its memory is gone, as after detach. */
void gone(p2p_io *io);
/** One wait. @return how many events. */
int turn(void);
int turn_with(int capacity, int64_t timeout_ns);

/** The next call; NULL: no more. */
const struct io_uring_sqe *next_call(void);
/** The next call is this one. @return it. `io` NULL: without a handle. */
const struct io_uring_sqe *expect_call(uint8_t code, const p2p_io *io);
/** A poll for these events; flags: IORING_POLL_ADD_MULTI or 0. @return its name. */
uint64_t expect_poll(const p2p_io *io, uint32_t mask, uint32_t flags);
/** That call is cancelled. @return the name of the cancel itself. */
uint64_t expect_cancel(uint64_t name);
/** That poll is cancelled, and one of another name takes its place. @return that name. */
uint64_t expect_replaced(const p2p_io *io, uint64_t poll, uint32_t mask, uint32_t flags);
/** The next event. @return it. */
const p2p_backend_event *expect_event(int kind, uint64_t token, uint32_t flags, int32_t result);
void expect_ready(const p2p_io *io, uint32_t flags);

/** Let the nth allocation from now fail. */
void fail_allocation(unsigned nth);

int uring_setup(void **state);
int uring_teardown(void **state);
#define URING_CASE(function) cmocka_unit_test_setup_teardown(function, uring_setup, uring_teardown)

#endif
