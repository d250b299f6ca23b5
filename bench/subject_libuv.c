/*
 * libuv, as its guide ("An Introduction to libuv": Networking, Threads) and the reference of uv_stream_t teach it: a
 * uv_tcp_t a connection, uv_read_start with a buffer that all reads share, a write a message; uv_try_write first, which
 * needs no request, and uv_write for what the socket does not take, its bytes counted by who still needs them. Other
 * threads hand over work by uv_async_send and a queue of the user's.
 *
 * libuv+gather collects by hand: an echo's answers to a read, a room's messages until the uv_check_t of the turn.
 *
 * Who does not read what is echoed is not read from. A room's members are sent all there is: the load reads it.
 */
#include "subjects.h"

#include "bytes.h"
#include "task_queue.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <uv.h>

typedef struct connection {
    uv_tcp_t tcp;
    bench_frames frames;
    LIST_ENTRY(connection) link;
} connection;

typedef struct server {
    uv_loop_t loop; /* its data is the server */
    uv_tcp_t listener;
    uv_check_t turn_end;
    bool to_all, gathers;
    bench_bytes gathered;
    LIST_HEAD(, connection) members;
} server;

static void check(int result, const char *what) {
    if (result >= 0) return;
    errno = -result;
    bench_fail(what);
}

/* ---- writing ----------------------------------------------------------------------------------- */

typedef struct block {
    size_t users;
    uint8_t data[];
} block;

typedef struct request {
    uv_write_t write;
    block *block;
} request;

static void release(block *b) {
    if (b != NULL && --b->users == 0) free(b);
}

static void on_closed(uv_handle_t *handle) {
    connection *c = handle->data;
    bench_frames_free(&c->frames);
    free(c);
}

static void end(connection *c) {
    LIST_REMOVE(c, link);
    uv_close((uv_handle_t *)&c->tcp, on_closed);
}

static void start_reading(connection *c);

static void on_written(uv_write_t *write, int status) {
    request *r = write->data;
    connection *c = write->handle->data;
    release(r->block);
    free(r);
    if (uv_is_closing((uv_handle_t *)&c->tcp)) return;
    if (status < 0) {
        end(c);
    } else if (c->tcp.write_queue_size == 0) {
        start_reading(c);
    }
}

/* What has to wait is copied once for all, to `shared`. An error is left to the reading side, which gets it too. */
static void send_to(connection *c, bench_piece bytes, block **shared) {
    uv_buf_t buffer = uv_buf_init((char *)bytes.data, (unsigned)bytes.size);
    int written = uv_try_write((uv_stream_t *)&c->tcp, &buffer, 1);
    if (written == (int)bytes.size || (written < 0 && written != UV_EAGAIN)) return;
    if (*shared == NULL) {
        *shared = bench_memory(NULL, sizeof **shared + bytes.size);
        (*shared)->users = 1;
        memcpy((*shared)->data, bytes.data, bytes.size);
    }
    size_t done = written < 0 ? 0 : (size_t)written;
    request *r = bench_memory(NULL, sizeof *r);
    r->write.data = r;
    r->block = *shared;
    r->block->users++;
    buffer = uv_buf_init((char *)r->block->data + done, (unsigned)(bytes.size - done));
    check(uv_write(&r->write, (uv_stream_t *)&c->tcp, &buffer, 1, on_written), "uv_write");
}

static void deliver(server *s, connection *from, bench_piece bytes) {
    block *shared = NULL;
    connection *c;
    if (!s->to_all) {
        send_to(from, bytes, &shared);
    } else {
        LIST_FOREACH(c, &s->members, link) send_to(c, bytes, &shared);
    }
    release(shared);
}

static void deliver_gathered(server *s, connection *from) {
    if (s->gathered.end == 0) return;
    bench_piece bytes = bench_bytes_all(&s->gathered);
    deliver(s, from, bytes);
    bench_bytes_drop(&s->gathered, bytes.size);
}

static void on_turn_end(uv_check_t *check) {
    deliver_gathered(check->data, NULL);
}

/* ---- reading ----------------------------------------------------------------------------------- */

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
    (void)suggested;
    connection *c = handle->data;
    bench_piece room = bench_frames_room(&c->frames);
    *buffer = uv_buf_init((char *)room.data, (unsigned)room.size);
}

static void on_read(uv_stream_t *stream, ssize_t length, const uv_buf_t *buffer) {
    connection *c = stream->data;
    server *s = stream->loop->data;
    if (length < 0) {
        end(c);
        return;
    }
    bench_piece input = { (uint8_t *)buffer->base, (size_t)length }, frame;
    while ((frame = bench_frames_next(&c->frames, &input)).size > 0) {
        if (s->gathers) {
            bench_bytes_add(&s->gathered, frame.data, frame.size);
        } else {
            deliver(s, c, frame);
        }
    }
    if (s->to_all) return;
    deliver_gathered(s, c);
    if (c->tcp.write_queue_size > 0) uv_read_stop(stream);
}

