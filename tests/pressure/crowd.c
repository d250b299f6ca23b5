/* Many raw peers. */
#include "crowd.h"

#include "fixture.h"

#include <stdlib.h>

typedef struct members {
    p2p_handle_t *fds;
    uint32_t count, capacity;
} members;

/* ---- the other side: nothing asserts here, a member that fails is not counted ---- */

/* Many connections between the same two addresses run out of port numbers; the system takes long to find the last. */
static p2p_handle_t connect_one(uint16_t port, uint32_t member) {
#if defined(IP_BIND_ADDRESS_NO_PORT)
    struct sockaddr_in from = os_loopback(0), to = os_loopback(port);
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + member / 8192);
    p2p_handle_t fd = os_socket(AF_INET, SOCK_STREAM);
    if (fd == P2P_INVALID_HANDLE) return fd;
    os_set_option(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    os_set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    os_set_deadline(fd, RAW_DEADLINE_S);
    if (bind(fd, (struct sockaddr *)&from, sizeof from) == 0 && os_connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
        return fd;
    os_close(fd);
    return P2P_INVALID_HANDLE;
#else
    (void)member;
    return raw_connect(port);
#endif
}

static int32_t connect_more(members *m, uint32_t port, uint32_t count) {
    if (m->count + count > m->capacity) {
        void *fds = realloc(m->fds, (m->count + count) * sizeof *m->fds);
        if (fds == NULL) return -1;
        m->fds = fds;
        m->capacity = m->count + count;
    }
    for (uint32_t i = 0; i < count; i++) {
        p2p_handle_t fd = connect_one((uint16_t)port, m->count);
        if (fd == P2P_INVALID_HANDLE) return (int32_t)i;
        m->fds[m->count++] = fd;
    }
    return (int32_t)count;
}

static int32_t send_each(const members *m, const void *data, uint32_t size) {
    int32_t done = 0;
    for (uint32_t i = 0; i < m->count; i++) done += raw_send(m->fds[i], data, size);
    return done;
}

static int32_t trickle(const members *m, uint32_t count, p2p_handle_t silent) {
    int32_t done = 0;
    for (uint32_t i = 0; i < count || i < 1000; i++) {
        os_poll(silent, POLLIN, 1);
        if (i < count && i < m->count) done += raw_send(m->fds[i], "", 1);
    }
    return done;
}

static int32_t read_each(const members *m, uint32_t size, uint32_t seed) {
    int32_t done = 0;
    uint8_t *expected = malloc(size), *got = malloc(size);
    if (expected != NULL && got != NULL) {
        raw_fill(expected, size, seed);
        for (uint32_t i = 0; i < m->count; i++)
            done += raw_recv_frame(m->fds[i], got, size) == (int64_t)size && memcmp(got, expected, size) == 0;
    }
    free(expected);
    free(got);
    return done;
}

static int32_t ended(members *m) {
    uint32_t stay = 0;
    char byte;
    for (uint32_t i = 0; i < m->count; i++) {
        int64_t got = os_recv_now(m->fds[i], &byte, 1);
        if (got > 0 || got == -EAGAIN)
            m->fds[stay++] = m->fds[i];
        else
            os_close(m->fds[i]);
    }
    int32_t gone = (int32_t)(m->count - stay);
    m->count = stay;
    return gone;
}

static int32_t reset_all(members *m) {
    int32_t count = (int32_t)m->count;
    while (m->count > 0) raw_reset(m->fds[--m->count]);
    return count;
}

static int32_t obey(members *m, const crowd_order *order, const void *data, p2p_handle_t end) {
    switch ((crowd_do)order->what) {
    case CROWD_CONNECT: return connect_more(m, order->port, order->count);
    case CROWD_SEND: return send_each(m, data, order->size);
    case CROWD_TRICKLE: return trickle(m, order->count, end);
    case CROWD_READ: return read_each(m, order->size, order->seed);
    case CROWD_ENDED: return ended(m);
    case CROWD_RESET: return reset_all(m);
    case CROWD_KINDS: break;
    }
    return -1;
}

static void run(p2p_handle_t end, void *data) {
    members m = { 0 };
    crowd_order order;
    (void)data;
    os_raise_socket_limit();
    while (raw_recv(end, &order, sizeof order)) {
        uint32_t size = order.what == CROWD_SEND ? order.size : 0;
        void *bytes = malloc(size + 1);
        if (bytes == NULL || !raw_recv(end, bytes, size)) break;
        int32_t result = obey(&m, &order, bytes, end);
        free(bytes);
        raw_send(end, &result, sizeof result);
    }
    reset_all(&m);
    free(m.fds);
}

/* ---- this side ---- */

void crowd_open(crowd *c) {
    assert_int_equal(apart_start(&c->apart, run, NULL), 0);
}

void crowd_begin(crowd *c, crowd_order order, const void *data) {
    assert_true(raw_send(c->apart.end, &order, sizeof order));
    if (order.what == CROWD_SEND) assert_true(raw_send(c->apart.end, data, order.size));
}

bool crowd_done(const crowd *c) {
    return raw_readable(c->apart.end);
}

int crowd_result(crowd *c) {
    int32_t result = -1;
    assert_true(raw_recv(c->apart.end, &result, sizeof result));
    return result;
}

void crowd_await(const crowd *c, p2p_event_loop_t *loop) {
    RUN_UNTIL(loop, crowd_done(c));
}

void crowd_close(crowd *c) {
    apart_join(&c->apart);
}
