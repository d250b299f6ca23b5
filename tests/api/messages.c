/* Message mode: what a connection in a loop delivers, and how it tells of its end. */
#include "echo.h"
#include "probe.h"

#include <stdlib.h>

#define MAX P2P_DEFAULT_MAX_MESSAGE_SIZE

static const p2p_socket_callbacks_t *const styles[] = { &probe_by_read, &probe_by_message };

static void expect_error(int given, int expected) {
    assert_string_equal(p2p_error_name(given), p2p_error_name(expected));
}

/* Several frames in one system call, so that they arrive together. */
static void send_texts(p2p_handle_t fd, const char *const *texts, size_t count) {
    uint8_t bytes[1024];
    size_t length = 0;
    for (size_t i = 0; i < count; i++) {
        length += raw_frame(bytes + length, texts[i], (uint32_t)strlen(texts[i]));
    }
    assert_true(raw_send(fd, bytes, length));
}

static const char *const three[] = { "one", "two", "three" };

/* ---- on_read and p2p_message_recv ---- */

/* probe_take checks the rule itself: NULL in the first call is the end, in a later one WOULD_BLOCK. */
static void one_on_read_can_take_all_messages_and_then_gets_WOULD_BLOCK(void **state) {
    (void)state;
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, NULL);
    send_texts(p.fd, three, 3);
    RUN_UNTIL(loop, p.messages == 3);
    assert_string_equal(p.text, "one|two|three|");
    loop_settle(loop);
    assert_int_equal(p.reads, 1); /* taken messages are not announced again */
    assert_int_equal(p.ends, 0);
    os_close(p.fd);
    RUN_UNTIL(loop, p.ends == 1);
    expect_error(p.end, P2P_ERR_CLOSED);
    p2p_socket_close(p.sock);
    p2p_event_loop_free(loop);
}

typedef struct turns {
    uint64_t at[8];
} turns;

static void take_one_and_note_the_turn(probe *p, char what) {
    if (what != 'r') return;
    turns *t = p->data;
    if (p->reads <= COUNT_OF(t->at)) t->at[p->reads - 1] = loop_stats(p->loop).turns;
    probe_take_one(p);
}

static void messages_not_taken_are_announced_in_the_next_turn(void **state) {
    (void)state;
    turns t = { { 0 } };
    probe p = { .hook = take_one_and_note_the_turn, .data = &t };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_read);
    send_texts(p.fd, three, 3);
    socket_await_input(p.sock);
    for (unsigned i = 1; i <= 3; i++) {
        assert_true(p2p_event_loop_run_once(loop, -1) >= 0);
        assert_int_equal(p.messages, i);
    }
    assert_string_equal(p.trace, "rrr");
    assert_string_equal(p.text, "one|two|three|");
    assert_true(t.at[0] < t.at[1] && t.at[1] < t.at[2]);
    loop_settle(loop);
    assert_int_equal(p.reads, 3);
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void take_nothing(probe *p, char what) {
    (void)p;
    (void)what;
}

