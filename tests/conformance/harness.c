/* The harness of the conformance suite; see harness.h. */
#include "harness.h"

#include <p2pnet/event_loop.h>

#include <stdlib.h>
#include <string.h>

/* ---- what differs between systems ---- */

#if defined(_WIN32)
/* Windows refuses the whole call for one other bit, and for no entry at all. Wine takes the bits. */
static bool may_poll(const struct pollfd *fds, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        if (fds[i].events & ~(POLLRDNORM | POLLWRNORM)) {
            return false;
        }
    }
    return count > 0;
}

/* "Any non-null descriptor set must contain at least one handle to a socket": the documentation of select. */
static bool is_empty(const void *set) {
    return set != NULL && ((const fd_set *)set)->fd_count == 0;
}

static bool may_select(const void *readable, const void *writable, const void *exceptional) {
    return !is_empty(readable) && !is_empty(writable) && !is_empty(exceptional) &&
           (readable != NULL || writable != NULL || exceptional != NULL);
}
#else
static bool may_poll(const struct pollfd *fds, uint32_t count) {
    (void)fds;
    (void)count;
    return true;
}

static bool may_select(const void *readable, const void *writable, const void *exceptional) {
    (void)readable;
    (void)writable;
    (void)exceptional;
    return true;
}
#endif

/* ---- the counting environment ---- */

/* The size stands before each block, in a space that keeps the block aligned. */
#define HEADER sizeof(max_align_t)

static harness *waiting; /* the sys table's functions have no argument that leads to the harness */

static bool may_allocate(harness *h) {
    h->allocations++;
    h->allocations_in_wait += h->in_wait;
    return h->fail_from == 0 || h->allocations < h->fail_from;
}

static void *counting_realloc(void *block, size_t size, void *user) {
    harness *h = user;
    if (!may_allocate(h)) {
        return NULL;
    }
    char *old = block != NULL ? (char *)block - HEADER : NULL;
    size_t old_size = 0;
    if (old != NULL) {
        memcpy(&old_size, old, sizeof(old_size));
    }
    char *memory = realloc(old, HEADER + size);
    assert_non_null(memory);
    memcpy(memory, &size, sizeof(size));
    if (size > old_size) { /* what was not written must not be relied on */
        memset(memory + HEADER + old_size, 0xA5, size - old_size);
    }
    h->live_bytes += size - old_size;
    return memory + HEADER;
}

static void *counting_alloc(size_t size, void *user) {
    return counting_realloc(NULL, size, user);
}

static void counting_free(void *block, void *user) {
    harness *h = user;
    assert_non_null(block);
    size_t size;
    memcpy(&size, (char *)block - HEADER, sizeof(size));
    h->allocations_in_wait += h->in_wait;
    h->live_bytes -= size;
    free((char *)block - HEADER);
}

/* @return whether every version of the system takes the call; one that some refuse is refused here too. */
static bool note_wait(bool may) {
    waiting->waits++;
    waiting->waits_outside_wait += !waiting->in_wait && !waiting->in_destroy;
    waiting->bad_waits += !may;
    return may;
}

static int noting_poll(struct pollfd *fds, uint32_t count, int64_t timeout_ns) {
    if (!note_wait(may_poll(fds, count))) {
        return -os_number(EINVAL);
    }
    return p2p_sys_default()->poll(fds, count, timeout_ns);
}

static int noting_select(int nfds, void *readable, void *writable, void *exceptional, int64_t timeout_ns) {
    if (!note_wait(may_select(readable, writable, exceptional))) {
        return -os_number(EINVAL);
    }
    return p2p_sys_default()->select(nfds, readable, writable, exceptional, timeout_ns);
}

static int noting_epoll_wait(int epoll, struct epoll_event *events, int capacity, int64_t timeout_ns, int precise) {
    if (!note_wait(capacity > 0)) { /* C-60: epoll refuses an empty array */
        return -os_number(EINVAL);
    }
    return p2p_sys_default()->epoll_wait(epoll, events, capacity, timeout_ns, precise);
}

static int noting_kevent(int queue, const struct kevent *changes, int change_count, struct kevent *events, int capacity,
                         int64_t timeout_ns) {
    if ((change_count == 0 || timeout_ns != 0) && !note_wait(capacity > 0)) { /* it doesn't wait for no events */
        return -os_number(EINVAL);
    }
    return test_system()->kevent(queue, changes, change_count, events, capacity, timeout_ns);
}

