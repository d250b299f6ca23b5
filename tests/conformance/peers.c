/* What a socket shows for each thing its peer can do. */
#include "cases.h"

#include <string.h>

static int pending_error(p2p_handle_t handle) {
    int error = -1;
    assert_int_equal(os_get_option(handle, SOL_SOCKET, SO_ERROR, &error), 0);
    return error;
}

static void c24_a_paused_socket_makes_no_wakeups_when_its_peer_ends(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN);
    want(h, io, 0);
    os_shutdown_send(ends[0]); /* both directions ended is HUP, which no mask of poll or epoll holds back */
    os_close(ends[1]);
    expect_quiet(h, 100 * MILLISECOND);
    want(h, io, P2P_IN);
    turn_until(h, io, P2P_IN);
    char byte;
    assert_int_equal(receive(ends[0], &byte, 1), 0);
    forget_all(h);
    os_close(ends[0]);
}

static void c24_a_paused_socket_makes_no_wakeups_when_it_is_reset(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN);
    want(h, io, 0);
    os_reset(ends[1]);
    expect_quiet(h, 100 * MILLISECOND);
    want(h, io, P2P_IN);
    turn_until(h, io, P2P_IN);
    char byte;
    assert_int_equal(receive(ends[0], &byte, 1), -ECONNRESET);
    forget_all(h);
    os_close(ends[0]);
}

static void c50_data_comes_before_the_end(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN);
    send_text(ends[1], "abc");
    os_close(ends[1]);
    char bytes[2];
    static const int results[] = { 2, 1, 0 };
    for (size_t i = 0; i < 3; i++) {
        turn_until(h, io, P2P_IN);
        assert_int_equal(receive(ends[0], bytes, sizeof(bytes)), results[i]);
    }
    forget_all(h);
    os_close(ends[0]);
}

static void c51_a_reset_is_readable_and_told_once(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN);
    os_reset(ends[1]);
    turn_until(h, io, P2P_IN);
    char byte;
    assert_int_equal(receive(ends[0], &byte, 1), -ECONNRESET);
    turn_until(h, io, P2P_IN);
    int again = receive(ends[0], &byte, 1);
    assert_true(again == 0 || (ON_WINDOWS && again == -ECONNRESET)); /* which tells it each time */
    forget_all(h);
    os_close(ends[0]);
}

static void c52_a_refused_connect_is_reported(void **state) {
    harness *h = *state;
    uint16_t port;
    p2p_handle_t keeper = refusing_port(&port);
    p2p_handle_t client = tcp_connecting(port);
    test_io *io = add(h, client, P2P_OUT);
    turn_until(h, io, P2P_OUT);
    assert_int_equal(pending_error(client), os_number(ECONNREFUSED));
    forget_all(h);
    os_close(client);
    os_close(keeper);
}

/* 64 sockets are what Windows' select takes by default. */
static void c53_each_of_three_hundred_sockets_is_found_ready(void **state) {
    enum { COUNT = 300 };
    harness *h = *state;
    p2p_handle_t ends[COUNT][2];
    for (int i = 0; i < COUNT; i++) {
        tcp_pair(ends[i]);
        add(h, ends[i][0], P2P_IN);
    }
    h->capacity = 512;
    for (int i = 0; i < COUNT; i++) {
        char byte;
        clear(h);
        send_text(ends[i][1], "x");
        turn_until(h, h->ios[i], P2P_IN);
        for (int k = 0; k < COUNT; k++) {
            assert_true(k == i || h->ios[k]->events == 0);
        }
        assert_int_equal(receive(ends[i][0], &byte, 1), 1);
    }
    for (int i = 0; i < COUNT; i++) {
        want(h, h->ios[i], P2P_IN | P2P_OUT);
    }
    assert_int_equal(turn(h, DEADLINE), COUNT);
    forget_all(h);
    for (int i = 0; i < COUNT; i++) {
        close_pair(ends[i]);
    }
}

static void c54_urgent_data_makes_no_read_events(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN);
    assert_int_equal(os_send_urgent(ends[1], '!'), 1);
    expect_quiet(h, 20 * MILLISECOND);
    send_text(ends[1], "x");
    turn_until(h, io, P2P_IN);
    forget_all(h);
    close_pair(ends);
}

static void c55_reading_goes_on_after_a_shutdown_of_sending(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN);
    os_shutdown_send(ends[0]);
    expect_quiet(h, 5 * MILLISECOND);
    send_text(ends[1], "x");
    turn_until(h, io, P2P_IN);
    char byte;
    assert_int_equal(receive(ends[0], &byte, 1), 1);
    expect_quiet(h, 5 * MILLISECOND);
    os_close(ends[1]);
    turn_until(h, io, P2P_IN);
    assert_int_equal(receive(ends[0], &byte, 1), 0);
    forget_all(h);
    os_close(ends[0]);
}

