/*
 * A backend that does the worst its contract allows: it wraps test_backend() and reports readiness that is none,
 * returns early with nothing, hands out events one by one, in another order, or one wait late, when their
 * sockets may be gone. Messages must arrive none the less.
 */
#include "echo.h"

#include <stdlib.h>

#define SPURIOUS 0x01u  /* readiness of sockets that have none */
#define EARLY 0x02u     /* every other wait returns 0 at once */
#define ONE_EVENT 0x04u /* the capacity is 1 */
#define REORDERED 0x08u /* the last event first */
#define LATE 0x10u      /* an event is given one wait later */

static unsigned habits;

#define EVENTS_MAX 64
#define KNOWN_MAX 256

typedef struct hostile {
    p2p_backend head;
    p2p_backend *inner;
    const p2p_allocator *allocator;
    unsigned waits;
    uint32_t random_state;
    p2p_backend_event held[EVENTS_MAX]; /* by LATE */
    int held_count;
    struct {
        uint64_t token;
        uint32_t mask;
    } known[KNOWN_MAX]; /* sockets with interest, for SPURIOUS */
    size_t known_count;
} hostile;

static const p2p_backend_ops *inner_ops;
static p2p_backend_ops hostile_ops;

static hostile *of(p2p_backend *backend) {
    return (hostile *)(void *)backend;
}

static uint32_t random_below(hostile *h, uint32_t limit) {
    h->random_state = h->random_state * 1664525u + 1013904223u;
    return (h->random_state >> 8) % limit;
}

static int hostile_create(p2p_backend **out, const p2p_backend_env *env) {
    hostile *h = env->allocator->alloc(sizeof *h, env->allocator->user);
    if (h == NULL) return P2P_ERR_NO_MEMORY;
    memset(h, 0, sizeof *h);
    h->head.ops = &hostile_ops;
    h->allocator = env->allocator;
    int error = inner_ops->create(&h->inner, env);
    if (error != 0) {
        env->allocator->free(h, env->allocator->user);
        return error;
    }
    *out = &h->head;
    return 0;
}

static void hostile_destroy(p2p_backend *backend) {
    hostile *h = of(backend);
    inner_ops->destroy(h->inner);
    h->allocator->free(h, h->allocator->user);
}

static void remember(hostile *h, uint64_t token, uint32_t mask) {
    size_t i = 0;
    while (i < h->known_count && h->known[i].token != token) i++;
    if (i == KNOWN_MAX) return;
    if (i == h->known_count) h->known_count++;
    h->known[i].token = token;
    h->known[i].mask = mask;
    if (mask == 0) h->known[i] = h->known[--h->known_count];
}

static int hostile_set_interest(p2p_backend *backend, p2p_io *io, uint32_t old_mask, uint32_t new_mask) {
    int result = inner_ops->set_interest(of(backend)->inner, io, old_mask, new_mask);
    if (result == 0) remember(of(backend), io->token, new_mask);
    return result;
}

/* What is held back of it is still given out: the core has to notice. */
static int hostile_detach(p2p_backend *backend, p2p_io *io) {
    remember(of(backend), io->token, 0);
    return inner_ops->detach(of(backend)->inner, io);
}

static int add_spurious(hostile *h, p2p_backend_event *out, int count, int capacity) {
    while (h->known_count > 0 && count < capacity && random_below(h, 3) != 0) {
        uint32_t which = random_below(h, (uint32_t)h->known_count);
        memset(&out[count], 0, sizeof out[count]);
        out[count].token = h->known[which].token;
        out[count].kind = P2P_EVENT_READY;
        out[count].flags = (uint16_t)h->known[which].mask;
        count++;
    }
    return count;
}

static void reverse(p2p_backend_event *events, int count) {
    for (int i = 0; i < count / 2; i++) {
        p2p_backend_event swapped = events[i];
        events[i] = events[count - 1 - i];
        events[count - 1 - i] = swapped;
    }
}

/* Give out what was held, and hold what came. */
static int swap_with_held(hostile *h, p2p_backend_event *out, int count) {
    p2p_backend_event held[EVENTS_MAX];
    int held_count = h->held_count;
    memcpy(held, h->held, sizeof held);
    memcpy(h->held, out, (size_t)count * sizeof *out);
    h->held_count = count;
    memcpy(out, held, (size_t)held_count * sizeof *out);
    return held_count;
}