static int noting_port_wait(p2p_handle_t port, struct _OVERLAPPED_ENTRY *results, uint32_t capacity,
                            int64_t timeout_ns) {
    if (!note_wait(capacity > 0)) {
        return -os_number(EINVAL);
    }
    return test_system()->port_wait(port, results, capacity, timeout_ns);
}

static int noting_uring_enter(int ring, uint32_t to_submit, uint32_t min_complete, uint32_t flags, const void *argument,
                              size_t argument_size) {
    if (min_complete > 0) { /* else it only hands over and looks */
        note_wait(true);
    }
    return test_system()->uring_enter(ring, to_submit, min_complete, flags, argument, argument_size);
}

/* ---- the instance ---- */

int harness_create(harness *h) {
    h->reason[0] = '\0';
    h->env.size = sizeof(h->env);
    h->env.max_events = 512;
    h->env.allocator = &h->allocator;
    h->env.sys = &h->sys;
    h->env.reason = h->reason;
    h->env.reason_size = sizeof(h->reason);
    h->env.receive_buffers = h->pool.count;
    h->backend = NULL;
    int result = h->ops->create(&h->backend, &h->env);
    /* The environment is gone after create; allocator and sys are not. */
    memset(&h->env, 0xA5, sizeof(h->env));
    if (result < 0) {
        return result;
    }
    assert_int_equal(result, 0);
    assert_non_null(h->backend);
    if (h->backend->ops != NULL) {
        h->ops = h->backend->ops;
    }
    if (h->pool.count > 0) {
        assert_int_equal(h->ops->pool_bind(h->backend, &h->pool), 0);
    }
    return h->ops->bind_thread != NULL ? h->ops->bind_thread(h->backend) : 0;
}

void expect_clean_failure(harness *h, int result, int expected) {
    assert_int_equal(result, expected);
    assert_true(h->reason[0] != '\0');
    assert_non_null(memchr(h->reason, '\0', sizeof(h->reason)));
    assert_int_equal(h->live_bytes, 0);
    assert_int_equal(os_open_count(), h->open_handles);
}

void harness_destroy(harness *h) {
    h->in_destroy = true; /* it may have to wait for what the kernel still holds */
    h->ops->destroy(h->backend);
    h->in_destroy = false;
    h->backend = NULL;
}

static const char *backend_name(void) {
    const char *first = NULL;
    if (test_backend() == NULL && p2p_backend_list(&first, 1) > 0) {
        return first;
    }
    return test_backend();
}

int harness_set_up(void **state) {
    const p2p_sys_ops *sys = test_system();
    const char *name = backend_name();
    const p2p_backend_ops *ops = p2p_backend_find(name);
    if (ops == NULL) {
        test_skip("backend %s is not in this build", name);
    }
    os_raise_socket_limit();

    harness *h = calloc(1, sizeof(*h));
    assert_non_null(h);
    h->ops = ops;
    h->capacity = 64;
    h->allocator = (p2p_allocator){ counting_alloc, counting_realloc, counting_free, h };
    h->sys = *sys;
    h->sys.poll = h->sys.poll != NULL ? noting_poll : NULL;
    h->sys.select = h->sys.select != NULL ? noting_select : NULL;
    h->sys.epoll_wait = h->sys.epoll_wait != NULL ? noting_epoll_wait : NULL;
    h->sys.kevent = h->sys.kevent != NULL ? noting_kevent : NULL;
    h->sys.uring_enter = h->sys.uring_enter != NULL ? noting_uring_enter : NULL;
    h->sys.port_wait = h->sys.port_wait != NULL ? noting_port_wait : NULL;
    waiting = h;
    h->open_handles = os_open_count();
    int result = harness_create(h);
    if (result == P2P_ERR_NOT_SUPPORTED) {
        char reason[sizeof(h->reason)];
        memcpy(reason, h->reason, sizeof(reason));
        free(h);
        test_skip("backend %s is not on this machine: %s", name, reason);
    }
    assert_int_equal(result, 0);
    *state = h;
    return 0;
}

int harness_tear_down(void **state) {
    harness *h = *state;
    if (h->backend != NULL) {
        forget_all(h);
        harness_destroy(h);
    }
    assert_int_equal(h->live_bytes, 0);
    assert_int_equal(h->allocations_in_wait, 0);
    assert_int_equal(h->waits_outside_wait, 0);
    assert_int_equal(h->bad_waits, 0);
    assert_int_equal(os_open_count(), h->open_handles);
    free(h->ios);
    free(h);
    return 0;
}

/* ---- registrations ---- */

