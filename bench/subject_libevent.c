/*
 * libevent, as its book ("Fast portable non-blocking network programming with Libevent") and its sample le-proxy.c
 * teach it: an evconnlistener, a bufferevent a connection, a whole message moved from its input to its output without a
 * copy where evbuffers allow that; the epoll backend that makes changes once a turn. A bufferevent writes when its
 * socket is reported writable, so it gathers by itself, at the price of two changes of what epoll waits for. It asks
 * how much there is before each read, of which libevent 2.1 makes 4 KiB at most.
 *
 * Other threads hand over work by a queue and an eventfd that is watched. The book also has event_active for it, which
 * needs evthread_use_pthreads: its locks make an event take a third more instructions, in loops of one thread, too.
 *
 * libevent+gather writes by hand what it has gathered, an echo's answers at the end of the read, a room's messages at
 * the end of the turn; bufferevents get what a socket does not take.
 *
 * Who does not read what is echoed is not read from. A room's members are sent all there is: the load reads it.
 */
#include "subjects.h"

#include "bytes.h"
#include "task_queue.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

enum { HEADER = 4, OUTPUT_MAX = 512 * 1024 };

typedef struct server server;

typedef struct connection {
    struct bufferevent *stream;
    server *server;
    LIST_ENTRY(connection) link;
} connection;

struct server {
    struct event_base *base;
    bool to_all, gathers;
    struct evbuffer *gathered;
    LIST_HEAD(, connection) members;
};

static struct event_base *base_create(void) {
    struct event_config *config = event_config_new();
    if (config == NULL) bench_fail("event_config_new");
    event_config_set_flag(config, EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST);
    struct event_base *base = event_base_new_with_config(config);
    if (base == NULL) bench_fail("event_base_new_with_config");
    event_config_free(config);
    return base;
}

/* ---- writing ----------------------------------------------------------------------------------- */

/* The message of `size` bytes at the front of `input` to all. */
static void send_to_all(server *s, struct evbuffer *input, size_t size) {
    const uint8_t *message = evbuffer_pullup(input, (ev_ssize_t)size);
    connection *c;
    LIST_FOREACH(c, &s->members, link) bufferevent_write(c->stream, message, size);
    evbuffer_drain(input, size);
}

/* An error is left to the bufferevent. */
static void write_gathered(server *s, connection *c) {
    struct evbuffer *output = bufferevent_get_output(c->stream);
    if (evbuffer_get_length(output) == 0) evbuffer_write(s->gathered, bufferevent_getfd(c->stream));
    if (evbuffer_get_length(s->gathered) > 0) evbuffer_add_buffer(output, s->gathered);
}

static void write_gathered_to_all(server *s) {
    size_t size = evbuffer_get_length(s->gathered);
    if (size == 0) return;
    const uint8_t *bytes = evbuffer_pullup(s->gathered, -1);
    connection *c;
    LIST_FOREACH(c, &s->members, link) {
        ssize_t done = 0;
        if (evbuffer_get_length(bufferevent_get_output(c->stream)) == 0) {
            done = send(bufferevent_getfd(c->stream), bytes, size, 0);
        }
        if (done < 0) done = 0;
        if ((size_t)done < size) bufferevent_write(c->stream, bytes + done, size - (size_t)done);
    }
    evbuffer_drain(s->gathered, size);
}

/* ---- reading ----------------------------------------------------------------------------------- */

/* With its header; 0: it is not there as a whole. */
static size_t message_size(struct evbuffer *input) {
    uint8_t header[HEADER];
    if (evbuffer_copyout(input, header, HEADER) < HEADER) return 0;
    size_t size = (size_t)header[0] << 24 | (size_t)header[1] << 16 | (size_t)header[2] << 8 | header[3];
    return evbuffer_get_length(input) < HEADER + size ? 0 : HEADER + size;
}

static void on_read(struct bufferevent *stream, void *argument);

static void on_event(struct bufferevent *stream, short events, void *argument) {
    connection *c = argument;
    if ((events & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) == 0) return;
    LIST_REMOVE(c, link);
    bufferevent_free(stream);
    free(c);
}

static void on_drained(struct bufferevent *stream, void *argument) {
    bufferevent_setcb(stream, on_read, NULL, on_event, argument);
    bufferevent_setwatermark(stream, EV_WRITE, 0, 0);
    bufferevent_enable(stream, EV_READ);
}

/* As le-proxy.c does: until half is gone. */
static void pause_reading(connection *c) {
    bufferevent_setcb(c->stream, on_read, on_drained, on_event, c);
    bufferevent_setwatermark(c->stream, EV_WRITE, OUTPUT_MAX / 2, 0);
    bufferevent_disable(c->stream, EV_READ);
}

