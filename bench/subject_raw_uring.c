/*
 * No library: io_uring by its system calls. The kernel receives as it likes into buffers that all connections share,
 * and what it received is sent from where it lies. A turn is one system call, which hands over all sends and waits.
 *
 * A send that the socket takes at once makes no completion, so that none ends the wait that hands it over. One that it
 * does not take, or not whole, fails at once; what is left is sent by a call that waits for room. Its echo moves whole
 * buffers and does not look for messages. It needs Linux 6.12.
 */
#include "subjects.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { CALLS = 1024, COMPLETIONS = 8192, BUFFERS = 16, BUFFER_SIZE = 256 * 1024 };

/* What the kernel header of Linux 6.1 lacks: IOU_PBUF_RING_INC, a buffer is filled by one receive after the other. */
enum { IN_PIECES = 2 };

/* The low bits of a call's name; the rest is a connection, or the send's number. */
enum { ABOUT_NOTHING, ABOUT_ACCEPT, ABOUT_RECEIVE, ABOUT_SEND, ABOUT_QUICK_SEND, ABOUT_MASK = 7, ABOUT_BITS = 3 };

/* Bytes as they were received. */
typedef struct piece {
    uint8_t *data;
    uint32_t length, buffer;
    struct piece *next;
} piece;

typedef struct connection {
    int fd;
    bool receiving; /* or it will again, when there is a buffer */
    bool sending;   /* the first of `waiting`, by a call that waits for room */
    bool failed;
    bool quick; /* the last of its sends is among `sends` */
    size_t send_index;
    piece *waiting;
    struct connection *next_starved;
} connection;

typedef struct quick_send {
    connection *from;
    piece what;
    int result; /* bytes, or an error; UNTOLD: all is sent */
} quick_send;

enum { UNTOLD = INT32_MAX };

static struct {
    int fd;
    struct io_uring_sqe *calls;
    struct io_uring_cqe *completions;
    _Atomic uint32_t *call_tail, *completion_tail, *completion_head;
    uint32_t pending; /* calls to hand over */
    uint32_t tail;
} ring;

static struct io_uring_buf_ring *buffer_ring;
static uint8_t *slab;
static uint32_t filled[BUFFERS], sent[BUFFERS]; /* bytes */
static uint32_t buffers_back;                   /* provided anew in this turn */

static quick_send *sends; /* of this turn */
static size_t send_count, send_capacity;
static bool hurry; /* something waits for the end of one of them */
static connection *starved, **last_starved = &starved;

/* ---- the rings -------------------------------------------------------------------------------- */

static void *map(size_t size, off_t offset) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd, offset);
    if (memory == MAP_FAILED) bench_fail("raw-io_uring: mmap");
    return memory;
}

static void open_ring(void) {
    struct io_uring_params params = { .cq_entries = COMPLETIONS, .flags = IORING_SETUP_CQSIZE };
    params.flags |= IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
    ring.fd = (int)syscall(SYS_io_uring_setup, CALLS, &params);
    if (ring.fd < 0) bench_fail("io_uring_setup");
    size_t calls_end = params.sq_off.array + params.sq_entries * sizeof(uint32_t);
    size_t completions_end = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
    uint8_t *shared = map(calls_end > completions_end ? calls_end : completions_end, IORING_OFF_SQ_RING);
    uint32_t *array = (uint32_t *)(void *)(shared + params.sq_off.array);
    for (uint32_t i = 0; i < params.sq_entries; i++) array[i] = i;
    ring.calls = map(params.sq_entries * sizeof *ring.calls, IORING_OFF_SQES);
    ring.completions = (struct io_uring_cqe *)(void *)(shared + params.cq_off.cqes);
    ring.call_tail = (_Atomic uint32_t *)(void *)(shared + params.sq_off.tail);
    ring.completion_head = (_Atomic uint32_t *)(void *)(shared + params.cq_off.head);
    ring.completion_tail = (_Atomic uint32_t *)(void *)(shared + params.cq_off.tail);
}

/* Hand the calls over, and wait for so many completions. What is left over a moment's trouble goes with the next. */
static void enter(uint32_t complete, uint32_t flags) {
    atomic_store_explicit(ring.call_tail, ring.tail, memory_order_release);
    long taken = syscall(SYS_io_uring_enter, ring.fd, ring.pending, complete, flags, NULL, 0);
    if (taken >= 0)
        ring.pending -= (uint32_t)taken;
    else if (errno != EINTR && errno != EAGAIN && errno != EBUSY)
        bench_fail("io_uring_enter");
}

static struct io_uring_sqe *call(uint8_t code, int fd, const void *whom, uint64_t about) {
    while (ring.pending == CALLS) enter(0, 0);
    struct io_uring_sqe *made = &ring.calls[ring.tail++ & (CALLS - 1)];
    ring.pending++;
    memset(made, 0, sizeof *made);
    made->opcode = code;
    made->fd = fd;
    made->user_data = (uint64_t)(uintptr_t)whom | about;
    return made;
}

/* ---- buffers ---------------------------------------------------------------------------------- */

