/*
 * Long messages where the emulation receives and sends (core/connection.c, core/output.c): what one lacks is received
 * where it belongs, and one that is sent is written from where it lies.
 */
#include "mock_backend.h"

#include "receive.h"

#define KIB 1024u
#define LENGTH (20 * KIB)
#define SIZE (LENGTH + P2P_FRAME_HEADER_SIZE)

static uint8_t payload[LENGTH], frame[SIZE];
static p2p_event_loop_t *loop;
static p2p_socket_t *sock;
static unsigned messages;

static void on_message(p2p_socket_t *s, const void *data, uint32_t length, void *user_data) {
    (void)s, (void)user_data;
    assert_int_equal(length, LENGTH);
    assert_memory_equal(data, payload, LENGTH);
    messages++;
}

static void on_error(p2p_socket_t *s, int error, void *user_data) {
    (void)s, (void)user_data;
    journal("error(%s)", p2p_error_name(error) + strlen("P2P_ERR_"));
}

static const p2p_socket_callbacks_t callbacks = {
    .size = sizeof callbacks, .on_message = on_message, .on_error = on_error
};

static void open_all(void) {
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.receive_buffer_size = 4 * KIB;
    raw_fill(payload, sizeof payload, 1);
    raw_frame(frame, payload, sizeof payload);
    messages = 0;
    loop = mock_loop(0, &options);
    sock = fake_connection();
    assert_int_equal(p2p_event_loop_add_socket_with(loop, sock, &callbacks, NULL), 0);
    journal_take();
}

static void close_all(void) {
    p2p_event_loop_free(loop);
    p2p_socket_close(sock);
}

static fake_socket *fake(void) {
    return fake_at(p2p_socket_handle(sock));
}

static void ready(uint32_t flags) {
    mock_ready(p2p_socket_handle(sock), flags);
    mock_turn(loop);
}

/* ---- sending ---- */

static void one_is_written_at_once_and_what_there_is_no_room_for_later(void **state) {
    (void)state;
    static const size_t rooms[] = { 0, 1, 3, 4, 5, 5000, SIZE - 1, SIZE };
    for (size_t i = 0; i < COUNT_OF(rooms); i++) {
        open_all();
        fake()->room = rooms[i];
        assert_int_equal(p2p_message_send_data(sock, payload, LENGTH), 0);
        assert_int_equal(fake()->output_length, rooms[i]);
        assert_int_equal(loop_stats(loop).bytes_out, rooms[i]);
        assert_int_equal(loop_stats(loop).output_queued > 0, rooms[i] < SIZE);
        fake()->room = FAKE_BYTES_MAX;
        ready(P2P_OUT);
        ready(P2P_OUT);
        assert_int_equal(fake()->output_length, SIZE);
        assert_memory_equal(fake()->output, frame, SIZE);
        assert_int_equal(loop_stats(loop).output_queued, 0);
        assert_int_equal(loop_stats(loop).bytes_out, SIZE);
        close_all();
        assert_int_equal(mock_teardown(NULL) + mock_setup(NULL), 0);
    }
}

static void one_takes_no_memory_when_there_is_room_for_it(void **state) {
    (void)state;
    open_all();
    assert_int_equal(p2p_message_send_data(sock, payload, LENGTH), 0);
    uint64_t calls = memory_calls();
    assert_int_equal(p2p_message_send_data(sock, payload, LENGTH), 0);
    assert_int_equal(memory_calls(), calls);
    assert_int_equal(fake()->output_length, 2 * SIZE);
    close_all();
}

static void one_does_not_overtake_what_is_queued(void **state) {
    (void)state;
    open_all();
    assert_int_equal(p2p_message_send_data(sock, "before", 6), 0);
    assert_int_equal(p2p_message_send_data(sock, payload, LENGTH), 0);
    assert_int_equal(p2p_message_send_data(sock, "behind", 6), 0);
    assert_int_equal(fake()->output_length, 0);
    mock_turn(loop);
    ready(P2P_OUT);
    assert_int_equal(fake()->output_length, 10 + SIZE + 10);
    assert_memory_equal(fake()->output, "\0\0\0\6before", 10);
    assert_memory_equal(fake()->output + 10, frame, SIZE);
    assert_memory_equal(fake()->output + 10 + SIZE, "\0\0\0\6behind", 10);
    close_all();
}