static void on_read(struct bufferevent *stream, void *argument) {
    connection *c = argument;
    server *s = c->server;
    struct evbuffer *input = bufferevent_get_input(stream), *output = bufferevent_get_output(stream);
    size_t size;
    while ((size = message_size(input)) > 0) {
        if (s->gathers) {
            evbuffer_remove_buffer(input, s->gathered, size);
        } else if (s->to_all) {
            send_to_all(s, input, size);
        } else {
            evbuffer_remove_buffer(input, output, size);
        }
    }
    if (s->to_all) return;
    if (s->gathers) write_gathered(s, c);
    if (evbuffer_get_length(output) >= OUTPUT_MAX) pause_reading(c);
}

static void on_connection(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address, int length,
                          void *argument) {
    (void)listener, (void)address, (void)length;
    server *s = argument;
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    connection *c = bench_memory(NULL, sizeof *c);
    *c = (connection){ .server = s, .stream = bufferevent_socket_new(s->base, fd, BEV_OPT_CLOSE_ON_FREE) };
    if (c->stream == NULL) bench_fail("bufferevent_socket_new");
    LIST_INSERT_HEAD(&s->members, c, link);
    bufferevent_setcb(c->stream, on_read, NULL, on_event, c);
    bufferevent_enable(c->stream, EV_READ | EV_WRITE);
}

static void on_accept_error(struct evconnlistener *listener, void *argument) {
    (void)listener, (void)argument;
    bench_fail("accept");
}

/* ---- serving ----------------------------------------------------------------------------------- */

static void serve(server *s, int fd) {
    signal(SIGPIPE, SIG_IGN);
    s->base = base_create();
    s->gathered = evbuffer_new();
    struct evconnlistener *listener = evconnlistener_new(s->base, on_connection, s, LEV_OPT_CLOSE_ON_EXEC, 0, fd);
    if (s->gathered == NULL || listener == NULL) bench_fail("evbuffer_new, evconnlistener_new");
    evconnlistener_set_error_cb(listener, on_accept_error);
    /* libevent 2.1 calls nobody at the end of a turn, so that who wants to know asks for one turn at a time. */
    int flags = s->to_all && s->gathers ? EVLOOP_ONCE : 0;
    while (event_base_loop(s->base, flags) == 0) write_gathered_to_all(s);
    bench_fail("event_base_loop");
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
    struct event_base *base;
    bench_inbox inbox;
} reactor;

typedef struct watcher {
    struct event *event;
    bench_callback callback;
    void *argument;
} watcher;

static void reactor_turn(void *loop) {
    reactor *r = loop;
    event_base_loop(r->base, EVLOOP_ONCE);
}

static void on_watched(evutil_socket_t fd, short events, void *argument) {
    (void)fd, (void)events;
    const watcher *w = argument;
    w->callback(w->argument);
}

static watcher *watcher_create(reactor *r, int fd, short events, bench_callback callback, void *argument) {
    watcher *w = bench_memory(NULL, sizeof *w);
    *w = (watcher){ event_new(r->base, fd, events, on_watched, w), callback, argument };
    if (w->event == NULL) bench_fail("event_new");
    return w;
}

static void reactor_watch(void *loop, int fd, bench_callback ready, void *argument) {
    const watcher *w = watcher_create(loop, fd, EV_READ | EV_PERSIST, ready, argument);
    if (event_add(w->event, NULL) < 0) bench_fail("event_add");
}

static void *reactor_create(const char *subject) {
    (void)subject;
    reactor *r = bench_memory(NULL, sizeof *r);
    r->base = base_create();
    bench_inbox_init(&r->inbox);
    reactor_watch(r, r->inbox.fd, bench_inbox_ready, &r->inbox);
    return r;
}

static void *reactor_timer(void *loop, bench_callback fired, void *argument) {
    return watcher_create(loop, -1, 0, fired, argument);
}

static void reactor_timer_start(void *timer, uint64_t delay_ns) {
    const watcher *w = timer;
    uint64_t delay_us = (delay_ns + 999) / 1000;
    struct timeval delay = { .tv_sec = (time_t)(delay_us / 1000000), .tv_usec = (suseconds_t)(delay_us % 1000000) };
    evtimer_add(w->event, &delay);
}

static void reactor_timer_stop(void *timer) {
    const watcher *w = timer;
    evtimer_del(w->event);
}

static void reactor_post(void *loop, bench_callback task, void *argument) {
    reactor *r = loop;
    bench_inbox_post(&r->inbox, task, argument);
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

const bench_subject bench_libevent = {
    .name = "libevent",
    .version = event_get_version,
    .echo = echo,
    .broadcast = broadcast,
    .reactor = &reactor_functions,
};

const bench_subject bench_libevent_gather = {
    .name = "libevent+gather",
    .version = event_get_version,
    .echo = echo,
    .broadcast = broadcast,
};