static void provide(uint32_t index) {
    static uint16_t tail;
    struct io_uring_buf *buffer = &buffer_ring->bufs[tail & (BUFFERS - 1)];
    buffer->addr = (uint64_t)(uintptr_t)(slab + (size_t)index * BUFFER_SIZE);
    buffer->len = BUFFER_SIZE;
    buffer->bid = (uint16_t)index;
    filled[index] = sent[index] = 0;
    atomic_store_explicit((_Atomic uint16_t *)&buffer_ring->tail, ++tail, memory_order_release);
    buffers_back++;
}

static void open_buffers(void) {
    size_t ring_size = BUFFERS * sizeof(struct io_uring_buf), slab_size = (size_t)BUFFERS * BUFFER_SIZE;
    buffer_ring = mmap(NULL, ring_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    slab = mmap(NULL, slab_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (buffer_ring == MAP_FAILED || slab == MAP_FAILED) bench_fail("raw-io_uring: mmap");
    struct io_uring_buf_reg buffers = { .ring_addr = (uint64_t)(uintptr_t)buffer_ring, .ring_entries = BUFFERS };
    buffers.pad = IN_PIECES; /* later headers call it `flags` */
    if (syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_PBUF_RING, &buffers, 1) < 0)
        bench_fail("raw-io_uring: IORING_REGISTER_PBUF_RING with IOU_PBUF_RING_INC");
    for (uint32_t i = 0; i < BUFFERS; i++) provide(i);
}

/* The kernel is done with a buffer when it is full. */
static void give_back(const piece *what, uint32_t length) {
    sent[what->buffer] += length;
    if (sent[what->buffer] == BUFFER_SIZE) provide(what->buffer);
}

/* ---- connections ------------------------------------------------------------------------------ */

static void receive(connection *c) {
    struct io_uring_sqe *made = call(IORING_OP_RECV, c->fd, c, ABOUT_RECEIVE);
    made->ioprio = IORING_RECV_MULTISHOT;
    made->flags = IOSQE_BUFFER_SELECT;
    c->receiving = true;
}

static void starve(connection *c) {
    c->next_starved = NULL;
    *last_starved = c;
    last_starved = &c->next_starved;
}

/* As many as there are buffers for. */
static void feed_starved(void) {
    for (; buffers_back > 0 && starved != NULL; buffers_back--) {
        connection *c = starved;
        starved = c->next_starved;
        if (starved == NULL) last_starved = &starved;
        receive(c);
    }
    buffers_back = 0;
}

static void accept_many(int listener) {
    struct io_uring_sqe *made = call(IORING_OP_ACCEPT, listener, NULL, ABOUT_ACCEPT);
    made->ioprio = IORING_ACCEPT_MULTISHOT;
    made->accept_flags = SOCK_CLOEXEC;
}

static void accepted(int listener, const struct io_uring_cqe *completion) {
    if ((completion->flags & IORING_CQE_F_MORE) == 0) accept_many(listener);
    errno = -completion->res;
    if (completion->res == -EMFILE || completion->res == -ENFILE) bench_fail("accept");
    if (completion->res < 0) return;
    connection *c = calloc(1, sizeof *c);
    if (c == NULL) bench_fail("calloc");
    c->fd = completion->res;
    receive(c);
}

static void close_when_done(connection *c) {
    if (c->receiving || c->sending || c->quick || c->waiting != NULL) return;
    call(IORING_OP_CLOSE, c->fd, NULL, ABOUT_NOTHING)->flags = IOSQE_CQE_SKIP_SUCCESS;
    free(c);
}

static void drop_waiting(connection *c) {
    while (c->waiting != NULL) {
        piece *first = c->waiting;
        c->waiting = first->next;
        give_back(first, first->length);
        free(first);
    }
}

static void send_waiting(connection *c) {
    if (c->sending || c->quick || c->waiting == NULL) return;
    struct io_uring_sqe *made = call(IORING_OP_SEND, c->fd, c, ABOUT_SEND);
    made->addr = (uint64_t)(uintptr_t)c->waiting->data;
    made->len = c->waiting->length;
    made->msg_flags = MSG_NOSIGNAL | MSG_WAITALL;
    c->sending = true;
}

static void put_waiting(piece **place, const piece *what) {
    piece *copy = malloc(sizeof *copy);
    if (copy == NULL) bench_fail("malloc");
    *copy = *what;
    copy->next = *place;
    *place = copy;
}

static void sent_waiting(connection *c, int result) {
    piece *first = c->waiting;
    uint32_t done = result > 0 ? (uint32_t)result : 0;
    c->sending = false;
    c->failed |= result <= 0;
    give_back(first, done);
    first->data += done;
    first->length -= done;
    if (first->length == 0) {
        c->waiting = first->next;
        free(first);
    }
    if (c->failed) drop_waiting(c);
    send_waiting(c);
    close_when_done(c);
}

/* ---- sends that are over when they are handed over ---------------------------------------------- */

static void add_send(connection *c, const piece *what) {
    if (send_count == send_capacity) {
        send_capacity = send_capacity == 0 ? 256 : send_capacity * 2;
        sends = realloc(sends, send_capacity * sizeof *sends);
        if (sends == NULL) bench_fail("realloc");
    }
    c->quick = true;
    c->send_index = send_count;
    sends[send_count++] = (quick_send){ c, *what, UNTOLD };
}

static void send_piece(connection *c, const piece *what) {
    piece *before = c->quick ? &sends[c->send_index].what : NULL;
    if (c->failed) {
        give_back(what, what->length);
    } else if (before == NULL && c->waiting == NULL) {
        add_send(c, what);
    } else if (c->waiting == NULL && before->data + before->length == what->data && before->buffer == what->buffer) {
        before->length += what->length;
    } else {
        piece **end = &c->waiting;
        while (*end != NULL) end = &(*end)->next;
        put_waiting(end, what);
        hurry |= c->quick;
    }
}

static void hand_over_sends(void) {
    for (size_t i = 0; i < send_count; i++) {
        struct io_uring_sqe *made = call(IORING_OP_SEND, sends[i].from->fd, NULL, i << ABOUT_BITS | ABOUT_QUICK_SEND);
        made->addr = (uint64_t)(uintptr_t)sends[i].what.data;
        made->len = sends[i].what.length;
        made->msg_flags = MSG_NOSIGNAL | MSG_DONTWAIT | MSG_WAITALL; /* a part of it is a failure */
        made->flags = IOSQE_CQE_SKIP_SUCCESS;
    }
}

static void finish_send(const quick_send *of) {
    connection *c = of->from;
    piece rest = of->what;
    uint32_t done = of->result == UNTOLD ? rest.length : of->result > 0 ? (uint32_t)of->result : 0;
    c->quick = false;
    c->failed |= of->result < 0 && of->result != -EAGAIN;
    give_back(&rest, done);
    rest.data += done;
    rest.length -= done;
    if (rest.length > 0) put_waiting(&c->waiting, &rest);
    if (c->failed) drop_waiting(c);
    send_waiting(c);
    close_when_done(c);
}

static void finish_sends(uint32_t head, uint32_t tail) {
    for (; head != tail; head++) {
        const struct io_uring_cqe *completion = &ring.completions[head & (COMPLETIONS - 1)];
        if ((completion->user_data & ABOUT_MASK) == ABOUT_QUICK_SEND)
            sends[completion->user_data >> ABOUT_BITS].result = completion->res;
    }
    for (size_t i = 0; i < send_count; i++) finish_send(&sends[i]);
    send_count = 0;
}

/* ---- a turn ------------------------------------------------------------------------------------- */

static void received(connection *c, const struct io_uring_cqe *completion) {
    int result = completion->res;
    if (result > 0) {
        uint32_t index = completion->flags >> IORING_CQE_BUFFER_SHIFT;
        piece what = { slab + (size_t)index * BUFFER_SIZE + filled[index], (uint32_t)result, index, NULL };
        filled[index] += what.length;
        send_piece(c, &what);
    }
    if ((completion->flags & IORING_CQE_F_MORE) != 0) return;
    if (result > 0) {
        receive(c);
    } else if (result == -ENOBUFS) {
        starve(c);
    } else {
        c->receiving = false;
        hurry |= c->quick;
        c->failed |= result < 0;
        if (c->failed && !c->sending) drop_waiting(c);
        close_when_done(c);
    }
}

static void completed(int listener, const struct io_uring_cqe *completion) {
    uint64_t about = completion->user_data & ABOUT_MASK;
    connection *c = (connection *)(uintptr_t)(completion->user_data & ~(uint64_t)ABOUT_MASK);
    switch (about) {
    case ABOUT_ACCEPT: accepted(listener, completion); break;
    case ABOUT_RECEIVE: received(c, completion); break;
    case ABOUT_SEND: sent_waiting(c, completion->res); break;
    default: break;
    }
}

static void turn(int listener) {
    hand_over_sends();
    do {
        enter(hurry ? 0 : 1, IORING_ENTER_GETEVENTS);
    } while (ring.pending > 0);
    hurry = false;
    uint32_t head = atomic_load_explicit(ring.completion_head, memory_order_relaxed);
    uint32_t tail = atomic_load_explicit(ring.completion_tail, memory_order_acquire);
    finish_sends(head, tail);
    for (; head != tail; head++) completed(listener, &ring.completions[head & (COMPLETIONS - 1)]);
    atomic_store_explicit(ring.completion_head, head, memory_order_release);
    feed_starved();
}

/* Connections have TCP_NODELAY from their listener. An accept waits for a blocking listener only. */
static void echo(const char *subject, int listener) {
    int one = 1;
    (void)subject;
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (fcntl(listener, F_SETFL, 0) < 0) bench_fail("fcntl");
    open_ring();
    open_buffers();
    accept_many(listener);
    for (;;) turn(listener);
}

static const char *version(void) {
    static struct utsname system;
    return uname(&system) < 0 ? "" : system.release;
}

const bench_subject bench_raw_uring = {
    .name = "raw-io_uring",
    .version = version,
    .echo = echo,
};