/* Who waits for room only is not told of the peer's end again and again. (WSAPoll would.) */
static void c55_room_is_waited_for_quietly_after_the_peer_has_ended_its_side(void **state) {
    harness *h = *state;
    static char block[65536];
    p2p_handle_t ends[2];
    tcp_pair(ends);
    send_text(ends[1], "unread");
    fill_send_buffer(ends[0]);
    os_shutdown_send(ends[1]);
    test_io *io = add(h, ends[0], P2P_OUT);
    expect_quiet(h, 50 * MILLISECOND);
    want(h, io, P2P_IN | P2P_OUT); /* what was not asked for is there when it is */
    for (int got = 1; got != 0;) {
        turn_until(h, io, P2P_IN);
        got = receive(ends[0], block, sizeof(block));
        assert_in_range(got, 0, sizeof(block));
    }
    want(h, io, P2P_OUT); /* the end has been read, and stays */
    expect_quiet(h, 50 * MILLISECOND);
    assert_int_equal(h->ops->wake(h->backend), 0); /* however this is waited for */
    wait_to_be_woken(h);
    expect_quiet(h, 20 * MILLISECOND);
    while (receive(ends[1], block, sizeof(block)) > 0 || (io->now & P2P_OUT) == 0) {
        turn(h, 10 * MILLISECOND);
    }
    forget_all(h);
    close_pair(ends);
}

/* ---- the readiness matrix: what the system says of a handle in each state, asked for IN|OUT ---- */

static void nothing(p2p_handle_t ends[2]) {
    (void)ends;
}

static void fresh(p2p_handle_t ends[2]) {
    os_close(ends[0]);
    ends[0] = os_socket(AF_INET, SOCK_STREAM);
}

static void listening(p2p_handle_t ends[2]) {
    uint16_t port;
    os_close(ends[0]);
    ends[0] = tcp_listener(&port);
}

static void buffer_full(p2p_handle_t ends[2]) {
    fill_send_buffer(ends[0]);
}

static void data(p2p_handle_t ends[2]) {
    send_text(ends[1], "x");
}

static void data_and_end(p2p_handle_t ends[2]) {
    data(ends);
    os_shutdown_send(ends[1]);
}

static void end_drained(p2p_handle_t ends[2]) {
    os_shutdown_send(ends[1]);
    char byte;
    while (receive(ends[0], &byte, 1) != 0) {
    }
}

static void both_ended(p2p_handle_t ends[2]) {
    os_shutdown_send(ends[0]);
    os_shutdown_send(ends[1]);
}

static void was_reset(p2p_handle_t ends[2]) {
    os_reset(ends[1]);
    ends[1] = P2P_INVALID_HANDLE;
}

static void reset_was_read(p2p_handle_t ends[2]) {
    was_reset(ends);
    char byte;
    while (receive(ends[0], &byte, 1) != -ECONNRESET) {
    }
}

static void refused(p2p_handle_t ends[2]) {
    uint16_t port;
    close_pair(ends);
    ends[1] = refusing_port(&port);
    ends[0] = tcp_connecting(port);
}

static void refusal_was_read(p2p_handle_t ends[2]) {
    refused(ends);
    while (pending_error(ends[0]) == 0) {
    }
}

static void urgent_byte(p2p_handle_t ends[2]) {
    assert_int_equal(os_send_urgent(ends[1], '!'), 1);
}

enum { RD = P2P_IN, WR = P2P_OUT, HUP = P2P_HUP, ERR = P2P_ERR };

/* What must be reported, and what may come with it. */
typedef struct readiness {
    uint32_t must, may;
} readiness;

typedef struct matrix_row {
    const char *name;
    void (*bring_about)(p2p_handle_t ends[2]); /* ends[0]: what is asked about; ends[1]: the other side, or none */
    readiness masks;                           /* what is built on masks: poll, epoll, WSAPoll */
    readiness select;
} matrix_row;

#if defined(_WIN32)
/* What Wine 8 and what is known of Windows have in common: Windows tells a hang-up while data is left to be read,
 * Wine afterwards; errors and hang-ups of a reset differ too. */
static const matrix_row matrix[] = {
    { "fresh, unconnected", fresh, { 0, RD | WR | HUP }, { 0, RD | WR } },
    { "listener, idle", listening, { 0, 0 }, { 0, 0 } },
    { "send buffer full", buffer_full, { 0, 0 }, { 0, 0 } },
    { "connected, idle", nothing, { WR, 0 }, { WR, 0 } },
    { "data", data, { RD | WR, 0 }, { RD | WR, 0 } },
    { "data and the end", data_and_end, { RD | WR, HUP }, { RD | WR, 0 } },
    { "the end, drained", end_drained, { RD | WR, HUP }, { RD | WR, 0 } },
    { "both ends", both_ended, { RD | WR, HUP }, { RD | WR, 0 } },
    { "reset", was_reset, { RD | WR | ERR, HUP }, { RD | WR, ERR } },
    { "reset, its error read", reset_was_read, { RD | WR, ERR | HUP }, { RD | WR, ERR } },
    { "connect refused", refused, { WR | ERR, RD | HUP }, { WR | ERR, RD } },
    { "connect refused, its error read", refusal_was_read, { WR | ERR, RD | HUP }, { WR | ERR, RD } },
    { "urgent byte", urgent_byte, { WR, 0 }, { WR, 0 } },
};
#else
static void make_pipe(p2p_handle_t ends[2], int kept) {
    close_pair(ends);
    assert_int_equal(os_pipe(ends), 0);
    os_close(ends[1 - kept]);
    ends[0] = ends[kept];
    ends[1] = P2P_INVALID_HANDLE;
}