static void one_that_cannot_be_written_is_told_of_later_and_once(void **state) {
    (void)state;
    open_all();
    fake()->output_error = EPIPE;
    assert_int_equal(p2p_message_send_data(sock, payload, LENGTH), 0);
    assert_string_equal(journal_take(), "");
    fake()->input_error = ECONNRESET;
    mock_turn(loop);
    ready(P2P_IN);
    mock_turn(loop);
    assert_non_null(strstr(journal_take(), "error(RESET)"));
    assert_int_equal(p2p_message_send_data(sock, payload, LENGTH), P2P_ERR_RESET);
    close_all();
}

static void without_memory_for_its_rest_nothing_is_written(void **state) {
    (void)state;
    open_all();
    memory_fail(1, true);
    assert_int_equal(p2p_message_send_data(sock, payload, LENGTH), P2P_ERR_NO_MEMORY);
    memory_fail(0, false);
    assert_int_equal(fake()->output_length, 0);
    assert_int_equal(p2p_message_send_data(sock, payload, LENGTH), 0);
    assert_memory_equal(fake()->output, frame, SIZE);
    close_all();
}

/* ---- receiving ---- */

static void one_that_comes_in_pieces_is_whole_in_the_end(void **state) {
    (void)state;
    open_all();
    for (size_t cut = 1; cut < SIZE; cut += 1777) {
        fake_input(p2p_socket_handle(sock), frame, cut);
        ready(P2P_IN);
        fake_input(p2p_socket_handle(sock), frame + cut, SIZE - cut);
        ready(P2P_IN);
        fake()->input_length = fake()->input_taken = 0;
    }
    assert_int_equal(messages, (SIZE - 1) / 1777 + 1);
    close_all();
}

static uint32_t room_for_the_rest(void) {
    uint32_t room = 0;
    return p2pi_connection_place(sock, UINT32_MAX, &room) == NULL ? 0 : room;
}

static void its_rest_has_a_place_of_its_own(void **state) {
    (void)state;
    uint32_t room = 0;
    open_all();
    assert_int_equal(room_for_the_rest(), 0); /* nothing is there */
    fake_input(p2p_socket_handle(sock), frame, 4 * KIB);
    ready(P2P_IN);
    assert_int_equal(room_for_the_rest(), SIZE - 4 * KIB);
    assert_non_null(p2pi_connection_place(sock, 1000, &room));
    assert_int_equal(room, 1000);
    p2p_socket_pause(sock);
    assert_int_equal(room_for_the_rest(), 0);
    p2p_socket_resume(sock);
    mock_turn(loop);
    assert_int_equal(room_for_the_rest(), SIZE - 4 * KIB);
    fake_input(p2p_socket_handle(sock), frame + 4 * KIB, 4 * KIB);
    ready(P2P_IN);
    assert_int_equal(room_for_the_rest(), 0); /* short: it may as well come with the next message */
    close_all();
}

/* A header that claims much has not got the room for it yet. */
static void a_claim_has_no_place(void **state) {
    (void)state;
    open_all();
    p2pi_frame_header(frame, 1024 * KIB);
    fake_input(p2p_socket_handle(sock), frame, 4 * KIB);
    ready(P2P_IN);
    assert_int_equal(room_for_the_rest(), 0);
    close_all();
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        MOCK_CASE(one_is_written_at_once_and_what_there_is_no_room_for_later),
        MOCK_CASE(one_takes_no_memory_when_there_is_room_for_it),
        MOCK_CASE(one_does_not_overtake_what_is_queued),
        MOCK_CASE(one_that_cannot_be_written_is_told_of_later_and_once),
        MOCK_CASE(without_memory_for_its_rest_nothing_is_written),
        MOCK_CASE(one_that_comes_in_pieces_is_whole_in_the_end),
        MOCK_CASE(its_rest_has_a_place_of_its_own),
        MOCK_CASE(a_claim_has_no_place),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
