/* Peers that take their time, on a clock that the case moves: a drip of bytes, silence, an address without answer. */
#include "pressure.h"
#include "probe.h"

#include <stdlib.h>

enum { DEADLINE_S = 60, STEP_MS = 100, DRIP_S = 10 };

/* ---- G-N5 ---- */

static int64_t first_cut_ns, last_cut_ns;
static unsigned timed_out;

static void note_cut(host *h, p2p_socket_t *sock, int error) {
    int64_t now_ns = p2p_event_loop_now(h->loop);
    if (error != P2P_ERR_TIMED_OUT || p2p_socket_timed_out(sock) != P2P_DEADLINE_READ) return;
    if (timed_out++ == 0) first_cut_ns = now_ns;
    last_cut_ns = now_ns;
}

enum { ROUND_TRIPS_MAX = 100000, TRICKLE = 1000 };

/* @return what 99 of 100 of its round trips don't exceed, while some of the crowd send a byte a millisecond. */
static int64_t p99_meanwhile(host *h, p2p_handle_t fd, crowd *c, unsigned some) {
    static int64_t times_ns[ROUND_TRIPS_MAX];
    size_t trips = 0;
    crowd_begin(c, (crowd_order){ .what = CROWD_TRICKLE, .count = some }, NULL);
    for (; !crowd_done(c) && trips < ROUND_TRIPS_MAX; trips++) {
        int64_t begin_ns = clock_ns();
        assert_true(raw_send_text(fd, "ping"));
        loop_expect_text(h->loop, fd, "ping");
        times_ns[trips] = clock_ns() - begin_ns;
    }
    assert_int_equal(crowd_result(c), some);
    return trips == 0 ? 0 : percentile(times_ns, trips, 0.99);
}

static unsigned slow_peers(void) {
    unsigned wanted = goal_count(10000, os_is_wine() ? 300 : 2000);
    int limit = os_raise_socket_limit() - 200;
    if (limit > 0 && wanted > (unsigned)limit) wanted = (unsigned)limit;
    bool is_select = test_backend() != NULL && strcmp(test_backend(), "select") == 0;
    if (is_select && wanted > 1000) wanted = 1000; /* FD_SETSIZE */
    return wanted;
}

static void slow_peers_are_cut_by_the_deadline_of_a_message(void **state) {
    (void)state;
    const unsigned count = slow_peers();
    static const uint8_t drip[4] = { 0, 8, 8, 8 }; /* a header, also with a zero more */
    crowd c;
    host h = { .echo = true, .failed = note_cut };
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.read_timeout_ms = DEADLINE_S * 1000;
    timed_out = 0;
    const unsigned some = count < TRICKLE ? count : TRICKLE;
    crowd_open(&c);
    host_open(&h, &options);
    p2p_handle_t honest = raw_connect(h.port);
    RUN_UNTIL(h.loop, h.accepted == 1);
    host_admit(&h, &c, count);
    loop_settle(h.loop);
    int64_t alone_ns = p99_meanwhile(&h, honest, &c, 0), during_ns = 0;
    uint64_t bytes = loop_stats(h.loop).bytes_in; /* that are to come */
    int64_t begin_ns = p2p_event_loop_now(h.loop);
    unsigned sent = 0;
    for (unsigned ms = 0; timed_out == 0 && ms < 2 * DEADLINE_S * 1000; ms += STEP_MS) {
        if (ms % (DRIP_S * 1000) == 0) { /* a byte of each: of the header first, of a body that never ends then */
            const uint8_t *byte = sent < sizeof drip ? &drip[sent] : drip;
            assert_int_equal(CROWD_RUN(&c, h.loop, ((crowd_order){ .what = CROWD_SEND, .size = 1 }), byte), count);
            sent++;
            bytes += count;
            RUN_UNTIL(h.loop, loop_stats(h.loop).bytes_in == bytes);
            if (sent == 1) {
                during_ns = p99_meanwhile(&h, honest, &c, some);
                loop_settle(h.loop);
                bytes = loop_stats(h.loop).bytes_in;
            }
        }
        clock_advance(STEP_MS * MS_NS);
        assert_true(p2p_event_loop_run_once(h.loop, 0) >= 0);
    }
    for (int i = 0; i < 100 && timed_out < count; i++) {
        clock_advance(STEP_MS * MS_NS);
        assert_true(p2p_event_loop_run_once(h.loop, 0) >= 0);
    }
    RUN_UNTIL(h.loop, h.closed == count);
    int gone = CROWD_RUN(&c, h.loop, ((crowd_order){ .what = CROWD_ENDED }), NULL);
    double first_s = (double)(first_cut_ns - begin_ns) / 1e9, last_s = (double)(last_cut_ns - begin_ns) / 1e9;
    os_close(honest);
    host_close(&h);
    crowd_close(&c);
    goal(timed_out == count && gone == (int)count && first_s >= DEADLINE_S && last_s <= DEADLINE_S * 1.1,
         "G-N5 slowloris: %u peers at 1 byte in %d s, cut %u at %.1f to %.1f s (deadline %d), honest p99 %ld -> %ld us",
         count, DRIP_S, timed_out, first_s, last_s, DEADLINE_S, (long)(alone_ns / 1000), (long)(during_ns / 1000));
}

