/* A little of everything, where each step may fail. */
#include "scenario.h"

#include "echo.h"

static const uint32_t lengths[] = { 5, 0, 3000, 70000 };

/* Turns without progress until the scenario is given up. One turn waits for a millisecond. */
#define PATIENCE 30

typedef struct parts {
    p2p_event_loop_t *loop;
    echo_server by_read, by_message;
    bool has_by_read, has_by_message;
    p2p_socket_t *client, *udp, *told; /* told: datagrams come as messages */
    p2p_socket_t *quiet[2];            /* by address, and by name */
    p2p_timer_t *timer;
    p2p_watch_t *watch;
    p2p_handle_t fd;      /* the raw client */
    p2p_handle_t ends[2]; /* ends[0] is watched */

    bool connecting, failed; /* of the client in the loop; failed: it has ended */
    unsigned connects;
    unsigned received;
    bool corrupt;
    unsigned progress; /* grows with whatever happens */
    unsigned tasks, ticks, watched, datagrams, datagram_messages;
    p2p_address_t sender;
    int fatal; /* what the loop failed with */
} parts;

/* ---- names: two addresses that are there, and a thread that is through at once ---- */

static int resolve(const char *name, uint16_t port, p2p_socket_type_t type, p2p_address_t *out, uint32_t capacity) {
    (void)name, (void)type;
    assert_true(capacity >= 2);
    p2p_sys_default()->address_parse(&out[0], "127.0.0.1", port);
    p2p_sys_default()->address_parse(&out[1], "127.0.0.1", port);
    return 2;
}

static int thread_start(p2p_sys_thread *thread) {
    thread->run(thread);
    return 0;
}

void scenario_system(p2p_sys_ops *table) {
    table->resolve = resolve;
    table->thread_start = thread_start;
}

/* ---- callbacks ---- */

static void client_message(p2p_socket_t *sock, const void *data, uint32_t length, void *user_data) {
    static uint8_t expected[70000];
    parts *p = user_data;
    (void)sock;
    if (p->received >= COUNT_OF(lengths) || length != lengths[p->received]) {
        p->corrupt = true;
        return;
    }
    raw_fill(expected, length, p->received);
    if (memcmp(data, expected, length) != 0) p->corrupt = true;
    p->received++;
    p->progress++;
}

static void client_end(p2p_socket_t *sock, void *user_data) {
    parts *p = user_data;
    (void)sock;
    p->failed = true;
}

static void client_error(p2p_socket_t *sock, int error, void *user_data) {
    assert_int_not_equal(error, 0);
    client_end(sock, user_data);
}

static void client_connect(p2p_socket_t *sock, int error, void *user_data) {
    parts *p = user_data;
    assert_true(p->connecting);
    p->connects++;
    p->progress++;
    if (error != 0) client_end(sock, user_data);
}

/* Sends one message, and is closed with nothing queued when that has come back: the system is asked what it holds. */
static void quiet_close(p2p_socket_t *sock, void *user_data) {
    parts *p = user_data;
    p2p_socket_close(sock);
    p->quiet[sock == p->quiet[1]] = NULL;
    p->progress++;
}

static void quiet_message(p2p_socket_t *sock, const void *data, uint32_t length, void *user_data) {
    if (length != 5 || memcmp(data, "quiet", 5) != 0) ((parts *)user_data)->corrupt = true;
    quiet_close(sock, user_data);
}

static void quiet_error(p2p_socket_t *sock, int error, void *user_data) {
    assert_int_not_equal(error, 0);
    quiet_close(sock, user_data);
}

static void quiet_connect(p2p_socket_t *sock, int error, void *user_data) {
    if (error != 0 || p2p_message_send_data(sock, "quiet", 5) != 0) quiet_close(sock, user_data);
}

static void datagram_read(p2p_socket_t *sock, void *user_data) {
    char buffer[8];
    parts *p = user_data;
    if (p2p_datagram_recv(sock, buffer, sizeof buffer, NULL) >= 0) p->datagrams++;
}

static void datagram_message(p2p_socket_t *sock, const void *data, uint32_t length, void *user_data) {
    parts *p = user_data;
    (void)data;
    (void)length;
    if (p2p_datagram_sender(sock, &p->sender) == 0) p->datagram_messages++;
}

static void on_tick(p2p_timer_t *timer, void *user_data) {
    parts *p = user_data;
    if (++p->ticks == 3) p2p_timer_stop(timer);
}

static void on_task(void *user_data) {
    ((parts *)user_data)->tasks++;
}

static void on_watch(p2p_watch_t *watch, uint32_t ready, void *user_data) {
    parts *p = user_data;
    (void)ready;
    p->watched++;
    p2p_watch_set(watch, 0);
}

/* ---- beginning ---- */