static void pipe_without_writer(p2p_handle_t ends[2]) {
    make_pipe(ends, 0);
}

static void pipe_without_reader(p2p_handle_t ends[2]) {
    make_pipe(ends, 1);
}

/* As Linux 6.18 has it. */
static const matrix_row matrix[] = {
    { "fresh, unconnected", fresh, { WR | HUP, 0 }, { RD | WR, 0 } },
    { "listener, idle", listening, { 0, 0 }, { 0, 0 } },
    { "send buffer full", buffer_full, { 0, 0 }, { 0, 0 } },
    { "connected, idle", nothing, { WR, 0 }, { WR, 0 } },
    { "data", data, { RD | WR, 0 }, { RD | WR, 0 } },
    { "data and the end", data_and_end, { RD | WR, 0 }, { RD | WR, 0 } },
    { "the end, drained", end_drained, { RD | WR, 0 }, { RD | WR, 0 } },
    { "both ends", both_ended, { RD | WR | HUP, 0 }, { RD | WR, 0 } },
    { "reset", was_reset, { RD | WR | ERR | HUP, 0 }, { RD | WR, 0 } },
    { "reset, its error read", reset_was_read, { RD | WR | HUP, 0 }, { RD | WR, 0 } },
    { "connect refused", refused, { RD | WR | ERR | HUP, 0 }, { RD | WR, 0 } },
    { "connect refused, its error read", refusal_was_read, { RD | WR | HUP, 0 }, { RD | WR, 0 } },
    { "urgent byte", urgent_byte, { WR, 0 }, { WR, 0 } },
    { "pipe, writer closed", pipe_without_writer, { HUP, 0 }, { RD, 0 } },
    { "pipe, reader closed", pipe_without_reader, { WR | ERR, 0 }, { RD | WR, 0 } },
};
#endif

static bool fits(uint32_t found, readiness expected) {
    return (found & ~expected.may) == expected.must;
}

/* Turn until the expected flags show, since a peer's act may take a moment to arrive. */
static uint32_t flags_that_settle(harness *h, test_io *io, readiness expected) {
    int64_t end = os_now_ns() + (expected.must == 0 ? 20 : 5000) * MILLISECOND;
    do {
        turn(h, 5 * MILLISECOND);
    } while ((expected.must == 0 || !fits(io->now, expected)) && os_now_ns() < end);
    return expected.must == 0 ? io->seen : io->now;
}

static void matrix_of_readiness(void **state) {
    harness *h = *state;
#if !defined(__linux__) && !defined(_WIN32)
    test_skip("the matrix is of Linux and Windows");
#endif
    bool is_select = strcmp(h->ops->name, "select") == 0;
    int differences = 0;
    for (size_t i = 0; i < sizeof(matrix) / sizeof(matrix[0]); i++) {
        const matrix_row *row = &matrix[i];
        p2p_handle_t ends[2];
        tcp_pair(ends);
        row->bring_about(ends);
        readiness expected = is_select ? row->select : row->masks;
        test_io *io = add(h, ends[0], P2P_IN | P2P_OUT);
        uint32_t found = flags_that_settle(h, io, expected);
        want(h, io, 0);
        expect_quiet(h, 2 * MILLISECOND); /* the column "no interest" is empty on every backend */
        if (!fits(found, expected)) {
            print_error("%s: expected 0x%x, found 0x%x (IN 1, OUT 2, HUP 4, ERR 8)\n", row->name,
                        (unsigned)expected.must, (unsigned)found);
            differences++;
        }
        forget_all(h);
        os_close(ends[0]);
        if (ends[1] != P2P_INVALID_HANDLE) {
            os_close(ends[1]);
        }
    }
    assert_int_equal(differences, 0);
}

static const struct CMUnitTest cases[] = {
    CASE(c24_a_paused_socket_makes_no_wakeups_when_its_peer_ends),
    CASE(c24_a_paused_socket_makes_no_wakeups_when_it_is_reset),
    CASE(c50_data_comes_before_the_end),
    CASE(c51_a_reset_is_readable_and_told_once),
    CASE(c52_a_refused_connect_is_reported),
    CASE(c53_each_of_three_hundred_sockets_is_found_ready),
    CASE(c54_urgent_data_makes_no_read_events),
    CASE(c55_reading_goes_on_after_a_shutdown_of_sending),
    CASE(c55_room_is_waited_for_quietly_after_the_peer_has_ended_its_side),
    CASE(matrix_of_readiness),
};
const case_group peer_cases = CASE_GROUP(cases);
