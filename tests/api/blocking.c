/* Milestone 1.2: messages on sockets outside a loop, blocking and not. */
#include "fixture.h"

#include <stdlib.h>

#define MAX P2P_DEFAULT_MAX_MESSAGE_SIZE

static void expect_message(p2p_socket_t *sock, const void *data, uint32_t length) {
    p2p_message_t *message = p2p_message_recv(sock);
    if (message == NULL) fail_msg("no message: %s", p2p_error_name(p2p_last_error()));
    assert_int_equal(message->length, length);
    assert_non_null(message->data);
    if (length > 0) assert_memory_equal(message->data, data, length);
    p2p_message_free(message);
}

static void expect_text(p2p_socket_t *sock, const char *text) {
    expect_message(sock, text, (uint32_t)strlen(text));
}

static void expect_failure(p2p_socket_t *sock, int error) {
    assert_null(p2p_message_recv(sock));
    assert_string_equal(p2p_error_name(p2p_last_error()), p2p_error_name(error));
}

static void the_classic_loop_serves_a_client_until_it_leaves(void **state) {
    (void)state;
    static const char *const texts[] = { "one", "two", "", "four" };
    char back[16];
    p2p_handle_t fd;
    p2p_socket_t *sock = socket_pair(&fd);
    for (size_t i = 0; i < COUNT_OF(texts); i++) assert_true(raw_send_text(fd, texts[i]));
    raw_fin(fd);
    unsigned served = 0;
    for (p2p_message_t *message; (message = p2p_message_recv(sock)) != NULL; served++) {
        assert_int_equal(p2p_message_send(sock, message), 0);
        p2p_message_free(message);
    }
    assert_int_equal(p2p_last_error(), P2P_ERR_CLOSED);
    assert_int_equal(served, COUNT_OF(texts));
    p2p_socket_close(sock);
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        assert_int_equal(raw_recv_frame(fd, back, sizeof back), strlen(texts[i]));
        assert_memory_equal(back, texts[i], strlen(texts[i]));
    }
    assert_int_equal(raw_recv_end(fd), 0);
    os_close(fd);
}

static void the_length_is_four_bytes_big_endian(void **state) {
    (void)state;
    uint8_t bytes[7];
    p2p_handle_t fd;
    p2p_socket_t *sock = socket_pair(&fd);
    assert_int_equal(p2p_message_send_data(sock, "abc", 3), 0);
    assert_true(raw_recv(fd, bytes, sizeof bytes));
    assert_memory_equal(bytes, "\0\0\0\3abc", sizeof bytes);
    p2p_socket_close(sock);
    os_close(fd);
}

static void a_message_of_no_bytes_is_a_message(void **state) {
    (void)state;
    p2p_handle_t fd;
    p2p_socket_t *sock = socket_pair(&fd);
    p2p_message_t *empty = p2p_message_create(NULL, 0);
    assert_non_null(empty->data);
    assert_int_equal(p2p_message_send(sock, empty), 0);
    assert_int_equal(p2p_message_send_data(sock, NULL, 0), 0);
    p2p_message_free(empty);
    assert_int_equal(raw_recv_frame(fd, NULL, 0), 0);
    assert_int_equal(raw_recv_frame(fd, NULL, 0), 0);
    assert_true(raw_send_header(fd, 0));
    expect_text(sock, "");
    p2p_socket_close(sock);
    os_close(fd);
}

/* ---- large ones, with the raw peer in a thread of its own ---- */

typedef struct mirror {
    p2p_handle_t fd;
    uint32_t length;
    bool ok;
} mirror;

static void mirror_frame(void *arg) {
    mirror *m = arg;
    uint8_t *data = malloc(m->length);
    m->ok =
        data != NULL && raw_recv_frame(m->fd, data, m->length) == m->length && raw_send_frame(m->fd, data, m->length);
    free(data);
}

static void a_message_of_the_largest_size_goes_both_ways(void **state) {
    (void)state;
    mirror m = { .length = MAX };
    os_thread thread;
    uint8_t *data = malloc(MAX);
    raw_fill(data, MAX, 1);
    p2p_socket_t *sock = socket_pair(&m.fd);
    assert_int_equal(os_thread_start(&thread, mirror_frame, &m), 0);
    assert_int_equal(p2p_message_send_data(sock, data, MAX), 0);
    expect_message(sock, data, MAX);
    os_thread_join(&thread);
    assert_true(m.ok);
    free(data);
    p2p_socket_close(sock);
    os_close(m.fd);
}

