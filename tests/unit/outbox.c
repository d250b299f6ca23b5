/* The queue of bytes to be sent (core/outbox.h): what is counted, gathered and consumed. */
#include "fixture.h"

#include "internal.h"

/* A queue with every kind of chunk: small frames that share one, empty ones, a long one, shared messages. */
typedef struct sample {
    p2pi_outbox box;
    p2pi_chunk_pool pool;
    p2p_message_t *shared;
    uint8_t flat[16384]; /* the bytes that are to come out */
    size_t length;
} sample;

static size_t chunk_count(const p2pi_outbox *box) {
    size_t count = 0;
    for (const p2pi_chunk *chunk = box->first; chunk != NULL; chunk = chunk->next) count++;
    return count;
}

static void add_copy(sample *s, const void *data, uint32_t length) {
    assert_int_equal(p2pi_outbox_copy(&s->box, &s->pool, data, length), 0);
    s->length += raw_frame(s->flat + s->length, data, length);
}

static void add_shared(sample *s) {
    assert_int_equal(p2pi_outbox_refer(&s->box, p2pi_message_of(s->shared)), 0);
    s->length += raw_frame(s->flat + s->length, s->shared->data, s->shared->length);
}

static void fill(sample *s) {
    uint8_t data[3000];
    memset(s, 0, sizeof *s);
    raw_fill(data, sizeof data, 7);
    s->shared = p2p_message_create(data, 1500);
    assert_non_null(s->shared);
    add_copy(s, "first", 5);
    add_copy(s, NULL, 0);
    add_copy(s, data, 3000); /* longer than an ordinary chunk */
    add_copy(s, "after", 5);
    add_shared(s);
    add_copy(s, data, 1);
    add_shared(s);
    add_copy(s, NULL, 0);
}

static void drop(sample *s) {
    p2pi_outbox_clear(&s->box, &s->pool);
    assert_int_equal(s->box.queued, 0);
    assert_null(s->box.last);
    p2pi_chunk_pool_fini(&s->pool);
    p2p_message_free(s->shared);
}

/* Of all chunks, but not the room left in the last one. */
static size_t memory_of(const p2pi_outbox *box) {
    size_t bytes = 0;
    for (const p2pi_chunk *chunk = box->first; chunk != NULL; chunk = chunk->next)
        bytes += sizeof *chunk + (chunk->next != NULL ? chunk->capacity : chunk->tail);
    return bytes;
}

/* What a gathered write would send, checked piece by piece. */
static void expect_rest(const sample *s, size_t consumed) {
    p2p_iov iov[32];
    uint32_t count = p2pi_outbox_gather(&s->box, iov, COUNT_OF(iov));
    size_t at = consumed;
    for (uint32_t i = 0; i < count; i++) {
        assert_true(iov[i].len > 0);
        assert_memory_equal(iov[i].base, s->flat + at, iov[i].len);
        at += iov[i].len;
    }
    assert_int_equal(at, s->length);
    assert_int_equal(s->box.queued, memory_of(&s->box));
}

static void every_split_leaves_the_right_rest(void **state) {
    (void)state;
    sample s;
    fill(&s);
    size_t total = s.length;
    drop(&s);
    for (size_t split = 0; split <= total; split++) {
        fill(&s);
        expect_rest(&s, 0);
        p2pi_outbox_consume(&s.box, &s.pool, split);
        expect_rest(&s, split);
        p2pi_outbox_consume(&s.box, &s.pool, total - split);
        expect_rest(&s, total);
        assert_null(s.box.first);
        drop(&s);
    }
}

static void it_can_leave_byte_by_byte(void **state) {
    (void)state;
    sample s;
    fill(&s);
    for (size_t consumed = 0; consumed < s.length; consumed++) {
        expect_rest(&s, consumed);
        p2pi_outbox_consume(&s.box, &s.pool, 1);
    }
    assert_int_equal(s.box.queued, 0);
    drop(&s);
}

static void frames_added_behind_a_partly_sent_one_follow_it(void **state) {
    (void)state;
    sample s = { 0 };
    add_copy(&s, "one", 3);
    p2pi_outbox_consume(&s.box, &s.pool, 5);
    add_copy(&s, "two", 3);
    expect_rest(&s, 5);
    assert_int_equal(chunk_count(&s.box), 1); /* small frames share a chunk */
    drop(&s);
}

static void gather_gives_no_more_pieces_than_asked_for(void **state) {
    (void)state;
    sample s;
    fill(&s);
    p2p_iov iov[32];
    uint32_t all = p2pi_outbox_gather(&s.box, iov, COUNT_OF(iov));
    assert_int_equal(all, chunk_count(&s.box));
    for (uint32_t max = 0; max <= all; max++) assert_int_equal(p2pi_outbox_gather(&s.box, iov, max), max);
    drop(&s);
}

