/*
 * What the core costs: an echo of the library on connections that are a few fields in memory, by a backend that finds
 * them readable as long as all that they received has been sent back. No system call is made, so that what is measured
 * is what stands between one and the next.
 *
 * All sends are compared before and after the time that is measured; during it they are counted only.
 */
#include "span.h"
#include "workloads.h"

#include <p2pnet/backend.h>
#include <p2pnet/p2pnet.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { FIRST_HANDLE = 1 << 24, TURNS_A_LOOK = 64, CHECKED_TURNS = 8 };

typedef struct connection {
    uint64_t token;
    uint64_t received, sent; /* bytes */
    uint32_t interest;
} connection;

static connection *connections;
static uint32_t connection_count, next; /* where the next wait begins */
static uint8_t *frames;                 /* what a connection receives in a turn, again and again */
static size_t frames_size;
static bool comparing;

static _Noreturn void fail(const char *what) {
    static char text[256];
    snprintf(text, sizeof text, "null: %s: %s", what, p2p_error_message(p2p_last_error()));
    errno = 0;
    bench_fail(text);
}

static connection *at(p2p_handle_t handle) {
    return &connections[handle - FIRST_HANDLE];
}

/* ---- the system ------------------------------------------------------------------------------- */

static int inspect(p2p_handle_t handle) {
    (void)handle;
    return (int)(P2P_SYS_STREAM | P2P_SYS_BOUND | P2P_SYS_CONNECTED | P2P_SYS_NONBLOCKING);
}

static int close_handle(p2p_handle_t handle) {
    (void)handle;
    return 0;
}

static int set_nonblocking(p2p_handle_t handle, int enabled) {
    (void)handle, (void)enabled;
    return 0;
}

static int set_option(p2p_handle_t handle, p2p_sys_option option, int value) {
    (void)handle, (void)option, (void)value;
    return 0;
}

/* A turn's frames, and no more until they were sent back. */
static bool has_input(const connection *c) {
    return c->received % frames_size != 0 || c->received == c->sent;
}

static int64_t receive(p2p_handle_t handle, void *buffer, size_t size, int dontwait) {
    connection *c = at(handle);
    size_t offset = (size_t)(c->received % frames_size);
    (void)dontwait;
    if (!has_input(c)) return -EAGAIN;
    if (size > frames_size - offset) size = frames_size - offset;
    memcpy(buffer, frames + offset, size);
    c->received += size;
    return (int64_t)size;
}

static void compare(const connection *c, const uint8_t *data, size_t size) {
    for (uint64_t place = c->sent; size > 0;) {
        size_t offset = (size_t)(place % frames_size);
        size_t piece = size < frames_size - offset ? size : frames_size - offset;
        errno = 0;
        if (place + piece > c->received || memcmp(data, frames + offset, piece) != 0)
            bench_fail("null: what was sent is not what was received");
        data += piece;
        size -= piece;
        place += piece;
    }
}

static int64_t send_one(p2p_handle_t handle, const void *data, size_t size, int dontwait) {
    connection *c = at(handle);
    (void)dontwait;
    if (comparing) compare(c, data, size);
    c->sent += size;
    return (int64_t)size;
}

static int64_t send_all(p2p_handle_t handle, const p2p_iov *iov, uint32_t count, int dontwait) {
    int64_t size = 0;
    for (uint32_t i = 0; i < count; i++) size += send_one(handle, iov[i].base, iov[i].len, dontwait);
    return size;
}

/* ---- the backend ------------------------------------------------------------------------------ */

extern const p2p_backend_ops bench_null_backend;

static int create(p2p_backend **out, const p2p_backend_env *env) {
    static p2p_backend instance;
    (void)env;
    *out = &instance;
    return 0;
}

static void destroy(p2p_backend *backend) {
    (void)backend;
}

static int set_interest(p2p_backend *backend, p2p_io *io, uint32_t old_mask, uint32_t new_mask) {
    (void)backend, (void)old_mask;
    at(io->handle)->token = io->token;
    at(io->handle)->interest = new_mask;
    return 0;
}

static int detach(p2p_backend *backend, p2p_io *io) {
    return set_interest(backend, io, 0, 0);
}

static int wait(p2p_backend *backend, p2p_backend_event *out, int capacity, int64_t timeout_ns) {
    int stored = 0;
    (void)backend;
    for (uint32_t i = 0; i < connection_count && stored < capacity; i++) {
        const connection *c = &connections[next];
        next = next + 1 < connection_count ? next + 1 : 0;
        uint32_t ready = c->interest & (has_input(c) ? P2P_IN | P2P_OUT : P2P_OUT);
        if (ready == 0) continue;
        out[stored++] = (p2p_backend_event){ .token = c->token, .kind = P2P_EVENT_READY, .flags = (uint16_t)ready };
    }
    errno = 0;
    if (stored == 0 && timeout_ns != 0) bench_fail("null: nothing comes back");
    return stored;
}

