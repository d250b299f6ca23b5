/*
 * libev, as its manual (ev(3)) teaches it: it brings events alone, so that sockets are read and written by hand. The
 * epoll backend; an ev_io to read and one to write, which runs only while bytes wait; non-blocking sockets, a recv an
 * event, a send a message. Other threads hand over work by ev_async_send and a queue of the user's.
 *
 * Who does not read what is echoed is not read from. A room's members are sent all there is: the load reads it.
 */
#include "subjects.h"

#include "bytes.h"
#include "task_queue.h"

#include <errno.h>
#include <ev.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct server server;

typedef struct connection {
    ev_io read, write;
    server *server;
    bench_frames frames;
    bench_bytes waiting; /* what the socket has not taken */
    LIST_ENTRY(connection) link;
} connection;

struct server {
    struct ev_loop *loop;
    ev_io listener;
    bool to_all;
    LIST_HEAD(, connection) members;
};

static struct ev_loop *loop_create(void) {
    struct ev_loop *loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    if (loop == NULL) bench_fail("ev_loop_new");
    return loop;
}

static void end(connection *c) {
    ev_io_stop(c->server->loop, &c->read);
    ev_io_stop(c->server->loop, &c->write);
    close(c->read.fd);
    LIST_REMOVE(c, link);
    bench_frames_free(&c->frames);
    bench_bytes_free(&c->waiting);
    free(c);
}

/* An error is left to the reading side, which gets it too. */
static void send_to(connection *c, bench_piece bytes) {
    size_t done = 0;
    if (!ev_is_active(&c->write)) {
        ssize_t n = send(c->read.fd, bytes.data, bytes.size, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) return;
        if (n > 0) done = (size_t)n;
        if (done == bytes.size) return;
        ev_io_start(c->server->loop, &c->write);
        if (!c->server->to_all) ev_io_stop(c->server->loop, &c->read);
    }
    bench_bytes_add(&c->waiting, bytes.data + done, bytes.size - done);
}

static void on_writable(struct ev_loop *loop, ev_io *io, int events) {
    (void)events;
    connection *c = io->data;
    bench_piece bytes = bench_bytes_all(&c->waiting);
    ssize_t n = send(io->fd, bytes.data, bytes.size, MSG_NOSIGNAL);
    if (n < 0) {
        if (errno != EAGAIN) end(c);
        return;
    }
    bench_bytes_drop(&c->waiting, (size_t)n);
    if ((size_t)n < bytes.size) return;
    ev_io_stop(loop, &c->write);
    ev_io_start(loop, &c->read);
}

static void deliver(server *s, connection *from, bench_piece bytes) {
    connection *c;
    if (!s->to_all) {
        send_to(from, bytes);
    } else {
        LIST_FOREACH(c, &s->members, link) send_to(c, bytes);
    }
}

static void on_readable(struct ev_loop *loop, ev_io *io, int events) {
    (void)loop, (void)events;
    connection *c = io->data;
    bench_piece room = bench_frames_room(&c->frames), frame;
    ssize_t n = recv(io->fd, room.data, room.size, 0);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN) end(c);
        return;
    }
    bench_piece input = { room.data, (size_t)n };
    while ((frame = bench_frames_next(&c->frames, &input)).size > 0) deliver(c->server, c, frame);
}

static void add(server *s, int fd) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    connection *c = bench_memory(NULL, sizeof *c);
    *c = (connection){ .server = s };
    ev_io_init(&c->read, on_readable, fd, EV_READ);
    ev_io_init(&c->write, on_writable, fd, EV_WRITE);
    c->read.data = c->write.data = c;
    ev_io_start(s->loop, &c->read);
    LIST_INSERT_HEAD(&s->members, c, link);
}

