/* The kernel of which a case says all. */
#include "made_up_uring.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>

made_up_kernel kernel;

#define RING_OF_BUFFERS 0x80000000u /* the offset of group 0 */
enum { HEADS_SIZE = 1024, MAPS_MAX = 4 };

/* The head of both rings; the places of the calls follow, then the completions. */
typedef struct heads {
    uint32_t call_head, call_tail, call_flags, completion_head, completion_tail;
} heads;

typedef struct completion {
    uint64_t name;
    int32_t result;
    uint32_t flags;
} completion;

static struct {
    struct { void *memory; size_t size; } maps[MAPS_MAX], parents[MAPS_MAX];
    heads *heads;
    uint32_t *places;
    struct io_uring_cqe *completions;
    struct io_uring_sqe *calls;
    struct io_uring_buf_ring *buffers;
    uint32_t call_room, completion_room, buffer_room;
    uint16_t first_buffer;
    completion kept[KERNEL_LATER_MAX], later[KERNEL_LATER_MAX]; /* no room; put off */
    unsigned kept_count, later_count;
    struct { uint8_t code; int32_t result; } answers[KERNEL_LATER_MAX];
    unsigned answer_count;
    uint32_t raised;
    struct io_uring_sqe taken[KERNEL_CALLS_MAX];
    unsigned taken_count, read_count;
    uint64_t wake_name; /* of the poll that waits; 0: none */
} inside;

/* ---- completions ---- */

static bool has_room(void) {
    return inside.heads->completion_tail - inside.heads->completion_head < inside.completion_room;
}

static void add_completion(completion added) {
    struct io_uring_cqe *place = &inside.completions[inside.heads->completion_tail % inside.completion_room];
    place->user_data = added.name;
    place->res = added.result;
    place->flags = added.flags;
    __atomic_store_n(&inside.heads->completion_tail, inside.heads->completion_tail + 1, __ATOMIC_RELEASE);
}

static void put(completion *list, unsigned *count, completion added) {
    assert_in_range(*count, 0, KERNEL_LATER_MAX - 1);
    list[(*count)++] = added;
}

static completion pull(completion *list, unsigned *count) {
    completion first = list[0];
    memmove(list, list + 1, --*count * sizeof *list);
    return first;
}

void completes(uint64_t name, int32_t result, uint32_t flags) {
    completion done = { name, result, flags };
    if (inside.kept_count == 0 && has_room()) {
        add_completion(done);
        return;
    }
    put(inside.kept, &inside.kept_count, done);
    inside.heads->call_flags |= IORING_SQ_CQ_OVERFLOW;
}

void completes_later(uint64_t name, int32_t result, uint32_t flags) {
    put(inside.later, &inside.later_count, (completion){ name, result, flags });
    inside.heads->call_flags |= IORING_SQ_TASKRUN;
}

void raises(uint32_t flags) {
    inside.raised = flags;
    inside.heads->call_flags |= flags;
}

