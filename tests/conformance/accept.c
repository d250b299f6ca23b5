/* The optional group that accepts: B6 to B8. What must hold of each handle is looked at in groups.c. */
#include "cases.h"
#include "groups.h"

enum { CLIENTS = 10 };

static p2p_handle_t connected(uint16_t port) {
    p2p_handle_t client = os_socket(AF_INET, SOCK_STREAM);
    struct sockaddr_in address = os_loopback(port);
    assert_int_equal(os_connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
    return client;
}

static void connect_all(p2p_handle_t clients[CLIENTS], uint16_t port) {
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = connected(port);
    }
}

static void close_all(const p2p_handle_t clients[CLIENTS]) {
    for (int i = 0; i < CLIENTS; i++) {
        os_close(clients[i]);
    }
}

static void turn_until_accepted(harness *h, group_socket *listener, int count) {
    int64_t deadline = os_now_ns() + DEADLINE;
    while (listener->accepted_count < count) {
        assert_true(os_now_ns() < deadline);
        if (!listener->armed) {
            start(h, listener);
        }
        turn(h, 10 * MILLISECOND);
    }
    assert_int_equal(listener->accepted_count, count);
}

/* Each accepted handle is the other end of one client, and works. */
static void expect_connected(const group_socket *listener, const p2p_handle_t clients[CLIENTS]) {
    for (int i = 0; i < CLIENTS; i++) {
        int found = 0;
        for (int k = 0; k < listener->accepted_count; k++) {
            found += os_peer_port(listener->accepted[k]) == os_local_port(clients[i]);
        }
        assert_int_equal(found, 1);
    }
    for (int i = 0; i < listener->accepted_count; i++) {
        char byte;
        assert_int_equal(os_send_now(listener->accepted[i], "x", 1), 1);
        assert_int_equal(os_recv_now(listener->accepted[i], &byte, 1), -EAGAIN);
    }
    for (int i = 0; i < CLIENTS; i++) {
        char byte;
        assert_int_equal(os_recv(clients[i], &byte, 1), 1);
    }
}

static void b08_everybody_who_waits_is_accepted(void **state) {
    harness *h = *state;
    need_accept(h);
    uint16_t port;
    p2p_handle_t clients[CLIENTS];
    group_socket *listener = group_listener(h, &port);
    connect_all(clients, port);
    turn_until_accepted(h, listener, CLIENTS);
    expect_connected(listener, clients);
    expect_idle(h, 20 * MILLISECOND);
    close_all(clients);
}

static void b08_with_MORE_an_accept_goes_on(void **state) {
    harness *h = *state;
    need_accept(h);
    uint16_t port;
    group_socket *listener = group_listener(h, &port);
    start(h, listener);
    expect_quiet(h, 5 * MILLISECOND);
    for (int i = 1; i < 3 * CLIENTS; i++) {
        p2p_handle_t client = connected(port);
        turn_until_accepted(h, listener, i);
        os_close(client);
        if (!listener->armed) { /* without MORE it is over */
            client = connected(port);
            expect_quiet(h, MILLISECOND);
            os_close(client);
            turn_until_accepted(h, listener, ++i);
        }
    }
}

static void b08_everybody_is_accepted_by_waits_with_room_for_one(void **state) {
    harness *h = *state;
    need_accept(h);
    uint16_t port;
    p2p_handle_t clients[CLIENTS];
    h->capacity = 1;
    group_socket *listener = group_listener(h, &port);
    start(h, listener);
    turn(h, 0);
    connect_all(clients, port);
    turn_until_accepted(h, listener, CLIENTS);
    expect_connected(listener, clients);
    close_all(clients);
}

static int left_in_queue(const group_socket *listener, group_socket *into) {
    int count = 0;
    while (os_poll(listener->handle, POLLIN, 0) > 0) {
        into->accepted[into->accepted_count++] = os_accept(listener->handle);
        count++;
    }
    return count;
}

static void b08_nobody_is_accepted_once_a_stop_has_taken_effect(void **state) {
    harness *h = *state;
    need_accept(h);
    uint16_t port;
    p2p_handle_t clients[CLIENTS];
    group_socket *listener = group_listener(h, &port);
    start(h, listener);
    turn(h, 0);
    p2p_handle_t early = connected(port);
    stop(h, listener);
    for (int waits = 0; waits < FEW_WAITS; waits++) {
        turn(h, 0);
    }
    listener->silent = true;
    int before = listener->accepted_count;
    connect_all(clients, port);
    expect_idle(h, 20 * MILLISECOND);
    assert_int_equal(before + left_in_queue(listener, listener), CLIENTS + 1);
    start(h, listener);
    close_all(clients);
    connect_all(clients, port);
    turn_until_accepted(h, listener, 2 * CLIENTS + 1);
    close_all(clients);
    os_close(early);
}

/* They come one after the other, while the accept is started, under way and given up. */
static void b06_the_detach_of_a_listener_loses_nobody(void **state) {
    harness *h = *state;
    need_accept(h);
    for (int round = 0; round < 40; round++) {
        uint16_t port;
        p2p_handle_t clients[CLIENTS];
        group_socket *listener = group_listener(h, &port);
        for (int i = 0; i < CLIENTS; i++) {
            if (i == round % CLIENTS) {
                start(h, listener);
            }
            clients[i] = connected(port);
            if (round & 1 << i % 4) {
                turn(h, 0);
            }
        }
        group_detach(h, listener);
        assert_int_equal(listener->accepted_count + left_in_queue(listener, listener), CLIENTS);
        group_close(listener);
        close_all(clients);
    }
}

/* The kernel may have accepted them; nobody was told, and nobody will. */
static void b06_destroy_closes_connections_that_nobody_was_told_of(void **state) {
    harness *h = *state;
    need_accept(h);
    uint16_t port;
    p2p_handle_t clients[CLIENTS];
    h->capacity = 1;
    group_socket *listener = group_listener(h, &port);
    start(h, listener);
    turn(h, 0);
    connect_all(clients, port);
    turn(h, 10 * MILLISECOND);
    group_destroy(h);
    for (int i = 0; i < listener->accepted_count; i++) {
        os_close(listener->accepted[i]);
    }
    listener->accepted_count = 0;
    for (int i = 0; i < CLIENTS; i++) {
        char byte;
        os_set_deadline(clients[i], 20);
        int64_t got = os_recv(clients[i], &byte, 1);
        assert_true(got == 0 || got == -ECONNRESET);
    }
    close_all(clients);
}

static const struct CMUnitTest cases[] = {
    GROUP_CASE(b08_everybody_who_waits_is_accepted),
    GROUP_CASE(b08_with_MORE_an_accept_goes_on),
    GROUP_CASE(b08_everybody_is_accepted_by_waits_with_room_for_one),
    GROUP_CASE(b08_nobody_is_accepted_once_a_stop_has_taken_effect),
    GROUP_CASE(b06_the_detach_of_a_listener_loses_nobody),
    GROUP_CASE(b06_destroy_closes_connections_that_nobody_was_told_of),
};
const case_group accept_cases = CASE_GROUP(cases);
