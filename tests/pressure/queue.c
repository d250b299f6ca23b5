/* Output that does not get away: what a queue holds at most, when it goes on, and one message for many. */
#include "pressure.h"
#include "probe.h"

#include <stdlib.h>

enum { HIGH_WATER = 256 * 1024, MESSAGE_MAX = 1024 * 1024 }; /* the defaults */

/* ---- G-N7 ---- */

/*
 * A message can begin when a byte of the queue is free; its header and node come on top, and the room in the node
 * before that it does not fit in. Beside the queues a loop has requests for writes under way, and keeps empty nodes for
 * the next messages: no more than were in use at one time.
 */
enum {
    BOUND = HIGH_WATER + MESSAGE_MAX,
    QUEUE_BOUND = BOUND + 2048,
    MEMORY_BOUND = QUEUE_BOUND + 64 * 1024
};

static const uint8_t payload[MESSAGE_MAX];

typedef struct slow_reader {
    probe p;
    bool shared;
    size_t base; /* memory before anything was sent */
    size_t queued_peak, memory_peak;
    uint64_t sent; /* bytes of frames that were taken */
} slow_reader;

static uint64_t queued(const slow_reader *r) {
    return loop_stats(r->p.loop).output_queued;
}

static void look(slow_reader *r) {
    size_t memory = memory_in_use() - r->base;
    if (memory > r->memory_peak) r->memory_peak = memory;
    if (queued(r) > r->queued_peak) r->queued_peak = (size_t)queued(r);
}

static bool send_one(slow_reader *r, uint32_t length) {
    int result;
    if (r->shared && length > 0) {
        p2p_message_t *message = p2p_message_create(payload, length);
        assert_non_null(message);
        result = p2p_message_send(r->p.sock, message);
        p2p_message_free(message);
    } else {
        result = p2p_message_send_data(r->p.sock, payload, length);
    }
    look(r);
    if (result == 0) r->sent += length + 4ul;
    return result == 0;
}

/* Until the system takes no more. */
static void fill_system(slow_reader *r, uint32_t length) {
    for (uint64_t before = 0; before == 0 || queued(r) != before;) {
        before = queued(r);
        if (before == 0) send_one(r, length);
        loop_settle(r->p.loop);
    }
}

/* As near to the mark as it gets from below; `length` for most of the way. */
static void fill_queue(slow_reader *r, uint32_t length) {
    for (; length > 0; length /= 2) {
        while (queued(r) + length + 2048 + 64 < HIGH_WATER && send_one(r, length)) {
        }
        loop_settle(r->p.loop);
        look(r);
    }
    while (queued(r) + 4 + 40 < HIGH_WATER && send_one(r, 0)) {
    }
    look(r);
}

static uint64_t drain(slow_reader *r, uint64_t until_queued) {
    static char forgotten[16 * 1024];
    uint64_t got = 0;
    for (int idle = 0; queued(r) > until_queued || (until_queued == 0 && idle < 100);) {
        int64_t some = os_recv_now(r->p.fd, forgotten, sizeof forgotten);
        assert_true(some > 0 || some == -EAGAIN);
        idle = some > 0 ? 0 : idle + 1;
        if (some > 0) got += (uint64_t)some;
        assert_true(p2p_event_loop_run_once(r->p.loop, 0) >= 0);
        look(r);
    }
    return got;
}

static void open_reader(slow_reader *r, bool shared) {
    uint16_t port;
    p2p_event_loop_t *loop = loop_create(NULL);
    p2p_socket_t *listener = socket_listening(&port);
    p2p_handle_t fd = raw_connect_small(port, 16 * 1024);
    *r = (slow_reader){ .shared = shared };
    probe_add(&r->p, loop, p2p_socket_accept(listener), &probe_by_message);
    p2p_socket_close(listener);
    r->p.fd = fd;
    os_set_option(p2p_socket_handle(r->p.sock), SOL_SOCKET, SO_SNDBUF, 16 * 1024); /* takes little at a time */
    loop_settle(loop);
    r->base = memory_in_use();
}

static bool fill_and_drain(slow_reader *r, uint32_t length, bool half_sent) {
    uint64_t got = 0;
    r->sent = 0;
    fill_system(r, length);
    if (half_sent) { /* a long message, of which nearly all is sent */
        send_one(r, MESSAGE_MAX);
        got = drain(r, 128 * 1024);
    }
    fill_queue(r, length);
    send_one(r, MESSAGE_MAX);
    bool refused = p2p_message_send_data(r->p.sock, "", 0) == P2P_ERR_QUEUE_FULL;
    r->p.writes = 0;
    got += drain(r, 0);
    return refused && got == r->sent && r->p.writes == 1 && queued(r) == 0;
}

/* A peer that stops reading for a while, twice. */
static bool stays_bounded(uint32_t length, bool shared, bool half_sent, slow_reader *r) {
    open_reader(r, shared);
    bool right = fill_and_drain(r, length, half_sent);
    right = fill_and_drain(r, length, half_sent) && right;
    long after = (long)(memory_in_use() - r->base);
    print_message("%u B%s: queue %lu B, memory %lu B, after draining %+ld B%s\n", length,
                  half_sent ? ", half sent" : "", (unsigned long)r->queued_peak, (unsigned long)r->memory_peak, after,
                  right ? "" : ", wrong");
    probe_close(&r->p);
    p2p_event_loop_free(r->p.loop);
    return right && after <= (long)r->memory_peak + 4096;
}