static void an_on_read_that_takes_nothing_is_called_again_each_turn(void **state) {
    (void)state;
    probe p = { .hook = take_nothing };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_read);
    send_texts(p.fd, three, 3);
    socket_await_input(p.sock);
    for (unsigned i = 1; i <= 5; i++) {
        assert_true(p2p_event_loop_run_once(loop, -1) >= 0);
        assert_int_equal(p.reads, i);
    }
    p.hook = NULL;
    RUN_UNTIL(loop, p.messages == 3);
    assert_string_equal(p.text, "one|two|three|");
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void recv_outside_a_callback_never_waits(void **state) {
    (void)state;
    probe p = { .hook = take_nothing };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_read);
    assert_null(p2p_message_recv(p.sock));
    expect_error(p2p_last_error(), P2P_ERR_WOULD_BLOCK);
    send_texts(p.fd, three, 2);
    RUN_UNTIL(loop, p.reads > 0);
    p2p_message_t *message = p2p_message_recv(p.sock);
    assert_non_null(message);
    assert_memory_equal(message->data, "one", 3);
    p2p_message_free(message);
    p.hook = NULL;
    RUN_UNTIL(loop, p.messages == 1);
    assert_string_equal(p.text, "two|");
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void without_callbacks_messages_and_the_end_wait_for_recv(void **state) {
    (void)state;
    p2p_handle_t fd;
    p2p_event_loop_t *loop = loop_create(NULL);
    p2p_socket_t *sock = socket_pair(&fd);
    p2p_message_t *message;
    assert_int_equal(p2p_event_loop_add_socket(loop, sock, NULL, NULL), 0);
    send_texts(fd, three, 3);
    os_close(fd);
    for (size_t i = 0; i < 3; i++) {
        RUN_UNTIL(loop, (message = p2p_message_recv(sock)) != NULL);
        assert_int_equal(message->length, strlen(three[i]));
        assert_memory_equal(message->data, three[i], message->length);
        p2p_message_free(message);
    }
    RUN_UNTIL(loop, p2p_message_recv(sock) == NULL && p2p_last_error() != P2P_ERR_WOULD_BLOCK);
    expect_error(p2p_last_error(), P2P_ERR_CLOSED);
    p2p_socket_close(sock);
    p2p_event_loop_free(loop);
}

/* ---- on_message ---- */

static void with_on_message_messages_go_there_and_on_read_is_for_the_end(void **state) {
    (void)state;
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_message);
    send_texts(p.fd, three, 3);
    os_close(p.fd);
    RUN_UNTIL(loop, p.ends == 1);
    expect_error(p.end, P2P_ERR_CLOSED);
    assert_string_equal(p.trace, "mmmr");
    assert_string_equal(p.text, "one|two|three|");
    loop_settle(loop);
    assert_string_equal(p.trace, "mmmr");
    p.fd = P2P_INVALID_HANDLE;
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static unsigned contents_checked;

static void check_content(p2p_socket_t *sock, const void *data, uint32_t length, void *user_data) {
    static uint8_t expected[MAX];
    (void)sock;
    (void)user_data;
    assert_non_null(data);
    raw_fill(expected, length, length);
    assert_memory_equal(data, expected, length);
    contents_checked++;
}

/* Sizes around those of receive buffers and their doublings, which is where frames are cut. */
static void messages_of_every_size_arrive_intact(void **state) {
    (void)state;
    static const p2p_socket_callbacks_t callbacks = {
        sizeof(p2p_socket_callbacks_t), NULL, check_content, NULL, NULL, NULL, NULL
    };
    static uint8_t data[MAX];
    unsigned sent = 0;
    p2p_handle_t fd;
    contents_checked = 0;
    p2p_event_loop_t *loop = loop_create(NULL);
    p2p_socket_t *sock = socket_pair(&fd);
    assert_int_equal(p2p_event_loop_add_socket_with(loop, sock, &callbacks, NULL), 0);
    for (uint32_t size = 1; size <= MAX; size *= 2) {
        for (int around = -6; around <= 2; around++) {
            int64_t length = (int64_t)size + around;
            if (length < 0 || length > MAX) continue;
            uint8_t header[4];
            raw_fill(data, (size_t)length, (uint32_t)length);
            header[0] = (uint8_t)(length >> 24), header[1] = (uint8_t)(length >> 16);
            header[2] = (uint8_t)(length >> 8), header[3] = (uint8_t)length;
            assert_true(loop_send(loop, fd, header, 4));
            assert_true(loop_send(loop, fd, data, (size_t)length));
            sent++;
        }
    }
    RUN_UNTIL(loop, contents_checked == sent);
    os_close(fd);
    p2p_event_loop_free(loop);
}

