/* The optional group of requests, B10: send, connect and cancel; and what a new process or an early end does to what is
 * under way. */
#include "cases.h"
#include "groups.h"

/* ---- sending ---- */

static void b10_a_send_completes_by_one_OP_DONE(void **state) {
    harness *h = *state;
    need_requests(h);
    group_socket *socket = group_connection(h);
    uint64_t at = 0;
    for (int i = 0; i < 20; i++) {
        send_pattern(h, socket, at, 1000, 1, 0);
        assert_false(socket->request.is_done);
        assert_int_equal(turn_until_done(h, socket), 1000);
        expect_idle(h, 2 * MILLISECOND); /* a second one would be heard */
        at = peer_reads(socket, at);
        assert_int_equal(at, 1000 * (i + 1));
    }
}

static void b10_pieces_are_sent_in_their_order(void **state) {
    harness *h = *state;
    need_requests(h);
    group_socket *socket = group_connection(h);
    uint64_t at = 0;
    for (uint32_t pieces = 1; pieces <= 4; pieces++) {
        send_pattern(h, socket, at, 10000, pieces, 0);
        assert_int_equal(turn_until_done(h, socket), 10000);
        at = peer_reads(socket, at);
        assert_int_equal(at, 10000 * pieces);
    }
}

/* It may complete in part; then the rest is asked for, as the core does. */
static void b10_a_send_larger_than_the_buffer_arrives_whole(void **state) {
    enum { SIZE = 4000000 };
    harness *h = *state;
    need_requests(h);
    for (uint32_t pieces = 1; pieces <= 4; pieces += 3) {
        for (uint32_t flags = 0; flags <= P2P_OP_QUIET; flags += P2P_OP_QUIET) {
            group_socket *socket = group_connection(h);
            uint64_t written = 0, read = 0;
            int64_t deadline = os_now_ns() + DEADLINE;
            bool under_way = false;
            while (read < SIZE) {
                assert_true(os_now_ns() < deadline);
                if (!under_way && written < SIZE) {
                    send_pattern(h, socket, written, (size_t)(SIZE - written), pieces, flags);
                    under_way = true;
                }
                turn(h, read < written ? 0 : 10 * MILLISECOND);
                if (under_way && socket->request.is_done) {
                    assert_in_range(socket->request.result, 1, SIZE - written);
                    written += (uint32_t)socket->request.result;
                    under_way = false;
                }
                read = peer_reads(socket, read);
            }
            assert_true(under_way ? turn_until_done(h, socket) == (int32_t)(SIZE - written) : written == SIZE);
        }
    }
}

static void b10_a_send_without_room_waits_quietly(void **state) {
    harness *h = *state;
    need_requests(h);
    for (int round = 0; round < 6; round++) {
        group_socket *socket = group_pair(h);
        if (round & 1) {
            os_shutdown_send(socket->peer); /* which polls tell of again and again */
        }
        uint64_t at = fill_up(socket), read = 0;
        send_pattern(h, socket, at, 5000, round < 3 ? 1 : 3, round == 2 || round == 5 ? P2P_OP_QUIET : 0);
        expect_idle(h, 50 * MILLISECOND);
        assert_false(socket->request.is_done);
        int64_t deadline = os_now_ns() + DEADLINE;
        while (!socket->request.is_done || read < at + (uint32_t)socket->request.result) {
            assert_true(os_now_ns() < deadline);
            read = peer_reads(socket, read);
            turn(h, MILLISECOND);
        }
        assert_in_range(socket->request.result, 1, 5000);
        assert_int_equal(read, at + (uint32_t)socket->request.result);
        group_detach(h, socket);
        group_close(socket);
        group_close_peer(socket);
    }
}

static void b10_a_send_to_who_has_gone_fails(void **state) {
    harness *h = *state;
    need_requests(h);
    for (uint32_t flags = 0; flags <= P2P_OP_QUIET; flags += P2P_OP_QUIET) {
        for (int full = 0; full < 2; full++) {
            group_socket *socket = full ? group_pair(h) : group_connection(h);
            if (full) {
                fill_up(socket);
                send_pattern(h, socket, 0, 5000, 1, flags);
                turn(h, 0);
                os_reset(socket->peer);
            } else {
                os_reset(socket->peer);
                send_pattern(h, socket, 0, 5000, 1, flags);
            }
            socket->peer = P2P_INVALID_HANDLE;
            int32_t result = turn_until_done(h, socket);
            assert_true(result == -os_number(ECONNRESET) || result == -os_number(EPIPE));
        }
    }
}

/* ---- quiet sends ---- */

