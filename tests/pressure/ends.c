/* Peers that break off, and the last message before a close. */
#include "pressure.h"
#include "probe.h"

#include <signal.h>
#include <stdlib.h>

/* ---- G-N8 ---- */

enum { LONG_SIZE = 60000 };

static const uint8_t bytes[LONG_SIZE];

static void reset_peer(probe *p) {
    raw_reset(p->fd);
    p->fd = P2P_INVALID_HANDLE;
}

static void while_connecting(probe *p) {
    uint16_t port;
    os_close(raw_listen(&port, 1)); /* answers with RST now */
    probe_add(p, p->loop, p2p_socket_create(P2P_TCP), &probe_by_message);
    assert_int_equal(p2p_socket_connect(p->sock, "127.0.0.1", port), 0);
}

static void while_idle(probe *p) {
    probe_open(p, p->loop, &probe_by_message);
    loop_settle(p->loop);
    reset_peer(p);
}

static void in_a_header(probe *p) {
    probe_open(p, p->loop, &probe_by_message);
    assert_true(raw_send(p->fd, "\0\0", 2));
    loop_settle(p->loop);
    reset_peer(p);
}

static void in_a_body(probe *p) {
    probe_open(p, p->loop, &probe_by_message);
    assert_true(raw_send_header(p->fd, 10));
    assert_true(raw_send(p->fd, "12345", 5));
    loop_settle(p->loop);
    reset_peer(p);
}

static void fill(probe *p) {
    probe_open(p, p->loop, &probe_by_message);
    for (uint64_t queued = 0, before = 1; queued != before;) {
        before = queued;
        while (p2p_message_send_data(p->sock, bytes, LONG_SIZE) == 0) {
        }
        loop_settle(p->loop);
        queued = loop_stats(p->loop).output_queued;
    }
}

static void with_a_full_queue(probe *p) {
    fill(p);
    p->trace_length = 0; /* on_write while it was filled */
    memset(p->trace, 0, sizeof p->trace);
    reset_peer(p);
}

static void in_close(probe *p) {
    fill(p);
    p->trace_length = 0;
    memset(p->trace, 0, sizeof p->trace);
    p2p_socket_close(p->sock);
    loop_settle(p->loop);
    reset_peer(p);
}

static void a_reset_is_told_once_in_each_state(void **state) {
    (void)state;
    static const struct {
        const char *name;
        void (*reset)(probe *p);
        const char *trace; /* before the case closes it */
        int error;
    } states[] = {
        { "connecting", while_connecting, "c", P2P_ERR_REFUSED }, { "idle", while_idle, "e", P2P_ERR_RESET },
        { "mid header", in_a_header, "e", P2P_ERR_RESET },        { "mid body", in_a_body, "e", P2P_ERR_RESET },
        { "queue full", with_a_full_queue, "e", P2P_ERR_RESET },  { "in close", in_close, "x", P2P_ERR_RESET },
    };
    unsigned right = 0, closes = 0;
    p2p_event_loop_t *loop = loop_create(NULL);
    for (size_t i = 0; i < COUNT_OF(states); i++) {
        probe p = { .loop = loop };
        states[i].reset(&p);
        RUN_UNTIL(loop, p.trace_length > 0);
        loop_settle(loop);
        int error = p.connects > 0 ? p.connect_error : p.errors > 0 ? p.error : p.reason;
        bool as_told = strcmp(p.trace, states[i].trace) == 0 && error == states[i].error;
        if (!as_told) print_message("%s: %s, %s\n", states[i].name, p.trace, p2p_error_name(error));
        if (p.sock != NULL) p2p_socket_close(p.sock);
        RUN_UNTIL(loop, p.closes > 0);
        loop_settle(loop);
        right += as_told;
        closes += p.closes;
    }
    p2p_event_loop_free(loop);
    goal(right == COUNT_OF(states) && closes == COUNT_OF(states),
         "G-N8 rst: %lu states, %u with the right error once, %u on_close", (unsigned long)COUNT_OF(states), right,
         closes);
}

/* ---- G-N9 ---- */

#if defined(SIGPIPE)
static void be_killed_by_sigpipe(void) {
    signal(SIGPIPE, SIG_DFL);
}
#else
static void be_killed_by_sigpipe(void) {
}
#endif

