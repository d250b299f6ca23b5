/* Memory that a loop keeps for the next long message (core/blocks.h). */
#include "fixture.h"

#include "internal.h"

static void a_block_given_back_is_the_next_one_taken(void **state) {
    (void)state;
    p2pi_blocks blocks = { 0 };
    size_t size = 100000, again = 90000;
    void *block = p2pi_block_take(&blocks, &size);
    assert_int_equal(size, 100000);
    p2pi_block_give(&blocks, block, size);
    uint64_t calls = memory_calls();
    assert_ptr_equal(p2pi_block_take(&blocks, &again), block);
    assert_int_equal(again, 100000);
    assert_int_equal(memory_calls(), calls);
    p2pi_block_give(&blocks, block, again);
    p2pi_blocks_fini(&blocks);
}

/* Across the border of a class, too: 65536 begins one. */
static void a_block_is_never_shorter_nor_much_longer_than_asked_for(void **state) {
    (void)state;
    static const size_t kept[] = { 65535, 65536, 80000, 512 };
    static const size_t asked[] = { 65536, 65535, 60000, 409 };
    static const bool used_again[] = { false, true, false, false };
    for (size_t i = 0; i < COUNT_OF(kept); i++) {
        p2pi_blocks blocks = { 0 };
        size_t size = kept[i], next = asked[i];
        p2pi_block_give(&blocks, p2pi_alloc(size), size);
        void *block = p2pi_block_take(&blocks, &next);
        assert_int_equal(next, used_again[i] ? kept[i] : asked[i]);
        p2pi_block_give(NULL, block, next);
        p2pi_blocks_fini(&blocks);
    }
}

static void what_is_kept_is_bounded(void **state) {
    (void)state;
    p2pi_blocks blocks = { 0 };
    const size_t size = 1u << 20;
    for (size_t i = 0; i < P2PI_SPARE_BYTES / size + 3; i++) p2pi_block_give(&blocks, p2pi_alloc(size), size);
    assert_int_equal(memory_in_use(), P2PI_SPARE_BYTES);
    p2pi_blocks_fini(&blocks);
    assert_int_equal(memory_in_use(), 0);
}

/* Of many sizes, one after the other: what is kept of the earlier ones makes room for the later ones. */
static void used_and_kept_together_are_no_more_than_were_used_at_a_time(void **state) {
    (void)state;
    p2pi_blocks blocks = { 0 };
    for (size_t size = 1000; size <= 200000; size += 3000) {
        size_t first = size, second = size;
        void *a = p2pi_block_take(&blocks, &first), *b = p2pi_block_take(&blocks, &second);
        assert_in_range(memory_in_use(), first + second, 2 * size + size / 2 + P2PI_SPARE_FEW);
        p2pi_block_give(&blocks, a, first);
        p2pi_block_give(&blocks, b, second);
    }
    for (size_t size = 199000; size > 3000; size -= 3000) {
        size_t small = size;
        p2pi_block_give(&blocks, p2pi_block_take(&blocks, &small), small);
        assert_in_range(memory_in_use(), 1, 2 * 200000 + 200000 / 2 + P2PI_SPARE_FEW);
    }
    p2pi_blocks_fini(&blocks);
}

static void short_blocks_of_two_lengths_are_both_kept(void **state) {
    (void)state;
    p2pi_blocks blocks = { 0 };
    size_t sizes[] = { 528, 4020 };
    for (size_t i = 0; i < COUNT_OF(sizes); i++) p2pi_block_give(&blocks, p2pi_alloc(sizes[i]), sizes[i]);
    uint64_t calls = memory_calls();
    for (size_t round = 0; round < 10; round++) {
        for (size_t i = 0; i < COUNT_OF(sizes); i++) {
            size_t size = sizes[i];
            p2pi_block_give(&blocks, p2pi_block_take(&blocks, &size), size);
        }
    }
    assert_int_equal(memory_calls(), calls);
    p2pi_blocks_fini(&blocks);
}

/* And a third one that is not there does not push them out. */
static void a_short_block_that_is_new_pushes_no_other_out(void **state) {
    (void)state;
    p2pi_blocks blocks = { 0 };
    size_t kept = 4020, fresh = 528;
    p2pi_block_give(&blocks, p2pi_alloc(kept), kept);
    void *block = p2pi_block_take(&blocks, &fresh);
    assert_int_equal(blocks.held, 4020);
    p2pi_block_give(&blocks, block, fresh);
    p2pi_blocks_fini(&blocks);
}

static void a_block_beyond_all_classes_is_not_kept(void **state) {
    (void)state;
    p2pi_blocks blocks = { 0 };
    size_t size = (size_t)1 << P2PI_BLOCK_CLASSES;
    void *block = p2pi_block_take(&blocks, &size);
    assert_non_null(block);
    p2pi_block_give(&blocks, block, size);
    assert_int_equal(memory_in_use(), 0);
}

static void without_memory_there_is_none(void **state) {
    (void)state;
    p2pi_blocks blocks = { 0 };
    size_t size = 4096;
    memory_fail(1, true);
    assert_null(p2pi_block_take(&blocks, &size));
    memory_fail(0, false);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        CASE(a_block_given_back_is_the_next_one_taken),
        CASE(a_block_is_never_shorter_nor_much_longer_than_asked_for),
        CASE(what_is_kept_is_bounded),
        CASE(used_and_kept_together_are_no_more_than_were_used_at_a_time),
        CASE(short_blocks_of_two_lengths_are_both_kept),
        CASE(a_short_block_that_is_new_pushes_no_other_out),
        CASE(a_block_beyond_all_classes_is_not_kept),
        CASE(without_memory_there_is_none),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