typedef struct quiet_peer {
    harness *h;
    group_socket *socket;
    int64_t got;
} quiet_peer;

static void receive_and_wake(void *data) {
    quiet_peer *peer = data;
    uint8_t bytes[100];
    os_poll(peer->socket->peer, POLLIN, (int)(DEADLINE / MILLISECOND) / 2);
    peer->got = os_recv_now(peer->socket->peer, bytes, sizeof(bytes));
    peer->h->ops->wake(peer->h->backend);
}

/* Its bytes leave before the wait blocks. The wait's end tells, or the next one. */
static void b10_a_quiet_send_leaves_before_the_wait_and_is_told_after_it(void **state) {
    harness *h = *state;
    need_requests(h);
    group_socket *socket = group_connection(h);
    for (int i = 0; i < 20; i++) {
        quiet_peer peer = { h, socket, 0 };
        os_thread thread;
        send_pattern(h, socket, 0, 100, 1 + (uint32_t)i % 2, P2P_OP_QUIET);
        assert_int_equal(os_thread_start(&thread, receive_and_wake, &peer), 0);
        int64_t begin = os_now_ns();
        turn(h, DEADLINE);
        turn(h, 0); /* where it was told first, for the wake */
        os_thread_join(&thread);
        assert_int_equal(peer.got, 100);
        assert_true(os_now_ns() - begin < DEADLINE / 2);
        turn(h, 0);
        assert_true(socket->request.is_done);
        assert_int_equal(socket->request.result, 100);
    }
}

static void b10_of_many_quiet_sends_each_is_told(void **state) {
    harness *h = *state;
    need_requests(h);
    group_socket *sockets[GROUP_SOCKETS_MAX];
    for (int i = 0; i < GROUP_SOCKETS_MAX; i++) {
        sockets[i] = group_connection(h);
    }
    for (int round = 0; round < 3; round++) {
        h->capacity = round == 2 ? 5 : 64;
        for (int i = 0; i < GROUP_SOCKETS_MAX; i++) {
            send_pattern(h, sockets[i], 0, 100, 1, P2P_OP_QUIET);
        }
        assert_int_equal(h->ops->wake(h->backend), 0);
        for (int waits = 0; waits < 2 + GROUP_SOCKETS_MAX / h->capacity; waits++) {
            turn(h, 0);
        }
        for (int i = 0; i < GROUP_SOCKETS_MAX; i++) {
            assert_true(sockets[i]->request.is_done);
            assert_int_equal(sockets[i]->request.result, 100);
            assert_int_equal(peer_reads(sockets[i], 0), 100);
        }
    }
}

static void b10_a_quiet_send_is_told_with_the_next_event(void **state) {
    harness *h = *state;
    need_requests(h);
    group_socket *quiet = group_connection(h), *other = group_connection(h);
    want(h, other->io, P2P_IN);
    for (int i = 0; i < 20; i++) {
        char byte;
        send_pattern(h, quiet, 0, 100, 1, P2P_OP_QUIET);
        turn(h, i % 2 == 0 ? MILLISECOND : 0);
        peer_sends(other, 1);
        turn_until(h, other->io, P2P_IN);
        assert_true(quiet->request.is_done);
        assert_int_equal(os_recv_now(other->handle, &byte, 1), 1);
    }
}

static int refused_calls;

static int busy_uring_enter(int ring, uint32_t to_submit, uint32_t min_complete, uint32_t flags, const void *argument,
                            size_t argument_size) {
    (void)ring, (void)to_submit, (void)min_complete, (void)flags, (void)argument, (void)argument_size;
    refused_calls++;
    return -os_number(EBUSY);
}

/* A kernel may have no room for calls now. What is told is not used any more, so it must have left. */
static void b10_a_quiet_send_that_was_not_handed_over_is_not_told(void **state) {
    harness *h = *state;
    need_requests(h);
    group_socket *socket = group_connection(h);
    p2p_sys_ops good = h->sys;
    turn(h, 0);
    h->sys.uring_enter = busy_uring_enter;
    send_pattern(h, socket, 0, 100, 1, P2P_OP_QUIET);
    for (int waits = 0; waits < 3; waits++) {
        turn(h, 0);
    }
    bool left = peer_reads(socket, 0) == 100;
    assert_true(left || !socket->request.is_done);
    h->sys = good;
    assert_int_equal(h->ops->wake(h->backend), 0);
    assert_int_equal(turn_until_done(h, socket), 100);
    assert_int_equal(peer_reads(socket, left ? 100 : 0), 100);
    if (refused_calls == 0) {
        test_skip("backend %s makes no calls that can be refused for a while", h->ops->name);
    }
}