/* ---- G-N4 ---- */

enum { BODY_MAX = 64, CUTS = BODY_MAX + 4 };

static void a_peer_that_falls_silent_inside_a_frame_is_cut_by_the_deadline(void **state) {
    (void)state;
    uint8_t body[BODY_MAX] = { 0 }, frame[CUTS];
    probe *p = calloc(CUTS, sizeof *p);
    assert_non_null(p);
    p2p_event_loop_t *loop = loop_create(NULL);
    size_t early = 0, cut_off = 0;
    raw_frame(frame, body, sizeof body);
    for (size_t cut = 0; cut < CUTS; cut++) {
        probe_open(&p[cut], loop, &probe_by_message);
        assert_true(raw_send(p[cut].fd, frame, cut));
    }
    RUN_UNTIL(loop, loop_stats(loop).bytes_in == CUTS * (CUTS - 1) / 2);
    clock_advance((DEADLINE_S * 1000ll - 1) * MS_NS);
    loop_settle(loop);
    for (size_t cut = 0; cut < CUTS; cut++) early += p[cut].trace_length;
    clock_advance(MS_NS);
    loop_settle(loop);
    for (size_t cut = 0; cut < CUTS; cut++) {
        bool is_cut = strcmp(p[cut].trace, "e") == 0 && p[cut].error == P2P_ERR_TIMED_OUT;
        cut_off += cut == 0 ? p[cut].trace_length == 0 : is_cut;
    }
    for (size_t cut = 0; cut < CUTS; cut++) probe_close(&p[cut]);
    p2p_event_loop_free(loop);
    free(p);
    goal(early == 0 && cut_off == CUTS, "G-N4 cut by silence: %d cuts, %lu told early, %lu right after %d s, "
         "0 messages",
         CUTS, (unsigned long)early, (unsigned long)cut_off, DEADLINE_S);
}

/* ---- G-N12 ---- */

