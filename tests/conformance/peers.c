/* What a socket shows for each thing its peer can do. */
#include "cases.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int pending_error(int handle) {
    int error = -1;
    socklen_t size = sizeof(error);
    assert_int_equal(getsockopt(handle, SOL_SOCKET, SO_ERROR, &error, &size), 0);
    return error;
}

static void c24_a_paused_socket_makes_no_wakeups_when_its_peer_ends(void **state) {
    harness *h = *state;
    int ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN);
    want(h, io, 0);
    shutdown(ends[0], SHUT_WR); /* both directions ended is HUP, which no mask of poll or epoll holds back */
    close(ends[1]);
    expect_quiet(h, 100 * MILLISECOND);
    want(h, io, P2P_IN);
    turn_until(h, io, P2P_IN);
    char byte;
    assert_int_equal(receive(ends[0], &byte, 1), 0);
    forget_all(h);
    close(ends[0]);
}

static void c24_a_paused_socket_makes_no_wakeups_when_it_is_reset(void **state) {
    harness *h = *state;
    int ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN);
    want(h, io, 0);
    reset(ends[1]);
    expect_quiet(h, 100 * MILLISECOND);
    want(h, io, P2P_IN);
    turn_until(h, io, P2P_IN);
    char byte;
    assert_int_equal(receive(ends[0], &byte, 1), -ECONNRESET);
    forget_all(h);
    close(ends[0]);
}

static void c50_data_comes_before_the_end(void **state) {
    harness *h = *state;
    int ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN);
    send_text(ends[1], "abc");
    close(ends[1]);
    char bytes[2];
    static const int results[] = { 2, 1, 0 };
    for (size_t i = 0; i < 3; i++) {
        turn_until(h, io, P2P_IN);
        assert_int_equal(receive(ends[0], bytes, sizeof(bytes)), results[i]);
    }
    forget_all(h);
    close(ends[0]);
}

static void c51_a_reset_is_readable_and_told_once(void **state) {
    harness *h = *state;
    int ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN);
    reset(ends[1]);
    turn_until(h, io, P2P_IN);
    char byte;
    assert_int_equal(receive(ends[0], &byte, 1), -ECONNRESET);
    turn_until(h, io, P2P_IN);
    assert_int_equal(receive(ends[0], &byte, 1), 0);
    forget_all(h);
    close(ends[0]);
}

static void c52_a_refused_connect_is_reported(void **state) {
    harness *h = *state;
    uint16_t port;
    int keeper = refusing_port(&port);
    int client = tcp_connecting(port);
    test_io *io = add(h, client, P2P_OUT);
    turn_until(h, io, P2P_OUT);
    assert_int_equal(pending_error(client), ECONNREFUSED);
    forget_all(h);
    close(client);
    close(keeper);
}

/* On systems where select's limit is real the handle is refused; here there is none. */
static void c53_a_handle_beyond_fd_setsize_works_or_is_refused(void **state) {
    harness *h = *state;
    if (handles_to_spare(1600) < 1600) {
        test_skip("this process may not have 1600 handles");
    }
    int ends[2];
    tcp_pair(ends);
    test_io *low = add(h, ends[0], P2P_IN);
    test_io *writable = add(h, ends[1], P2P_OUT);
    static const int minimums[] = { 1023, 1024, 1500 };
    for (size_t i = 0; i < 3; i++) {
        int handle = fcntl(ends[0], F_DUPFD, minimums[i]);
        assert_true(handle >= minimums[i]);
        test_io *io = attach(h, handle, 0);
        int result = try_want(h, io, P2P_OUT);
        assert_true(result == 0 || result == -ERANGE);
        if (result == 0) {
            turn_until(h, io, P2P_OUT);
        }
        forget(h, io);
        close(handle);
    }
    turn_until(h, writable, P2P_OUT); /* growth keeps what there was */
    want(h, writable, 0);
    expect_quiet(h, 5 * MILLISECOND);
    send_text(ends[1], "x");
    turn_until(h, low, P2P_IN);
    forget_all(h);
    close(ends[0]);
    close(ends[1]);
}

static void c54_urgent_data_makes_no_read_events(void **state) {
    harness *h = *state;
    int ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN);
    assert_int_equal(send(ends[1], "!", 1, MSG_OOB), 1);
    expect_quiet(h, 20 * MILLISECOND);
    send_text(ends[1], "x");
    turn_until(h, io, P2P_IN);
    forget_all(h);
    close(ends[0]);
    close(ends[1]);
}

static void c55_reading_goes_on_after_a_shutdown_of_sending(void **state) {
    harness *h = *state;
    int ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN);
    shutdown(ends[0], SHUT_WR);
    expect_quiet(h, 5 * MILLISECOND);
    send_text(ends[1], "x");
    turn_until(h, io, P2P_IN);
    char byte;
    assert_int_equal(receive(ends[0], &byte, 1), 1);
    expect_quiet(h, 5 * MILLISECOND);
    close(ends[1]);
    turn_until(h, io, P2P_IN);
    assert_int_equal(receive(ends[0], &byte, 1), 0);
    forget_all(h);
    close(ends[0]);
}

static void c55_a_shutdown_of_receiving_is_readable(void **state) {
    harness *h = *state;
    int ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN);
    shutdown(ends[0], SHUT_RD);
    turn_until(h, io, P2P_IN);
    forget_all(h);
    close(ends[0]);
    close(ends[1]);
}

/* ---- the readiness matrix: what Linux 6.18 says of a handle in each state, asked for IN|OUT ---- */

static void nothing(int ends[2]) {
    (void)ends;
}