static void writing_to_a_closed_peer_is_an_error_and_no_signal(void **state) {
    (void)state;
    const unsigned peers = goal_count(1000, 100);
    unsigned told = 0, writes = 0;
    be_killed_by_sigpipe();
    p2p_event_loop_t *loop = loop_create(NULL);
    for (unsigned i = 0; i < peers; i++) {
        p2p_handle_t fd;
        p2p_socket_t *sock = socket_pair(&fd);
        int64_t result = 0;
        os_close(fd);
        if (i % 3 == 0) { /* in a loop */
            probe p = { 0 };
            probe_add(&p, loop, sock, &probe_by_message);
            for (; result == 0; writes++) {
                result = p2p_message_send_data(sock, "x", 1);
                p2p_event_loop_run_once(loop, 0);
            }
            RUN_UNTIL(loop, p.errors + p.reads > 0);
            probe_close(&p);
        } else { /* outside, by message and by bytes */
            for (; result >= 0; writes++)
                result = i % 3 == 1 ? p2p_message_send_data(sock, "x", 1) : p2p_socket_send(sock, "x", 1);
            p2p_socket_close(sock);
        }
        told += result == P2P_ERR_RESET || result == P2P_ERR_CLOSED;
    }
    p2p_event_loop_free(loop);
    goal(told == peers, "G-N9 sigpipe: %u writes to %u closed peers, %u told by the call, 0 signals", writes, peers,
         told);
}

/* ---- G-N10 ---- */

enum { LAST_SIZE = 1000 };

typedef struct leaver {
    host h;
    p2p_socket_t *waiting; /* to be closed in a later turn */
} leaver;

static leaver the_leaver;

/* Answer, and close: now, with input behind the message; or later, when the system has sent the answer. */
static void answer_and_close(host *h, p2p_socket_t *sock, uint32_t length) {
    assert_int_equal(p2p_message_send_data(sock, bytes, LAST_SIZE), 0);
    if (length == 1)
        p2p_socket_close(sock);
    else
        ((leaver *)h)->waiting = sock;
}

/* @return whether the last message came whole, and what the connection ended with. */
static bool last_message_comes(leaver *l, unsigned mode, int *end) {
    static const uint8_t more[32 * 1024];
    uint8_t got[LAST_SIZE + 4];
    p2p_handle_t fd = raw_connect(l->h.port);
    l->waiting = NULL;
    assert_true(raw_send_frame(fd, "ab", mode == 0 ? 1 : 2));
    if (mode == 0) assert_true(raw_send(fd, more, sizeof more)); /* unread at the close */
    if (mode == 1) {
        RUN_UNTIL(l->h.loop, l->waiting != NULL);
        loop_settle(l->h.loop);
        assert_true(raw_send(fd, more, sizeof more)); /* comes when all has been written */
        p2p_socket_close(l->waiting);
        assert_true(p2p_event_loop_run_once(l->h.loop, 0) >= 0);
    }
    bool came = loop_recv(l->h.loop, fd, got, sizeof got);
    *end = mode == 0 ? (os_send_now(fd, more, sizeof more), raw_fin(fd), loop_recv_end(l->h.loop, fd)) : 0;
    os_close(fd);
    return came;
}

static void the_last_message_before_a_close_arrives(void **state) {
    (void)state;
    const unsigned closes = goal_count(10000, 500);
    unsigned came = 0, clean = 0;
    the_leaver = (leaver){ .h = { .hook = answer_and_close } };
    host_open(&the_leaver.h, NULL);
    for (unsigned i = 0; i < closes; i++) {
        int end;
        came += last_message_comes(&the_leaver, i % 2, &end);
        clean += end == 0;
    }
    loop_settle(the_leaver.h.loop);
    host_close(&the_leaver.h);
    goal(came == closes && clean == closes, "G-N10 lastmsg: %u closes with unread input, %u lost, %u ended by RST",
         closes, closes - came, closes - clean);
}

int main(int argc, char **argv) {
    const struct CMUnitTest cases[] = {
        GOAL("G-N8", a_reset_is_told_once_in_each_state),
        GOAL("G-N9", writing_to_a_closed_peer_is_an_error_and_no_signal),
        GOAL("G-N10", the_last_message_before_a_close_arrives),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