static void the_largest_message_is_echoed_in_both_styles(void **state) {
    (void)state;
    static uint8_t frame[4 + MAX], back[MAX];
    static uint8_t data[MAX];
    raw_fill(data, MAX, 7);
    raw_frame(frame, data, MAX);
    for (int by_message = 0; by_message < 2; by_message++) {
        echo_server server;
        p2p_event_loop_t *loop = loop_create(NULL);
        echo_start(&server, loop, by_message);
        p2p_handle_t fd = raw_connect(server.port);
        for (int i = 0; i < 3; i++) {
            assert_true(loop_send(loop, fd, frame, sizeof frame));
            assert_int_equal(loop_recv_frame(loop, fd, back, sizeof back), MAX);
            assert_memory_equal(back, data, MAX);
        }
        os_close(fd);
        echo_stop(&server);
        p2p_event_loop_free(loop);
    }
}

/* ---- pieces ---- */

static void messages_cut_at_every_place_arrive_exactly_in_both_styles(void **state) {
    (void)state;
    static const char *const texts[] = { "abc", "", "12345" };
    uint8_t bytes[64];
    size_t length = 0;
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        length += raw_frame(bytes + length, texts[i], (uint32_t)strlen(texts[i]));
    }
    for (size_t s = 0; s < COUNT_OF(styles); s++) {
        for (size_t cut = 0; cut <= length; cut++) {
            probe p = { 0 };
            p2p_event_loop_t *loop = loop_create(NULL);
            probe_open(&p, loop, styles[s]);
            assert_true(raw_send(p.fd, bytes, cut));
            RUN_UNTIL(loop, loop_stats(loop).bytes_in == cut);
            loop_settle(loop);
            assert_int_equal(p.messages, cut < 7 ? 0 : cut < 11 ? 1 : cut < length ? 2 : 3);
            assert_true(raw_send(p.fd, bytes + cut, length - cut));
            RUN_UNTIL(loop, p.messages == 3);
            assert_string_equal(p.text, "abc||12345|");
            probe_close(&p);
            p2p_event_loop_free(loop);
        }
    }
}

static void single_bytes_make_up_messages_in_both_styles(void **state) {
    (void)state;
    for (size_t s = 0; s < COUNT_OF(styles); s++) {
        probe p = { 0 };
        uint8_t frame[32];
        p2p_event_loop_t *loop = loop_create(NULL);
        probe_open(&p, loop, styles[s]);
        size_t length = raw_frame(frame, "byte by byte", 12);
        for (size_t i = 0; i < length; i++) {
            assert_int_equal(p.messages, 0);
            assert_true(raw_send(p.fd, frame + i, 1));
            RUN_UNTIL(loop, loop_stats(loop).bytes_in == i + 1);
        }
        RUN_UNTIL(loop, p.messages == 1);
        assert_string_equal(p.text, "byte by byte|");
        probe_close(&p);
        p2p_event_loop_free(loop);
    }
}

static void a_message_of_no_bytes_is_a_message_in_both_styles(void **state) {
    (void)state;
    for (size_t s = 0; s < COUNT_OF(styles); s++) {
        probe p = { 0 };
        p2p_event_loop_t *loop = loop_create(NULL);
        probe_open(&p, loop, styles[s]);
        for (int i = 0; i < 1000; i++) assert_true(raw_send_header(p.fd, 0));
        RUN_UNTIL(loop, p.messages == 1000);
        assert_int_equal(p.bytes, 0);
        assert_int_equal(p.ends, 0);
        probe_close(&p);
        p2p_event_loop_free(loop);
    }
}

/* ---- the end ---- */

static void buffered_messages_come_before_the_end_in_both_styles(void **state) {
    (void)state;
    for (size_t s = 0; s < COUNT_OF(styles); s++) {
        probe p = { 0 };
        p2p_event_loop_t *loop = loop_create(NULL);
        probe_open(&p, loop, styles[s]);
        send_texts(p.fd, three, 3);
        raw_fin(p.fd);
        RUN_UNTIL(loop, p.ends == 1);
        assert_string_equal(p.text, "one|two|three|");
        expect_error(p.end, P2P_ERR_CLOSED);
        assert_int_equal(p.errors, 0);
        probe_close(&p);
        p2p_event_loop_free(loop);
    }
}

