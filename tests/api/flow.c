/* Output: queues and their marks, back-pressure, gathered writes, and what memory all that takes. */
#include "echo.h"
#include "probe.h"

#include <stdlib.h>
#include <string.h>

#define KIB 1024u

/* A connection whose raw end has a small receive buffer, so that output soon piles up. */
static void open_small(probe *p, p2p_event_loop_t *loop, const p2p_socket_callbacks_t *callbacks) {
    uint16_t port;
    p2p_socket_t *listener = socket_listening(&port);
    p2p_handle_t fd = raw_connect_small(port, 4096);
    p2p_socket_t *sock = p2p_socket_accept(listener);
    assert_non_null(sock);
    p2p_socket_close(listener);
    probe_add(p, loop, sock, callbacks);
    p->fd = fd;
}

/* Message number i: its number and a filling. */
static int send_numbered(p2p_socket_t *sock, uint32_t i, uint32_t length) {
    static uint8_t data[64 * KIB];
    raw_fill(data, length, i);
    return p2p_message_send_data(sock, data, length);
}

static void expect_numbered(p2p_event_loop_t *loop, p2p_handle_t fd, uint32_t i, uint32_t length) {
    static uint8_t expected[64 * KIB], data[64 * KIB];
    raw_fill(expected, length, i);
    assert_int_equal(loop_recv_frame(loop, fd, data, sizeof data), length);
    assert_memory_equal(data, expected, length);
}

/* Send until the queue stays full although the loop turns. @return the number of messages taken. */
static uint32_t fill_until_stuck(probe *p, uint32_t length) {
    uint32_t taken = 0;
    for (int idle = 0; idle < 20; idle++) {
        while (send_numbered(p->sock, taken, length) == 0) taken++, idle = 0;
        assert_int_equal(p2p_last_error(), P2P_ERR_QUEUE_FULL);
        assert_true(p2p_event_loop_run_once(p->loop, 0) >= 0);
    }
    return taken;
}

/* ---- one message for many ---- */

enum { MEMBERS = 5, EXPECTED_MAX = 512 * 1024 };

typedef struct room {
    p2p_event_loop_t *loop;
    probe members[MEMBERS];
    uint8_t *expected[MEMBERS]; /* what each has to get */
    size_t length[MEMBERS];
} room;

static void expect_more(room *r, size_t member, const void *data, uint32_t length) {
    assert_true(length + 4 <= EXPECTED_MAX - r->length[member]);
    r->length[member] += raw_frame(r->expected[member] + r->length[member], data, length);
}

static void send_to(room *r, size_t member, const p2p_message_t *message) {
    assert_int_equal(p2p_message_send(r->members[member].sock, message), 0);
    expect_more(r, member, message->data, message->length);
}

static void send_alone(room *r, size_t member, uint32_t value) {
    assert_int_equal(p2p_message_send_data(r->members[member].sock, &value, sizeof value), 0);
    expect_more(r, member, &value, sizeof value);
}

/* One step: to all, to all but one, to one, to all with another text for the last, or twice to each. */
static void step(room *r, uint32_t i) {
    uint8_t data[1500];
    uint32_t length = i * 31 % (i % 7 == 0 ? 1500 : 100);
    raw_fill(data, sizeof data, i);
    p2p_message_t *message = p2p_message_create(data, length);
    assert_non_null(message);
    for (size_t m = 0; m < MEMBERS; m++) {
        if (i % 11 == 3 && m == i % MEMBERS) continue;
        bool is_short = length > 0 && length < 1024; /* a longer one is not copied: it has to stay as it is */
        if (i % 13 == 4 && m == MEMBERS - 1 && is_short) message->data[length - 1] ^= 1;
        if (i % 5 == 2 && m == 2) send_alone(r, i % MEMBERS, i);
        send_to(r, m, message);
        if (i % 17 == 6) send_to(r, m, message);
    }
    p2p_message_free(message);
}

static void receive_all(room *r, size_t member) {
    uint8_t *got = malloc(EXPECTED_MAX);
    size_t length = 0;
    assert_non_null(got);
    while (length < r->length[member]) {
        assert_true(p2p_event_loop_run_once(r->loop, 0) >= 0);
        int64_t some = os_recv_now(r->members[member].fd, got + length, EXPECTED_MAX - length);
        assert_true(some > 0 || some == -EAGAIN);
        if (some > 0) length += (size_t)some;
    }
    assert_int_equal(length, r->length[member]);
    assert_memory_equal(got, r->expected[member], length);
    free(got);
}