/* What an enter does that looks for completions. */
static void look_for_completions(void) {
    while (inside.kept_count > 0 && has_room()) add_completion(pull(inside.kept, &inside.kept_count));
    for (unsigned i = 0; i < kernel.works && inside.later_count > 0; i++) {
        completion done = pull(inside.later, &inside.later_count);
        completes(done.name, done.result, done.flags);
    }
    inside.heads->call_flags &= ~(IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
    inside.heads->call_flags |= (inside.kept_count > 0 ? IORING_SQ_CQ_OVERFLOW : 0) |
                                (inside.later_count > 0 ? IORING_SQ_TASKRUN : 0) | inside.raised;
}

/* ---- calls ---- */

void answers(uint8_t code, int32_t result) {
    assert_in_range(inside.answer_count, 0, KERNEL_LATER_MAX - 1);
    inside.answers[inside.answer_count].code = code;
    inside.answers[inside.answer_count++].result = result;
}

static int32_t bytes_of(const struct io_uring_sqe *call) {
    const struct msghdr *message = (const struct msghdr *)(uintptr_t)call->addr;
    if (call->opcode == IORING_OP_SEND) return (int32_t)call->len;
    size_t size = 0;
    for (size_t i = 0; i < message->msg_iovlen; i++) size += message->msg_iov[i].iov_len;
    return (int32_t)size;
}

static bool succeeds(const struct io_uring_sqe *call, int32_t result) {
    bool sends = call->opcode == IORING_OP_SEND || call->opcode == IORING_OP_SENDMSG;
    return result >= 0 && (!sends || !(call->msg_flags & MSG_WAITALL) || result == bytes_of(call));
}

static void answer(const struct io_uring_sqe *call) {
    unsigned i = 0;
    while (i < inside.answer_count && inside.answers[i].code != call->opcode) i++;
    if (i == inside.answer_count) return; /* it is under way; a quiet one has succeeded */
    int32_t result = inside.answers[i].result;
    memmove(&inside.answers[i], &inside.answers[i + 1], (--inside.answer_count - i) * sizeof *inside.answers);
    if (!(call->flags & IOSQE_CQE_SKIP_SUCCESS) || !succeeds(call, result)) completes(call->user_data, result, 0);
}

static void take(void) {
    struct io_uring_sqe *call = &inside.calls[inside.places[inside.heads->call_head % inside.call_room]];
    struct io_uring_sqe copy = *call;
    memset(call, 0xEE, sizeof *call); /* it is the backend's again, which must say all anew */
    __atomic_store_n(&inside.heads->call_head, inside.heads->call_head + 1, __ATOMIC_RELEASE);
    if (copy.fd == KERNEL_WAKE) {
        assert_int_equal(copy.opcode, IORING_OP_POLL_ADD);
        assert_int_equal(inside.wake_name, 0);
        inside.wake_name = copy.user_data;
        kernel.wake_polls++;
        return;
    }
    assert_in_range(inside.taken_count, 0, KERNEL_CALLS_MAX - 1);
    inside.taken[inside.taken_count++] = copy;
    answer(&copy);
}

static void note_enter(uint32_t to_submit, uint32_t min_complete, uint32_t flags, const void *argument, size_t size) {
    kernel.enters++;
    kernel.submitted = to_submit;
    kernel.min_complete = min_complete;
    kernel.enter_flags = flags;
    kernel.timeout_ns = -1;
    assert_int_equal(flags & ~(IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG), 0);
    if (!(flags & IORING_ENTER_EXT_ARG)) return;
    const struct io_uring_getevents_arg *limits = argument;
    assert_int_equal(size, sizeof *limits);
    assert_int_equal(limits->sigmask, 0);
    const struct __kernel_timespec *limit = (const struct __kernel_timespec *)(uintptr_t)limits->ts;
    if (limit == NULL) return;
    assert_in_range(limit->tv_nsec, 0, 999999999);
    kernel.timeout_ns = limit->tv_sec * 1000000000 + limit->tv_nsec;
}

static int enter(int ring, uint32_t to_submit, uint32_t min_complete, uint32_t flags, const void *argument,
                 size_t argument_size) {
    assert_int_equal(ring, KERNEL_RING);
    assert_true(kernel.open);
    assert_true(kernel.enabled);
    note_enter(to_submit, min_complete, flags, argument, argument_size);
    assert_true(to_submit <= __atomic_load_n(&inside.heads->call_tail, __ATOMIC_ACQUIRE) - inside.heads->call_head);
    if (kernel.enter_errors > 0) {
        kernel.enter_errors--;
        return -kernel.enter_error;
    }
    uint32_t taken = 0;
    for (; taken < to_submit && taken < kernel.takes; taken++) take();
    if (taken < to_submit) return taken > 0 ? (int)taken : -EAGAIN; /* and no waiting */
    if (!(flags & IORING_ENTER_GETEVENTS)) return (int)taken;
    look_for_completions();
    uint32_t there = inside.heads->completion_tail - inside.heads->completion_head;
    if (there >= min_complete) return (int)taken;
    if (kernel.on_block != NULL) {
        kernel.on_block();
    } else if (kernel.timeout_ns < 0) {
        fail_msg("waits for ever");
    }
    return taken > 0 ? (int)taken : -ETIME;
}

/* ---- buffers ---- */

void receives(uint64_t name, uint32_t size, uint32_t flags) {
    if (inside.first_buffer == __atomic_load_n(&inside.buffers->tail, __ATOMIC_ACQUIRE)) {
        completes(name, -ENOBUFS, 0);
        return;
    }
    struct io_uring_buf *buffer = &inside.buffers->bufs[inside.first_buffer % inside.buffer_room];
    uint32_t index = buffer->bid;
    assert_in_range(size, 1, buffer->len);
    memset((void *)(uintptr_t)buffer->addr, 0xDA, size);
    buffer->addr += size; /* IOU_PBUF_RING_INC: the ring says what is left */
    buffer->len -= size;
    if (buffer->len == 0) inside.first_buffer++;
    completes(name, (int32_t)size, flags | IORING_CQE_F_BUFFER | index << IORING_CQE_BUFFER_SHIFT);
}

const char *buffers_of_kernel(const p2p_buffer_pool *pool) {
    static char text[256];
    text[0] = '\0';
    for (uint16_t i = inside.first_buffer; i != inside.buffers->tail; i++) {
        const struct io_uring_buf *buffer = &inside.buffers->bufs[i % inside.buffer_room];
        const uint8_t *end = pool->slab + ((size_t)buffer->bid + 1) * pool->size;
        size_t length = strlen(text);
        assert_true(buffer->addr + buffer->len == (uint64_t)(uintptr_t)end);
        snprintf(text + length, sizeof text - length, length > 0 ? " %u:%u" : "%u:%u", buffer->bid, buffer->len);
    }
    return text;
}

/* ---- the ring ---- */

static int setup(uint32_t entries, struct io_uring_params *params) {
    unsigned nth = kernel.setups++;
    assert_in_range(nth, 0, 1);
    assert_false(kernel.open);
    kernel.setup_flags[nth] = params->flags;
    if (kernel.setup_errors[nth] != 0) return -kernel.setup_errors[nth];
    kernel.open = true;
    kernel.enabled = (params->flags & IORING_SETUP_R_DISABLED) == 0;
    inside.call_room = params->sq_entries = kernel.call_room > 0 ? kernel.call_room : entries;
    inside.completion_room = kernel.completion_room > 0 ? kernel.completion_room : params->cq_entries;
    params->cq_entries = inside.completion_room;
    params->features = kernel.no_skips ? IORING_FEAT_EXT_ARG : IORING_FEAT_EXT_ARG | IORING_FEAT_CQE_SKIP;
    params->sq_off.head = offsetof(heads, call_head);
    params->sq_off.tail = offsetof(heads, call_tail);
    params->sq_off.flags = offsetof(heads, call_flags);
    params->sq_off.array = HEADS_SIZE;
    params->cq_off.head = offsetof(heads, completion_head);
    params->cq_off.tail = offsetof(heads, completion_tail);
    params->cq_off.cqes = HEADS_SIZE + entries * (uint32_t)sizeof(uint32_t);
    return KERNEL_RING;
}

static int register_with(int ring, uint32_t operation, void *argument, uint32_t count) {
    enum { IN_PIECES = 2 };
    assert_int_equal(ring, KERNEL_RING);
    if (operation == IORING_REGISTER_ENABLE_RINGS) {
        kernel.enabled = true;
        return 0;
    }
    assert_int_equal(count, 1);
    struct { uint64_t address; uint32_t count; uint16_t group, flags; } asked;
    memcpy(&asked, argument, sizeof asked);
    assert_int_equal(asked.group, 0);
    if (operation == IORING_UNREGISTER_PBUF_RING) {
        assert_int_equal(kernel.registrations, 1);
        kernel.registrations -= !kernel.no_unregister;
        return kernel.no_unregister ? -EINVAL : 0;
    }
    assert_int_equal(operation, IORING_REGISTER_PBUF_RING);
    kernel.trials++;
    if (kernel.buffers_error != 0) return -kernel.buffers_error;
    if (kernel.no_pieces && (asked.flags & IN_PIECES)) return -EINVAL;
    if (kernel.registrations > 0) return -EEXIST;
    inside.buffer_room = asked.count;
    kernel.registrations++;
    return 0;
}

static int map(int ring, uint64_t offset, size_t size, void **out) {
    assert_int_equal(ring, KERNEL_RING);
    unsigned i = 0;
    while (inside.maps[i].memory != NULL) i++;
    if (kernel.failing_map > 0 && --kernel.failing_map == 0) return -ENOMEM;
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    size_t completions = inside.completion_room * sizeof(struct io_uring_cqe);
    if (offset == IORING_OFF_SQ_RING) {
        inside.heads = memory;
        inside.places = (uint32_t *)(void *)((char *)memory + HEADS_SIZE);
        inside.completions = (struct io_uring_cqe *)(void *)((char *)memory + size - completions);
    } else if (offset == IORING_OFF_SQES) {
        assert_int_equal(size, inside.call_room * sizeof(struct io_uring_sqe));
        inside.calls = memory;
    } else {
        assert_int_equal(offset, RING_OF_BUFFERS);
        assert_int_equal(size, inside.buffer_room * sizeof(struct io_uring_buf));
        inside.buffers = memory;
    }
    inside.maps[i].memory = *out = memory;
    inside.maps[i].size = size;
    kernel.maps++;
    return 0;
}

static void unmap(void *memory, size_t size) {
    unsigned i = 0;
    while (i < MAPS_MAX && inside.maps[i].memory != memory) i++;
    assert_in_range(i, 0, MAPS_MAX - 1);
    assert_int_equal(size, inside.maps[i].size);
    inside.maps[i].memory = NULL;
    kernel.maps--;
    munmap(memory, size);
}

void forks(void) {
    kernel.process++;
    kernel.maps = 0;
    for (unsigned i = 0; i < MAPS_MAX; i++) {
        if (inside.maps[i].memory == NULL) continue;
        mprotect(inside.maps[i].memory, inside.maps[i].size, PROT_NONE);
        inside.parents[i].memory = inside.maps[i].memory;
        inside.parents[i].size = inside.maps[i].size;
        inside.maps[i].memory = NULL;
    }
}

/* ---- the rest of the table ---- */

static int64_t process_id(void) {
    return kernel.process;
}

static int close_handle(p2p_handle_t handle) {
    if (handle == KERNEL_RING) {
        assert_true(kernel.open);
        kernel.open = false;
        kernel.registrations = 0; /* they end with it */
        return 0;
    }
    assert_in_range(kernel.closed_count, 0, COUNT_OF(kernel.closed) - 1);
    kernel.closed[kernel.closed_count++] = handle;
    return 0;
}

static int inspect(p2p_handle_t handle) {
    kernel.inspections++;
    return handle < 1000 + IO_COUNT ? (int)(P2P_SYS_STREAM | P2P_SYS_CONNECTED) : -EBADF;
}

static int set_nonblocking(p2p_handle_t handle, int enabled) {
    kernel.mode_of = handle;
    kernel.mode = enabled;
    return 0;
}

static int wait_one(p2p_handle_t handle, uint32_t mask, int64_t timeout_ns) {
    (void)handle;
    assert_int_equal(timeout_ns, 0);
    kernel.looks++;
    kernel.looked_for = (int)mask;
    return kernel.ready < 0 ? kernel.ready : (int)((uint32_t)kernel.ready & mask);
}

static int connect_result(p2p_handle_t handle) {
    (void)handle;
    return kernel.connect_result;
}

static int wake_open(p2p_handle_t ends[2]) {
    if (kernel.wake_open_error != 0) return -kernel.wake_open_error;
    ends[0] = ends[1] = KERNEL_WAKE;
    kernel.wake_open = true;
    return 0;
}

void wake_fires(int32_t result) {
    assert_int_not_equal(inside.wake_name, 0);
    uint64_t name = inside.wake_name;
    inside.wake_name = 0;
    completes(name, result, 0);
}

static int wake_signal(p2p_handle_t end) {
    assert_int_equal(end, KERNEL_WAKE);
    if (inside.wake_name != 0) wake_fires(POLLIN);
    return 0;
}

static int wake_drain(p2p_handle_t end) {
    assert_int_equal(end, KERNEL_WAKE);
    kernel.drains++;
    return -kernel.drain_error;
}

static void wake_close(p2p_handle_t ends[2]) {
    assert_int_equal(ends[0], KERNEL_WAKE);
    kernel.wake_open = false;
}

/* ---- the backend ---- */

const p2p_backend_ops *ops;
p2p_backend *backend;
p2p_sys_ops made_up_system;
char reason[200];

static struct { p2p_io *io; uint32_t held; } sockets[IO_COUNT];
static uint64_t generation;
static p2p_backend_event *events; /* of the last wait, in memory of just that size */
static int event_count, event_next;
static unsigned blocks, failing_block;

static void *count_alloc(size_t size, void *user) {
    (void)user;
    if (failing_block > 0 && --failing_block == 0) return NULL;
    blocks++;
    return malloc(size);
}

static void *count_realloc(void *block, size_t size, void *user) {
    (void)user;
    if (failing_block > 0 && --failing_block == 0) return NULL;
    blocks += block == NULL;
    return realloc(block, size);
}

static void count_free(void *block, void *user) {
    (void)user;
    blocks--;
    free(block);
}

static const p2p_allocator allocator = { .alloc = count_alloc, .realloc = count_realloc, .free = count_free };

int create_named(const char *name) {
    p2p_backend_env env = { .size = sizeof env, .max_events = 64, .allocator = &allocator, .sys = &made_up_system,
                            .reason = reason, .reason_size = sizeof reason,
                            .receive_buffers = kernel.receive_buffers };
    reason[0] = '\0';
    ops = p2p_backend_find(name);
    assert_non_null(ops);
    backend = NULL;
    int result = ops->create(&backend, &env);
    if (result < 0) {
        assert_null(backend);
        assert_int_equal(blocks, 0);
        assert_int_equal(kernel.maps, 0);
        assert_false(kernel.open);
        assert_false(kernel.wake_open);
    } else if (backend->ops != NULL) {
        ops = backend->ops;
    }
    return result;
}

void start(const char *name) {
    assert_int_equal(create_named(name), 0);
    assert_int_equal(ops->bind_thread(backend), 0);
}

p2p_io *attach(unsigned number, uint32_t flags) {
    assert_in_range(number, 0, IO_COUNT - 1);
    assert_null(sockets[number].io);
    p2p_io *io = calloc(1, sizeof *io);
    assert_non_null(io);
    io->handle = (p2p_handle_t)(1000 + number);
    io->flags = flags;
    io->token = ++generation << 32 | number;
    io->state = calloc(1, ops->io_state_size);
    assert_non_null(io->state);
    sockets[number].io = io;
    sockets[number].held = 0;
    assert_int_equal(ops->attach(backend, io), 0);
    return io;
}

p2p_io *io_at(unsigned number) {
    return sockets[number].io;
}

static unsigned number_of(const p2p_io *io) {
    unsigned number = (unsigned)(io->handle - 1000);
    assert_ptr_equal(sockets[number].io, io);
    return number;
}

void want(p2p_io *io, uint32_t mask) {
    unsigned number = number_of(io);
    assert_int_equal(ops->set_interest(backend, io, sockets[number].held, mask), 0);
    sockets[number].held = mask;
}

void gone(p2p_io *io) {
    sockets[number_of(io)].io = NULL;
    free(io->state);
    free(io);
}

static void expect_all_read(void) {
    if (event_next < event_count) fail_msg("an event of kind %d was not read", events[event_next].kind);
    if (inside.read_count < inside.taken_count) {
        fail_msg("a call with code %d was not read", inside.taken[inside.read_count].opcode);
    }
}

int turn_with(int capacity, int64_t timeout_ns) {
    expect_all_read();
    free(events);
    events = malloc((size_t)capacity * sizeof *events);
    assert_non_null(events);
    event_next = event_count = 0;
    unsigned blocks_before = blocks;
    int result = ops->wait(backend, events, capacity, timeout_ns);
    assert_int_equal(blocks, blocks_before);
    assert_true(result <= capacity);
    event_count = result > 0 ? result : 0;
    return result;
}

int turn(void) {
    return turn_with(64, 0);
}

const struct io_uring_sqe *next_call(void) {
    return inside.read_count < inside.taken_count ? &inside.taken[inside.read_count++] : NULL;
}

const struct io_uring_sqe *expect_call(uint8_t code, const p2p_io *io) {
    const struct io_uring_sqe *call = next_call();
    if (call == NULL) fail_msg("no call with code %d", code);
    assert_int_equal(call->opcode, code);
    assert_int_equal(call->fd, io != NULL ? io->handle : -1);
    return call;
}

static uint32_t poll_events(const struct io_uring_sqe *call) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return call->poll32_events << 16 | call->poll32_events >> 16;
#else
    return call->poll32_events;
#endif
}