static void after_the_end_a_socket_stays_registered_in_silence_without_wakeups(void **state) {
    (void)state;
    for (int by_reset = 0; by_reset < 2; by_reset++) {
        probe p = { 0 };
        p2p_event_loop_t *loop = loop_create(NULL);
        probe_open(&p, loop, &probe_by_read);
        if (by_reset) {
            raw_reset(p.fd);
            RUN_UNTIL(loop, p.errors == 1);
        } else {
            os_close(p.fd);
            RUN_UNTIL(loop, p.ends == 1);
        }
        p.fd = P2P_INVALID_HANDLE;
        loop_settle(loop);
        uint64_t wakeups = loop_stats(loop).wakeups;
        size_t told = p.trace_length;
        loop_settle(loop);
        assert_int_equal(loop_stats(loop).wakeups, wakeups);
        assert_int_equal(p.trace_length, told);
        assert_int_equal(p.ends + p.errors, 1);
        assert_int_equal(p2p_event_loop_socket_count(loop), 1);
        probe_close(&p);
        p2p_event_loop_free(loop);
    }
}

static void after_the_end_of_input_output_still_goes_out(void **state) {
    (void)state;
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_read);
    raw_fin(p.fd);
    RUN_UNTIL(loop, p.ends == 1);
    assert_int_equal(p2p_message_send_data(p.sock, "still here", 10), 0);
    loop_expect_text(loop, p.fd, "still here");
    probe_close(&p);
    p2p_event_loop_free(loop);
}

/* Every place where a frame can be cut: on_error tells once, on_read and on_message never. */
static void an_end_inside_a_message_is_TRUNCATED_by_on_error(void **state) {
    (void)state;
    uint8_t frame[9];
    raw_frame(frame, "12345", 5);
    for (size_t s = 0; s < COUNT_OF(styles); s++) {
        for (size_t cut = 1; cut < sizeof frame; cut++) {
            probe p = { 0 };
            p2p_event_loop_t *loop = loop_create(NULL);
            probe_open(&p, loop, styles[s]);
            assert_true(raw_send_text(p.fd, "whole"));
            assert_true(raw_send(p.fd, frame, cut));
            raw_fin(p.fd);
            RUN_UNTIL(loop, p.errors > 0);
            loop_settle(loop);
            expect_error(p.error, P2P_ERR_TRUNCATED);
            assert_string_equal(p.text, "whole|");
            assert_int_equal(p.errors, 1);
            assert_int_equal(p.ends, 0);
            probe_close(&p);
            expect_error(p.reason, P2P_ERR_TRUNCATED);
            p2p_event_loop_free(loop);
        }
    }
}

static void without_on_error_a_failure_is_told_by_on_read(void **state) {
    (void)state;
    static const int expected[] = { P2P_ERR_TRUNCATED, P2P_ERR_TOO_LONG, P2P_ERR_RESET };
    for (size_t i = 0; i < COUNT_OF(expected); i++) {
        probe p = { 0 };
        p2p_event_loop_t *loop = loop_create(NULL);
        probe_open(&p, loop, &probe_no_error);
        switch (expected[i]) {
        case P2P_ERR_TRUNCATED:
            assert_true(raw_send(p.fd, "\0", 1));
            raw_fin(p.fd);
            break;
        case P2P_ERR_TOO_LONG: assert_true(raw_send_header(p.fd, MAX + 1)); break;
        default: raw_reset(p.fd), p.fd = P2P_INVALID_HANDLE;
        }
        RUN_UNTIL(loop, p.ends > 0);
        loop_settle(loop);
        expect_error(p.end, expected[i]);
        assert_int_equal(p.ends, 1);
        probe_close(&p);
        expect_error(p.reason, expected[i]);
        p2p_event_loop_free(loop);
    }
}

