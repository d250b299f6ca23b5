/* The table of peer addresses (core/limits.c): what has connections is there, what has none costs nothing. */
#include "fixture.h"

#include "internal.h"

#define MANY 1000u

static void key_of(uint32_t i, uint8_t key[4]) {
    for (int byte = 0; byte < 4; byte++) key[byte] = (uint8_t)(i >> 8 * byte);
}

static void connections_are_counted_by_address_and_nothing_stays_of_those_gone(void **state) {
    (void)state;
    static p2pi_address *entered[MANY][2];
    uint8_t key[4];
    size_t before = memory_in_use();
    p2pi_limits limits = { .seed = 7 };
    for (uint32_t times = 0; times < 2; times++)
        for (uint32_t i = 0; i < MANY; i++) {
            key_of(i, key);
            assert_int_equal(p2pi_address_connections(&limits, key, 4), times);
            entered[i][times] = p2pi_address_enter(&limits, key, 4);
            assert_non_null(entered[i][times]);
        }
    assert_int_equal(limits.address_count, MANY);
    assert_true(limits.bucket_count >= MANY / 2); /* short chains */
    for (uint32_t times = 2; times-- > 0;)
        for (uint32_t i = 0; i < MANY; i++) {
            p2pi_address_leave(&limits, entered[i][times]);
            key_of(i, key);
            assert_int_equal(p2pi_address_connections(&limits, key, 4), times);
        }
    assert_int_equal(memory_in_use(), before);
}

static void keys_of_different_length_are_different_addresses(void **state) {
    (void)state;
    static const uint8_t key[8] = { 127, 0, 0, 1 };
    p2pi_limits limits = { 0 };
    p2pi_address *shorter = p2pi_address_enter(&limits, key, 4), *longer = p2pi_address_enter(&limits, key, 8);
    assert_ptr_not_equal(shorter, longer);
    p2pi_address_leave(&limits, shorter);
    assert_int_equal(p2pi_address_connections(&limits, key, 4), 0);
    assert_int_equal(p2pi_address_connections(&limits, key, 8), 1);
    p2pi_address_leave(&limits, longer);
}

static void without_memory_an_address_is_not_entered_and_the_rest_stands(void **state) {
    (void)state;
    static p2pi_address *entered[MANY];
    uint8_t key[4] = { 0 };
    p2pi_limits limits = { 0 };
    for (uint64_t nth = 1; nth <= 2; nth++) {
        size_t before = memory_in_use();
        memory_fail(nth, false);
        p2pi_address *address = p2pi_address_enter(&limits, key, 4);
        memory_fail(0, false);
        assert_null(address);
        assert_int_equal(limits.address_count, 0);
        assert_int_equal(memory_in_use(), before);
    }
    for (uint32_t i = 0; i < MANY; i++) { /* each growth fails: longer chains, nothing worse */
        key_of(i, key);
        if (limits.address_count > 0 && limits.address_count == limits.bucket_count) memory_fail(1, false);
        entered[i] = p2pi_address_enter(&limits, key, 4);
        memory_fail(0, false);
        assert_non_null(entered[i]);
    }
    for (uint32_t i = 0; i < MANY; i++) p2pi_address_leave(&limits, entered[i]);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        CASE(connections_are_counted_by_address_and_nothing_stays_of_those_gone),
        CASE(keys_of_different_length_are_different_addresses),
        CASE(without_memory_an_address_is_not_entered_and_the_rest_stands),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