test_io *attach(harness *h, p2p_handle_t handle, uint32_t flags) {
    size_t slot = 0;
    while (slot < h->io_count && h->ios[slot] != NULL) {
        slot++;
    }
    if (slot == h->io_count) {
        h->ios = realloc(h->ios, ++h->io_count * sizeof(*h->ios));
        assert_non_null(h->ios);
    }
    test_io *io = calloc(1, sizeof(*io));
    assert_non_null(io);
    io->io.handle = handle;
    io->io.flags = flags;
    io->io.token = (uint64_t)++h->generation << 32 | slot;
    /* A block of exactly the size asked for, so that a sanitizer sees what lies beyond it. */
    io->io.state = calloc(1, h->ops->io_state_size > 0 ? h->ops->io_state_size : 1);
    assert_non_null(io->io.state);
    h->ios[slot] = io;
    if (h->ops->attach != NULL) {
        assert_int_equal(h->ops->attach(h->backend, &io->io), 0);
    }
    return io;
}

int try_want(harness *h, test_io *io, uint32_t mask) {
    int result = h->ops->set_interest(h->backend, &io->io, io->held, mask);
    assert_true(result <= 0);
    if (result == 0) {
        io->held = mask;
    }
    return result;
}

void want(harness *h, test_io *io, uint32_t mask) {
    assert_int_equal(try_want(h, io, mask), 0);
}

test_io *add(harness *h, p2p_handle_t handle, uint32_t mask) {
    test_io *io = attach(h, handle, 0);
    want(h, io, mask);
    return io;
}

void forget(harness *h, test_io *io) {
    int result = h->ops->detach(h->backend, &io->io);
    assert_true(result == 0 || result == P2P_DEFERRED);
    size_t slot = (size_t)(io->io.token & UINT32_MAX);
    int64_t deadline = os_now_ns() + DEADLINE;
    while (result == P2P_DEFERRED && h->ios[slot] == io) { /* DETACHED frees it */
        assert_true(os_now_ns() < deadline);
        turn(h, 10 * MILLISECOND);
    }
    if (result == 0) {
        h->ios[slot] = NULL;
        free(io->io.state);
        free(io);
    }
}

void forget_all(harness *h) {
    for (size_t i = 0; i < h->io_count; i++) {
        if (h->ios[i] != NULL) {
            forget(h, h->ios[i]);
        }
    }
}

/* ---- turns ---- */

static void note(harness *h, const p2p_backend_event *event) {
    size_t slot = (size_t)(event->token & UINT32_MAX);
    assert_true(slot < h->io_count);
    test_io *io = h->ios[slot];
    assert_non_null(io);
    assert_true(io->io.token == event->token); /* else it is about a socket that was detached (B6) */
    bool heard = event->kind != P2P_EVENT_READY && h->hear != NULL;
    if (heard) {
        h->hear(io, event);
    }
    if (event->kind == P2P_EVENT_DETACHED) {
        h->ios[slot] = NULL;
        free(io->io.state);
        free(io);
    }
    if (heard || event->kind == P2P_EVENT_DETACHED) {
        return;
    }
    assert_int_equal(event->kind, P2P_EVENT_READY);
    assert_true(event->flags != 0);
    assert_int_equal(event->flags & ~(P2P_IN | P2P_OUT | P2P_HUP | P2P_ERR), 0);
    assert_true(io->held != 0);                                             /* B4 */
    assert_int_equal(event->flags & (P2P_IN | P2P_OUT) & ~io->held, 0);     /* C-11 */
    assert_int_equal(io->now, 0); /* one event a socket and wait, with all its bits */
    io->now = event->flags;
    io->seen |= event->flags;
    io->events++;
}

int turn(harness *h, int64_t timeout_ns) {
    p2p_backend_event events[512];
    assert_in_range(h->capacity, 1, 512);
    for (size_t i = 0; i < h->io_count; i++) {
        if (h->ios[i] != NULL) {
            h->ios[i]->now = 0;
        }
    }
    h->in_wait = true;
    int count = h->ops->wait(h->backend, events, h->capacity, timeout_ns);
    h->in_wait = false;
    assert_in_range(count, 0, h->capacity);
    for (int i = 0; i < count; i++) {
        note(h, &events[i]);
    }
    return count;
}

void turn_until(harness *h, test_io *io, uint32_t flags) {
    int64_t deadline = os_now_ns() + DEADLINE;
    do {
        assert_true(os_now_ns() < deadline);
        turn(h, 100 * MILLISECOND);
    } while ((io->now & flags) != flags);
}