/* ---- connecting ---- */

static group_socket *unconnected(harness *h) {
    p2p_handle_t handle = os_socket(AF_INET, SOCK_STREAM);
    os_set_nonblocking(handle, true);
    return group_attach(h, handle, P2P_INVALID_HANDLE);
}

static void b10_a_connect_completes_by_one_OP_DONE(void **state) {
    harness *h = *state;
    need_requests(h);
    uint16_t port;
    p2p_handle_t listener = tcp_listener(&port);
    for (int i = 0; i < 10; i++) {
        group_socket *socket = i % 2 == 0 ? unconnected(h) : group_attach(h, tcp_connecting(port), P2P_INVALID_HANDLE);
        connect_to(h, socket, i % 2 == 0 ? port : 0);
        assert_int_equal(turn_until_done(h, socket), 0);
        assert_int_equal(os_peer_port(socket->handle), port);
        expect_idle(h, 2 * MILLISECOND);
        socket->peer = os_accept(listener);
        send_pattern(h, socket, 0, 100, 1, 0);
        assert_int_equal(turn_until_done(h, socket), 100);
        assert_true(os_poll(socket->peer, POLLIN, (int)(DEADLINE / MILLISECOND)) > 0);
        assert_int_equal(peer_reads(socket, 0), 100);
    }
    os_close(listener);
}

static void b10_a_refused_connect_is_told_as_an_error(void **state) {
    harness *h = *state;
    need_requests(h);
    uint16_t port;
    p2p_handle_t keeper = refusing_port(&port);
    for (int i = 0; i < 10; i++) {
        group_socket *socket = i % 2 == 0 ? unconnected(h) : group_attach(h, tcp_connecting(port), P2P_INVALID_HANDLE);
        connect_to(h, socket, i % 2 == 0 ? port : 0);
        assert_int_equal(turn_until_done(h, socket), -os_number(ECONNREFUSED));
        expect_idle(h, 2 * MILLISECOND);
    }
    os_close(keeper);
}

/* ---- cancelling ---- */

static void expect_cancelled_once(harness *h, group_socket *socket) {
    for (int waits = 0; !socket->request.is_done; waits++) {
        assert_in_range(waits, 0, FEW_WAITS);
        turn(h, 0);
    }
    assert_true(socket->request.result < 0);
    expect_idle(h, 5 * MILLISECOND); /* a second one would be heard */
}

static void b10_a_send_that_waits_can_be_cancelled(void **state) {
    harness *h = *state;
    need_requests(h);
    for (int turns = 0; turns < 4; turns++) {
        group_socket *socket = group_pair(h);
        fill_up(socket);
        for (int i = 0; i < 3; i++) { /* the next one is not confused with it */
            send_pattern(h, socket, 0, 5000, 1 + (uint32_t)i, i == 2 ? P2P_OP_QUIET : 0);
            for (int waits = 0; waits < turns; waits++) {
                turn(h, 0);
            }
            cancel_request(h, socket);
            expect_cancelled_once(h, socket);
        }
    }
}

/* It may be too late, but is not told twice. */
static void b10_cancelled_at_once_a_send_is_told_once(void **state) {
    harness *h = *state;
    need_requests(h);
    group_socket *socket = group_connection(h);
    uint64_t at = 0;
    for (uint32_t flags = 0; flags <= P2P_OP_QUIET; flags += P2P_OP_QUIET) {
        for (int i = 0; i < 20; i++) {
            send_pattern(h, socket, at, 100, 1, flags);
            if (i % 2 == 0 && h->ops->submit != NULL) {
                assert_int_equal(h->ops->submit(h->backend), 0);
            }
            cancel_request(h, socket);
            assert_int_equal(h->ops->wake(h->backend), 0);
            int32_t result = turn_until_done(h, socket);
            turn(h, 0);
            assert_true(result == 100 || result < 0);
            uint64_t arrived = peer_reads(socket, at) - at;
            assert_int_equal(arrived, result < 0 ? 0 : 100);
            at += arrived;
        }
    }
}

/* Connects to a listener that accepts nobody, until one has to wait. @return how many there are. */
static int connect_until_one_waits(uint16_t port, p2p_handle_t *clients, int count_max) {
    for (int count = 1; count <= count_max; count++) {
        clients[count - 1] = tcp_connecting(port);
        if (os_poll(clients[count - 1], POLLOUT, 50) == 0) {
            return count;
        }
    }
    return 0;
}