/* A listener that accepts nobody: once its backlog is full, the system answers no more. */
static void connecting_where_nobody_answers_ends_by_our_own_deadline(void **state) {
    (void)state;
    enum { TIMEOUT_MS = 3000, FILL_MAX = 64 };
    p2p_handle_t fillers[FILL_MAX];
    uint16_t port;
    p2p_handle_t deaf = raw_listen(&port, 0);
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.connect_timeout_ms = TIMEOUT_MS;
    size_t filled = 0;
    struct sockaddr_in address = os_loopback(port);
    for (bool taken = true; taken && filled < FILL_MAX; filled++) { /* until one is not taken */
        fillers[filled] = os_socket(AF_INET, SOCK_STREAM);
        os_set_nonblocking(fillers[filled], true);
        os_connect(fillers[filled], (struct sockaddr *)&address, sizeof address);
        taken = os_poll(fillers[filled], POLLOUT, 100) > 0;
    }
    if (filled == FILL_MAX) {
        for (size_t i = 0; i < filled; i++) os_close(fillers[i]);
        os_close(deaf);
        p2p_cleanup();
        test_skip("this system never drops a connection when a backlog is full");
    }
    p2p_event_loop_t *loop = loop_create(&options);
    probe p = { 0 };
    probe_add(&p, loop, p2p_socket_create(P2P_TCP), &probe_by_message);
    int64_t begin_ns = p2p_event_loop_now(loop);
    p2p_event_loop_run_once(loop, 0);
    begin_ns = p2p_event_loop_now(loop);
    assert_int_equal(p2p_socket_connect(p.sock, "127.0.0.1", port), 0);
    int64_t took_ms = 0;
    for (; p.connects == 0 && took_ms < 10 * TIMEOUT_MS; took_ms = (p2p_event_loop_now(loop) - begin_ns) / MS_NS) {
        clock_advance(MS_NS);
        assert_true(p2p_event_loop_run_once(loop, 0) >= 0);
    }
    loop_settle(loop);
    bool right = strcmp(p.trace, "c") == 0 && p.connect_error == P2P_ERR_TIMED_OUT;
    probe_close(&p);
    for (size_t i = 0; i < filled; i++) os_close(fillers[i]);
    os_close(deaf);
    p2p_event_loop_free(loop);
    goal(right && took_ms >= TIMEOUT_MS && took_ms <= TIMEOUT_MS + TIMEOUT_MS / 20,
         "G-N12 blackhole: told once as TIMED_OUT after %ld ms, of %d (within 5 %%)", (long)took_ms, TIMEOUT_MS);
}

/* ---- G-N6 ---- */

static unsigned pushed_out;
static uint64_t most_half_open;

static void note_limit(host *h, p2p_socket_t *sock, int error) {
    (void)sock;
    pushed_out += error == P2P_ERR_LIMIT;
    if (loop_stats(h->loop).half_open > most_half_open) most_half_open = loop_stats(h->loop).half_open;
}

static void note_half_open(host *h, p2p_socket_t *sock) {
    (void)sock;
    if (loop_stats(h->loop).half_open > most_half_open) most_half_open = loop_stats(h->loop).half_open;
}

static void peers_without_a_message_are_limited(void **state) {
    (void)state;
    enum { CAP = 100 };
    const unsigned count = goal_count(900, 300);
    crowd c;
    host h = { .echo = true, .failed = note_limit, .joined = note_half_open };
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.max_half_open = CAP;
    pushed_out = 0;
    most_half_open = 0;
    crowd_open(&c);
    host_open(&h, &options);
    p2p_handle_t honest = raw_connect(h.port);
    assert_true(raw_send_text(honest, "here"));
    loop_expect_text(h.loop, honest, "here");
    size_t before = memory_in_use();
    host_admit(&h, &c, count);
    RUN_UNTIL(h.loop, h.closed == count - CAP);
    size_t memory = memory_in_use() - before;
    uint64_t left = loop_stats(h.loop).half_open;
    clock_advance(DEADLINE_S * 1000 * MS_NS); /* those that are left have the deadline for a message */
    RUN_UNTIL(h.loop, h.closed == count);
    assert_true(raw_send_text(honest, "still"));
    loop_expect_text(h.loop, honest, "still");
    os_close(honest);
    host_close(&h);
    crowd_close(&c);
    goal(pushed_out == count - CAP && most_half_open <= CAP && left == CAP,
         "G-N6 preauth: %u peers without a message, cap %d, %lu at a time, %u pushed out, the rest cut after %d s, "
         "memory %lu B, honest peer served",
         count, CAP, (unsigned long)most_half_open, pushed_out, DEADLINE_S, (unsigned long)memory);
}

int main(int argc, char **argv) {
    const struct CMUnitTest cases[] = {
        GOAL_ON_CLOCK("G-N4.deadline", a_peer_that_falls_silent_inside_a_frame_is_cut_by_the_deadline),
        GOAL_ON_CLOCK("G-N5", slow_peers_are_cut_by_the_deadline_of_a_message),
        GOAL_ON_CLOCK("G-N6", peers_without_a_message_are_limited),
        GOAL_ON_CLOCK("G-N12", connecting_where_nobody_answers_ends_by_our_own_deadline),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
