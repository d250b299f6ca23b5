/* What a connection sends and must get back (bench/stream.h). */
#include "stream.h"

#include "test_main.h"

#include <string.h>

enum { STREAM_SIZE = 5000 };

/* The whole made at once, and by parts. */
static void the_bytes_at_a_place_are_the_same_however_they_are_asked_for(void **state) {
    (void)state;
    static const uint32_t sizes[] = { 1, 3, 8, 9, 64, 1000 };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        bench_stream stream;
        static uint8_t whole[STREAM_SIZE], parts[STREAM_SIZE];
        assert_true(bench_stream_init(&stream, sizes[i]));
        bench_stream_fill(&stream, 0, whole, sizeof whole);
        for (size_t at = 0, step = 1; at < sizeof parts; at += step, step = step % 97 + 1) {
            if (step > sizeof parts - at) step = sizeof parts - at;
            bench_stream_fill(&stream, at, parts + at, step);
            assert_true(bench_stream_check(&stream, at, whole + at, step));
        }
        assert_memory_equal(whole, parts, sizeof whole);
        bench_stream_free(&stream);
    }
}

static void every_wrong_byte_is_found(void **state) {
    (void)state;
    bench_stream stream;
    uint8_t bytes[300];
    assert_true(bench_stream_init(&stream, 64));
    bench_stream_fill(&stream, 1000, bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] ^= 1;
        assert_false(bench_stream_check(&stream, 1000, bytes, sizeof bytes));
        bytes[i] ^= 1;
    }
    assert_true(bench_stream_check(&stream, 1000, bytes, sizeof bytes));
    bench_stream_free(&stream);
}

/* Messages that change places are found by their numbers. */
static void another_message_of_the_stream_is_not_the_same(void **state) {
    (void)state;
    bench_stream stream;
    uint8_t bytes[68];
    assert_true(bench_stream_init(&stream, 64));
    bench_stream_fill(&stream, sizeof bytes, bytes, sizeof bytes);
    assert_true(bench_stream_check(&stream, sizeof bytes, bytes, sizeof bytes));
    assert_false(bench_stream_check(&stream, 2 * sizeof bytes, bytes, sizeof bytes));
    bench_stream_free(&stream);
}

static void a_message_begins_with_its_length(void **state) {
    (void)state;
    bench_stream stream;
    uint8_t bytes[4];
    assert_true(bench_stream_init(&stream, 0x010203));
    bench_stream_fill(&stream, stream.frame_size * 3, bytes, sizeof bytes);
    assert_memory_equal(bytes, "\0\1\2\3", 4);
    bench_stream_free(&stream);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        cmocka_unit_test(the_bytes_at_a_place_are_the_same_however_they_are_asked_for),
        cmocka_unit_test(every_wrong_byte_is_found),
        cmocka_unit_test(another_message_of_the_stream_is_not_the_same),
        cmocka_unit_test(a_message_begins_with_its_length),
    };
    return p2p_test_main(argc, argv, cases, sizeof cases / sizeof *cases);
}
