/* The optional group that receives into the loop's buffers: B6 to B9, and what becomes of a socket that is closed. */
#include "cases.h"
#include "groups.h"

/* The smallest there may be, some, and the loop's default. */
static const struct { uint32_t count, size; } pools[] = { { 1, 4096 }, { 4, 4096 }, { 16, 65536 } };
enum { POOLS = 3 };

/* As the core does with what is ready: nothing is kept. */
static void turn_and_recycle(harness *h, int64_t timeout_ns) {
    turn(h, timeout_ns);
    recycle_to(h, 0);
}

static void turn_until_received(harness *h, group_socket *socket, uint64_t bytes) {
    int64_t deadline = os_now_ns() + DEADLINE;
    while (socket->received < bytes) {
        assert_true(os_now_ns() < deadline);
        turn_and_recycle(h, 10 * MILLISECOND);
    }
}

/* ---- B6 and B7: detach ---- */

static void b06_what_was_received_is_told_before_DETACHED(void **state) {
    harness *h = *state;
    need_receive(h);
    uint32_t seed = 6;
    for (uint32_t round = 0; round < 60; round++) {
        if (round % 20 == 0) {
            use_pool(h, pools[round / 20].count, pools[round / 20].size);
        }
        group_socket *socket = group_connection(h);
        h->capacity = round % 2 == 0 ? 1 : 64; /* with room for one, more is left to be told */
        start(h, socket);
        for (uint32_t i = 0; i < round % 5; i++) {
            peer_sends(socket, next_random(&seed) % 40000 + 1);
            if (next_random(&seed) % 2 == 0) {
                turn(h, 0);
            }
        }
        peer_sends(socket, next_random(&seed) % 1000 + 1);
        if (h->ops->send != NULL && round % 3 == 0) { /* which ends sooner than the receive, or later */
            send_pattern(h, socket, fill_up(socket), 5000, 1, 0);
            turn(h, 0);
        }
        group_detach(h, socket);
        read_rest(socket);
        assert_int_equal(socket->received, socket->sent);
        recycle_to(h, round % 3); /* what is lent stays so */
    }
}

/* However it was stopped, or not started yet. */
static void b06_detach_right_after_start_or_stop(void **state) {
    harness *h = *state;
    need_receive(h);
    use_pool(h, 4, 4096);
    for (uint32_t round = 0; round < 32; round++) {
        group_socket *socket = group_connection(h);
        start(h, socket);
        for (uint32_t step = 0; step < 4; step++) {
            if (round & 1u << step) {
                turn(h, 0);
            }
            peer_sends(socket, 100);
            if (step % 2 == 0) {
                stop(h, socket);
            } else if (!socket->armed) {
                start(h, socket);
            }
        }
        if (round & 16) {
            turn(h, 0);
        }
        group_detach(h, socket);
        read_rest(socket);
        assert_int_equal(socket->received, socket->sent);
        recycle_to(h, 0);
    }
    expect_quiet(h, 5 * MILLISECOND);
}

/* ---- B8: how a receive ends, and begins again ---- */

static void b08_with_MORE_a_receive_goes_on(void **state) {
    harness *h = *state;
    need_receive(h);
    use_pool(h, 16, 65536);
    group_socket *socket = group_connection(h);
    start(h, socket);
    expect_quiet(h, 5 * MILLISECOND);
    for (int i = 0; i < 200; i++) {
        peer_sends(socket, 10);
        turn_until_received(h, socket, socket->sent);
        if (!socket->armed) { /* without MORE it is over */
            peer_sends(socket, 10);
            expect_quiet(h, MILLISECOND);
            start(h, socket);
        }
    }
    expect_idle(h, 20 * MILLISECOND);
    assert_int_equal(socket->starved + socket->ends + socket->resets, 0);
}

