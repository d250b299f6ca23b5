/* A connection's kept input (core/inbox.c). Only the inbox of the socket is looked at, so no loop is needed. */
#include "fixture.h"

#include "internal.h"

static void append(p2p_socket_t *sock, const void *data, size_t length) {
    assert_int_equal(p2pi_inbox_append(sock, data, length), 0);
}

static void expect(const p2p_socket_t *sock, const void *data, size_t length) {
    assert_int_equal(p2pi_inbox_length(sock), length);
    if (length > 0) assert_memory_equal(sock->in.inbox->data + sock->in.inbox->head, data, length);
}

static void bytes_come_out_in_order_for_every_chunking(void **state) {
    (void)state;
    uint8_t data[3000];
    raw_fill(data, sizeof data, 3);
    for (size_t in = 1; in < 1200; in += 97)
        for (size_t out = 1; out <= in; out = out * 2 + 1) {
            p2p_socket_t sock = { 0 };
            size_t appended = 0, consumed = 0;
            while (appended < sizeof data) {
                size_t part = in < sizeof data - appended ? in : sizeof data - appended;
                append(&sock, data + appended, part);
                appended += part;
                expect(&sock, data + consumed, appended - consumed);
                size_t take = out < appended - consumed ? out : appended - consumed;
                p2pi_inbox_consume(&sock, take);
                consumed += take;
            }
            expect(&sock, data + consumed, appended - consumed);
            p2pi_inbox_release(&sock);
            assert_int_equal(memory_in_use(), 0);
        }
}

static void an_empty_inbox_has_no_memory(void **state) {
    (void)state;
    p2p_socket_t sock = { 0 };
    append(&sock, NULL, 0);
    assert_int_equal(memory_in_use(), 0);
    append(&sock, "four", 4);
    p2pi_inbox_consume(&sock, 3);
    assert_true(memory_in_use() > 0);
    p2pi_inbox_consume(&sock, 1);
    assert_int_equal(memory_in_use(), 0);
    assert_null(sock.in.inbox);
}

static void it_grows_by_what_was_received(void **state) {
    (void)state;
    static const uint8_t data[1000];
    p2p_socket_t sock = { 0 };
    uint64_t calls = memory_calls();
    for (size_t have = 0; have < 1000 * sizeof data;) {
        append(&sock, data, sizeof data);
        have += sizeof data;
        assert_in_range(memory_in_use(), have, 2 * have + 1024);
    }
    assert_in_range(memory_calls() - calls, 1, 20); /* by doubling: not one block a piece */
    p2pi_inbox_release(&sock);
}

/* What is asked for is the peer's claim; what is given is bound by what the peer has sent. */
static void room_is_limited_by_what_is_there(void **state) {
    (void)state;
    static const uint8_t data[100000];
    p2p_socket_t sock = { 0 };
    size_t available = 0;
    assert_non_null(p2pi_inbox_room(&sock, UINT32_MAX, &available));
    assert_in_range(available, 1, 1024);
    assert_in_range(memory_in_use(), 1, 2048);
    append(&sock, data, sizeof data);
    assert_non_null(p2pi_inbox_room(&sock, UINT32_MAX, &available));
    assert_in_range(available, 1024, 2 * sizeof data);
    assert_in_range(memory_in_use(), sizeof data, 5 * sizeof data);
    expect(&sock, data, sizeof data);
    p2pi_inbox_release(&sock);
}

static void room_gives_no_more_than_is_wanted(void **state) {
    (void)state;
    p2p_socket_t sock = { 0 };
    size_t available = 0;
    uint8_t *place = p2pi_inbox_room(&sock, 3, &available);
    assert_int_equal(available, 3);
    memcpy(place, "abc", 3);
    sock.in.inbox->tail += 3;
    expect(&sock, "abc", 3);
    p2pi_inbox_release(&sock);
}

static void consumed_space_is_used_before_more_memory(void **state) {
    (void)state;
    uint8_t data[256];
    raw_fill(data, sizeof data, 5);
    p2p_socket_t sock = { 0 };
    append(&sock, data, sizeof data);
    uint64_t calls = memory_calls();
    for (int i = 0; i < 1000; i++) { /* 256 KB pass, never more than 356 bytes at a time */
        p2pi_inbox_consume(&sock, 156);
        append(&sock, data, 156);
        assert_int_equal(p2pi_inbox_length(&sock), sizeof data);
    }
    assert_int_equal(memory_calls(), calls);
    p2pi_inbox_release(&sock);
}

