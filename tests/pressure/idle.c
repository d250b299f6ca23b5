/* Many connections that do nothing: what they hold, and whether anything wakes up for them. */
#include "pressure.h"

#include <stdio.h>
#include <stdlib.h>

/* 19,000, or as many as the process may have: select can't above 1024. */
static unsigned connections(void) {
    unsigned wanted = goal_count(19000, os_is_wine() ? 400 : 5000);
    int limit = os_raise_socket_limit() - 200;
    const char *backend = test_backend();
    if (limit > 0 && wanted > (unsigned)limit) wanted = (unsigned)limit;
    if (backend != NULL && strcmp(backend, "select") == 0 && wanted > 1000) wanted = 1000; /* FD_SETSIZE */
    return wanted;
}

static void idle_until(p2p_timer_t *timer, void *user_data) {
    (void)timer;
    p2p_event_loop_stop(user_data);
}

/* epoll is what is chosen on Linux; others have more records of their own, the few under Wine steps of growth. */
static double bytes_allowed(void) {
    if (test_backend() != NULL && strcmp(test_backend(), "epoll") == 0) return 200;
    return os_is_wine() ? 400 : 300;
}

static void an_idle_connection_costs_little(void **state) {
    (void)state;
    const unsigned count = connections();
    crowd c;
    host h = { 0 };
    crowd_open(&c);
    host_open(&h, NULL);
    loop_settle(h.loop);
    size_t before = memory_in_use(), resident = resident_bytes();
    host_admit(&h, &c, count);
    double each = (double)(memory_in_use() - before) / count;
    double resident_each = ((double)resident_bytes() - (double)resident) / count;
    /* Nor does one that has talked. */
    static const uint8_t frame[] = { 0, 0, 0, 3, 'a', 'b', 'c' };
    assert_int_equal(CROWD_RUN(&c, h.loop, ((crowd_order){ .what = CROWD_SEND, .size = sizeof frame }), frame), count);
    RUN_UNTIL(h.loop, h.messages == count);
    loop_settle(h.loop);
    double later = (double)(memory_in_use() - before) / count;
    host_close(&h);
    crowd_close(&c);
    goal(each <= bytes_allowed() && later <= bytes_allowed(),
         "G-R2 mem: %u idle connections, %.1f B each (at most %.0f; resident %.0f), %.1f B when all have talked", count,
         each, bytes_allowed(), resident_each, later);
}

static void nothing_wakes_up_for_idle_connections(void **state) {
    (void)state;
    const unsigned count = connections();
    const char *wanted_s = getenv("P2P_IDLE_S");
    unsigned seconds = wanted_s != NULL ? (unsigned)atoi(wanted_s) : 2;
    crowd c;
    host h = { 0 };
    crowd_open(&c);
    host_open(&h, NULL);
    host_admit(&h, &c, count);
    loop_settle(h.loop);
    p2p_timer_t *timer = p2p_timer_create(h.loop, idle_until, h.loop);
    assert_int_equal(p2p_timer_start(timer, seconds * 1000ull * MS_NS, 0), 0);
    p2p_event_loop_stats_t before = loop_stats(h.loop);
    p2p_event_loop_run(h.loop);
    p2p_event_loop_stats_t after = loop_stats(h.loop);
    unsigned long wakeups = (unsigned long)(after.wakeups - before.wakeups);
    unsigned long waits = (unsigned long)(after.waits - before.waits);
    p2p_timer_free(timer);
    /* The timer itself ends a wait or two; a wait that rounds down would show as many. */
    host_close(&h);
    crowd_close(&c);
    goal(wakeups == 0 && waits <= 3, "G-R3 idle: %u connections, %u s, %lu wake-ups, %lu waits", count, seconds,
         wakeups,
         waits);
}

int main(int argc, char **argv) {
    const struct CMUnitTest cases[] = {
        GOAL("G-R2", an_idle_connection_costs_little),
        GOAL("G-R3", nothing_wakes_up_for_idle_connections),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