static void b08_the_end_comes_after_the_data_and_without_MORE(void **state) {
    harness *h = *state;
    need_receive(h);
    use_pool(h, 4, 4096);
    group_socket *socket = group_connection(h);
    start(h, socket);
    peer_sends(socket, 10000);
    os_shutdown_send(socket->peer);
    for (unsigned ends = 0; ends < 3; ends++) { /* it stays, for whoever asks again */
        receive_all(h, socket);
        int64_t deadline = os_now_ns() + DEADLINE;
        while (socket->ends == ends) {
            assert_true(os_now_ns() < deadline);
            if (!socket->armed) {
                start(h, socket);
            }
            turn_and_recycle(h, 10 * MILLISECOND);
        }
        assert_int_equal(socket->received, socket->sent);
        assert_false(socket->armed);
        expect_idle(h, 20 * MILLISECOND); /* it is told once */
        assert_int_equal(socket->ends, ends + 1);
    }
}

static void b08_a_reset_comes_without_MORE(void **state) {
    harness *h = *state;
    need_receive(h);
    use_pool(h, 4, 4096);
    group_socket *socket = group_connection(h);
    start(h, socket);
    turn(h, 0);
    os_reset(socket->peer);
    socket->peer = P2P_INVALID_HANDLE;
    int64_t deadline = os_now_ns() + DEADLINE;
    while (socket->resets == 0) {
        assert_true(os_now_ns() < deadline);
        turn(h, 10 * MILLISECOND);
    }
    assert_false(socket->armed);
    expect_idle(h, 20 * MILLISECOND);
    assert_int_equal(socket->recv_events, 1);
}

static void b08_without_buffers_nothing_is_received_and_nothing_lost(void **state) {
    enum { SENDERS = 3 };
    harness *h = *state;
    need_receive(h);
    for (uint32_t count = 1; count <= 2; count++) {
        use_pool(h, count, 4096);
        group_socket *sockets[SENDERS];
        for (int i = 0; i < SENDERS; i++) {
            sockets[i] = group_connection(h);
            start(h, sockets[i]);
            peer_sends(sockets[i], 20000);
        }
        for (int waits = 0; waits < 20; waits++) { /* nothing is given back */
            turn(h, 10 * MILLISECOND);
        }
        for (int i = 0; i < SENDERS; i++) { /* a backend may tell of it, or go on by itself when it has buffers again */
            assert_in_range(sockets[i]->starved, 0, 1);
        }
        expect_idle(h, 20 * MILLISECOND);
        assert_true(lent_count() > 0);
        recycle_to(h, 0);
        for (int i = 0; i < SENDERS; i++) {
            receive_all(h, sockets[i]);
            assert_int_equal(sockets[i]->received, 20000);
            group_detach(h, sockets[i]);
        }
    }
}

static void b08_nothing_is_received_once_a_stop_has_taken_effect(void **state) {
    harness *h = *state;
    need_receive(h);
    use_pool(h, 4, 4096);
    for (int round = 0; round < 20; round++) {
        group_socket *socket = group_connection(h);
        start(h, socket);
        if (round & 1) {
            turn(h, 0);
        }
        peer_sends(socket, 100);
        stop(h, socket);
        for (int waits = 0; waits < FEW_WAITS; waits++) {
            turn_and_recycle(h, 0);
        }
        socket->silent = true;
        peer_sends(socket, 100);
        expect_idle(h, 2 * MILLISECOND);
        if (round & 2) {
            start(h, socket);
            receive_all(h, socket);
        }
        group_detach(h, socket);
        read_rest(socket);
        assert_int_equal(socket->received, socket->sent);
    }
}

/* ---- B8 and B9: nothing is lost, doubled or mixed up ---- */

enum { TOGETHER = 3 };

static void send_to_all(group_socket *const *sockets, uint64_t each, uint32_t *seed) {
    for (int i = 0; i < TOGETHER; i++) {
        size_t size = next_random(seed) % 30000 + 1;
        uint64_t left = each - sockets[i]->sent;
        if (next_random(seed) % 4 != 0) {
            peer_sends(sockets[i], size < left ? size : left);
        }
    }
}

/* A stop may be under way when the next start comes. */
static void stopped(harness *h, uint32_t *seed) {
    if (h->ops->submit != NULL && next_random(seed) % 2 == 0) {
        assert_int_equal(h->ops->submit(h->backend), 0);
    }
}