static void a_header_that_claims_too_much_is_TOO_LONG_at_once(void **state) {
    (void)state;
    static const uint32_t claims[] = { MAX + 1, 0x7fffffff, 0x80000000, 0xfffffffb, 0xfffffffc, 0xffffffff };
    for (size_t s = 0; s < COUNT_OF(styles); s++) {
        for (size_t i = 0; i < COUNT_OF(claims); i++) {
            probe p = { 0 };
            p2p_event_loop_t *loop = loop_create(NULL);
            probe_open(&p, loop, styles[s]);
            assert_true(raw_send_text(p.fd, "before"));
            RUN_UNTIL(loop, p.messages == 1);
            size_t before = memory_in_use();
            assert_true(raw_send_header(p.fd, claims[i]));
            RUN_UNTIL(loop, p.errors > 0);
            assert_true(memory_in_use() <= before + 4096);
            /* Nothing that follows is a message. */
            raw_send_text(p.fd, "after");
            loop_settle(loop);
            expect_error(p.error, P2P_ERR_TOO_LONG);
            assert_string_equal(p.text, "before|");
            assert_int_equal(p.errors, 1);
            assert_int_equal(p.ends, 0);
            probe_close(&p);
            expect_error(p.reason, P2P_ERR_TOO_LONG);
            p2p_event_loop_free(loop);
        }
    }
}

static void memory_grows_with_bytes_received_not_with_bytes_claimed(void **state) {
    (void)state;
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_message);
    loop_settle(loop);
    size_t before = memory_in_use();
    assert_true(raw_send_header(p.fd, MAX));
    assert_true(raw_send(p.fd, "ten bytes.", 10));
    RUN_UNTIL(loop, loop_stats(loop).bytes_in == 14);
    loop_settle(loop);
    assert_true(memory_in_use() <= before + 4096);
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void a_reset_is_RESET_once_after_the_messages_that_were_buffered(void **state) {
    (void)state;
    probe p = { .hook = take_nothing };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_read);
    send_texts(p.fd, three, 3);
    RUN_UNTIL(loop, p.reads > 0); /* now they are in the library's buffer */
    raw_reset(p.fd);
    p.fd = P2P_INVALID_HANDLE;
    loop_settle(loop);
    assert_int_equal(p.errors, 0);
    p.hook = NULL;
    RUN_UNTIL(loop, p.errors > 0);
    loop_settle(loop);
    assert_string_equal(p.text, "one|two|three|");
    expect_error(p.error, P2P_ERR_RESET);
    assert_int_equal(p.errors, 1);
    assert_int_equal(p.ends, 0);
    probe_close(&p);
    expect_error(p.reason, P2P_ERR_RESET);
    p2p_event_loop_free(loop);
}

static void recv_after_the_end_says_how_it_ended(void **state) {
    (void)state;
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_read);
    assert_true(raw_send_header(p.fd, 0xffffffff));
    RUN_UNTIL(loop, p.errors == 1);
    assert_null(p2p_message_recv(p.sock));
    expect_error(p2p_last_error(), P2P_ERR_TOO_LONG);
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void a_failure_of_output_is_told_once_by_on_error(void **state) {
    (void)state;
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_read);
    raw_fin(p.fd);
    RUN_UNTIL(loop, p.ends == 1); /* the end of input is told and over */
    os_close(p.fd);
    p.fd = P2P_INVALID_HANDLE;
    /* The first write provokes the RST, a later one fails by it. */
    RUN_UNTIL(loop, p.errors > 0 || (p2p_message_send_data(p.sock, "x", 1), false));
    loop_settle(loop);
    assert_int_equal(p.errors, 1);
    assert_true(p.error == P2P_ERR_RESET || p.error == P2P_ERR_CLOSED);
    int sent = p2p_message_send_data(p.sock, "x", 1);
    assert_true(sent == P2P_ERR_RESET || sent == P2P_ERR_CLOSED);
    assert_int_equal(p.ends, 1);
    probe_close(&p);
    p2p_event_loop_free(loop);
}

