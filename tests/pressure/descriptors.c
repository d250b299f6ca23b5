/* A listener when descriptors have run out: it neither spins nor stays closed. */
#include "pressure.h"

#include <sys/resource.h>

enum { CLIENTS = 100, FREE = 10, PAUSE_MS = 100 };

static void set_limit(int descriptors) {
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = (rlim_t)descriptors;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* A millisecond a turn. @return how many turns until so many are accepted, `turns` if that does not happen. */
static unsigned run_for(host *h, unsigned turns, unsigned accepted) {
    unsigned turn = 0;
    for (; turn < turns && h->accepted < accepted; turn++) {
        clock_advance(MS_NS);
        assert_true(p2p_event_loop_run_once(h->loop, 0) >= 0);
    }
    return turn;
}

static p2p_socket_t *last;

static void remember(host *h, p2p_socket_t *sock) {
    (void)h;
    last = sock;
}

static void without_descriptors_a_listener_rests_and_resumes(void **state) {
    (void)state;
    enum { SECONDS = 10 };
    crowd c;
    host h = { .joined = remember };
    int limit = os_raise_socket_limit();
    crowd_open(&c);
    /* Before the listener is there: io_uring looks at it when it begins to accept. */
    set_limit(descriptors_open() + FREE);
    host_open(&h, NULL);
    loop_settle(h.loop);
    crowd_begin(&c, (crowd_order){ .what = CROWD_CONNECT, .port = h.port, .count = CLIENTS }, NULL);
    assert_int_equal(crowd_result(&c), CLIENTS); /* the system has taken them; nobody has accepted them */
    run_for(&h, 200, CLIENTS);
    unsigned accepted = h.accepted, refusals = h.refusals;
    uint64_t wakeups = loop_stats(h.loop).wakeups;
    run_for(&h, SECONDS * 1000, CLIENTS);
    wakeups = loop_stats(h.loop).wakeups - wakeups;
    refusals = h.refusals - refusals;
    bool stuck = h.accepted == accepted;
    int error = h.error;

    p2p_socket_close(last);
    unsigned resumed_ms = run_for(&h, 10000, accepted + 1);
    set_limit(limit);
    run_for(&h, 10000, CLIENTS);
    host_close(&h);
    crowd_close(&c);
    bool seldom = wakeups <= 20 * SECONDS && refusals <= SECONDS * 1000 / PAUSE_MS + 1;
    goal(stuck && seldom && error == P2P_ERR_TOO_MANY_FILES &&
             resumed_ms <= PAUSE_MS + 2 && h.accepted == CLIENTS,
         "G-R1 emfile: %d clients, %u accepted; %.1f wake-ups and %.1f errors a second (at most 20), resumed in %u ms, "
         "%u served in the end",
         CLIENTS, accepted, (double)wakeups / SECONDS, (double)refusals / SECONDS, resumed_ms, h.accepted);
}

int main(int argc, char **argv) {
    const struct CMUnitTest cases[] = {
        GOAL_ON_CLOCK("G-R1", without_descriptors_a_listener_rests_and_resumes),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
