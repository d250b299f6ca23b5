/* Adding, changing and removing interest. docs/backend-authors.md explains the numbers. */
#include "cases.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void c01_a_wait_with_nothing_registered_succeeds(void **state) {
    assert_int_equal(turn(*state, 0), 0);
}

static void c02_a_wait_with_nothing_registered_lasts_its_time(void **state) {
    expect_quiet(*state, 50 * MILLISECOND);
}

static void c03_an_idle_socket_is_not_readable(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    add(h, ends[0], P2P_IN);
    expect_quiet(h, 20 * MILLISECOND);
    forget_all(h);
    close_pair(ends);
}

static void c04_a_writable_socket_is_reported_by_every_wait(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_OUT);
    for (int i = 0; i < 3; i++) {
        turn_until(h, io, P2P_OUT);
    }
    forget_all(h);
    close_pair(ends);
}

/* A backend may keep one registration a handle; then it says so and the first one goes on. */
static void c05_a_second_registration_of_a_handle_works_or_is_refused(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    test_io *first = add(h, ends[0], P2P_IN);
    test_io *second = attach(h, ends[0], 0);
    int result = try_want(h, second, P2P_IN);
    assert_true(result == 0 || result == -os_number(EEXIST));
    send_text(ends[1], "x");
    turn_until(h, first, P2P_IN);
    if (result == 0) {
        turn_until(h, second, P2P_IN);
        want(h, second, 0);
        turn_until(h, first, P2P_IN);
    }
    forget(h, second);
    turn_until(h, first, P2P_IN);
    forget_all(h);
    close_pair(ends);
}

static void c08_a_closed_handle_is_refused(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    p2p_handle_t closed = duplicate_of(ends[0]);
    os_close(closed);
    test_io *io = attach(h, closed, P2P_IO_FOREIGN);
    assert_int_equal(try_want(h, io, P2P_IN), NOT_A_HANDLE);
    forget(h, io);
    io = attach(h, P2P_INVALID_HANDLE, P2P_IO_FOREIGN);
    assert_int_equal(try_want(h, io, P2P_IN), NOT_A_HANDLE);
    forget(h, io);
    io = add(h, ends[0], P2P_OUT);
    turn_until(h, io, P2P_OUT);
    forget_all(h);
    close_pair(ends);
}

static void c11_a_change_to_write_ends_read_events(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    send_text(ends[1], "x");
    test_io *io = add(h, ends[0], P2P_IN);
    turn_until(h, io, P2P_IN);
    want(h, io, P2P_OUT);
    for (int i = 0; i < 3; i++) {
        turn_until(h, io, P2P_OUT); /* turn() fails on a bit that isn't wanted */
    }
    want(h, io, P2P_IN);
    turn_until(h, io, P2P_IN);
    forget_all(h);
    close_pair(ends);
}

static void c12_without_interest_there_is_no_event_although_data_waits(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    send_text(ends[1], "x");
    test_io *io = add(h, ends[0], P2P_IN | P2P_OUT);
    turn_until(h, io, P2P_IN | P2P_OUT);
    want(h, io, 0);
    expect_quiet(h, 50 * MILLISECOND);
    want(h, io, P2P_IN);
    turn_until(h, io, P2P_IN);
    forget_all(h);
    close_pair(ends);
}

static void c13_the_same_interest_again_loses_nothing(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN | P2P_OUT);
    send_text(ends[1], "x");
    want(h, io, P2P_IN | P2P_OUT);
    turn_until(h, io, P2P_IN | P2P_OUT);
    want(h, io, P2P_IN | P2P_OUT);
    turn_until(h, io, P2P_IN | P2P_OUT);
    forget_all(h);
    close_pair(ends);
}

static void c14_dropping_write_leaves_read_alone(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN | P2P_OUT);
    turn_until(h, io, P2P_OUT);
    want(h, io, P2P_IN);
    expect_quiet(h, 5 * MILLISECOND);
    send_text(ends[1], "x");
    turn_until(h, io, P2P_IN);
    turn_until(h, io, P2P_IN);
    forget_all(h);
    close_pair(ends);
}

static void c15_a_finished_connect_is_writable_until_interest_is_dropped(void **state) {
    harness *h = *state;
    uint16_t port;
    p2p_handle_t listener = tcp_listener(&port);
    test_io *accepting = add(h, listener, P2P_IN);
    p2p_handle_t client = tcp_connecting(port);
    test_io *io = add(h, client, P2P_OUT);
    turn_until(h, io, P2P_OUT);
    assert_int_equal(io->now, P2P_OUT);
    want(h, io, 0);
    turn_until(h, accepting, P2P_IN);
    p2p_handle_t server = os_accept(listener);
    assert_true(server != P2P_INVALID_HANDLE);
    expect_quiet(h, 20 * MILLISECOND);
    forget_all(h);
    os_close(server);
    os_close(client);
    os_close(listener);
}

static void c16_added_again_events_carry_the_new_token(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    send_text(ends[1], "x");
    forget(h, add(h, ends[0], P2P_IN));
    test_io *io = add(h, ends[0], P2P_IN); /* turn() fails on the old token */
    turn_until(h, io, P2P_IN);
    forget_all(h);
    close_pair(ends);
}

static void c17_read_and_write_come_as_one_event(void **state) {
    harness *h = *state;
    p2p_handle_t ends[2];
    tcp_pair(ends);
    test_io *io = add(h, ends[0], P2P_IN | P2P_OUT);
    send_text(ends[1], "x");
    turn_until(h, io, P2P_IN | P2P_OUT); /* turn() fails on a second event of a socket */
    forget_all(h);
    close_pair(ends);
}

