/* The frame decoder and encoder (core/frame.h): pure functions over the bytes at hand. */
#include "test_main.h"

#include "frame.h"

#include <string.h>

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define LENGTH_MAX (1024u * 1024u)

static const uint32_t lengths[] = {
    0, 1, 2, 255, 256, 65535, 65536, 65537, 0xFFFFFF, 0x1000000, LENGTH_MAX - 1, LENGTH_MAX, LENGTH_MAX + 1,
    INT32_MAX - 1u, INT32_MAX, INT32_MAX + 1u, 0x80000001u, UINT32_MAX - 4, UINT32_MAX - 3, UINT32_MAX - 2,
    UINT32_MAX - 1, UINT32_MAX,
};

static void the_header_is_big_endian(void **state) {
    (void)state;
    uint8_t header[P2P_FRAME_HEADER_SIZE];
    p2pi_frame_header(header, 0x01020304);
    assert_memory_equal(header, "\1\2\3\4", 4);
    p2pi_frame_header(header, 0xFFFEFDFC);
    assert_memory_equal(header, "\xFF\xFE\xFD\xFC", 4);
}

static void every_header_is_read_as_it_was_written(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT_OF(lengths); i++) {
        uint8_t header[P2P_FRAME_HEADER_SIZE];
        uint32_t length = ~lengths[i];
        size_t missing = 0;
        p2pi_frame_header(header, lengths[i]);
        p2pi_frame_status status = p2pi_frame_inspect(header, sizeof header, UINT32_MAX, &length, &missing);
        assert_int_equal(length, lengths[i]);
        assert_int_equal(status, lengths[i] == 0 ? P2PI_FRAME_WHOLE : P2PI_FRAME_PARTIAL);
        if (lengths[i] > 0) assert_int_equal(missing, lengths[i]);
    }
}

/* Known as soon as the header is there, whatever follows. */
static void what_claims_more_than_the_limit_is_too_long(void **state) {
    (void)state;
    static const uint32_t limits[] = { 0, 1, 65536, LENGTH_MAX, INT32_MAX, UINT32_MAX - 4, UINT32_MAX };
    for (size_t i = 0; i < COUNT_OF(lengths); i++)
        for (size_t k = 0; k < COUNT_OF(limits); k++) {
            uint8_t bytes[P2P_FRAME_HEADER_SIZE + 3] = { 0 };
            uint32_t length;
            size_t missing;
            p2pi_frame_header(bytes, lengths[i]);
            for (size_t have = P2P_FRAME_HEADER_SIZE; have <= sizeof bytes; have++) {
                p2pi_frame_status status = p2pi_frame_inspect(bytes, have, limits[k], &length, &missing);
                assert_int_equal(status == P2PI_FRAME_TOO_LONG, lengths[i] > limits[k]);
                assert_int_equal(length, lengths[i]);
            }
        }
}

static void a_partial_header_says_how_much_of_it_is_missing(void **state) {
    (void)state;
    const uint8_t header[] = { 0xFF, 0xFF, 0xFF, 0xFF };
    for (size_t have = 0; have < P2P_FRAME_HEADER_SIZE; have++) {
        uint32_t length = 77;
        size_t missing = 0;
        assert_int_equal(p2pi_frame_inspect(header, have, 0, &length, &missing), P2PI_FRAME_PARTIAL);
        assert_int_equal(missing, P2P_FRAME_HEADER_SIZE - have);
        assert_int_equal(length, 77);
    }
}

/* Three frames, the last one followed by a part of the next: cut everywhere, and put together by `missing`. */
static void every_split_gives_the_same_frames(void **state) {
    (void)state;
    static const uint32_t sizes[] = { 0, 1, 300 };
    uint8_t stream[400];
    size_t total = 0;
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        p2pi_frame_header(stream + total, sizes[i]);
        memset(stream + total + P2P_FRAME_HEADER_SIZE, (int)('a' + i), sizes[i]);
        total += P2P_FRAME_HEADER_SIZE + sizes[i];
    }
    memcpy(stream + total, "\0\0", 2);
    for (size_t split = 0; split <= total + 2; split++) {
        size_t have = split, begin = 0, found = 0;
        while (found < COUNT_OF(sizes)) {
            uint32_t length;
            size_t missing = 0;
            p2pi_frame_status status = p2pi_frame_inspect(stream + begin, have - begin, 300, &length, &missing);
            if (status == P2PI_FRAME_WHOLE) {
                assert_int_equal(length, sizes[found]);
                begin += P2P_FRAME_HEADER_SIZE + length;
                found++;
                continue;
            }
            assert_int_equal(status, P2PI_FRAME_PARTIAL);
            assert_true(missing > 0);
            have += missing;
            assert_true(have <= total); /* never asks for a byte of the frame after */
        }
        assert_int_equal(begin, total);
    }
}

static void a_frame_is_whole_exactly_with_its_last_byte(void **state) {
    (void)state;
    static uint8_t bytes[P2P_FRAME_HEADER_SIZE + 65537];
    static const uint32_t sizes[] = { 1, 2, 65535, 65536, 65537 };
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        uint32_t length;
        size_t missing = 0, whole = P2P_FRAME_HEADER_SIZE + (size_t)sizes[i];
        p2pi_frame_header(bytes, sizes[i]);
        assert_int_equal(p2pi_frame_inspect(bytes, whole - 1, sizes[i], &length, &missing), P2PI_FRAME_PARTIAL);
        assert_int_equal(missing, 1);
        assert_int_equal(p2pi_frame_inspect(bytes, whole, sizes[i], &length, &missing), P2PI_FRAME_WHOLE);
        assert_int_equal(p2pi_frame_inspect(bytes, whole, sizes[i] - 1, &length, &missing), P2PI_FRAME_TOO_LONG);
    }
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        cmocka_unit_test(the_header_is_big_endian),
        cmocka_unit_test(every_header_is_read_as_it_was_written),
        cmocka_unit_test(what_claims_more_than_the_limit_is_too_long),
        cmocka_unit_test(a_partial_header_says_how_much_of_it_is_missing),
        cmocka_unit_test(every_split_gives_the_same_frames),
        cmocka_unit_test(a_frame_is_whole_exactly_with_its_last_byte),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