static void a_lent_one_stays_where_it_is(void **state) {
    (void)state;
    static uint8_t data[4000];
    raw_fill(data, sizeof data, 9);
    p2p_socket_t sock = { 0 };
    append(&sock, data, 100);
    p2pi_inbox *lent = sock.in.inbox;
    lent->lent = true;
    const uint8_t *looked_at = lent->data;
    p2pi_inbox_consume(&sock, 60);
    append(&sock, data + 100, sizeof data - 100);
    assert_ptr_not_equal(sock.in.inbox, lent);
    assert_memory_equal(looked_at, data, 100);
    expect(&sock, data + 60, sizeof data - 60);
    p2pi_inbox_unlend(&sock, lent);
    expect(&sock, data + 60, sizeof data - 60);
    p2pi_inbox_release(&sock);
}

static void a_lent_one_is_freed_by_who_lent_it(void **state) {
    (void)state;
    for (int way = 0; way < 3; way++) {
        p2p_socket_t sock = { 0 };
        append(&sock, "abcd", 4);
        p2pi_inbox *lent = sock.in.inbox;
        lent->lent = true;
        p2pi_inbox_consume(&sock, way == 2 ? 2 : 4);
        if (way == 1) p2pi_inbox_release(&sock); /* the connection is closed meanwhile */
        assert_memory_equal(lent->data, "abcd", 4);
        p2pi_inbox_unlend(&sock, lent);
        if (way == 2) expect(&sock, "cd", 2);
        if (way == 2) p2pi_inbox_consume(&sock, 2);
        assert_null(sock.in.inbox);
        assert_int_equal(memory_in_use(), 0);
    }
}

static void without_memory_nothing_changes(void **state) {
    (void)state;
    static const uint8_t data[4000];
    p2p_socket_t sock = { 0 };
    size_t available;
    memory_fail(1, true);
    assert_int_equal(p2pi_inbox_append(&sock, data, 1), P2P_ERR_NO_MEMORY);
    memory_fail(0, false);
    append(&sock, "abc", 3);
    memory_fail(1, true);
    assert_int_equal(p2pi_inbox_append(&sock, data, sizeof data), P2P_ERR_NO_MEMORY);
    assert_null(p2pi_inbox_room(&sock, sizeof data, &available));
    memory_fail(0, false);
    expect(&sock, "abc", 3);
    p2pi_inbox_release(&sock);
}

/* A message of 256 KiB that comes in four reads is moved never: its first block has room for it. */
static void a_long_message_is_not_moved(void **state) {
    (void)state;
    static uint8_t frame[P2P_FRAME_HEADER_SIZE + (256 << 10)];
    p2pi_frame_header(frame, 256 << 10);
    p2p_socket_t sock = { 0 };
    uint64_t calls = memory_calls();
    append(&sock, frame, 64 << 10);
    append(&sock, frame + (64 << 10), 128 << 10);
    append(&sock, frame + (192 << 10), sizeof frame - (192 << 10));
    assert_in_range(memory_in_use(), sizeof frame, sizeof frame + 64);
    assert_int_equal(memory_calls() - calls, 1);
    p2pi_inbox_release(&sock);
}

/* What claims to be long gets room for eight times what has come, at most. */
static void a_claim_costs_little(void **state) {
    (void)state;
    static uint8_t frame[4096];
    p2pi_frame_header(frame, UINT32_MAX);
    p2p_socket_t sock = { 0 };
    append(&sock, frame, P2P_FRAME_HEADER_SIZE);
    assert_in_range(memory_in_use(), 1, 1024);
    append(&sock, frame + P2P_FRAME_HEADER_SIZE, sizeof frame - P2P_FRAME_HEADER_SIZE);
    assert_in_range(memory_in_use(), sizeof frame, 8 * sizeof frame);
    p2pi_inbox_release(&sock);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        CASE(bytes_come_out_in_order_for_every_chunking),
        CASE(an_empty_inbox_has_no_memory),
        CASE(it_grows_by_what_was_received),
        CASE(room_is_limited_by_what_is_there),
        CASE(room_gives_no_more_than_is_wanted),
        CASE(consumed_space_is_used_before_more_memory),
        CASE(a_lent_one_stays_where_it_is),
        CASE(a_lent_one_is_freed_by_who_lent_it),
        CASE(a_long_message_is_not_moved),
        CASE(a_claim_costs_little),
        CASE(without_memory_nothing_changes),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