static void one_byte_more_is_refused_on_send_and_nothing_is_sent(void **state) {
    (void)state;
    char back[8];
    p2p_handle_t fd;
    p2p_socket_t *sock = socket_pair(&fd);
    p2p_message_t *message = p2p_message_create(NULL, MAX + 1);
    assert_non_null(message);
    assert_int_equal(p2p_message_send(sock, message), P2P_ERR_TOO_LONG);
    assert_int_equal(p2p_message_send_data(sock, message->data, MAX + 1), P2P_ERR_TOO_LONG);
    p2p_message_free(message);
    assert_int_equal(p2p_message_send_data(sock, "next", 4), 0);
    assert_int_equal(raw_recv_frame(fd, back, sizeof back), 4);
    p2p_socket_close(sock);
    os_close(fd);
}

static void one_byte_more_is_refused_on_receive_by_its_header(void **state) {
    (void)state;
    p2p_handle_t fd;
    p2p_socket_t *sock = socket_pair(&fd);
    size_t before = memory_in_use();
    assert_true(raw_send_text(fd, "before"));
    assert_true(raw_send_header(fd, MAX + 1));
    expect_text(sock, "before");
    expect_failure(sock, P2P_ERR_TOO_LONG);
    assert_true(memory_in_use() < before + 65536);
    assert_null(p2p_message_recv(sock)); /* the connection is dead */
    p2p_socket_close(sock);
    os_close(fd);
}

static void the_limit_can_be_set_for_a_socket(void **state) {
    (void)state;
    p2p_handle_t fd;
    p2p_socket_t *sock = socket_pair(&fd);
    assert_int_equal(p2p_socket_set_max_message_size(sock, 4), 0);
    assert_int_equal(p2p_message_send_data(sock, "12345", 5), P2P_ERR_TOO_LONG);
    assert_int_equal(p2p_message_send_data(sock, "1234", 4), 0);
    assert_true(raw_send_text(fd, "1234"));
    expect_text(sock, "1234");
    assert_int_equal(p2p_socket_set_max_message_size(sock, 0), 0); /* the default again */
    assert_true(raw_send_text(fd, "12345"));
    expect_text(sock, "12345");
    assert_int_equal(p2p_socket_set_max_message_size(sock, 4), 0);
    assert_true(raw_send_text(fd, "12345"));
    expect_failure(sock, P2P_ERR_TOO_LONG);
    p2p_socket_close(sock);
    os_close(fd);
}

/* ---- how a connection ends ---- */

static void an_end_inside_a_message_is_TRUNCATED_wherever_it_is(void **state) {
    (void)state;
    uint8_t frame[9];
    raw_frame(frame, "12345", 5);
    for (size_t cut = 0; cut < sizeof frame; cut++) {
        p2p_handle_t fd;
        p2p_socket_t *sock = socket_pair(&fd);
        assert_true(raw_send(fd, frame, cut));
        os_close(fd);
        expect_failure(sock, cut == 0 ? P2P_ERR_CLOSED : P2P_ERR_TRUNCATED);
        p2p_socket_close(sock);
    }
}

static void a_reset_is_RESET(void **state) {
    (void)state;
    p2p_handle_t fd;
    p2p_socket_t *sock = socket_pair(&fd);
    raw_reset(fd);
    expect_failure(sock, P2P_ERR_RESET);
    int sent = p2p_message_send_data(sock, "x", 1);
    assert_true(sent == P2P_ERR_RESET || sent == P2P_ERR_CLOSED);
    p2p_socket_close(sock);
}

static void a_socket_that_is_not_connected_is_NOT_CONNECTED(void **state) {
    (void)state;
    p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
    expect_failure(sock, P2P_ERR_NOT_CONNECTED);
    assert_int_equal(p2p_message_send_data(sock, "x", 1), P2P_ERR_NOT_CONNECTED);
    p2p_socket_close(sock);
}

/* ---- non-blocking ---- */

static void a_nonblocking_socket_keeps_what_has_arrived(void **state) {
    (void)state;
    uint8_t frame[9];
    p2p_handle_t fd;
    p2p_socket_t *sock = socket_pair(&fd);
    assert_int_equal(p2p_socket_set_nonblocking(sock, 1), 0);
    expect_failure(sock, P2P_ERR_WOULD_BLOCK);
    raw_frame(frame, "12345", 5);
    for (size_t i = 0; i + 1 < sizeof frame; i++) {
        assert_true(raw_send(fd, frame + i, 1));
        socket_await_input(sock);
        expect_failure(sock, P2P_ERR_WOULD_BLOCK);
    }
    assert_true(raw_send(fd, frame + 8, 1));
    socket_await_input(sock);
    expect_text(sock, "12345");
    expect_failure(sock, P2P_ERR_WOULD_BLOCK);
    p2p_socket_close(sock);
    os_close(fd);
}