/* Several connections share a pool; buffers go back late, in pieces; receives are stopped and started at any time. */
static void pass_through(harness *h, uint64_t each, uint32_t lent_max, bool restless) {
    group_socket *sockets[TOGETHER];
    uint32_t seed = lent_max + 1;
    int64_t deadline = os_now_ns() + DEADLINE;
    uint64_t received = 0;
    for (int i = 0; i < TOGETHER; i++) {
        sockets[i] = group_connection(h);
    }
    while (received < TOGETHER * each) {
        assert_true(os_now_ns() < deadline);
        send_to_all(sockets, each, &seed);
        turn(h, next_random(&seed) % 4 == 0 ? MILLISECOND : 0);
        recycle_to(h, lent_max == 0 ? 0 : next_random(&seed) % lent_max);
        received = 0;
        for (int i = 0; i < TOGETHER; i++) {
            if (restless && sockets[i]->armed && next_random(&seed) % 3 == 0) {
                stop(h, sockets[i]);
                stopped(h, &seed);
            }
            if (!sockets[i]->armed && (!restless || next_random(&seed) % 3 != 0)) {
                start(h, sockets[i]);
            }
            received += sockets[i]->received;
        }
    }
    recycle_to(h, 0);
    for (int i = 0; i < TOGETHER; i++) {
        assert_int_equal(sockets[i]->received, each);
        group_detach(h, sockets[i]);
        group_close(sockets[i]);
        group_close_peer(sockets[i]);
    }
}

static void b08_every_byte_comes_in_order(void **state) {
    harness *h = *state;
    need_receive(h);
    for (int i = 0; i < POOLS; i++) {
        use_pool(h, pools[i].count, pools[i].size);
        pass_through(h, 1000000, 0, false);
    }
    h->capacity = 1;
    pass_through(h, 200000, 0, false);
}

static void b08_stopped_and_started_again_a_receive_loses_nothing(void **state) {
    harness *h = *state;
    need_receive(h);
    for (int i = 0; i < POOLS; i++) {
        use_pool(h, pools[i].count, pools[i].size);
        pass_through(h, 500000, 0, true);
    }
}

static void b08_started_again_while_a_stop_is_under_way_a_receive_goes_on(void **state) {
    harness *h = *state;
    need_receive(h);
    use_pool(h, 4, 4096);
    group_socket *socket = group_connection(h);
    uint32_t seed = 8;
    for (int round = 0; round < 64; round++) {
        if (!socket->armed) {
            start(h, socket);
        }
        if (round & 1) {
            turn_and_recycle(h, 0);
        }
        peer_sends(socket, round & 2 ? 6000 : 0);
        stop(h, socket);
        stopped(h, &seed);
        start(h, socket);
        peer_sends(socket, 100);
        receive_all(h, socket);
    }
}

static void b09_what_is_lent_is_not_overwritten(void **state) {
    harness *h = *state;
    need_receive(h);
    for (int i = 0; i < POOLS; i++) {
        use_pool(h, pools[i].count, pools[i].size);
        pass_through(h, 500000, 40, false);
        pass_through(h, 200000, 40, true);
    }
}

/* If one piece were lost or counted wrong, the only buffer would be gone. */
static void b09_a_pool_of_one_is_whole_again_after_each_piece(void **state) {
    harness *h = *state;
    need_receive(h);
    use_pool(h, 1, 4096);
    group_socket *socket = group_connection(h);
    uint32_t seed = 9;
    for (int i = 0; i < 500; i++) {
        peer_sends(socket, next_random(&seed) % 6000 + 1);
        receive_all(h, socket);
        assert_int_equal(lent_count(), 0);
    }
}

static void b09_a_pool_that_finds_no_memory_is_refused(void **state) {
    harness *h = *state;
    need_receive(h);
    use_pool(h, 16, 4096);
    p2p_buffer_pool pool = h->pool;
    h->pool.count = 0;
    int result = -os_number(ENOMEM);
    for (size_t point = 1; result < 0; point++) {
        assert_in_range(point, 1, 100);
        harness_destroy(h);
        assert_int_equal(h->live_bytes, 0);
        assert_int_equal(harness_create(h), 0);
        h->fail_from = h->allocations + point;
        result = h->ops->pool_bind(h->backend, &pool);
        h->fail_from = 0;
        assert_true(result == 0 || result == -os_number(ENOMEM));
    }
    h->pool = pool; /* bound at last */
    group_socket *socket = group_connection(h);
    peer_sends(socket, 5000);
    receive_all(h, socket);
}