static int hostile_wait(p2p_backend *backend, p2p_backend_event *out, int capacity, int64_t timeout_ns) {
    hostile *h = of(backend);
    h->waits++;
    if ((habits & EARLY) != 0 && h->waits % 2 == 0) return 0;
    if ((habits & LATE) != 0 && h->held_count > 0) timeout_ns = 0;
    if ((habits & SPURIOUS) != 0 && h->known_count > 0) timeout_ns = 0;
    if (capacity > EVENTS_MAX) capacity = EVENTS_MAX;
    if ((habits & ONE_EVENT) != 0) capacity = 1;
    int count = inner_ops->wait(h->inner, out, capacity, timeout_ns);
    if (count < 0) return count;
    if ((habits & LATE) != 0) count = swap_with_held(h, out, count);
    if ((habits & SPURIOUS) != 0) count = add_spurious(h, out, count, capacity);
    if ((habits & REORDERED) != 0) reverse(out, count);
    return count;
}

static int hostile_wake(p2p_backend *backend) {
    return inner_ops->wake(of(backend)->inner);
}

static int hostile_attach(p2p_backend *backend, p2p_io *io) {
    return inner_ops->attach(of(backend)->inner, io);
}

static int hostile_bind_thread(p2p_backend *backend) {
    return inner_ops->bind_thread(of(backend)->inner);
}

static int setup(void **state) {
    fixture_setup(state);
    const char *name = test_backend();
    if (name == NULL) p2p_backend_list(&name, 1);
    inner_ops = p2p_backend_find(name);
    assert_non_null(inner_ops);
    if (inner_ops->recv_start != NULL || inner_ops->accept_start != NULL || inner_ops->send != NULL) {
        p2p_cleanup();
        test_skip("%s completes I/O by itself, which this wrapper does not pass on", inner_ops->name);
    }
    hostile_ops = (p2p_backend_ops){
        .size = sizeof hostile_ops,
        .abi = P2P_BACKEND_ABI,
        .name = "hostile",
        .caps = inner_ops->caps,
        .io_state_size = inner_ops->io_state_size,
        .op_state_size = inner_ops->op_state_size,
        .create = hostile_create,
        .destroy = hostile_destroy,
        .set_interest = hostile_set_interest,
        .detach = hostile_detach,
        .wait = hostile_wait,
        .wake = hostile_wake,
        .attach = inner_ops->attach != NULL ? hostile_attach : NULL,
        .bind_thread = inner_ops->bind_thread != NULL ? hostile_bind_thread : NULL,
    };
    assert_int_equal(p2p_backend_register(&hostile_ops), 0);
    return 0;
}

/* ---- the load ---- */

enum { CLIENTS = 20 };

#define MESSAGES OS_ROUNDS(50u, 8u) /* of each client; every kind of length is among the first 8 */

typedef struct client {
    p2p_handle_t fd;
    uint32_t sent, received;
} client;

static uint32_t length_of(uint32_t number) {
    return number % 7 == 0 ? 20000 : number % 5 == 0 ? 0 : number;
}

static void send_next(p2p_event_loop_t *loop, client *c) {
    static uint8_t data[20000], frame[20004];
    uint32_t length = length_of(c->sent);
    raw_fill(data, length, c->sent);
    assert_true(loop_send(loop, c->fd, frame, raw_frame(frame, data, length)));
    c->sent++;
}

static void receive_next(p2p_event_loop_t *loop, client *c) {
    static uint8_t expected[20000], data[20000];
    uint32_t length = length_of(c->received);
    raw_fill(expected, length, c->received);
    assert_int_equal(loop_recv_frame(loop, c->fd, data, sizeof data), length);
    assert_memory_equal(data, expected, length);
    c->received++;
}

/* Clients come, talk and go at different times, so that descriptors and slots are used again. */
static void echo_under(unsigned given_habits, bool by_message) {
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    echo_server server;
    client clients[CLIENTS];
    unsigned finished = 0;
    habits = given_habits;
    options.backend = "hostile";
    p2p_event_loop_t *loop = loop_create(&options);
    echo_start(&server, loop, by_message);
    for (int i = 0; i < CLIENTS; i++) clients[i] = (client){ raw_connect(server.port), 0, 0 };
    while (finished < 2 * CLIENTS) {
        for (int i = 0; i < CLIENTS; i++) {
            client *c = &clients[i];
            if (c->received == MESSAGES) continue;
            while (c->sent < MESSAGES && c->sent < c->received + 1 + (uint32_t)(i % 4)) send_next(loop, c);
            receive_next(loop, c);
            if (c->received < MESSAGES) continue;
            if (i % 2 == 0) {
                os_close(c->fd);
            } else {
                raw_reset(c->fd);
            }
            if (++finished <= CLIENTS) *c = (client){ raw_connect(server.port), 0, 0 };
        }
    }
    RUN_UNTIL(loop, server.ended == 2 * CLIENTS);
    assert_int_equal(server.accepted, 2 * CLIENTS);
    assert_int_equal(server.messages, 2 * CLIENTS * MESSAGES);
    assert_int_equal(loop_stats(loop).sends_refused, 0);
    echo_stop(&server);
    p2p_event_loop_free(loop);
}