/* However sends to one and to many alternate, and turns fall between, each member gets just what was sent to it. */
static void who_is_sent_to_by_turns_and_together_gets_all_in_order(void **state) {
    (void)state;
    static room r;
    r = (room){ .loop = loop_create(NULL) };
    for (size_t m = 0; m < MEMBERS; m++) {
        probe_open(&r.members[m], r.loop, &probe_by_message);
        r.expected[m] = malloc(EXPECTED_MAX);
        assert_non_null(r.expected[m]);
    }
    for (uint32_t i = 0; i < 600; i++) {
        step(&r, i);
        if (i % 9 == 8) assert_true(p2p_event_loop_run_once(r.loop, 0) >= 0);
    }
    for (size_t m = 0; m < MEMBERS; m++) {
        receive_all(&r, m);
        probe_close(&r.members[m]);
        free(r.expected[m]);
    }
    p2p_event_loop_free(r.loop);
}

/* Those who get the same have the same part of it: no memory but what the loop has from the start. */
static void a_short_message_for_many_takes_no_memory_for_each(void **state) {
    (void)state;
    if (strcmp(test_backend(), "io_uring") == 0)
        test_skip("what it sends has to stay where it is until the kernel has taken it");
    room r = { .loop = loop_create(NULL) };
    for (size_t m = 0; m < MEMBERS; m++) probe_open(&r.members[m], r.loop, &probe_by_message);
    uint8_t data[100] = { 0 };
    p2p_message_t *message = p2p_message_create(data, sizeof data);
    uint64_t calls = memory_calls();
    for (uint32_t i = 0; i < 50; i++) {
        message->data[0] = (uint8_t)i;
        for (size_t m = 0; m < MEMBERS; m++) assert_int_equal(p2p_message_send(r.members[m].sock, message), 0);
    }
    assert_true(p2p_event_loop_run_once(r.loop, 0) >= 0);
    assert_int_equal(memory_calls(), calls);
    p2p_message_free(message);
    for (size_t m = 0; m < MEMBERS; m++) {
        for (uint32_t i = 0; i < 50; i++) {
            assert_int_equal(loop_recv_frame(r.loop, r.members[m].fd, data, sizeof data), sizeof data);
            assert_int_equal(data[0], i);
        }
        probe_close(&r.members[m]);
    }
    p2p_event_loop_free(r.loop);
}

static void the_same_message_to_many_stops_at_high_water_for_each(void **state) {
    (void)state;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.high_water = 1000;
    room r = { .loop = loop_create(&options) };
    for (size_t m = 0; m < MEMBERS; m++) probe_open(&r.members[m], r.loop, &probe_by_message);
    uint8_t data[100] = { 0 };
    p2p_message_t *message = p2p_message_create(data, sizeof data);
    for (uint32_t i = 0; i < 20; i++) {
        for (size_t m = 0; m < MEMBERS; m++) {
            int result = p2p_message_send(r.members[m].sock, message);
            assert_int_equal(result, i < 10 || result == 0 ? 0 : P2P_ERR_QUEUE_FULL);
            if (i >= 11) assert_int_equal(result, P2P_ERR_QUEUE_FULL);
        }
    }
    p2p_message_free(message);
    for (size_t m = 0; m < MEMBERS; m++) probe_close(&r.members[m]);
    p2p_event_loop_free(r.loop);
}

/* ---- long messages, written at once ---- */

static p2p_socket_t *forward_to;

static void forward_long(probe *p, char what) {
    static const uint8_t data[20 * KIB];
    (void)p;
    if (what == 'm') assert_int_equal(p2p_message_send_data(forward_to, data, sizeof data), 0);
}

/* The system tells of it once, and here the write is told: who is received from next must not look like a clean end. */
static void a_reset_that_a_long_message_runs_into_is_no_clean_end(void **state) {
    (void)state;
    probe from = { .hook = forward_long }, to = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&from, loop, &probe_by_message);
    probe_open(&to, loop, &probe_by_message);
    loop_settle(loop);
    forward_to = to.sock;
    assert_true(raw_send_text(from.fd, "x"));
    raw_reset(to.fd);
    to.fd = P2P_INVALID_HANDLE;
    for (int i = 0; i < 1000 && to.errors + to.reads == 0; i++) assert_true(p2p_event_loop_run_once(loop, 1) >= 0);
    assert_int_equal(to.ends, 0);
    assert_int_equal(to.errors, 1);
    assert_int_equal(to.error, P2P_ERR_RESET);
    probe_close(&from);
    probe_close(&to);
    p2p_event_loop_free(loop);
}