static void a_nonblocking_send_takes_messages_whole_or_not_at_all(void **state) {
    (void)state;
    static uint8_t data[50000], back[50000];
    p2p_handle_t fd;
    p2p_socket_t *sock = socket_pair(&fd);
    assert_int_equal(p2p_socket_set_nonblocking(sock, 1), 0);
    uint32_t taken = 0;
    int result;
    for (;; taken++) {
        raw_fill(data, sizeof data, taken);
        result = p2p_message_send_data(sock, data, sizeof data);
        if (result != 0) break;
    }
    assert_int_equal(result, P2P_ERR_WOULD_BLOCK);
    assert_true(taken > 0);
    /* Read one by one; the sender's leftover goes out when it sends again. */
    for (uint32_t i = 0; i < taken; i++) {
        if (i + 1 == taken) {
            while ((result = p2p_message_send_data(sock, "last", 4)) == P2P_ERR_WOULD_BLOCK) {
            }
            assert_int_equal(result, 0);
        }
        raw_fill(data, sizeof data, i);
        assert_int_equal(raw_recv_frame(fd, back, sizeof back), sizeof back);
        assert_memory_equal(back, data, sizeof data);
    }
    assert_int_equal(raw_recv_frame(fd, back, sizeof back), 4);
    assert_memory_equal(back, "last", 4);
    p2p_socket_close(sock);
    os_close(fd);
}

static void memory_grows_with_bytes_received_not_with_bytes_claimed(void **state) {
    (void)state;
    p2p_handle_t fd;
    p2p_socket_t *sock = socket_pair(&fd);
    assert_int_equal(p2p_socket_set_nonblocking(sock, 1), 0);
    size_t before = memory_in_use();
    assert_true(raw_send_header(fd, MAX));
    assert_true(raw_send(fd, "ten bytes.", 10));
    socket_await_input(sock);
    expect_failure(sock, P2P_ERR_WOULD_BLOCK);
    assert_true(memory_in_use() < before + 65536);
    p2p_socket_close(sock);
    os_close(fd);
}

/* ---- messages by themselves ---- */

static void a_message_holds_a_copy_or_zeros(void **state) {
    (void)state;
    char text[] = "copied";
    p2p_message_t *message = p2p_message_create(text, 6);
    text[0] = 'X';
    assert_int_equal(message->length, 6);
    assert_memory_equal(message->data, "copied", 6);
    p2p_message_free(message);
    message = p2p_message_create(NULL, 3);
    assert_memory_equal(message->data, "\0\0\0", 3);
    p2p_message_free(message);
    p2p_message_free(NULL);
}

static void a_message_no_frame_can_carry_is_TOO_LONG(void **state) {
    (void)state;
    assert_null(p2p_message_create(NULL, UINT32_MAX));
    assert_int_equal(p2p_last_error(), P2P_ERR_TOO_LONG);
    assert_null(p2p_message_create(NULL, UINT32_MAX - 63));
    assert_int_equal(p2p_last_error(), P2P_ERR_TOO_LONG);
}

static void null_is_INVALID_everywhere(void **state) {
    (void)state;
    p2p_handle_t fd;
    p2p_socket_t *sock = socket_pair(&fd);
    p2p_message_t *message = p2p_message_create("x", 1);
    assert_int_equal(p2p_message_send(NULL, message), P2P_ERR_INVALID);
    assert_int_equal(p2p_message_send(sock, NULL), P2P_ERR_INVALID);
    assert_int_equal(p2p_message_send_data(NULL, "x", 1), P2P_ERR_INVALID);
    assert_int_equal(p2p_message_send_data(sock, NULL, 1), P2P_ERR_INVALID);
    expect_failure(NULL, P2P_ERR_INVALID);
    p2p_message_free(message);
    p2p_socket_close(sock);
    os_close(fd);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        CASE(the_classic_loop_serves_a_client_until_it_leaves),
        CASE(the_length_is_four_bytes_big_endian),
        CASE(a_message_of_no_bytes_is_a_message),
        CASE(a_message_of_the_largest_size_goes_both_ways),
        CASE(one_byte_more_is_refused_on_send_and_nothing_is_sent),
        CASE(one_byte_more_is_refused_on_receive_by_its_header),
        CASE(the_limit_can_be_set_for_a_socket),
        CASE(an_end_inside_a_message_is_TRUNCATED_wherever_it_is),
        CASE(a_reset_is_RESET),
        CASE(a_socket_that_is_not_connected_is_NOT_CONNECTED),
        CASE(a_nonblocking_socket_keeps_what_has_arrived),
        CASE(a_nonblocking_send_takes_messages_whole_or_not_at_all),
        CASE(memory_grows_with_bytes_received_not_with_bytes_claimed),
        CASE(a_message_holds_a_copy_or_zeros),
        CASE(a_message_no_frame_can_carry_is_TOO_LONG),
        CASE(null_is_INVALID_everywhere),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
