/* max_connections, max_connections_per_address and max_half_open. The clients are the system's sockets. */
#include "probe.h"

#define CLIENTS_MAX 8

/* A server that adds whoever comes. */
typedef struct crowd {
    probe listener;
    probe members[CLIENTS_MAX];
    unsigned accepted;
    uint16_t port;
    p2p_handle_t fds[CLIENTS_MAX];
    unsigned client_count;
} crowd;

static void let_in(probe *p, char what) {
    crowd *c = p->data;
    p2p_socket_t *sock = what == 'r' ? p2p_socket_accept(p->sock) : NULL;
    if (sock != NULL) probe_add(&c->members[c->accepted++], p->loop, sock, &probe_by_message);
}

static p2p_event_loop_t *crowd_open(crowd *c, const p2p_event_loop_options_t *options) {
    p2p_event_loop_t *loop = loop_create(options);
    c->listener.hook = let_in;
    c->listener.data = c;
    probe_add(&c->listener, loop, socket_listening(&c->port), &probe_by_read);
    return loop;
}

static void come(crowd *c, unsigned count) {
    while (count-- > 0) {
        c->fds[c->client_count] = raw_connect(c->port);
        assert_true(c->fds[c->client_count++] != P2P_INVALID_HANDLE);
    }
}

static void crowd_close(crowd *c, p2p_event_loop_t *loop) {
    for (unsigned i = 0; i < c->client_count; i++) os_close(c->fds[i]);
    probe_close_socket(&c->listener);
    for (unsigned i = 0; i < c->accepted; i++) {
        if (c->members[i].sock != NULL) probe_close_socket(&c->members[i]);
    }
    assert_int_equal(loop_stats(loop).connections, 0);
    p2p_event_loop_free(loop);
}

static void expect_told(const probe *p, unsigned times) {
    assert_int_equal(p->errors, times);
    assert_string_equal(p2p_error_name(p->error), "P2P_ERR_LIMIT");
}

/* ---- all ---- */

static void at_max_connections_a_listener_rests_and_the_others_wait_their_turn(void **state) {
    (void)state;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    crowd c = { 0 };
    options.max_connections = 2;
    p2p_event_loop_t *loop = crowd_open(&c, &options);
    come(&c, 4);
    RUN_UNTIL(loop, c.listener.errors == 1);
    loop_settle(loop);
    assert_int_equal(c.accepted, 2);
    assert_int_equal(loop_stats(loop).connections, 2);
    expect_told(&c.listener, 1);
    uint64_t wakeups = loop_stats(loop).wakeups;
    for (int i = 0; i < 20; i++) assert_true(p2p_event_loop_run_once(loop, 1) >= 0);
    assert_int_equal(loop_stats(loop).wakeups, wakeups);
    for (unsigned gone = 0; gone < 2; gone++) {
        p2p_socket_close(c.members[gone].sock);
        RUN_UNTIL(loop, c.accepted == 3 + gone);
        loop_settle(loop);
        assert_int_equal(c.accepted, 3 + gone);
        expect_told(&c.listener, 2 + gone);
    }
    assert_true(raw_send_text(c.fds[3], "at last")); /* nobody in the queue was lost */
    RUN_UNTIL(loop, c.members[3].messages == 1);
    crowd_close(&c, loop);
}

static void max_connections_does_not_refuse_connecting_and_adding(void **state) {
    (void)state;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    crowd c = { 0 };
    probe outgoing = { 0 }, added = { 0 };
    uint16_t port;
    p2p_handle_t elsewhere = raw_listen(&port, 1);
    options.max_connections = 1;
    p2p_event_loop_t *loop = crowd_open(&c, &options);
    come(&c, 2);
    RUN_UNTIL(loop, c.accepted == 1);
    probe_add(&outgoing, loop, p2p_socket_create(P2P_TCP), &probe_by_message);
    assert_int_equal(p2p_socket_connect(outgoing.sock, "127.0.0.1", port), 0);
    probe_open(&added, loop, &probe_by_message);
    RUN_UNTIL(loop, outgoing.connects == 1);
    assert_int_equal(outgoing.connect_error, 0);
    assert_int_equal(loop_stats(loop).connections, 3);
    p2p_socket_close(c.members[0].sock);
    probe_close(&added);
    loop_settle(loop);
    assert_int_equal(c.accepted, 1); /* the outgoing one is as many as there may be */
    probe_close_socket(&outgoing);
    RUN_UNTIL(loop, c.accepted == 2);
    os_close(elsewhere);
    crowd_close(&c, loop);
}

/* Outside a callback accept gives no more than the limit, either. */
static void at_max_connections_accept_would_block(void **state) {
    (void)state;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    crowd c = { 0 };
    options.max_connections = 1;
    p2p_event_loop_t *loop = crowd_open(&c, &options);
    come(&c, 3);
    RUN_UNTIL(loop, c.accepted == 1);
    loop_settle(loop);
    assert_null(p2p_socket_accept(c.listener.sock));
    assert_int_equal(p2p_last_error(), P2P_ERR_WOULD_BLOCK);
    crowd_close(&c, loop);
}

/* ---- of one address ---- */