/* ---- the marks ---- */

static void at_high_water_a_send_is_refused_and_nothing_is_half_queued(void **state) {
    (void)state;
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    open_small(&p, loop, &probe_by_read);
    uint32_t taken = fill_until_stuck(&p, 10000);
    uint64_t queued = loop_stats(loop).output_queued;
    assert_true(queued >= 256 * KIB && queued < 256 * KIB + 16 * KIB);
    assert_true(loop_stats(loop).sends_refused >= 20);
    assert_int_equal(loop_stats(loop).messages_out, taken);
    for (uint32_t i = 0; i < taken; i++) expect_numbered(loop, p.fd, i, 10000);
    loop_settle(loop);
    assert_false(raw_readable(p.fd));
    assert_int_equal(loop_stats(loop).output_queued, 0);
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void below_low_water_on_write_runs_once(void **state) {
    (void)state;
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    open_small(&p, loop, &probe_by_read);
    uint32_t taken = fill_until_stuck(&p, 10000), next = 0;
    unsigned before = p.writes;
    while (p.writes == before && next < taken) expect_numbered(loop, p.fd, next++, 10000);
    RUN_UNTIL(loop, p.writes > before);
    assert_true(loop_stats(loop).output_queued < 64 * KIB);
    assert_int_equal(send_numbered(p.sock, taken, 10000), 0); /* there is room again */
    while (next <= taken) expect_numbered(loop, p.fd, next++, 10000);
    loop_settle(loop);
    assert_int_equal(p.writes, before + 1);
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void without_a_refusal_on_write_stays_silent(void **state) {
    (void)state;
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_read);
    for (uint32_t i = 0; i < 100; i++) assert_int_equal(send_numbered(p.sock, i, 100), 0);
    for (uint32_t i = 0; i < 100; i++) expect_numbered(loop, p.fd, i, 100);
    loop_settle(loop);
    assert_int_equal(p.writes, 0);
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void a_message_that_begins_below_high_water_is_taken_whole(void **state) {
    (void)state;
    static uint8_t data[1024 * KIB], back[1024 * KIB];
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    open_small(&p, loop, &probe_by_read);
    raw_fill(data, sizeof data, 1);
    assert_int_equal(p2p_message_send_data(p.sock, "first", 5), 0);
    assert_int_equal(p2p_message_send_data(p.sock, data, sizeof data), 0);
    assert_int_equal(p2p_message_send_data(p.sock, "third", 5), P2P_ERR_QUEUE_FULL);
    loop_expect_text(loop, p.fd, "first");
    assert_int_equal(loop_recv_frame(loop, p.fd, back, sizeof back), sizeof data);
    assert_memory_equal(back, data, sizeof data);
    probe_close(&p);
    p2p_event_loop_free(loop);
}

/* The bound is high_water + max_message_size, headers and nodes counted, however small the messages are. */
static void a_full_queue_is_bounded_in_memory(void **state) {
    (void)state;
    static const uint32_t lengths[] = { 0, 1, 100, 1023, 1024, 5000, 60000 };
    for (size_t i = 0; i < COUNT_OF(lengths); i++) {
        probe p = { 0 };
        p2p_event_loop_t *loop = loop_create(NULL);
        open_small(&p, loop, &probe_by_read);
        loop_settle(loop);
        size_t before = memory_in_use();
        fill_until_stuck(&p, lengths[i]);
        assert_true(memory_in_use() - before <= 256 * KIB + 1024 * KIB);
        assert_true(loop_stats(loop).output_queued <= 256 * KIB + lengths[i] + 4096);
        probe_close(&p);
        p2p_event_loop_free(loop);
    }
}

#define REFILLS OS_ROUNDS(2000u, 400u)

static void refill_on_write(probe *p, char what) {
    uint32_t *next = p->data;
    if (what != 'w') return;
    while (*next < REFILLS && send_numbered(p->sock, *next, 5000) == 0) ++*next;
}

static void a_sender_driven_by_on_write_delivers_everything(void **state) {
    (void)state;
    uint32_t next = 0;
    probe p = { .hook = refill_on_write, .data = &next };
    p2p_event_loop_t *loop = loop_create(NULL);
    open_small(&p, loop, &probe_by_read);
    refill_on_write(&p, 'w');
    for (uint32_t i = 0; i < REFILLS; i++) expect_numbered(loop, p.fd, i, 5000);
    assert_int_equal(next, REFILLS);
    probe_close(&p);
    p2p_event_loop_free(loop);
}

/* ---- back-pressure ---- */

/*
 * A peer that sends without reading until nothing more goes out, and reads only then. Messages begin with their
 * number; every one must come back.
 */
static void flood_then_read(bool by_message) {
    enum { COUNT = 2000, LENGTH = 10 * KIB };
    static uint8_t frame[4 + LENGTH], back[LENGTH];
    echo_server server;
    p2p_event_loop_t *loop = loop_create(NULL);
    echo_start(&server, loop, by_message);
    /* Inherited by its connections: the system alone could hold more than is sent here. */
    assert_int_equal(os_set_option(p2p_socket_handle(server.listener), SOL_SOCKET, SO_RCVBUF, 65536), 0);
    p2p_handle_t fd = raw_connect_small(server.port, 4096);
    uint32_t sent = 0, offset = 0;
    size_t most = 0, before = memory_in_use();
    for (int idle = 0; idle < 50 && sent < COUNT; idle++) {
        uint32_t number = htonl(sent);
        memset(frame + 4, (int)(sent & 0xff), LENGTH);
        memcpy(frame + 4, &number, sizeof number);
        frame[0] = 0, frame[1] = 0, frame[2] = (uint8_t)(LENGTH >> 8), frame[3] = (uint8_t)LENGTH;
        int64_t done = os_send_now(fd, frame + offset, sizeof frame - offset);
        if (done > 0) idle = 0, offset += (uint32_t)done;
        if (offset == sizeof frame) offset = 0, sent++;
        assert_true(p2p_event_loop_run_once(loop, done > 0 ? 0 : 1) >= 0);
        if (memory_in_use() > most) most = memory_in_use();
    }
    assert_true(sent < COUNT); /* the peer was stopped */
    assert_true(most - before < 3 * 1024 * KIB);
    for (uint32_t received = 0; received < sent; received++) {
        if (received + 1 == sent && offset > 0) { /* the one that was stopped half-way */
            assert_true(loop_send(loop, fd, frame + offset, sizeof frame - offset));
            offset = 0;
            sent++;
        }
        assert_int_equal(loop_recv_frame(loop, fd, back, sizeof back), LENGTH);
        uint32_t number;
        memcpy(&number, back, sizeof number);
        number = ntohl(number);
        assert_int_equal(number, received);
        assert_int_equal(back[LENGTH - 1], number & 0xff);
    }
    assert_int_equal(loop_stats(loop).sends_refused, 0);
    os_close(fd);
    echo_stop(&server);
    p2p_event_loop_free(loop);
}

static void the_seeds_echo_loses_nothing_to_a_slow_reader(void **state) {
    (void)state;
    flood_then_read(false);
}

static void an_echo_by_on_message_loses_nothing_to_a_slow_reader(void **state) {
    (void)state;
    flood_then_read(true);
}

static void without_auto_backpressure_input_is_read_and_sends_are_refused(void **state) {
    (void)state;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    probe p = { 0 };
    options.auto_backpressure = 0;
    p2p_event_loop_t *loop = loop_create(&options);
    open_small(&p, loop, &probe_by_message);
    fill_until_stuck(&p, 10000);
    assert_true(raw_send_text(p.fd, "hello"));
    RUN_UNTIL(loop, p.messages == 1);
    assert_int_equal(p2p_message_send_data(p.sock, "x", 1), P2P_ERR_QUEUE_FULL);
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void with_auto_backpressure_a_full_connection_is_neither_read_nor_delivered(void **state) {
    (void)state;
    for (int by_message = 0; by_message < 2; by_message++) {
        probe p = { 0 };
        p2p_event_loop_t *loop = loop_create(NULL);
        open_small(&p, loop, by_message ? &probe_by_message : &probe_by_read);
        uint32_t taken = fill_until_stuck(&p, 10000);
        assert_true(raw_send_text(p.fd, "hello"));
        socket_await_input(p.sock);
        uint64_t wakeups = loop_stats(loop).wakeups;
        loop_settle(loop);
        assert_int_equal(p.messages, 0);
        assert_true(loop_stats(loop).wakeups - wakeups <= 1); /* waiting input causes no spin */
        for (uint32_t i = 0; i < taken; i++) expect_numbered(loop, p.fd, i, 10000);
        RUN_UNTIL(loop, p.messages == 1);
        assert_string_equal(p.text, "hello|");
        probe_close(&p);
        p2p_event_loop_free(loop);
    }
}

/* ---- one write a turn; one copy a message ---- */

static unsigned write_calls;

static int64_t counting_send(p2p_handle_t handle, const void *data, size_t size, int dontwait) {
    write_calls++;
    return p2p_sys_default()->send(handle, data, size, dontwait);
}

static int64_t counting_sendv(p2p_handle_t handle, const p2p_iov *iov, uint32_t count, int dontwait) {
    write_calls++;
    return p2p_sys_default()->sendv(handle, iov, count, dontwait);
}

static int setup_counting_writes(void **state) {
    (void)state;
    p2p_sys_ops sys = *test_system();
    sys.send = counting_send;
    sys.sendv = counting_sendv;
    return fixture_start(&sys, NULL);
}

static void answer_five_times(probe *p, char what) {
    if (what != 'm') return;
    for (int i = 0; i < 5; i++) assert_int_equal(p2p_message_send_data(p->sock, "answer", 6), 0);
}

static void what_is_sent_in_a_turn_leaves_in_one_gathered_write(void **state) {
    (void)state;
    needs_emulated_io();
    probe p = { .hook = answer_five_times };
    uint8_t bytes[256];
    size_t length = 0;
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_message);
    for (int i = 0; i < 20; i++) length += raw_frame(bytes + length, "ask", 3);
    assert_true(raw_send(p.fd, bytes, length));
    socket_await_input(p.sock);
    write_calls = 0;
    RUN_UNTIL(loop, p.messages == 20);
    for (int i = 0; i < 100; i++) loop_expect_text(loop, p.fd, "answer");
    assert_int_equal(write_calls, 1);
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void a_large_message_and_small_ones_leave_in_one_gathered_write(void **state) {
    (void)state;
    needs_emulated_io();
    static uint8_t data[20000];
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_message);
    raw_fill(data, sizeof data, 3);
    p2p_message_t *message = p2p_message_create(data, sizeof data);
    assert_int_equal(p2p_message_send_data(p.sock, "before", 6), 0);
    assert_int_equal(p2p_message_send(p.sock, message), 0);
    assert_int_equal(p2p_message_send_data(p.sock, "after", 5), 0);
    p2p_message_free(message);
    write_calls = 0;
    loop_settle(loop);
    assert_int_equal(write_calls, 1);
    loop_expect_text(loop, p.fd, "before");
    uint8_t back[sizeof data];
    assert_int_equal(loop_recv_frame(loop, p.fd, back, sizeof back), sizeof data);
    assert_memory_equal(back, data, sizeof data);
    loop_expect_text(loop, p.fd, "after");
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void a_message_sent_to_many_is_stored_once(void **state) {
    (void)state;
    static uint8_t data[100 * KIB], back[100 * KIB];
    probe p[20];
    memset(p, 0, sizeof p);
    p2p_event_loop_t *loop = loop_create(NULL);
    for (size_t i = 0; i < COUNT_OF(p); i++) probe_open(&p[i], loop, &probe_by_read);
    raw_fill(data, sizeof data, 5);
    p2p_message_t *message = p2p_message_create(data, sizeof data);
    size_t before = memory_in_use();
    for (size_t i = 0; i < COUNT_OF(p); i++) assert_int_equal(p2p_message_send(p[i].sock, message), 0);
    p2p_message_free(message);
    assert_true(memory_in_use() - before < sizeof data);
    for (size_t i = 0; i < COUNT_OF(p); i++) {
        assert_int_equal(loop_recv_frame(loop, p[i].fd, back, sizeof back), sizeof back);
        assert_memory_equal(back, data, sizeof back);
    }
    for (size_t i = 0; i < COUNT_OF(p); i++) probe_close(&p[i]);
    p2p_event_loop_free(loop);
}

static void one_message_may_be_sent_to_one_socket_again_and_again(void **state) {
    (void)state;
    static uint8_t data[2 * KIB], back[2 * KIB];
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_read);
    raw_fill(data, sizeof data, 6);
    p2p_message_t *message = p2p_message_create(data, sizeof data);
    for (int i = 0; i < 100; i++) assert_int_equal(p2p_message_send(p.sock, message), 0);
    p2p_message_free(message);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(loop_recv_frame(loop, p.fd, back, sizeof back), sizeof back);
        assert_memory_equal(back, data, sizeof back);
    }
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void dropped_output_gives_its_messages_back(void **state) {
    (void)state;
    static uint8_t data[100 * KIB];
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    open_small(&p, loop, &probe_by_read);
    p2p_message_t *message = p2p_message_create(data, sizeof data);
    while (p2p_message_send(p.sock, message) == 0) {
    }
    p2p_message_free(message);
    loop_settle(loop);
    p2p_socket_abort(p.sock);
    RUN_UNTIL(loop, p.closes == 1);
    assert_int_equal(raw_recv_end(p.fd), ECONNRESET);
    os_close(p.fd);
    p2p_event_loop_free(loop); /* the fixture counts what is left */
}

/* ---- memory ---- */

static void an_idle_connection_holds_no_buffers(void **state) {
    (void)state;
    enum { COUNT = 50 };
    probe p[COUNT];
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.read_timeout_ms = options.write_timeout_ms = 50;
    p2p_event_loop_t *loop = loop_create(&options);
    memset(p, 0, sizeof p);
    for (size_t i = 0; i < COUNT; i++) probe_open(&p[i], loop, &probe_by_message);
    loop_settle(loop);
    size_t before = memory_in_use();
    for (size_t i = 0; i < COUNT; i++) {
        uint8_t frame[32];
        size_t length = raw_frame(frame, "in two parts", 12);
        uint64_t bytes = loop_stats(loop).bytes_in;
        assert_true(raw_send(p[i].fd, frame, 7)); /* a partial message takes memory */
        RUN_UNTIL(loop, loop_stats(loop).bytes_in == bytes + 7);
        assert_true(raw_send(p[i].fd, frame + 7, length - 7));
        RUN_UNTIL(loop, p[i].messages == 1);
        assert_int_equal(p2p_message_send_data(p[i].sock, "answer", 6), 0);
        loop_expect_text(loop, p[i].fd, "answer");
    }
    loop_settle(loop);
    /* A deadline's record stays until it would have passed. The loop may keep a few spare pieces for all of them; COUNT
     * times any buffer would be more. */
    RUN_UNTIL(loop, memory_in_use() - before <= 8 * KIB);
    assert_int_equal(loop_stats(loop).buffers_lent, 0);
    for (size_t i = 0; i < COUNT; i++) probe_close(&p[i]);
    p2p_event_loop_free(loop);
}

static void the_steady_path_of_on_message_allocates_nothing(void **state) {
    (void)state;
    echo_server server;
    uint64_t calls = 0;
    p2p_event_loop_t *loop = loop_create(NULL);
    echo_start(&server, loop, true);
    p2p_handle_t fd = raw_connect(server.port);
    for (int i = 0; i < OS_ROUNDS(1010, 210); i++) {
        if (i == 10) calls = memory_calls(); /* warm by now */
        assert_true(raw_send_text(fd, "hello"));
        loop_expect_text(loop, fd, "hello");
    }
    assert_int_equal(memory_calls(), calls);
    os_close(fd);
    echo_stop(&server);
    p2p_event_loop_free(loop);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        CASE(who_is_sent_to_by_turns_and_together_gets_all_in_order),
        CASE(a_short_message_for_many_takes_no_memory_for_each),
        CASE(the_same_message_to_many_stops_at_high_water_for_each),
        CASE(a_reset_that_a_long_message_runs_into_is_no_clean_end),
        CASE(at_high_water_a_send_is_refused_and_nothing_is_half_queued),
        CASE(below_low_water_on_write_runs_once),
        CASE(without_a_refusal_on_write_stays_silent),
        CASE(a_message_that_begins_below_high_water_is_taken_whole),
        CASE(a_full_queue_is_bounded_in_memory),
        CASE(a_sender_driven_by_on_write_delivers_everything),
        CASE(the_seeds_echo_loses_nothing_to_a_slow_reader),
        CASE(an_echo_by_on_message_loses_nothing_to_a_slow_reader),
        CASE(without_auto_backpressure_input_is_read_and_sends_are_refused),
        CASE(with_auto_backpressure_a_full_connection_is_neither_read_nor_delivered),
        cmocka_unit_test_setup_teardown(what_is_sent_in_a_turn_leaves_in_one_gathered_write, setup_counting_writes,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(a_large_message_and_small_ones_leave_in_one_gathered_write,
                                        setup_counting_writes, fixture_teardown),
        CASE(a_message_sent_to_many_is_stored_once),
        CASE(one_message_may_be_sent_to_one_socket_again_and_again),
        CASE(dropped_output_gives_its_messages_back),
        CASE(an_idle_connection_holds_no_buffers),
        CASE(the_steady_path_of_on_message_allocates_nothing),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