/* `count` handles that are readable, all of them the end of one pair. */
static p2p_handle_t *readable_handles(const harness *h, p2p_handle_t ends[2], int count) {
    any_pair(h, ends);
    send_text(ends[1], "x");
    p2p_handle_t *handles = calloc((size_t)count, sizeof(*handles));
    assert_non_null(handles);
    for (int i = 0; i < count; i++) {
        handles[i] = duplicate_of(ends[0]);
    }
    return handles;
}

static void close_handles(p2p_handle_t ends[2], p2p_handle_t *handles, int count) {
    for (int i = 0; i < count; i++) {
        os_close(handles[i]);
    }
    free(handles);
    close_pair(ends);
}

static int not_seen(const harness *h) {
    int count = 0;
    for (size_t i = 0; i < h->io_count; i++) {
        count += h->ios[i] != NULL && h->ios[i]->held != 0 && h->ios[i]->seen == 0;
    }
    return count;
}

static void c18_thousands_of_ready_sockets_are_all_served(void **state) {
    harness *h = *state;
    int count = handles_to_spare(5000);
    p2p_handle_t ends[2];
    p2p_handle_t *handles = readable_handles(h, ends, count);
    for (int i = 0; i < count; i++) {
        add(h, handles[i], P2P_IN);
    }
    int waits_max = (count + h->capacity - 1) / h->capacity + 1;
    for (int waits = 0; not_seen(h) > 0; waits++) {
        assert_true(waits < waits_max);
        turn(h, 1000 * MILLISECOND);
    }
    forget_all(h);
    close_handles(ends, handles, count);
}

/* Linux tells what is in an epoll set, which is an independent look at it. @return -1 where it doesn't. */
static int count_in_kernel_set(const harness *h) {
    if (h->ops->handle == NULL) {
        return -1;
    }
    char line[256];
    snprintf(line, sizeof(line), "/proc/self/fdinfo/%d", (int)h->ops->handle(h->backend));
    FILE *file = fopen(line, "r");
    if (file == NULL) {
        return -1;
    }
    int count = 0;
    while (fgets(line, sizeof(line), file) != NULL) {
        count += strncmp(line, "tfd:", 4) == 0;
    }
    fclose(file);
    return count > 0 ? count - 1 : -1; /* without the wake-up */
}

static void c19_random_changes_leave_the_set_as_wanted(void **state) {
    harness *h = *state;
    int count = handles_to_spare(5000);
    p2p_handle_t ends[2];
    p2p_handle_t *handles = readable_handles(h, ends, count);
    for (int i = 0; i < count; i++) {
        add(h, handles[i], P2P_IN);
    }
    uint32_t seed = 19;
    h->capacity = 512;
    for (int round = 0; round < 20; round++) {
        int in_set = 0;
        for (int i = 0; i < count; i++) {
            test_io *io = h->ios[next_random(&seed) % (uint32_t)count];
            want(h, io, io->held == 0 ? P2P_IN : 0);
        }
        for (int i = 0; i < count; i++) {
            in_set += h->ios[i]->held != 0;
        }
        int in_kernel = count_in_kernel_set(h);
        assert_true(in_kernel == -1 || in_kernel == in_set);
        clear(h);
        int waits_max = (in_set + h->capacity - 1) / h->capacity + 1;
        for (int waits = 0; not_seen(h) > 0; waits++) { /* turn() fails on those without interest */
            assert_true(waits < waits_max);
            turn(h, 1000 * MILLISECOND);
        }
    }
    forget_all(h);
    close_handles(ends, handles, count);
}

/* Removing from a dense array while a scan is half-way must not skip or lose anybody. */
static void c62_removing_between_waits_loses_nobody(void **state) {
    harness *h = *state;
    enum { COUNT = 40 };
    p2p_handle_t ends[2];
    p2p_handle_t *handles = readable_handles(h, ends, COUNT);
    for (int removed = 0; removed < COUNT; removed++) {
        for (int i = 0; i < COUNT; i++) {
            add(h, handles[i], P2P_IN);
        }
        h->capacity = 7;
        turn(h, 1000 * MILLISECOND);
        want(h, h->ios[removed], 0);
        clear(h);
        for (int waits = 0; not_seen(h) > 0; waits++) {
            assert_true(waits < (COUNT - 1 + 6) / 7 + 1);
            turn(h, 1000 * MILLISECOND);
        }
        forget_all(h);
    }
    close_handles(ends, handles, COUNT);
}

static const struct CMUnitTest cases[] = {
    CASE(c01_a_wait_with_nothing_registered_succeeds),
    CASE(c02_a_wait_with_nothing_registered_lasts_its_time),
    CASE(c03_an_idle_socket_is_not_readable),
    CASE(c04_a_writable_socket_is_reported_by_every_wait),
    CASE(c05_a_second_registration_of_a_handle_works_or_is_refused),
    CASE(c08_a_closed_handle_is_refused),
    CASE(c11_a_change_to_write_ends_read_events),
    CASE(c12_without_interest_there_is_no_event_although_data_waits),
    CASE(c13_the_same_interest_again_loses_nothing),
    CASE(c14_dropping_write_leaves_read_alone),
    CASE(c15_a_finished_connect_is_writable_until_interest_is_dropped),
    CASE(c16_added_again_events_carry_the_new_token),
    CASE(c17_read_and_write_come_as_one_event),
    CASE(c18_thousands_of_ready_sockets_are_all_served),
    CASE(c19_random_changes_leave_the_set_as_wanted),
    CASE(c62_removing_between_waits_loses_nobody),
};
const case_group interest_cases = CASE_GROUP(cases);