/* ---- what is closed, and what is left ---- */

static void expect_the_end(harness *h, group_socket *socket) {
    char byte;
    int64_t got = -EAGAIN;
    for (int waits = 0; got == -EAGAIN; waits++) {
        assert_in_range(waits, 0, FEW_WAITS);
        turn(h, 0);
        got = os_recv_now(socket->peer, &byte, 1);
    }
    assert_int_equal(got, 0);
}

/* What the kernel has of the socket must not keep the connection open when the program has closed it. */
static void c57_the_peer_sees_the_end_when_a_receiving_socket_is_closed(void **state) {
    harness *h = *state;
    need_receive(h);
    use_pool(h, 4, 4096);
    for (int round = 0; round < 30; round++) {
        group_socket *socket = group_connection(h);
        start(h, socket);
        for (int i = 0; i < round % 3; i++) {
            turn(h, 0);
        }
        if (round & 1) {
            peer_sends(socket, 10);
            turn_until_received(h, socket, 10);
        }
        group_detach(h, socket);
        group_close(socket);
        expect_the_end(h, socket);
    }
}

/* Without another wait. */
static void c57_the_peer_sees_the_end_when_a_waited_for_socket_is_closed(void **state) {
    harness *h = *state;
    for (int round = 0; round < 30; round++) {
        p2p_handle_t ends[2];
        char byte;
        tcp_pair(ends);
        test_io *io = add(h, ends[0], round % 2 == 0 ? P2P_IN : P2P_IN | P2P_OUT);
        for (int i = 0; i < round % 3; i++) {
            turn(h, 0);
        }
        forget(h, io);
        os_close(ends[0]);
        assert_true(os_poll(ends[1], POLLIN, (int)(DEADLINE / MILLISECOND)) > 0);
        assert_int_equal(os_recv_now(ends[1], &byte, 1), 0);
        os_close(ends[1]);
    }
}

static void c58_what_was_not_read_is_told_again(void **state) {
    harness *h = *state;
    group_socket *socket = group_connection(h);
    char byte;
    want(h, socket->io, P2P_IN);
    peer_sends(socket, 4);
    for (int i = 0; i < 4; i++) {
        turn_until(h, socket->io, P2P_IN);
        assert_int_equal(os_recv_now(socket->handle, &byte, 1), 1);
    }
    expect_quiet(h, 5 * MILLISECOND);
}

static const struct CMUnitTest cases[] = {
    GROUP_CASE(b06_what_was_received_is_told_before_DETACHED),
    GROUP_CASE(b06_detach_right_after_start_or_stop),
    GROUP_CASE(b08_with_MORE_a_receive_goes_on),
    GROUP_CASE(b08_the_end_comes_after_the_data_and_without_MORE),
    GROUP_CASE(b08_a_reset_comes_without_MORE),
    GROUP_CASE(b08_without_buffers_nothing_is_received_and_nothing_lost),
    GROUP_CASE(b08_nothing_is_received_once_a_stop_has_taken_effect),
    GROUP_CASE(b08_every_byte_comes_in_order),
    GROUP_CASE(b08_stopped_and_started_again_a_receive_loses_nothing),
    GROUP_CASE(b08_started_again_while_a_stop_is_under_way_a_receive_goes_on),
    GROUP_CASE(b09_what_is_lent_is_not_overwritten),
    GROUP_CASE(b09_a_pool_of_one_is_whole_again_after_each_piece),
    GROUP_CASE(b09_a_pool_that_finds_no_memory_is_refused),
    GROUP_CASE(c57_the_peer_sees_the_end_when_a_receiving_socket_is_closed),
    GROUP_CASE(c57_the_peer_sees_the_end_when_a_waited_for_socket_is_closed),
    GROUP_CASE(c58_what_was_not_read_is_told_again),
};
const case_group receive_cases = CASE_GROUP(cases);