static void a_queue_stays_in_its_bound(bool shared, const char *how) {
    static const uint32_t lengths[] = { 1, 100, 1005, 2000, 5000, 60000, MESSAGE_MAX };
    size_t most = 0, most_queued = 0, right = 0;
    slow_reader r;
    for (size_t i = 0; i < 2 * COUNT_OF(lengths); i++) {
        right += stays_bounded(lengths[i / 2], shared, i % 2 == 1, &r);
        if (r.memory_peak > most) most = r.memory_peak;
        if (r.queued_peak > most_queued) most_queued = r.queued_peak;
    }
    goal(right == 2 * COUNT_OF(lengths) && most_queued <= QUEUE_BOUND && most <= MEMORY_BOUND,
         "G-N7 backpressure, %s: peak queue %lu B, memory %lu B (high_water + max_message_size: %d), on_write once, "
         "then 0",
         how, (unsigned long)most_queued, (unsigned long)most, BOUND);
}

static void copied_output_stays_in_its_bound(void **state) {
    (void)state;
    a_queue_stays_in_its_bound(false, "copied");
}

static void shared_output_stays_in_its_bound(void **state) {
    (void)state;
    a_queue_stays_in_its_bound(true, "shared");
}

/* ---- going on ---- */

static p2p_event_loop_t *the_loop;

static void give_up(p2p_timer_t *timer, void *user_data) {
    (void)timer;
    *(bool *)user_data = true;
    p2p_event_loop_stop(the_loop);
}

static void stop(host *h, p2p_socket_t *sock, uint32_t length) {
    (void)sock, (void)length;
    p2p_event_loop_stop(h->loop);
}

static p2p_socket_t *receiver;

static void note_receiver(host *h, p2p_socket_t *sock) {
    (void)h;
    receiver = sock;
}

/* Nothing else happens on the loop, so that nothing else makes it look. */
static void what_is_queued_behind_a_send_without_room_leaves_by_itself(void **state) {
    (void)state;
    enum { LONG_SIZE = 60000, SHORT_SIZE = 100, PATIENCE_MS = 10000 };
    static const uint8_t frame[] = { 0, 0, 0, 1, 'x' };
    static uint8_t bytes[LONG_SIZE];
    unsigned sent = 0;
    crowd c;
    host h = { .joined = note_receiver, .hook = stop };
    crowd_open(&c);
    host_open(&h, NULL);
    host_admit(&h, &c, 1);
    raw_fill(bytes, LONG_SIZE, 1);
    for (; loop_stats(h.loop).output_queued == 0; sent++) { /* until there is no room for the end of one */
        assert_int_equal(p2p_message_send_data(receiver, bytes, LONG_SIZE), 0);
        loop_settle(h.loop);
    }
    raw_fill(bytes, SHORT_SIZE, 2);
    assert_int_equal(p2p_message_send_data(receiver, bytes, SHORT_SIZE), 0);

    for (unsigned i = 0; i < sent; i++)
        crowd_begin(&c, (crowd_order){ .what = CROWD_READ, .size = LONG_SIZE, .seed = 1 }, NULL);
    crowd_begin(&c, (crowd_order){ .what = CROWD_READ, .size = SHORT_SIZE, .seed = 2 }, NULL);
    crowd_begin(&c, (crowd_order){ .what = CROWD_SEND, .size = sizeof frame }, frame); /* wakes the loop in the end */
    bool in_vain = false;
    p2p_timer_t *patience = p2p_timer_create(h.loop, give_up, &in_vain);
    the_loop = h.loop;
    assert_int_equal(p2p_timer_start(patience, PATIENCE_MS * MS_NS, 0), 0);
    p2p_event_loop_run(h.loop); /* single turns would hand over more between them */
    unsigned whole = 0;
    for (unsigned i = 0; !in_vain && i < sent + 2; i++) whole += crowd_result(&c) == 1;
    host_close(&h);
    crowd_close(&c);
    goal(!in_vain && whole == sent + 2, "queue goes on: %u messages until the system is full, one behind, %s", sent,
         in_vain ? "which stays" : "all arrive");
}

/* ---- one stored copy ---- */

typedef struct room {
    p2p_socket_t **members;
    unsigned count;
} room;

static room all;

static void join(host *h, p2p_socket_t *sock) {
    (void)h;
    all.members[all.count++] = sock;
}

static void a_message_to_many_is_stored_once(void **state) {
    (void)state;
    enum { SIZE = 64 * 1024, SEED = 5 };
    const unsigned peers = goal_count(1000, 200);
    crowd c;
    host h = { .joined = join };
    crowd_open(&c);
    host_open(&h, NULL);
    all = (room){ calloc(peers, sizeof *all.members), 0 };
    assert_non_null(all.members);
    host_admit(&h, &c, peers);
    p2p_message_t *message = p2p_message_create(NULL, SIZE);
    assert_non_null(message);
    raw_fill(message->data, SIZE, SEED);
    size_t before = memory_in_use();
    memory_mark();
    for (unsigned i = 0; i < peers; i++) assert_int_equal(p2p_message_send(all.members[i], message), 0);
    p2p_message_free(message);
    int right = CROWD_RUN(&c, h.loop, ((crowd_order){ .what = CROWD_READ, .size = SIZE, .seed = SEED }), NULL);
    size_t most = memory_peak() - before, longest = memory_largest();
    host_close(&h);
    crowd_close(&c);
    free(all.members);
    goal(right == (int)peers && longest < SIZE / 2,
         "copies of %d B to %u sockets: %d whole, longest allocation meanwhile %lu B, at most +%lu B a socket", SIZE,
         peers, right, (unsigned long)longest, (unsigned long)(most / peers));
}

int main(int argc, char **argv) {
    const struct CMUnitTest cases[] = {
        GOAL("G-N7.copied", copied_output_stays_in_its_bound),
        GOAL("G-N7.shared", shared_output_stays_in_its_bound),
        GOAL("goes_on", what_is_queued_behind_a_send_without_room_leaves_by_itself),
        GOAL("one_copy", a_message_to_many_is_stored_once),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