static void b10_a_connect_that_waits_can_be_cancelled(void **state) {
    enum { FILLERS = 8 };
    harness *h = *state;
    need_requests(h);
    uint16_t port;
    p2p_handle_t fillers[FILLERS];
    p2p_handle_t listener = refusing_port(&port);
    assert_int_equal(os_listen(listener, 1), 0);
    int count = connect_until_one_waits(port, fillers, FILLERS);
    for (int i = 0; count > 0 && i < 6; i++) {
        group_socket *socket = i % 2 == 0 ? unconnected(h) : group_attach(h, tcp_connecting(port), P2P_INVALID_HANDLE);
        connect_to(h, socket, i % 2 == 0 ? port : 0);
        if (i >= 2) {
            expect_idle(h, 10 * MILLISECOND);
            assert_false(socket->request.is_done);
        }
        if (i < 4) {
            cancel_request(h, socket);
            expect_cancelled_once(h, socket);
        }
        group_detach(h, socket);
        assert_true(socket->request.is_done);
    }
    for (int i = 0; i < count; i++) {
        os_close(fillers[i]);
    }
    os_close(listener);
    if (count == 0) {
        test_skip("a full listener makes no connect wait here");
    }
}

/* ---- what is under way ---- */

static void b06_requests_are_done_before_DETACHED(void **state) {
    harness *h = *state;
    need_requests(h);
    for (int round = 0; round < 12; round++) {
        group_socket *socket = group_pair(h);
        if (round & 1) {
            fill_up(socket);
        }
        send_pattern(h, socket, 0, 5000, 1 + (uint32_t)round % 3, round & 2 ? P2P_OP_QUIET : 0);
        for (int waits = 0; waits < round / 4 && !socket->request.is_done; waits++) {
            turn(h, 0);
        }
        group_detach(h, socket); /* hear() looks at the order */
        assert_true(socket->request.is_done);
    }
}

static void b10_submit_hands_over_what_was_asked_for(void **state) {
    harness *h = *state;
    need_requests(h);
    for (uint32_t flags = 0; flags <= P2P_OP_QUIET; flags += P2P_OP_QUIET) {
        group_socket *socket = group_connection(h);
        send_pattern(h, socket, 0, 100, 1, flags);
        if (h->ops->submit != NULL) { /* without it nothing is gathered */
            assert_int_equal(h->ops->submit(h->backend), 0);
        }
        assert_true(os_poll(socket->peer, POLLIN, (int)(DEADLINE / MILLISECOND)) > 0);
        assert_int_equal(peer_reads(socket, 0), 100);
        assert_int_equal(h->ops->wake(h->backend), 0);
        assert_int_equal(turn_until_done(h, socket), 100);
    }
}

static void b06_destroy_ends_what_is_under_way(void **state) {
    harness *h = *state;
    if (h->ops->recv_start == NULL && h->ops->accept_start == NULL && h->ops->send == NULL) {
        test_skip("backend %s has none of the groups", h->ops->name);
    }
    for (int turns = 0; turns < 4; turns++) {
        group_start_all(h);
        h->capacity = 1;
        for (int waits = 0; waits < turns; waits++) {
            turn(h, 0);
        }
        group_destroy(h);
        assert_int_equal(h->live_bytes, 0);
        assert_int_equal(harness_create(h), 0);
    }
}

static const struct CMUnitTest cases[] = {
    GROUP_CASE(b10_a_send_completes_by_one_OP_DONE),
    GROUP_CASE(b10_pieces_are_sent_in_their_order),
    GROUP_CASE(b10_a_send_larger_than_the_buffer_arrives_whole),
    GROUP_CASE(b10_a_send_without_room_waits_quietly),
    GROUP_CASE(b10_a_send_to_who_has_gone_fails),
    GROUP_CASE(b10_a_quiet_send_leaves_before_the_wait_and_is_told_after_it),
    GROUP_CASE(b10_a_quiet_send_is_told_with_the_next_event),
    GROUP_CASE(b10_of_many_quiet_sends_each_is_told),
    GROUP_CASE(b10_a_quiet_send_that_was_not_handed_over_is_not_told),
    GROUP_CASE(b10_a_connect_completes_by_one_OP_DONE),
    GROUP_CASE(b10_a_refused_connect_is_told_as_an_error),
    GROUP_CASE(b10_a_send_that_waits_can_be_cancelled),
    GROUP_CASE(b10_cancelled_at_once_a_send_is_told_once),
    GROUP_CASE(b10_a_connect_that_waits_can_be_cancelled),
    GROUP_CASE(b10_submit_hands_over_what_was_asked_for),
    GROUP_CASE(b06_requests_are_done_before_DETACHED),
    GROUP_CASE(b06_destroy_ends_what_is_under_way),
};
const case_group request_cases = CASE_GROUP(cases);