static void a_shared_message_is_referred_to_and_freed_once(void **state) {
    (void)state;
    static uint8_t data[60000];
    p2p_message_t *message = p2p_message_create(data, sizeof data);
    p2pi_message *inside = p2pi_message_of(message);
    p2pi_outbox boxes[3] = { 0 };
    size_t before = memory_in_use();
    for (size_t i = 0; i < COUNT_OF(boxes); i++) assert_int_equal(p2pi_outbox_refer(&boxes[i], inside), 0);
    assert_int_equal(memory_in_use() - before, COUNT_OF(boxes) * sizeof(p2pi_chunk));
    assert_int_equal(boxes[0].queued, sizeof(p2pi_chunk) + P2P_FRAME_HEADER_SIZE + sizeof data); /* each owes it all */
    p2p_iov iov[2];
    assert_int_equal(p2pi_outbox_gather(&boxes[1], iov, 2), 1); /* header and payload are one piece */
    assert_ptr_equal(iov[0].base, inside->header);
    assert_int_equal(atomic_load(&inside->references), 4);
    p2p_message_free(message);
    p2pi_outbox_consume(&boxes[0], NULL, sizeof data); /* all but the last four bytes: still needed */
    assert_int_equal(atomic_load(&inside->references), 3);
    p2pi_outbox_consume(&boxes[0], NULL, P2P_FRAME_HEADER_SIZE);
    assert_int_equal(atomic_load(&inside->references), 2);
    p2pi_outbox_clear(&boxes[1], NULL);
    assert_int_equal(atomic_load(&inside->references), 1);
    p2pi_outbox_clear(&boxes[2], NULL);
    assert_int_equal(memory_in_use(), 0);
}

static void chunks_are_used_again(void **state) {
    (void)state;
    sample s = { 0 };
    add_copy(&s, "warm up", 7);
    p2pi_outbox_consume(&s.box, &s.pool, 11);
    assert_int_equal(s.pool.count, 1);
    uint64_t calls = memory_calls();
    for (int i = 0; i < 100; i++) {
        assert_int_equal(p2pi_outbox_copy(&s.box, &s.pool, "again", 5), 0);
        p2pi_outbox_consume(&s.box, &s.pool, 9);
    }
    assert_int_equal(memory_calls(), calls);
    drop(&s);
}

static void a_pool_keeps_a_limited_number(void **state) {
    (void)state;
    static const uint8_t data[1500];
    sample s = { 0 };
    for (int i = 0; i < 400; i++) assert_int_equal(p2pi_outbox_copy(&s.box, &s.pool, data, sizeof data), 0);
    p2pi_outbox_consume(&s.box, &s.pool, 400 * (sizeof data + P2P_FRAME_HEADER_SIZE));
    assert_int_equal(s.pool.count, P2PI_CHUNK_SPARES);
    assert_int_equal(s.box.queued, 0);
    drop(&s);
}

/* A long frame's chunk is too large to be kept for small ones. */
static void a_chunk_of_its_own_size_is_kept_for_the_next_like_it(void **state) {
    (void)state;
    static const uint8_t data[50000];
    sample s = { 0 };
    assert_int_equal(p2pi_outbox_copy(&s.box, &s.pool, data, sizeof data), 0);
    p2pi_outbox_consume(&s.box, &s.pool, sizeof data + P2P_FRAME_HEADER_SIZE);
    uint64_t calls = memory_calls();
    assert_int_equal(p2pi_outbox_copy(&s.box, &s.pool, data, sizeof data - 5000), 0);
    assert_int_equal(s.box.first->capacity, sizeof data - 5000 + P2P_FRAME_HEADER_SIZE); /* as if it were new */
    assert_int_equal(memory_calls(), calls);
    drop(&s);
    assert_int_equal(memory_in_use(), 0);
}

static void without_memory_nothing_is_queued(void **state) {
    (void)state;
    static const uint8_t data[5000];
    sample s = { 0 };
    add_copy(&s, "before", 6);
    p2p_message_t *message = p2p_message_create(data, 2000);
    size_t queued = s.box.queued;
    memory_fail(1, true);
    assert_int_equal(p2pi_outbox_copy(&s.box, &s.pool, data, sizeof data), P2P_ERR_NO_MEMORY);
    assert_int_equal(p2pi_outbox_refer(&s.box, p2pi_message_of(message)), P2P_ERR_NO_MEMORY);
    memory_fail(0, false);
    assert_int_equal(s.box.queued, queued);
    assert_int_equal(atomic_load(&p2pi_message_of(message)->references), 1);
    expect_rest(&s, 0);
    p2p_message_free(message);
    drop(&s);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        CASE(every_split_leaves_the_right_rest),
        CASE(it_can_leave_byte_by_byte),
        CASE(frames_added_behind_a_partly_sent_one_follow_it),
        CASE(gather_gives_no_more_pieces_than_asked_for),
        CASE(a_shared_message_is_referred_to_and_freed_once),
        CASE(chunks_are_used_again),
        CASE(a_pool_keeps_a_limited_number),
        CASE(a_chunk_of_its_own_size_is_kept_for_the_next_like_it),
        CASE(without_memory_nothing_is_queued),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