static void both_styles_under(unsigned given_habits) {
    echo_under(given_habits, false);
    echo_under(given_habits, true);
}

static void without_bad_habits(void **state) {
    (void)state;
    both_styles_under(0);
}

static void spurious_readiness(void **state) {
    (void)state;
    both_styles_under(SPURIOUS);
}

static void early_returns(void **state) {
    (void)state;
    both_styles_under(EARLY);
}

static void one_event_a_wait(void **state) {
    (void)state;
    both_styles_under(ONE_EVENT);
}

static void reordered_events(void **state) {
    (void)state;
    both_styles_under(REORDERED);
}

static void late_events(void **state) {
    (void)state;
    both_styles_under(LATE);
}

static void all_at_once(void **state) {
    (void)state;
    both_styles_under(SPURIOUS | EARLY | ONE_EVENT | REORDERED | LATE);
    both_styles_under(SPURIOUS | EARLY | REORDERED | LATE);
}

static void count_answers(p2p_socket_t *sock, int error, void *user_data) {
    int *answers = user_data;
    (void)sock;
    answers[0]++;
    answers[1] = error;
}

/* Spurious writability of a socket whose connect is still without an answer must not pass for one. */
static void connects_are_answered_once_and_only_when_they_are(void **state) {
    (void)state;
    static const p2p_socket_callbacks_t callbacks = {
        sizeof(p2p_socket_callbacks_t), NULL, NULL, NULL, NULL, count_answers, NULL
    };
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    p2p_socket_t *socks[30];
    int answers[COUNT_OF(socks)][2];
    uint16_t ports[3]; /* one that answers, one that refuses, one that is silent */
    memset(answers, 0, sizeof answers);
    p2p_handle_t good = raw_listen(&ports[0], 64), dead = raw_listen(&ports[1], 1), silent = raw_listen(&ports[2], 0);
    os_close(dead);
    habits = SPURIOUS | EARLY | REORDERED | LATE;
    options.backend = "hostile";
    options.drain_timeout_ms = 1;
    p2p_event_loop_t *loop = loop_create(&options);
    for (size_t i = 0; i < COUNT_OF(socks); i++) {
        socks[i] = p2p_socket_create(P2P_TCP);
        assert_int_equal(p2p_event_loop_add_socket_with(loop, socks[i], &callbacks, answers[i]), 0);
        assert_int_equal(p2p_socket_connect(socks[i], "127.0.0.1", ports[i % 3]), 0);
    }
    for (int turn = 0; turn < 300; turn++) assert_true(p2p_event_loop_run_once(loop, 0) >= 0);
    unsigned unanswered = 0;
    for (size_t i = 0; i < COUNT_OF(socks); i++) {
        if (i % 3 == 2 && answers[i][0] == 0) {
            unanswered++; /* a queue of no length takes a few all the same */
        } else {
            assert_int_equal(answers[i][0], 1);
            assert_int_equal(answers[i][1], i % 3 == 1 ? P2P_ERR_REFUSED : 0);
        }
        p2p_socket_close(socks[i]);
    }
    assert_true(unanswered >= 5);
    p2p_event_loop_run(loop);
    p2p_event_loop_free(loop);
    os_close(good);
    os_close(silent);
}

#define HOSTILE_CASE(function) cmocka_unit_test_setup_teardown(function, setup, fixture_teardown)

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        HOSTILE_CASE(without_bad_habits), HOSTILE_CASE(spurious_readiness),
        HOSTILE_CASE(early_returns),      HOSTILE_CASE(one_event_a_wait),
        HOSTILE_CASE(reordered_events),   HOSTILE_CASE(late_events),
        HOSTILE_CASE(all_at_once),        HOSTILE_CASE(connects_are_answered_once_and_only_when_they_are),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