uint64_t expect_poll(const p2p_io *io, uint32_t mask, uint32_t flags) {
    const struct io_uring_sqe *call = expect_call(IORING_OP_POLL_ADD, io);
    assert_int_equal(poll_events(call), mask);
    assert_int_equal(call->len, flags);
    assert_int_equal(call->flags, 0);
    return call->user_data;
}

uint64_t expect_cancel(uint64_t name) {
    const struct io_uring_sqe *call = expect_call(IORING_OP_ASYNC_CANCEL, NULL);
    assert_true(call->addr == name);
    assert_int_equal(call->flags, IOSQE_CQE_SKIP_SUCCESS);
    assert_int_equal(call->cancel_flags, 0);
    return call->user_data;
}

uint64_t expect_replaced(const p2p_io *io, uint64_t poll, uint32_t mask, uint32_t flags) {
    expect_cancel(poll);
    uint64_t name = expect_poll(io, mask, flags);
    assert_true(name != poll);
    return name;
}

const p2p_backend_event *expect_event(int kind, uint64_t token, uint32_t flags, int32_t result) {
    if (event_next == event_count) fail_msg("no event of kind %d", kind);
    const p2p_backend_event *event = &events[event_next++];
    assert_int_equal(event->kind, kind);
    assert_true(event->token == token);
    assert_int_equal(event->flags, flags);
    assert_int_equal(event->result, result);
    return event;
}