static void begin_client(parts *p) {
    static const p2p_socket_callbacks_t callbacks = {
        sizeof(p2p_socket_callbacks_t), client_end, client_message, NULL, client_error, client_connect, NULL
    };
    static uint8_t data[70000];
    p->failed = true;
    p->client = p2p_socket_create(P2P_TCP);
    if (p->client == NULL || p2p_event_loop_add_socket_with(p->loop, p->client, &callbacks, p) != 0) return;
    p->connecting = true;
    if (p2p_socket_connect(p->client, "127.0.0.1", p->by_message.port) != 0) {
        p->connecting = false;
        return;
    }
    p->failed = false;
    for (uint32_t i = 0; i < COUNT_OF(lengths); i++) {
        raw_fill(data, lengths[i], i);
        p2p_message_t *message = p2p_message_create(data, lengths[i]);
        p->failed = message == NULL || p2p_message_send(p->client, message) != 0;
        p2p_message_free(message);
        if (p->failed) return;
    }
}

static void begin_quiet(parts *p, int which, const char *address) {
    static const p2p_socket_callbacks_t callbacks = {
        sizeof(p2p_socket_callbacks_t), quiet_close, quiet_message, NULL, quiet_error, quiet_connect, NULL
    };
    p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
    p->quiet[which] = sock;
    if (sock == NULL) return;
    if (p2p_event_loop_add_socket_with(p->loop, sock, &callbacks, p) == 0 &&
        p2p_socket_connect(sock, address, p->by_message.port) == 0)
        return;
    p2p_socket_close(sock);
    p->quiet[which] = NULL;
}

static void begin_datagram(parts *p) {
    p2p_address_t to;
    p->udp = p2p_socket_create(P2P_UDP);
    if (p->udp == NULL || p2p_socket_bind(p->udp, "127.0.0.1", 0) != 0) return;
    if (p2p_socket_local_address(p->udp, &to) != 0) return;
    if (p2p_event_loop_add_socket(p->loop, p->udp, datagram_read, p) == 0) p2p_datagram_send(p->udp, "x", 1, &to);
}

static void begin_told(parts *p) {
    static const p2p_socket_callbacks_t callbacks = {
        .size = sizeof(p2p_socket_callbacks_t), .on_message = datagram_message
    };
    p2p_address_t to;
    p->told = p2p_socket_create(P2P_UDP);
    if (p->told == NULL || p2p_socket_set_option(p->told, P2P_OPTION_BROADCAST, 1) != 0) return;
    if (p2p_socket_bind(p->told, "127.0.0.1", 0) != 0 || p2p_socket_local_address(p->told, &to) != 0) return;
    if (p2p_event_loop_add_socket_with(p->loop, p->told, &callbacks, p) != 0) return;
    int allowed = p2p_socket_get_option(p->told, P2P_OPTION_BROADCAST);
    assert_true(allowed == 1 || allowed < 0);
    if (allowed == 1) p2p_datagram_send(p->told, "x", 1, &to);
}

/* @return false when there is not even a loop. */
static bool begin(parts *p) {
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.backend = test_backend();
    options.accept_pause_ms = 1;
    options.max_connections = options.max_connections_per_address = options.max_half_open = 100; /* not reached */
    options.drain_timeout_ms = 20;
    assert_int_equal(os_pipe(p->ends), 0);
    assert_int_equal(os_write(p->ends[1], "x", 1), 1);
    p->loop = p2p_event_loop_create_with(&options);
    if (p->loop == NULL) {
        assert_int_not_equal(p2p_last_error(), 0);
        return false;
    }
    p->has_by_read = echo_try_start(&p->by_read, p->loop, false) == 0;
    p->has_by_message = echo_try_start(&p->by_message, p->loop, true) == 0;
    if (p->has_by_read) p->fd = raw_connect(p->by_read.port);
    if (p->has_by_message) begin_client(p);
    if (p->client != NULL) p2p_socket_pause(p->client);
    if (p->has_by_message) begin_quiet(p, 0, "127.0.0.1");
    if (p->has_by_message) begin_quiet(p, 1, "peer.example");
    begin_datagram(p);
    begin_told(p);
    p->timer = p2p_timer_create(p->loop, on_tick, p);
    if (p->timer != NULL) p2p_timer_start(p->timer, 1, 1000);
    p2p_event_loop_post(p->loop, on_task, p);
    p->watch = p2p_event_loop_watch(p->loop, p->ends[0], P2P_READABLE, on_watch, p);
    return true;
}

/* ---- the middle ---- */

/* The raw client: writes all messages, reads them back, ends its side and waits for the other's. */
typedef struct raw_client {
    uint8_t sent[4 * 4 + 5 + 3000 + 70000], back[4 * 4 + 5 + 3000 + 70000 + 1];
    size_t out, in;
    bool ended;
} raw_client;

/* With a message still queued, so that a remainder has to finish it. */
static void close_client(parts *p) {
    p2p_message_send_data(p->client, "last", 4);
    p2p_socket_close(p->client);
    p->client = NULL;
}