static void one_connection_too_many_from_an_address_is_reset_without_a_word(void **state) {
    (void)state;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    crowd c = { 0 };
    options.max_connections_per_address = 2;
    p2p_event_loop_t *loop = crowd_open(&c, &options);
    come(&c, 4);
    RUN_UNTIL(loop, loop_stats(loop).connections_refused == 2);
    loop_settle(loop);
    assert_int_equal(c.accepted, 2);
    assert_int_equal(c.listener.reads, 2);
    assert_int_equal(c.listener.errors, 0);
    for (unsigned i = 2; i < 4; i++) assert_int_equal(raw_recv_end(c.fds[i]), ECONNRESET);
    p2p_socket_close(c.members[0].sock);
    loop_settle(loop);
    come(&c, 1);
    RUN_UNTIL(loop, c.accepted == 3);
    assert_true(raw_send_text(c.fds[4], "in"));
    RUN_UNTIL(loop, c.members[2].messages == 1);
    assert_int_equal(loop_stats(loop).connections_refused, 2);
    crowd_close(&c, loop);
}

static void a_connection_that_leaves_the_loop_does_not_count_for_its_address(void **state) {
    (void)state;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    crowd c = { 0 };
    options.max_connections_per_address = 1;
    p2p_event_loop_t *loop = crowd_open(&c, &options);
    come(&c, 1);
    RUN_UNTIL(loop, c.accepted == 1);
    assert_int_equal(p2p_event_loop_remove_socket(loop, c.members[0].sock), 0);
    come(&c, 1);
    RUN_UNTIL(loop, c.accepted == 2);
    p2p_socket_close(c.members[0].sock);
    c.members[0].sock = NULL;
    assert_int_equal(loop_stats(loop).connections_refused, 0);
    crowd_close(&c, loop);
}

/* ---- half-open ---- */

static void one_half_open_connection_too_many_ends_the_oldest(void **state) {
    (void)state;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    crowd c = { 0 };
    options.max_half_open = 2;
    p2p_event_loop_t *loop = crowd_open(&c, &options);
    for (unsigned i = 0; i < 4; i++) {
        come(&c, 1);
        RUN_UNTIL(loop, c.accepted == i + 1);
        if (i == 0) assert_true(raw_send_text(c.fds[0], "honest"));
        if (i == 0) RUN_UNTIL(loop, c.members[0].messages == 1);
        if (i > 0) assert_true(raw_send_header(c.fds[i], 100)); /* a message begun is none */
        loop_settle(loop);
    }
    RUN_UNTIL(loop, c.members[1].errors == 1);
    loop_settle(loop);
    expect_told(&c.members[1], 1);
    for (unsigned i = 0; i < 4; i++) assert_int_equal(c.members[i].errors, i == 1);
    assert_int_equal(loop_stats(loop).half_open, 2);
    assert_true(raw_send_text(c.fds[0], "again"));
    RUN_UNTIL(loop, c.members[0].messages == 2);
    crowd_close(&c, loop);
}

static void who_sends_at_once_gets_through_a_crowd_of_silent_ones(void **state) {
    (void)state;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    crowd c = { 0 };
    options.max_half_open = 3;
    p2p_event_loop_t *loop = crowd_open(&c, &options);
    come(&c, 5);
    RUN_UNTIL(loop, c.accepted == 5);
    come(&c, 1);
    assert_true(raw_send_text(c.fds[5], "honest"));
    RUN_UNTIL(loop, c.accepted == 6 && c.members[5].messages == 1);
    come(&c, 2);
    RUN_UNTIL(loop, c.accepted == 8);
    loop_settle(loop);
    assert_int_equal(c.members[5].errors, 0);
    assert_int_equal(loop_stats(loop).half_open, 3);
    crowd_close(&c, loop);
}

/* It has begun nothing, and it sends nothing: the read deadline runs all the same, and not for who has spoken. */
static void a_half_open_connection_has_the_read_deadline_from_when_it_was_added(void **state) {
    (void)state;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    crowd c = { 0 };
    options.max_half_open = 8;
    options.read_timeout_ms = 30;
    p2p_event_loop_t *loop = crowd_open(&c, &options);
    come(&c, 1);
    assert_true(raw_send_text(c.fds[0], "honest"));
    RUN_UNTIL(loop, c.accepted == 1 && c.members[0].messages == 1);
    int64_t began_ns = clock_ns();
    come(&c, 1);
    RUN_UNTIL(loop, c.accepted == 2 && c.members[1].errors == 1);
    assert_true(clock_ns() - began_ns >= 30 * (int64_t)P2P_NS_PER_MS);
    assert_string_equal(p2p_error_name(c.members[1].error), "P2P_ERR_TIMED_OUT");
    assert_int_equal(loop_stats(loop).half_open, 0);
    assert_int_equal(c.members[0].errors, 0);
    crowd_close(&c, loop);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        CASE(at_max_connections_a_listener_rests_and_the_others_wait_their_turn),
        CASE(max_connections_does_not_refuse_connecting_and_adding),
        CASE(at_max_connections_accept_would_block),
        CASE(one_connection_too_many_from_an_address_is_reset_without_a_word),
        CASE(a_connection_that_leaves_the_loop_does_not_count_for_its_address),
        CASE(one_half_open_connection_too_many_ends_the_oldest),
        CASE(a_half_open_connection_has_the_read_deadline_from_when_it_was_added),
        CASE(who_sends_at_once_gets_through_a_crowd_of_silent_ones),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