static void fresh(int ends[2]) {
    close(ends[0]);
    ends[0] = socket(AF_INET, SOCK_STREAM, 0);
}

static void listening(int ends[2]) {
    uint16_t port;
    close(ends[0]);
    ends[0] = tcp_listener(&port);
}

static void buffer_full(int ends[2]) {
    fill_send_buffer(ends[0]);
}

static void data(int ends[2]) {
    send_text(ends[1], "x");
}

static void data_and_end(int ends[2]) {
    data(ends);
    shutdown(ends[1], SHUT_WR);
}

static void end_drained(int ends[2]) {
    shutdown(ends[1], SHUT_WR);
    char byte;
    while (receive(ends[0], &byte, 1) != 0) {
    }
}

static void both_ended(int ends[2]) {
    shutdown(ends[0], SHUT_WR);
    shutdown(ends[1], SHUT_WR);
}

static void was_reset(int ends[2]) {
    reset(ends[1]);
    ends[1] = -1;
}

static void reset_was_read(int ends[2]) {
    was_reset(ends);
    char byte;
    while (receive(ends[0], &byte, 1) != -ECONNRESET) {
    }
}

static void refused(int ends[2]) {
    uint16_t port;
    close(ends[0]);
    close(ends[1]);
    ends[1] = refusing_port(&port);
    ends[0] = tcp_connecting(port);
}

static void refusal_was_read(int ends[2]) {
    refused(ends);
    while (pending_error(ends[0]) == 0) {
    }
}

static void urgent_byte(int ends[2]) {
    assert_int_equal(send(ends[1], "!", 1, MSG_OOB), 1);
}

static void make_pipe(int ends[2], int kept) {
    close(ends[0]);
    close(ends[1]);
    pipe_pair(ends);
    close(ends[1 - kept]);
    ends[0] = ends[kept];
    ends[1] = -1;
}

static void pipe_without_writer(int ends[2]) {
    make_pipe(ends, 0);
}

static void pipe_without_reader(int ends[2]) {
    make_pipe(ends, 1);
}

#define IN P2P_IN
#define OUT P2P_OUT
#define HUP P2P_HUP
#define ERR P2P_ERR

static const struct matrix_row {
    const char *name;
    void (*bring_about)(int ends[2]); /* ends[0]: what is asked about; ends[1]: the other side, or -1 */
    uint32_t flags;                   /* poll, epoll, and what is built on the kernel's poll masks */
    uint32_t select_flags;
} matrix[] = {
    { "fresh, unconnected", fresh, OUT | HUP, IN | OUT },
    { "listener, idle", listening, 0, 0 },
    { "send buffer full", buffer_full, 0, 0 },
    { "connected, idle", nothing, OUT, OUT },
    { "data", data, IN | OUT, IN | OUT },
    { "data and the end", data_and_end, IN | OUT, IN | OUT },
    { "the end, drained", end_drained, IN | OUT, IN | OUT },
    { "both ends", both_ended, IN | OUT | HUP, IN | OUT },
    { "reset", was_reset, IN | OUT | ERR | HUP, IN | OUT },
    { "reset, its error read", reset_was_read, IN | OUT | HUP, IN | OUT },
    { "connect refused", refused, IN | OUT | ERR | HUP, IN | OUT },
    { "connect refused, its error read", refusal_was_read, IN | OUT | HUP, IN | OUT },
    { "urgent byte", urgent_byte, OUT, OUT },
    { "pipe, writer closed", pipe_without_writer, HUP, IN },
    { "pipe, reader closed", pipe_without_reader, OUT | ERR, IN | OUT },
};

/* Turn until the expected flags show, since a peer's act may take a moment to arrive. */
static uint32_t flags_that_settle(harness *h, test_io *io, uint32_t expected) {
    int64_t end = now_ns() + (expected == 0 ? 20 : 5000) * MILLISECOND;
    do {
        turn(h, 5 * MILLISECOND);
    } while ((expected == 0 || io->now != expected) && now_ns() < end);
    return expected == 0 ? io->seen : io->now;
}

static void matrix_of_readiness(void **state) {
    harness *h = *state;
#if !defined(__linux__)
    test_skip("the matrix is of Linux");
#endif
    bool is_select = strcmp(h->ops->name, "select") == 0;
    int differences = 0;
    for (size_t i = 0; i < sizeof(matrix) / sizeof(matrix[0]); i++) {
        const struct matrix_row *row = &matrix[i];
        int ends[2];
        tcp_pair(ends);
        row->bring_about(ends);
        uint32_t expected = is_select ? row->select_flags : row->flags;
        test_io *io = add(h, ends[0], P2P_IN | P2P_OUT);
        uint32_t found = flags_that_settle(h, io, expected);
        want(h, io, 0);
        expect_quiet(h, 2 * MILLISECOND); /* the column "no interest" is empty on every backend */
        if (found != expected) {
            print_error("%s: expected 0x%x, found 0x%x (IN 1, OUT 2, HUP 4, ERR 8)\n", row->name,
                        (unsigned)expected, (unsigned)found);
            differences++;
        }
        forget_all(h);
        close(ends[0]);
        if (ends[1] >= 0) {
            close(ends[1]);
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
    CASE(c53_a_handle_beyond_fd_setsize_works_or_is_refused),
    CASE(c54_urgent_data_makes_no_read_events),
    CASE(c55_reading_goes_on_after_a_shutdown_of_sending),
    CASE(c55_a_shutdown_of_receiving_is_readable),
    CASE(matrix_of_readiness),
};
const case_group peer_cases = CASE_GROUP(cases);
