/* The harness of the conformance suite; see harness.h. */
#include "harness.h"

#include <p2pnet/event_loop.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

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

static void note_wait(int capacity) {
    waiting->waits++;
    waiting->waits_outside_wait += !waiting->in_wait;
    waiting->bad_waits += capacity <= 0; /* C-60: epoll refuses an empty array */
}

static int noting_poll(struct pollfd *fds, uint32_t count, int64_t timeout_ns) {
    note_wait(1);
    return p2p_sys_default()->poll(fds, count, timeout_ns);
}

static int noting_select(int nfds, void *readable, void *writable, void *exceptional, int64_t timeout_ns) {
    note_wait(1);
    return p2p_sys_default()->select(nfds, readable, writable, exceptional, timeout_ns);
}

static int noting_epoll_wait(int epoll, struct epoll_event *events, int capacity, int64_t timeout_ns, int precise) {
    note_wait(capacity);
    return p2p_sys_default()->epoll_wait(epoll, events, capacity, timeout_ns, precise);
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
    return h->ops->bind_thread != NULL ? h->ops->bind_thread(h->backend) : 0;
}

void harness_destroy(harness *h) {
    h->ops->destroy(h->backend);
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
    const char *name = backend_name();
    const p2p_backend_ops *ops = p2p_backend_find(name);
    if (ops == NULL) {
        test_skip("backend %s is not in this build", name);
    }
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);

    harness *h = calloc(1, sizeof(*h));
    assert_non_null(h);
    h->ops = ops;
    h->capacity = 64;
    h->allocator = (p2p_allocator){ counting_alloc, counting_realloc, counting_free, h };
    h->sys = *p2p_sys_default();
    h->sys.poll = h->sys.poll != NULL ? noting_poll : NULL;
    h->sys.select = h->sys.select != NULL ? noting_select : NULL;
    h->sys.epoll_wait = h->sys.epoll_wait != NULL ? noting_epoll_wait : NULL;
    waiting = h;
    h->open_handles = count_open_handles();
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
    assert_int_equal(count_open_handles(), h->open_handles);
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
    int64_t deadline = now_ns() + DEADLINE;
    while (result == P2P_DEFERRED && h->ios[slot] == io) { /* DETACHED frees it */
        assert_true(now_ns() < deadline);
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
    if (event->kind == P2P_EVENT_DETACHED) {
        h->ios[slot] = NULL;
        free(io->io.state);
        free(io);
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
    int64_t deadline = now_ns() + DEADLINE;
    do {
        assert_true(now_ns() < deadline);
        turn(h, 100 * MILLISECOND);
    } while ((io->now & flags) != flags);
}

void expect_quiet(harness *h, int64_t duration_ns) {
    int64_t end = now_ns() + duration_ns;
    int returns = 0;
    for (int64_t left; (left = end - now_ns()) > 0; returns++) {
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

/* ---- raw sockets ---- */

int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int handle_limit(void) {
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    return limit.rlim_cur < 65536 ? (int)limit.rlim_cur : 65536;
}

size_t count_open_handles(void) {
    size_t count = 0;
    for (int handle = handle_limit() - 1; handle >= 0; handle--) {
        count += fcntl(handle, F_GETFD) >= 0;
    }
    return count;
}

int handles_to_spare(int wanted) {
    int spare = handle_limit() - 100;
    return spare < wanted ? spare : wanted;
}

static void make_nonblocking(int handle) {
    assert_int_equal(fcntl(handle, F_SETFL, fcntl(handle, F_GETFL) | O_NONBLOCK), 0);
}

static int tcp_socket(void) {
    int handle = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(handle >= 0);
    return handle;
}

static struct sockaddr_in loopback(uint16_t port) {
    struct sockaddr_in address;
    memset(&address, 0, sizeof(address));
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

int refusing_port(uint16_t *port) {
    int handle = tcp_socket();
    struct sockaddr_in address = loopback(0);
    socklen_t size = sizeof(address);
    assert_int_equal(bind(handle, (struct sockaddr *)&address, size), 0);
    assert_int_equal(getsockname(handle, (struct sockaddr *)&address, &size), 0);
    *port = ntohs(address.sin_port);
    make_nonblocking(handle);
    return handle;
}

int tcp_listener(uint16_t *port) {
    int handle = refusing_port(port);
    assert_int_equal(listen(handle, 16), 0);
    return handle;
}

int tcp_connecting(uint16_t port) {
    int handle = tcp_socket();
    make_nonblocking(handle);
    struct sockaddr_in address = loopback(port);
    int result = connect(handle, (struct sockaddr *)&address, sizeof(address));
    assert_true(result == 0 || errno == EINPROGRESS);
    return handle;
}

void tcp_pair(int ends[2]) {
    uint16_t port;
    int listener = refusing_port(&port);
    assert_int_equal(fcntl(listener, F_SETFL, 0), 0); /* so that accept waits for the handshake */
    assert_int_equal(listen(listener, 1), 0);
    ends[0] = tcp_connecting(port);
    ends[1] = accept(listener, NULL, NULL);
    assert_true(ends[1] >= 0);
    make_nonblocking(ends[1]);
    close(listener);
}

void pipe_pair(int ends[2]) {
    assert_int_equal(pipe(ends), 0);
    make_nonblocking(ends[0]);
    make_nonblocking(ends[1]);
}

void send_text(int handle, const char *text) {
    ssize_t size = (ssize_t)strlen(text);
    assert_int_equal(write(handle, text, (size_t)size), size);
}

int receive(int handle, void *buffer, size_t size) {
    ssize_t count = read(handle, buffer, size);
    return count < 0 ? -errno : (int)count;
}

void fill_send_buffer(int handle) {
    static const char block[65536];
    int64_t deadline = now_ns() + DEADLINE;
    /* The receiver's window opens a little more after a first EAGAIN, so the end must come twice in a row. */
    for (int full = 0; full < 2;) {
        assert_true(now_ns() < deadline);
        ssize_t count = write(handle, block, sizeof(block));
        assert_true(count > 0 || errno == EAGAIN);
        full = count > 0 ? 0 : full + 1;
    }
}

void reset(int handle) {
    struct linger linger = { 1, 0 };
    assert_int_equal(setsockopt(handle, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
    close(handle);
}

uint32_t next_random(uint32_t *seed) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}
