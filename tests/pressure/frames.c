/* What peers can do with frames alone: empty ones, lengths that are lies, ends in the middle. */
#include "pressure.h"
#include "probe.h"

#include <stdlib.h>

/* ---- G-N1 ---- */

static void not_empty(host *h, p2p_socket_t *sock, uint32_t length) {
    (void)h, (void)sock;
    assert_int_equal(length, 0);
}

static void empty_messages_are_delivered_each(void **state) {
    (void)state;
    static const uint8_t zeros[64 * 1024];
    const unsigned frames = goal_count(1000000, 100000);
    host h = { .hook = not_empty };
    host_open(&h, NULL);
    p2p_handle_t fd = raw_connect(h.port);
    for (size_t left = frames * 4ul; left > 0;) {
        size_t size = left < sizeof zeros ? left : sizeof zeros;
        assert_true(loop_send(h.loop, fd, zeros, size));
        left -= size;
    }
    RUN_UNTIL(h.loop, h.messages >= frames);
    loop_settle(h.loop);
    os_close(fd);
    host_close(&h);
    goal(h.messages == frames && h.errors + h.ended == 0, "G-N1 zero: %u frames, %u callbacks", frames, h.messages);
}

/* ---- G-N2 ---- */

static int64_t told_ns;
static size_t told_peak;

static void close_it(probe *p, char what) {
    if (what != 'e') return;
    told_ns = clock_ns();
    told_peak = memory_peak();
    p2p_socket_close(p->sock);
}

/* @return whether it was refused before its body, once, without a message; *bytes: what was allocated meanwhile. */
static bool refused_at_once(p2p_event_loop_t *loop, uint32_t claim, bool in_pieces, size_t *bytes, int64_t *ns) {
    probe p = { .hook = close_it };
    probe_open(&p, loop, &probe_by_message);
    loop_settle(loop);
    size_t before = memory_in_use();
    uint32_t header = htonl(claim);
    memory_mark();
    int64_t begin_ns = clock_ns();
    for (size_t i = 0; in_pieces && i < 3; i++) {
        assert_true(raw_send(p.fd, (char *)&header + i, 1));
        loop_settle(loop);
    }
    size_t sent = in_pieces ? 3 : 0;
    assert_true(raw_send(p.fd, (char *)&header + sent, sizeof header - sent));
    RUN_UNTIL(loop, p.closes == 1);
    *bytes = told_peak - before;
    *ns = told_ns - begin_ns;
    bool ended = loop_recv_end(loop, p.fd) == 0;
    os_close(p.fd);
    return ended && strcmp(p.trace, "ex") == 0 && p.error == P2P_ERR_TOO_LONG;
}

static void a_header_that_claims_too_much_ends_the_connection(void **state) {
    (void)state;
    static const uint32_t claims[] = { P2P_DEFAULT_MAX_MESSAGE_SIZE + 1, 0x7fffffff, 0x80000000, 0xfffffffb, 0xfffffffc,
                                       0xffffffff };
    p2p_event_loop_t *loop = loop_create(NULL);
    size_t most = 0, bytes, right = 0;
    int64_t ns, longest_ns = 0;
    for (size_t i = 0; i < 2 * COUNT_OF(claims); i++) {
        right += refused_at_once(loop, claims[i / 2], i % 2 == 1, &bytes, &ns);
        if (bytes > most) most = bytes;
        if (i % 2 == 0 && ns > longest_ns) longest_ns = ns;
    }
    p2p_event_loop_free(loop);
    goal(right == 2 * COUNT_OF(claims) && most <= 4096,
         "G-N2 claim4g: %lu of %lu refused before the body, alloc +%lu B (at most 4096), told in %ld us",
         (unsigned long)right, (unsigned long)(2 * COUNT_OF(claims)), (unsigned long)most, (long)(longest_ns / 1000));
}

/* ---- G-N3 ---- */

static void a_claim_takes_no_memory_before_its_bytes_come(void **state) {
    (void)state;
    enum { CLAIM = 16 * 1024 * 1024, SOME = 3000 };
    const unsigned peers = goal_count(1000, 200);
    static const uint8_t some[SOME];
    uint32_t header = htonl(CLAIM);
    crowd c;
    host h = { 0 };
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.max_message_size = CLAIM;
    crowd_open(&c);
    host_open(&h, &options);
    size_t before = memory_in_use(), resident = resident_bytes();
    host_admit(&h, &c, peers);
    assert_int_equal(CROWD_RUN(&c, h.loop, ((crowd_order){ .what = CROWD_SEND, .size = 4 }), &header), peers);
    RUN_UNTIL(h.loop, loop_stats(h.loop).bytes_in == peers * 4ul);
    size_t each = (memory_in_use() - before) / peers, resident_each = (resident_bytes() - resident) / peers;
    assert_int_equal(CROWD_RUN(&c, h.loop, ((crowd_order){ .what = CROWD_SEND, .size = SOME }), some), peers);
    RUN_UNTIL(h.loop, loop_stats(h.loop).bytes_in == peers * (4ul + SOME));
    size_t later = (memory_in_use() - before) / peers;
    host_close(&h);
    crowd_close(&c);
    goal(each <= 8192 && later <= 8192 && h.errors + h.messages == 0,
         "G-N3 claimmax: %u peers claim %d MiB: %lu B each (at most 8192; resident %lu), with %d B of body %lu B",
         peers,
         CLAIM >> 20, (unsigned long)each, (unsigned long)resident_each, SOME, (unsigned long)later);
}