static void on_connection(struct ev_loop *loop, ev_io *listener, int events) {
    (void)loop, (void)events;
    int fd;
    while ((fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) add(listener->data, fd);
    if (errno != EAGAIN && errno != ECONNABORTED) bench_fail("accept4");
}

static void serve(bool to_all, int listener) {
    server s = { .loop = loop_create(), .to_all = to_all };
    ev_io_init(&s.listener, on_connection, listener, EV_READ);
    s.listener.data = &s;
    ev_io_start(s.loop, &s.listener);
    ev_run(s.loop, 0);
}

static void echo(const char *subject, int listener) {
    (void)subject;
    serve(false, listener);
}

static void broadcast(const char *subject, int listener) {
    (void)subject;
    serve(true, listener);
}

/* ---- the loop alone ---------------------------------------------------------------------------- */

typedef struct reactor {
    struct ev_loop *loop;
    ev_async async;
    bench_task_queue tasks;
} reactor;

typedef struct watcher {
    union {
        ev_io io;
        ev_timer timer;
    };
    struct ev_loop *loop;
    bench_callback callback;
    void *argument;
} watcher;

static void on_async(struct ev_loop *loop, ev_async *async, int events) {
    (void)loop, (void)events;
    bench_task_queue_run(async->data);
}

static void *reactor_create(const char *subject) {
    (void)subject;
    reactor *r = bench_memory(NULL, sizeof *r);
    bench_task_queue_init(&r->tasks);
    r->loop = loop_create();
    ev_async_init(&r->async, on_async);
    r->async.data = &r->tasks;
    ev_async_start(r->loop, &r->async);
    return r;
}

static void reactor_turn(void *loop) {
    reactor *r = loop;
    ev_run(r->loop, EVRUN_ONCE);
}

static watcher *watcher_create(reactor *r, bench_callback callback, void *argument) {
    watcher *w = bench_memory(NULL, sizeof *w);
    *w = (watcher){ .loop = r->loop, .callback = callback, .argument = argument };
    return w;
}

static void on_io(struct ev_loop *loop, ev_io *io, int events) {
    (void)loop, (void)events;
    const watcher *w = io->data;
    w->callback(w->argument);
}

static void reactor_watch(void *loop, int fd, bench_callback ready, void *argument) {
    watcher *w = watcher_create(loop, ready, argument);
    ev_io_init(&w->io, on_io, fd, EV_READ);
    w->io.data = w;
    ev_io_start(w->loop, &w->io);
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events) {
    (void)loop, (void)events;
    const watcher *w = timer->data;
    w->callback(w->argument);
}

static void *reactor_timer(void *loop, bench_callback fired, void *argument) {
    watcher *w = watcher_create(loop, fired, argument);
    ev_timer_init(&w->timer, on_timer, 0., 0.);
    w->timer.data = w;
    return w;
}

static void reactor_timer_start(void *timer, uint64_t delay_ns) {
    watcher *w = timer;
    ev_timer_stop(w->loop, &w->timer);
    ev_timer_set(&w->timer, (double)delay_ns / 1e9, 0.);
    ev_timer_start(w->loop, &w->timer);
}

static void reactor_timer_stop(void *timer) {
    watcher *w = timer;
    ev_timer_stop(w->loop, &w->timer);
}

static void reactor_post(void *loop, bench_callback task, void *argument) {
    reactor *r = loop;
    if (bench_task_queue_add(&r->tasks, task, argument)) ev_async_send(r->loop, &r->async);
}

static const bench_reactor reactor_functions = {
    .create = reactor_create,
    .turn = reactor_turn,
    .watch = reactor_watch,
    .timer = reactor_timer,
    .timer_start = reactor_timer_start,
    .timer_stop = reactor_timer_stop,
    .post = reactor_post,
};

static const char *version(void) {
    static char text[32];
    snprintf(text, sizeof text, "%d.%d", ev_version_major(), ev_version_minor());
    return text;
}

const bench_subject bench_libev = {
    .name = "libev",
    .version = version,
    .echo = echo,
    .broadcast = broadcast,
    .reactor = &reactor_functions,
};