void expect_quiet(harness *h, int64_t duration_ns) {
    int64_t end = os_now_ns() + duration_ns;
    int returns = 0;
    for (int64_t left; (left = end - os_now_ns()) > 0; returns++) {
        assert_int_equal(turn(h, left), 0);
    }
    assert_in_range(returns, 1, 4); /* a spin makes thousands; an early end now and then is allowed (B2) */
}

void clear(harness *h) {
    for (size_t i = 0; i < h->io_count; i++) {
        if (h->ios[i] != NULL) {
            h->ios[i]->seen = 0;
            h->ios[i]->events = 0;
        }
    }
}

/* A wait that returns by its time-out only means that a wake was lost. */
void wait_to_be_woken(harness *h) {
    int64_t begin = os_now_ns();
    assert_int_equal(turn(h, DEADLINE), 0);
    assert_true(os_now_ns() - begin < DEADLINE);
}

/* ---- raw sockets ---- */

/* Nothing limits them on Windows, but the time Wine takes for a wait grows with the square of their number. */
int handles_to_spare(int wanted) {
    int spare = ON_WINDOWS ? 2000 : os_raise_socket_limit() - 100;
    return spare < wanted ? spare : wanted;
}

static p2p_handle_t tcp_socket(void) {
    p2p_handle_t handle = os_socket(AF_INET, SOCK_STREAM);
    assert_true(handle != P2P_INVALID_HANDLE);
    return handle;
}

static void make_nonblocking(p2p_handle_t handle) {
    assert_int_equal(os_set_nonblocking(handle, true), 0);
}

p2p_handle_t refusing_port(uint16_t *port) {
    p2p_handle_t handle = tcp_socket();
    assert_int_equal(os_bind_loopback(handle, port), 0);
    make_nonblocking(handle);
    return handle;
}

p2p_handle_t tcp_listener(uint16_t *port) {
    p2p_handle_t handle = refusing_port(port);
    assert_int_equal(os_listen(handle, 16), 0);
    return handle;
}

p2p_handle_t tcp_connecting(uint16_t port) {
    p2p_handle_t handle = tcp_socket();
    make_nonblocking(handle);
    struct sockaddr_in address = os_loopback(port);
    int result = os_connect(handle, (struct sockaddr *)&address, sizeof(address));
    assert_true(result == 0 || result == -EINPROGRESS);
    return handle;
}

/* Blocking calls, so that both ends know of the connection afterwards. */
void tcp_pair(p2p_handle_t ends[2]) {
    uint16_t port;
    p2p_handle_t listener = tcp_socket();
    assert_int_equal(os_bind_loopback(listener, &port), 0);
    assert_int_equal(os_listen(listener, 1), 0);
    ends[0] = tcp_socket();
    struct sockaddr_in address = os_loopback(port);
    assert_int_equal(os_connect(ends[0], (struct sockaddr *)&address, sizeof(address)), 0);
    ends[1] = os_accept(listener);
    assert_true(ends[1] != P2P_INVALID_HANDLE);
    make_nonblocking(ends[0]);
    make_nonblocking(ends[1]);
    os_close(listener);
}

void any_pair(const harness *h, p2p_handle_t ends[2]) {
    if (!(h->ops->caps & P2P_CAP_ANY_FD)) {
        tcp_pair(ends);
        return;
    }
    assert_int_equal(os_pipe(ends), 0);
    make_nonblocking(ends[0]);
    make_nonblocking(ends[1]);
}

p2p_handle_t duplicate_of(p2p_handle_t handle) {
    p2p_handle_t duplicate = os_duplicate(handle);
    assert_true(duplicate != P2P_INVALID_HANDLE);
    return duplicate;
}

void close_pair(const p2p_handle_t ends[2]) {
    os_close(ends[0]);
    os_close(ends[1]);
}

void send_text(p2p_handle_t handle, const char *text) {
    assert_int_equal(os_write(handle, text, strlen(text)), strlen(text));
}

int receive(p2p_handle_t handle, void *buffer, size_t size) {
    return (int)os_read(handle, buffer, size);
}

void fill_send_buffer(p2p_handle_t handle) {
    static const char block[65536];
    int64_t deadline = os_now_ns() + DEADLINE;
    /* The receiver's window opens a little more after a first EAGAIN, so the end must come twice in a row. */
    for (int full = 0; full < 2;) {
        assert_true(os_now_ns() < deadline);
        int64_t count = os_write(handle, block, sizeof(block));
        assert_true(count > 0 || count == -EAGAIN);
        full = count > 0 ? 0 : full + 1;
    }
}

uint32_t next_random(uint32_t *seed) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}