static int wake(p2p_backend *backend) {
    (void)backend;
    return 0;
}

const p2p_backend_ops bench_null_backend = {
    .size = sizeof(p2p_backend_ops),
    .abi = P2P_BACKEND_ABI,
    .name = "null",
    .caps = P2P_CAP_SUBMS_WAIT,
    .create = create,
    .destroy = destroy,
    .set_interest = set_interest,
    .detach = detach,
    .wait = wait,
    .wake = wake,
};

/* ---- the echo --------------------------------------------------------------------------------- */

static void on_message(p2p_socket_t *sock, const void *data, uint32_t length, void *user_data) {
    (void)user_data;
    if (p2p_message_send_data(sock, data, length) < 0) fail("send");
}

static void on_error(p2p_socket_t *sock, int error, void *user_data) {
    (void)sock, (void)user_data;
    errno = 0;
    bench_fail(p2p_error_message(error));
}

static void make_frames(const bench_job *job) {
    size_t frame_size = P2P_FRAME_HEADER_SIZE + (size_t)job->size;
    frames_size = frame_size * job->depth;
    frames = malloc(frames_size);
    if (frames == NULL) bench_fail("null: frames");
    for (size_t i = 0; i < frames_size; i++) frames[i] = (uint8_t)(i * 31 ^ i >> 8);
    for (uint8_t *frame = frames; frame < frames + frames_size; frame += frame_size) {
        for (int i = 0; i < 4; i++) frame[i] = (uint8_t)(job->size >> (24 - 8 * i));
    }
}

static void start_library(void) {
    p2p_sys_ops system = *p2p_sys_default();
    p2p_init_options_t options = P2P_INIT_OPTIONS_INIT;
    system.inspect = inspect;
    system.close = close_handle;
    system.set_nonblocking = set_nonblocking;
    system.set_option = set_option;
    system.recv = receive;
    system.send = send_one;
    system.sendv = send_all;
    options.system = &system;
    if (p2p_init_with(&options) < 0 || p2p_backend_register(&bench_null_backend) < 0) fail("p2p_init_with");
}

static p2p_socket_t *open_connection(p2p_event_loop_t *loop, uint32_t index) {
    static const p2p_socket_callbacks_t callbacks = {
        .size = sizeof callbacks,
        .on_message = on_message,
        .on_error = on_error,
    };
    p2p_socket_t *sock = p2p_socket_adopt((p2p_handle_t)(FIRST_HANDLE + index), P2P_TCP);
    if (sock == NULL || p2p_event_loop_add_socket_with(loop, sock, &callbacks, NULL) < 0) fail("add_socket");
    return sock;
}

static void turn(p2p_event_loop_t *loop, int times) {
    for (int i = 0; i < times; i++) {
        if (p2p_event_loop_run_once(loop, -1) < 0) fail("run_once");
    }
}

static uint64_t bytes_sent(void) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < connection_count; i++) sum += connections[i].sent;
    return sum;
}

static void echo_compared(p2p_event_loop_t *loop) {
    uint64_t before = bytes_sent();
    comparing = true;
    for (int i = 0; i < CHECKED_TURNS || bytes_sent() - before < 2 * connection_count * frames_size; i++) turn(loop, 1);
    comparing = false;
}

static void measure(const bench_job *job, p2p_event_loop_t *loop, bench_sample *sample) {
    uint64_t before = bytes_sent();
    bench_span span = bench_span_begin(RUSAGE_THREAD);
    int64_t end_ns = span.at_ns + (int64_t)(job->seconds * 1e9);
    do {
        turn(loop, TURNS_A_LOOK);
    } while (bench_now_ns() < end_ns);
    bench_span_report(&span, (double)(bytes_sent() - before) * job->depth / (double)frames_size, sample);
}

void bench_run_null_echo(const bench_job *job, bench_sample *sample) {
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.backend = bench_null_backend.name;
    connection_count = job->conns;
    next = 0;
    connections = calloc(connection_count, sizeof *connections);
    p2p_socket_t **sockets = calloc(connection_count, sizeof *sockets);
    if (connections == NULL || sockets == NULL) bench_fail("null: connections");
    make_frames(job);
    start_library();
    p2p_event_loop_t *loop = p2p_event_loop_create_with(&options);
    if (loop == NULL) fail("loop");
    for (uint32_t i = 0; i < connection_count; i++) sockets[i] = open_connection(loop, i);

    echo_compared(loop);
    measure(job, loop, sample);
    echo_compared(loop);

    for (uint32_t i = 0; i < connection_count; i++) p2p_socket_abort(sockets[i]);
    p2p_event_loop_free(loop);
    p2p_cleanup();
    free(sockets);
    free(connections);
    free(frames);
}