/* ---- limits, modes, moving in and out ---- */

static void the_loops_limit_holds_and_a_sockets_own_goes_before_it(void **state) {
    (void)state;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    probe p = { 0 }, q = { 0 };
    options.max_message_size = 4;
    p2p_event_loop_t *loop = loop_create(&options);
    probe_open(&p, loop, &probe_by_read);
    probe_open(&q, loop, &probe_by_read);
    assert_int_equal(p2p_socket_set_max_message_size(q.sock, 5), 0);
    assert_int_equal(p2p_message_send_data(p.sock, "12345", 5), P2P_ERR_TOO_LONG);
    assert_int_equal(p2p_message_send_data(p.sock, "1234", 4), 0);
    assert_int_equal(p2p_message_send_data(q.sock, "12345", 5), 0);
    loop_expect_text(loop, p.fd, "1234");
    loop_expect_text(loop, q.fd, "12345");
    assert_true(raw_send_text(p.fd, "1234"));
    assert_true(raw_send_text(p.fd, "12345"));
    assert_true(raw_send_text(q.fd, "12345"));
    RUN_UNTIL(loop, p.errors == 1 && q.messages == 1);
    expect_error(p.error, P2P_ERR_TOO_LONG);
    assert_string_equal(p.text, "1234|");
    assert_string_equal(q.text, "12345|");
    probe_close(&p);
    probe_close(&q);
    p2p_event_loop_free(loop);
}

static void raw_calls_don_t_fit_a_socket_in_message_mode(void **state) {
    (void)state;
    probe p = { 0 };
    char byte = 0;
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_read);
    assert_int_equal(p2p_socket_send(p.sock, &byte, 1), P2P_ERR_INVALID);
    assert_int_equal(p2p_socket_recv(p.sock, &byte, 1), P2P_ERR_INVALID);
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void a_removed_socket_blocks_again_and_keeps_its_partial_message(void **state) {
    (void)state;
    probe p = { 0 };
    uint8_t frame[16];
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_read);
    size_t length = raw_frame(frame, "in two parts", 12);
    assert_true(raw_send(p.fd, frame, 7));
    RUN_UNTIL(loop, loop_stats(loop).bytes_in == 7);
    assert_int_equal(p2p_event_loop_remove_socket(loop, p.sock), 0);
    assert_true(raw_send(p.fd, frame + 7, length - 7));
    p2p_message_t *message = p2p_message_recv(p.sock); /* blocks, in case it is not there yet */
    assert_non_null(message);
    assert_int_equal(message->length, 12);
    assert_memory_equal(message->data, "in two parts", 12);
    p2p_message_free(message);
    loop_settle(loop);
    assert_string_equal(p.trace, "");
    p2p_socket_close(p.sock);
    os_close(p.fd);
    p2p_event_loop_free(loop);
}

static void take_one_and_leave(probe *p, char what) {
    if (what != 'r') return;
    probe_take_one(p);
    assert_int_equal(p2p_event_loop_remove_socket(p->loop, p->sock), 0);
}

static void a_removed_socket_keeps_the_messages_nobody_took(void **state) {
    (void)state;
    probe p = { .hook = take_one_and_leave };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_read);
    send_texts(p.fd, three, 3);
    RUN_UNTIL(loop, p.messages == 1);
    loop_settle(loop);
    assert_string_equal(p.trace, "r");
    for (size_t i = 1; i < 3; i++) {
        p2p_message_t *message = p2p_message_recv(p.sock);
        assert_non_null(message);
        assert_int_equal(message->length, strlen(three[i]));
        assert_memory_equal(message->data, three[i], message->length);
        p2p_message_free(message);
    }
    p2p_socket_close(p.sock);
    os_close(p.fd);
    p2p_event_loop_free(loop);
}