/* ---- G-N4 ---- */

enum { BODY_MAX = 64 };

/* One connection that ends after `cut` bytes of a frame with `length` bytes of body. */
static bool cut_is_told(p2p_event_loop_t *loop, uint32_t length, size_t cut, bool reset) {
    probe p = { 0 };
    uint8_t body[BODY_MAX], frame[BODY_MAX + 4];
    memset(body, 'b', sizeof body);
    raw_frame(frame, body, length);
    probe_open(&p, loop, &probe_by_message);
    assert_true(raw_send(p.fd, frame, cut));
    if (reset)
        raw_reset(p.fd);
    else
        raw_fin(p.fd);
    RUN_UNTIL(loop, p.trace_length > 0);
    for (int i = 0; i < 3; i++) assert_true(p2p_event_loop_run_once(loop, 0) >= 0);
    if (!reset) os_close(p.fd);
    p.fd = P2P_INVALID_HANDLE;
    probe_close(&p);
    if (!reset && cut == 0) return strcmp(p.trace, "rx") == 0 && p.end == P2P_ERR_CLOSED;
    return strcmp(p.trace, "ex") == 0 && p.error == (reset ? P2P_ERR_RESET : P2P_ERR_TRUNCATED);
}

static void every_cut(bool reset, const char *id, const char *how) {
    p2p_event_loop_t *loop = loop_create(NULL);
    unsigned cuts = 0, right = 0;
    const uint32_t step = goal_count(1, 16);
    for (uint32_t length = 0; length <= BODY_MAX; length += step) {
        for (size_t cut = 0; cut < length + 4ul; cut++, cuts++) right += cut_is_told(loop, length, cut, reset);
    }
    p2p_event_loop_free(loop);
    goal(right == cuts, "%s cut by %s: %u cuts of bodies up to %d B, %u told once and right, 0 messages", id, how, cuts,
         BODY_MAX, right);
}

static void an_end_inside_a_frame_is_told_as_such(void **state) {
    (void)state;
    every_cut(false, "G-N4", "FIN");
}

static void a_reset_inside_a_frame_is_told_as_such(void **state) {
    (void)state;
    every_cut(true, "G-N4", "RST");
}

static void a_peer_that_falls_silent_inside_a_frame_causes_nothing(void **state) {
    (void)state;
    enum { CUTS = BODY_MAX + 4 };
    uint8_t body[BODY_MAX] = { 0 }, frame[CUTS];
    probe *p = calloc(CUTS, sizeof *p);
    assert_non_null(p);
    p2p_event_loop_t *loop = loop_create(NULL);
    unsigned silent = 0;
    raw_frame(frame, body, sizeof body);
    for (size_t cut = 0; cut < CUTS; cut++) {
        probe_open(&p[cut], loop, &probe_by_message);
        assert_true(raw_send(p[cut].fd, frame, cut));
    }
    RUN_UNTIL(loop, loop_stats(loop).bytes_in == CUTS * (CUTS - 1) / 2);
    loop_settle(loop);
    uint64_t wakeups = loop_stats(loop).wakeups;
    loop_settle(loop);
    wakeups = loop_stats(loop).wakeups - wakeups;
    for (size_t cut = 0; cut < CUTS; cut++) {
        silent += p[cut].trace_length == 0;
        probe_close(&p[cut]);
    }
    p2p_event_loop_free(loop);
    free(p);
    goal(silent == CUTS && wakeups == 0, "G-N4 cut by silence: %d cuts, %u without a callback, %lu wake-ups", CUTS,
         silent,
         (unsigned long)wakeups);
}

int main(int argc, char **argv) {
    const struct CMUnitTest cases[] = {
        GOAL("G-N1", empty_messages_are_delivered_each),
        GOAL("G-N2", a_header_that_claims_too_much_ends_the_connection),
        GOAL("G-N3", a_claim_takes_no_memory_before_its_bytes_come),
        GOAL("G-N4.fin", an_end_inside_a_frame_is_told_as_such),
        GOAL("G-N4.reset", a_reset_inside_a_frame_is_told_as_such),
        GOAL("G-N4.silence", a_peer_that_falls_silent_inside_a_frame_causes_nothing),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