static void raw_client_step(raw_client *r, parts *p) {
    if (r->out < sizeof r->sent) {
        int64_t sent = os_send_now(p->fd, r->sent + r->out, sizeof r->sent - r->out);
        if (sent > 0) r->out += (size_t)sent, p->progress++;
        if (sent < 0 && sent != -EAGAIN) r->ended = true;
    }
    int64_t got = os_recv_now(p->fd, r->back + r->in, sizeof r->back - r->in);
    if (got > 0) r->in += (size_t)got, p->progress++;
    if (r->in == sizeof r->sent) raw_fin(p->fd);
    if (got <= 0 && got != -EAGAIN) r->ended = true;
}

static bool raw_client_run(raw_client *r, parts *p) {
    uint64_t seen = 0;
    size_t length = 0;
    r->out = 0, r->in = 0, r->ended = p->fd == P2P_INVALID_HANDLE;
    for (uint32_t i = 0; i < COUNT_OF(lengths); i++) {
        static uint8_t data[70000];
        raw_fill(data, lengths[i], i);
        length += raw_frame(r->sent + length, data, lengths[i]);
    }
    assert_int_equal(length, sizeof r->sent);
    for (int idle = 0; idle < PATIENCE && p->fatal == 0; idle++) {
        bool raw_done = r->ended;
        bool client_done = p->failed || p->received == COUNT_OF(lengths);
        if (raw_done && client_done && p->ticks == 3 && p->tasks == 1 && p->watched == 1 && p->datagrams == 1 &&
            p->datagram_messages == 1 && p->quiet[0] == NULL && p->quiet[1] == NULL)
            break;
        if (!r->ended) raw_client_step(r, p);
        if (p->ticks > 0) p2p_socket_resume(p->client); /* NULL, too */
        if (p->client != NULL && p->received == COUNT_OF(lengths)) close_client(p);
        int result = p2p_event_loop_run_once(p->loop, 1);
        if (result < 0) p->fatal = result;
        p2p_event_loop_stats_t stats = loop_stats(p->loop);
        uint64_t progress = stats.bytes_in + stats.bytes_out + stats.accepted + p->progress;
        if (progress != seen) idle = 0;
        seen = progress;
    }
    assert_false(p->corrupt);
    assert_memory_equal(r->back, r->sent, r->in); /* what came back is what was sent, however far it got */
    return r->in == sizeof r->sent && r->ended && p->fatal == 0;
}

static bool serves_a_new_client(parts *p) {
    char back[8];
    size_t got = 0;
    p2p_handle_t fd = raw_connect(p->by_read.port);
    if (fd == P2P_INVALID_HANDLE) return false;
    bool sent = raw_send_text(fd, "new");
    for (int64_t limit = clock_ns() + RAW_DEADLINE_S * 1000000000ll; sent && got < 7 && clock_ns() < limit;) {
        int64_t done = os_recv_now(fd, back + got, 7 - got);
        if (done <= 0 && done != -EAGAIN) break;
        if (done > 0) got += (size_t)done;
        if (p2p_event_loop_run_once(p->loop, 1) < 0) break;
    }
    os_close(fd);
    return got == 7 && memcmp(back, "\0\0\0\3new", 7) == 0;
}

/* ---- the end ---- */

static void end(parts *p) {
    if (p->loop != NULL) {
        p2p_watch_free(p->watch);
        p2p_socket_close(p->client);
        p2p_socket_close(p->quiet[0]);
        p2p_socket_close(p->quiet[1]);
        p2p_socket_close(p->udp);
        p2p_socket_close(p->told);
        if (p->has_by_read) echo_stop(&p->by_read);
        if (p->has_by_message) echo_stop(&p->by_message);
        if (p->fatal == 0) p2p_event_loop_run_once(p->loop, 0);
        p2p_event_loop_free(p->loop);
    }
    if (p->fd != P2P_INVALID_HANDLE) os_close(p->fd);
    os_close(p->ends[0]);
    os_close(p->ends[1]);
}

scenario scenario_run(void (*calm)(void)) {
    static raw_client raw;
    scenario result = { false, false, false };
    parts p = { .fd = P2P_INVALID_HANDLE };
    if (begin(&p)) {
        bool raw_complete = raw_client_run(&raw, &p);
        result.complete = raw_complete && p.received == COUNT_OF(lengths) && p.ticks == 3 && p.tasks == 1 &&
                          p.watched == 1 && p.datagrams == 1 && p.datagram_messages == 1;
        calm();
        result.can_recover = p.fatal == 0 && p.has_by_read;
        if (result.can_recover) result.recovered = serves_a_new_client(&p);
        assert_true(p.connects <= 1);
        if (result.can_recover && p.connecting) assert_int_equal(p.connects, 1);
    }
    calm();
    end(&p);
    return result;
}