static void start_reading(connection *c) {
    int result = uv_read_start((uv_stream_t *)&c->tcp, on_room, on_read);
    if (result != UV_EALREADY) check(result, "uv_read_start");
}

static void on_connection(uv_stream_t *listener, int status) {
    server *s = listener->loop->data;
    check(status, "accept");
    connection *c = bench_memory(NULL, sizeof *c);
    *c = (connection){ .tcp.data = c };
    check(uv_tcp_init(&s->loop, &c->tcp), "uv_tcp_init");
    check(uv_accept(listener, (uv_stream_t *)&c->tcp), "uv_accept");
    uv_tcp_nodelay(&c->tcp, 1);
    LIST_INSERT_HEAD(&s->members, c, link);
    start_reading(c);
}

/* ---- serving ----------------------------------------------------------------------------------- */

static void serve(server *s, int listener) {
    signal(SIGPIPE, SIG_IGN);
    check(uv_loop_init(&s->loop), "uv_loop_init");
    s->loop.data = s;
    uv_tcp_init(&s->loop, &s->listener);
    check(uv_tcp_open(&s->listener, listener), "uv_tcp_open");
    check(uv_listen((uv_stream_t *)&s->listener, SOMAXCONN, on_connection), "uv_listen");
    if (s->to_all && s->gathers) {
        uv_check_init(&s->loop, &s->turn_end);
        s->turn_end.data = s;
        uv_check_start(&s->turn_end, on_turn_end);
    }
    uv_run(&s->loop, UV_RUN_DEFAULT);
}

static void echo(const char *subject, int listener) {
    server s = { .gathers = strchr(subject, '+') != NULL };
    serve(&s, listener);
}

static void broadcast(const char *subject, int listener) {
    server s = { .gathers = strchr(subject, '+') != NULL, .to_all = true };
    serve(&s, listener);
}

/* ---- the loop alone ---------------------------------------------------------------------------- */

typedef struct reactor {
    uv_loop_t loop;
    uv_async_t async;
    bench_task_queue tasks;
} reactor;

typedef struct watcher {
    union {
        uv_poll_t poll;
        uv_timer_t timer;
    };
    bench_callback callback;
    void *argument;
} watcher;

static void on_async(uv_async_t *async) {
    reactor *r = async->data;
    bench_task_queue_run(&r->tasks);
}

static void *reactor_create(const char *subject) {
    (void)subject;
    reactor *r = bench_memory(NULL, sizeof *r);
    bench_task_queue_init(&r->tasks);
    check(uv_loop_init(&r->loop), "uv_loop_init");
    check(uv_async_init(&r->loop, &r->async, on_async), "uv_async_init");
    r->async.data = r;
    return r;
}

static void reactor_turn(void *loop) {
    reactor *r = loop;
    uv_run(&r->loop, UV_RUN_ONCE);
}

static watcher *watcher_create(bench_callback callback, void *argument) {
    watcher *w = bench_memory(NULL, sizeof *w);
    w->callback = callback;
    w->argument = argument;
    return w;
}

static void on_poll(uv_poll_t *poll, int status, int events) {
    (void)events;
    const watcher *w = poll->data;
    check(status, "uv_poll");
    w->callback(w->argument);
}

static void reactor_watch(void *loop, int fd, bench_callback ready, void *argument) {
    reactor *r = loop;
    watcher *w = watcher_create(ready, argument);
    check(uv_poll_init(&r->loop, &w->poll, fd), "uv_poll_init");
    w->poll.data = w;
    check(uv_poll_start(&w->poll, UV_READABLE, on_poll), "uv_poll_start");
}

/* Before it waits, uv_run runs what is due; that was this turn's event then, so it must not wait for another. */
static void on_timer(uv_timer_t *timer) {
    const watcher *w = timer->data;
    uv_stop(timer->loop);
    w->callback(w->argument);
}

static void *reactor_timer(void *loop, bench_callback fired, void *argument) {
    reactor *r = loop;
    watcher *w = watcher_create(fired, argument);
    uv_timer_init(&r->loop, &w->timer);
    w->timer.data = w;
    return w;
}

static void reactor_timer_start(void *timer, uint64_t delay_ns) {
    watcher *w = timer;
    uv_timer_start(&w->timer, on_timer, (delay_ns + 999999) / 1000000, 0); /* it counts milliseconds */
}

static void reactor_timer_stop(void *timer) {
    watcher *w = timer;
    uv_timer_stop(&w->timer);
}

static void reactor_post(void *loop, bench_callback task, void *argument) {
    reactor *r = loop;
    if (bench_task_queue_add(&r->tasks, task, argument)) uv_async_send(&r->async);
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

const bench_subject bench_libuv = {
    .name = "libuv",
    .version = uv_version_string,
    .echo = echo,
    .broadcast = broadcast,
    .reactor = &reactor_functions,
};

const bench_subject bench_libuv_gather = {
    .name = "libuv+gather",
    .version = uv_version_string,
    .echo = echo,
    .broadcast = broadcast,
};