static void a_socket_added_with_a_partial_message_goes_on_from_there(void **state) {
    (void)state;
    for (size_t s = 0; s < COUNT_OF(styles); s++) {
        probe p = { 0 };
        uint8_t frame[16];
        p2p_handle_t fd;
        size_t length = raw_frame(frame, "in two parts", 12);
        p2p_event_loop_t *loop = loop_create(NULL);
        p2p_socket_t *sock = socket_pair(&fd);
        assert_int_equal(p2p_socket_set_nonblocking(sock, 1), 0);
        assert_true(raw_send(fd, frame, 7));
        socket_await_input(sock);
        assert_null(p2p_message_recv(sock));
        expect_error(p2p_last_error(), P2P_ERR_WOULD_BLOCK);
        probe_add(&p, loop, sock, styles[s]);
        p.fd = fd;
        assert_true(raw_send(fd, frame + 7, length - 7));
        RUN_UNTIL(loop, p.messages == 1);
        assert_string_equal(p.text, "in two parts|");
        probe_close(&p);
        p2p_event_loop_free(loop);
    }
}

/* Three arrive in one read, one is taken outside the loop: the others must not wait for more bytes. */
static void a_socket_added_with_whole_messages_delivers_them(void **state) {
    (void)state;
    for (size_t s = 0; s < COUNT_OF(styles); s++) {
        probe p = { 0 };
        p2p_event_loop_t *loop = loop_create(NULL);
        probe_open(&p, loop, &probe_by_read);
        p.hook = take_one_and_leave;
        send_texts(p.fd, three, 3);
        RUN_UNTIL(loop, p.messages == 1);
        p.hook = NULL;
        p2p_handle_t fd = p.fd;
        probe_add(&p, loop, p.sock, styles[s]);
        p.fd = fd;
        RUN_UNTIL(loop, p.messages == 3);
        assert_string_equal(p.text, "one|two|three|");
        probe_close(&p);
        p2p_event_loop_free(loop);
    }
}

static void remove_restores_the_blocking_mode_last_asked_for(void **state) {
    (void)state;
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_read);
    assert_int_equal(p2p_socket_set_nonblocking(p.sock, 1), 0); /* only remembered */
    assert_int_equal(p2p_event_loop_remove_socket(loop, p.sock), 0);
    assert_null(p2p_message_recv(p.sock));
    expect_error(p2p_last_error(), P2P_ERR_WOULD_BLOCK);
    p2p_socket_close(p.sock);
    os_close(p.fd);
    p2p_event_loop_free(loop);
}

static void unsent_output_stays_with_a_removed_socket(void **state) {
    (void)state;
    probe p = { 0 };
    char text[4] = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_read);
    assert_int_equal(p2p_message_send_data(p.sock, "one", 3), 0); /* queued for the next turn */
    assert_int_equal(p2p_event_loop_remove_socket(loop, p.sock), 0);
    assert_int_equal(p2p_message_send_data(p.sock, "two", 3), 0);
    assert_int_equal(raw_recv_frame(p.fd, text, 3), 3);
    assert_string_equal(text, "one");
    assert_int_equal(raw_recv_frame(p.fd, text, 3), 3);
    assert_string_equal(text, "two");
    p2p_socket_close(p.sock);
    os_close(p.fd);
    p2p_event_loop_free(loop);
}

/* ---- fairness ---- */