void expect_ready(const p2p_io *io, uint32_t flags) {
    expect_event(P2P_EVENT_READY, io->token, flags, 0);
}

/* ---- around a case ---- */

void fail_allocation(unsigned nth) {
    failing_block = nth;
}

int uring_setup(void **state) {
    (void)state;
    memset(&kernel, 0, sizeof kernel);
    memset(&inside, 0, sizeof inside);
    kernel.takes = UINT32_MAX;
    kernel.works = UINT32_MAX;
    made_up_system = *p2p_sys_default();
    made_up_system.uring_setup = setup;
    made_up_system.uring_enter = enter;
    made_up_system.uring_register = register_with;
    made_up_system.uring_map = map;
    made_up_system.uring_unmap = unmap;
    made_up_system.process_id = process_id;
    made_up_system.close = close_handle;
    made_up_system.inspect = inspect;
    made_up_system.set_nonblocking = set_nonblocking;
    made_up_system.wait_one = wait_one;
    made_up_system.connect_result = connect_result;
    made_up_system.wake_open = wake_open;
    made_up_system.wake_signal = wake_signal;
    made_up_system.wake_drain = wake_drain;
    made_up_system.wake_close = wake_close;
    backend = NULL;
    return 0;
}

/* Sockets may still be attached when the backend is freed, and their memory gone. */
int uring_teardown(void **state) {
    (void)state;
    for (unsigned i = 0; i < IO_COUNT; i++)
        if (sockets[i].io != NULL) gone(sockets[i].io);
    if (backend != NULL) ops->destroy(backend);
    backend = NULL;
    for (unsigned i = 0; i < MAPS_MAX; i++)
        if (inside.parents[i].memory != NULL) munmap(inside.parents[i].memory, inside.parents[i].size);
    expect_all_read();
    assert_int_equal(inside.answer_count, 0);
    free(events);
    events = NULL;
    event_count = event_next = 0;
    assert_int_equal(blocks, 0);
    assert_int_equal(kernel.maps, 0);
    assert_false(kernel.open);
    assert_false(kernel.wake_open);
    return 0;
}