static void a_flood_on_one_connection_does_not_hold_up_another(void **state) {
    (void)state;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    probe flood = { 0 }, other = { 0 };
    options.message_budget = 2;
    p2p_event_loop_t *loop = loop_create(&options);
    probe_open(&flood, loop, &probe_by_message);
    probe_open(&other, loop, &probe_by_message);
    uint8_t bytes[500];
    size_t length = 0;
    while (length < sizeof bytes) length += raw_frame(bytes + length, "x", 1);
    assert_true(raw_send(flood.fd, bytes, length));
    assert_true(raw_send_text(other.fd, "other"));
    socket_await_input(flood.sock);
    socket_await_input(other.sock);
    RUN_UNTIL(loop, other.messages == 1);
    assert_in_range(flood.messages, 0, 4); /* two a turn, and the other's turn came at once */
    RUN_UNTIL(loop, flood.messages == 100);
    probe_close(&flood);
    probe_close(&other);
    p2p_event_loop_free(loop);
}

/* Pulled, sent back and freed: what is freed serves for the next. */
static void a_flow_of_messages_allocates_nothing(void **state) {
    (void)state;
    static const char *const texts[] = { "a", "a message that is longer than the first one", "", "between the two" };
    echo_server server;
    p2p_event_loop_t *loop = loop_create(NULL);
    echo_start(&server, loop, false);
    p2p_handle_t fd = raw_connect(server.port);
    assert_true(raw_send_text(fd, "the first"));
    loop_expect_text(loop, fd, "the first");
    uint64_t before = memory_calls();
    for (size_t i = 0; i < 40; i++) {
        assert_true(raw_send_text(fd, texts[i % COUNT_OF(texts)]));
        loop_expect_text(loop, fd, texts[i % COUNT_OF(texts)]);
    }
    assert_int_equal(memory_calls(), before);
    os_close(fd);
    RUN_UNTIL(loop, server.ended == 1);
    echo_stop(&server);
    p2p_event_loop_free(loop);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        CASE(one_on_read_can_take_all_messages_and_then_gets_WOULD_BLOCK),
        CASE(messages_not_taken_are_announced_in_the_next_turn),
        CASE(an_on_read_that_takes_nothing_is_called_again_each_turn),
        CASE(recv_outside_a_callback_never_waits),
        CASE(without_callbacks_messages_and_the_end_wait_for_recv),
        CASE(with_on_message_messages_go_there_and_on_read_is_for_the_end),
        CASE(messages_of_every_size_arrive_intact),
        CASE(the_largest_message_is_echoed_in_both_styles),
        CASE(messages_cut_at_every_place_arrive_exactly_in_both_styles),
        CASE(single_bytes_make_up_messages_in_both_styles),
        CASE(a_message_of_no_bytes_is_a_message_in_both_styles),
        CASE(buffered_messages_come_before_the_end_in_both_styles),
        CASE(after_the_end_a_socket_stays_registered_in_silence_without_wakeups),
        CASE(after_the_end_of_input_output_still_goes_out),
        CASE(an_end_inside_a_message_is_TRUNCATED_by_on_error),
        CASE(without_on_error_a_failure_is_told_by_on_read),
        CASE(a_header_that_claims_too_much_is_TOO_LONG_at_once),
        CASE(memory_grows_with_bytes_received_not_with_bytes_claimed),
        CASE(a_reset_is_RESET_once_after_the_messages_that_were_buffered),
        CASE(recv_after_the_end_says_how_it_ended),
        CASE(a_failure_of_output_is_told_once_by_on_error),
        CASE(the_loops_limit_holds_and_a_sockets_own_goes_before_it),
        CASE(raw_calls_don_t_fit_a_socket_in_message_mode),
        CASE(a_removed_socket_blocks_again_and_keeps_its_partial_message),
        CASE(a_removed_socket_keeps_the_messages_nobody_took),
        CASE(a_socket_added_with_a_partial_message_goes_on_from_there),
        CASE(a_socket_added_with_whole_messages_delivers_them),
        CASE(remove_restores_the_blocking_mode_last_asked_for),
        CASE(unsent_output_stays_with_a_removed_socket),
        CASE(a_flood_on_one_connection_does_not_hold_up_another),
        CASE(a_flow_of_messages_allocates_nothing),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
