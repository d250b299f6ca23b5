/* Slots, tokens and generations (core/registry.c), and when a slot is free again. */
#include "mock_backend.h"

static int owner; /* an entry only needs to have one */

static p2pi_entry *add(p2p_event_loop_t *loop) {
    p2pi_entry *entry = p2pi_registry_add(loop, P2PI_WATCH, &owner);
    assert_non_null(entry);
    return entry;
}

static p2pi_entry *add_attached(p2p_event_loop_t *loop) {
    p2pi_entry *entry = add(loop);
    assert_int_equal(p2pi_entry_attach(entry, fake_handle(P2P_SYS_STREAM), P2P_IO_FOREIGN), 0);
    return entry;
}

static uint32_t slot_of(uint64_t token) {
    return (uint32_t)token;
}

static uint32_t generation_of(uint64_t token) {
    return (uint32_t)(token >> 32);
}

static void a_token_finds_its_entry_until_it_is_removed(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2pi_entry *entry = add(loop);
    uint64_t token = entry->io.token;
    assert_true(token != 0);
    assert_ptr_equal(p2pi_registry_find(&loop->registry, token), entry);
    assert_null(p2pi_registry_find(&loop->registry, 0));
    assert_null(p2pi_registry_find(&loop->registry, token + 1));            /* a free slot */
    assert_null(p2pi_registry_find(&loop->registry, token | 0x7FFFFFFF));   /* no slot */
    assert_null(p2pi_registry_find(&loop->registry, token + (1ull << 32))); /* not yet */
    p2pi_registry_remove(entry);
    assert_null(p2pi_registry_find(&loop->registry, token));
    p2p_event_loop_free(loop);
}

static void a_slot_that_is_used_again_has_a_new_generation(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    uint64_t before = 0;
    for (int i = 0; i < 1000; i++) {
        p2pi_entry *entry = add(loop);
        uint64_t token = entry->io.token;
        if (i > 0) {
            assert_int_equal(slot_of(token), slot_of(before));
            assert_int_equal(generation_of(token), generation_of(before) + 1);
            assert_null(p2pi_registry_find(&loop->registry, before));
        }
        before = token;
        p2pi_registry_remove(entry);
    }
    assert_int_equal(loop->registry.size, P2PI_ENTRIES_PER_CHUNK);
    p2p_event_loop_free(loop);
}

static void the_generation_wraps_without_a_token_of_zero(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2pi_entry *entry = add(loop);
    assert_int_equal(slot_of(entry->io.token), 0); /* whose token would be 0 */
    entry->io.token = (uint64_t)UINT32_MAX << 32;
    p2pi_registry_remove(entry);
    entry = add(loop);
    assert_int_equal(slot_of(entry->io.token), 0);
    assert_int_equal(generation_of(entry->io.token), 1);
    p2pi_registry_remove(entry);
    p2p_event_loop_free(loop);
}

static void it_grows_and_nothing_moves(void **state) {
    (void)state;
    enum { COUNT = 64 * 40 + 3 };
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    static p2pi_entry *entries[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        entries[i] = add(loop);
        memset(entries[i]->io.state, 0xEE, mock_ops(0)->io_state_size); /* neighbours must not notice */
    }
    for (size_t i = 0; i < COUNT; i++) {
        assert_ptr_equal(p2pi_registry_find(&loop->registry, entries[i]->io.token), entries[i]);
        assert_int_equal((uintptr_t)entries[i]->io.state % _Alignof(uint32_t), 0);
        assert_ptr_equal(entries[i]->owner, &owner);
    }
    for (size_t i = 0; i < COUNT; i++) p2pi_registry_remove(entries[i]);
    size_t size = loop->registry.size;
    for (size_t i = 0; i < COUNT; i++) entries[i] = add(loop);
    assert_int_equal(loop->registry.size, size);
    for (size_t i = 0; i < COUNT; i++) p2pi_registry_remove(entries[i]);
    p2p_event_loop_free(loop);
}

/* A type's size is a multiple of its alignment: what a state of `size` bytes can need at most. */
static size_t alignment_of(size_t size) {
    size_t alignment = _Alignof(max_align_t);
    while (size % alignment != 0) alignment /= 2;
    return alignment;
}

static void a_state_of_any_size_is_aligned_and_has_its_room(void **state) {
    (void)state;
    for (size_t size = 0; size <= 256; size++) {
        p2pi_registry registry;
        p2pi_registry_init(&registry, size);
        assert_int_equal(registry.state_offset % alignment_of(size), 0);
        assert_int_equal(registry.stride % alignment_of(size), 0);
        assert_int_equal(registry.stride % _Alignof(p2pi_entry), 0);
        assert_true(registry.state_offset > offsetof(p2pi_entry, held));
        assert_true(registry.stride >= sizeof(p2pi_entry) && registry.stride - registry.state_offset >= size);
    }
}

/* The goal is 200 bytes of private memory an idle connection; the allocator's own come to these, and a slot number. */
static void an_idle_connection_costs_a_socket_and_an_entry_of_184_bytes(void **state) {
    (void)state;
    if (sizeof(void *) != 8 || sizeof(p2p_handle_t) != 4) skip();
    p2pi_registry registry;
    p2pi_registry_init(&registry, sizeof(uint32_t)); /* epoll's state */
    assert_true(sizeof(p2p_socket_t) + registry.stride <= 184);
}

static void growing_without_memory_leaves_it_as_it_was(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    static p2pi_entry *entries[P2PI_ENTRIES_PER_CHUNK];
    for (size_t i = 0; i < COUNT_OF(entries); i++) entries[i] = add(loop);
    memory_fail(1, true);
    assert_null(p2pi_registry_add(loop, P2PI_WATCH, &owner));
    memory_fail(0, false);
    assert_int_equal(loop->registry.size, P2PI_ENTRIES_PER_CHUNK);
    p2pi_registry_remove(add(loop));
    for (size_t i = 0; i < COUNT_OF(entries); i++) p2pi_registry_remove(entries[i]);
    p2p_event_loop_free(loop);
}

static void a_used_slot_starts_clean(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2pi_entry *entry = add_attached(loop); /* the mock fills the state */
    p2pi_entry_want(entry, P2P_IN);
    assert_int_equal(p2pi_entry_apply(entry), 0);
    p2pi_entry_detach(entry, true);
    mock_turn(loop);
    p2pi_entry *next = add(loop);
    assert_ptr_equal(next, entry);
    assert_int_equal(next->held | next->wanted | next->flags, 0);
    assert_int_equal(next->io.handle, P2P_INVALID_HANDLE);
    assert_int_equal(*(unsigned char *)next->io.state, 0);
    p2pi_registry_remove(next);
    p2p_event_loop_free(loop);
}

/* The dirty list is linked through the entry, so the slot can't be given away before that list is worked off. */
static void a_dirty_entry_is_free_only_after_the_flush(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2pi_entry *entry = add_attached(loop);
    uint64_t token = entry->io.token;
    p2pi_entry_want(entry, P2P_IN);
    p2pi_entry_detach(entry, true);
    assert_null(p2pi_registry_find(&loop->registry, token));
    p2pi_entry *other = add_attached(loop);
    assert_ptr_not_equal(other, entry);
    EXPECT_JOURNAL("attach(0) detach(0) close(0) attach(1)");
    mock_turn(loop);
    EXPECT_JOURNAL("bind_thread wait(0)"); /* and the backend heard nothing of the entry that is gone */
    p2pi_entry *reused = add(loop);
    assert_ptr_equal(reused, entry);
    assert_int_equal(generation_of(reused->io.token), generation_of(token) + 1);
    p2pi_registry_remove(reused);
    p2pi_entry_detach(other, true);
    p2p_event_loop_free(loop);
}

static void a_deferred_entry_is_free_after_both_flush_and_DETACHED(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    mock.defer_detach = true;
    for (int flush_first = 0; flush_first < 2; flush_first++) {
        p2pi_entry *entry = add_attached(loop);
        uint64_t token = entry->io.token;
        p2pi_entry_want(entry, P2P_OUT);
        p2pi_entry_detach(entry, true);
        if (flush_first) mock_turn(loop);
        p2pi_entry *other = add(loop);
        assert_ptr_not_equal(other, entry);
        p2pi_registry_remove(other);
        assert_int_equal(fake_open_count(), 1);
        p2pi_entry_detached(&loop->registry, token);
        assert_int_equal(fake_open_count(), 0);
        p2pi_entry_detached(&loop->registry, token); /* a second one does nothing */
        mock_turn(loop);
        other = add(loop);
        assert_ptr_equal(other, entry);
        assert_true(other->io.token != token);
        p2pi_registry_remove(other);
    }
    p2p_event_loop_free(loop);
}

static void interest_that_came_and_went_is_never_told(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2pi_entry *entry = add_attached(loop);
    p2pi_entry_want(entry, P2P_IN);
    assert_int_equal(p2pi_entry_apply(entry), 0);
    EXPECT_JOURNAL("attach(0) interest(0,0>1)");
    mock_turn(loop);
    journal_take();
    p2pi_entry_want(entry, P2P_IN | P2P_OUT);
    p2pi_entry_want(entry, P2P_OUT);
    p2pi_entry_want(entry, P2P_IN);
    mock_turn(loop);
    EXPECT_JOURNAL("wait(0)");
    p2pi_entry_want(entry, P2P_OUT);
    p2pi_entry_want(entry, P2P_IN | P2P_OUT);
    p2pi_entry_want(entry, 0);
    mock_turn(loop);
    EXPECT_JOURNAL("interest(0,1>0) wait(0)");
    p2pi_entry_detach(entry, true);
    p2p_event_loop_free(loop);
}

static void renewing_gives_the_owner_another_token(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2pi_entry *entry = add_attached(loop);
    uint64_t token = entry->io.token;
    entry = p2pi_entry_renew(entry, true);
    assert_non_null(entry);
    assert_true(entry->io.token != token);
    assert_ptr_equal(entry->owner, &owner);
    assert_int_equal(entry->kind, P2PI_FRESH);
    assert_null(p2pi_registry_find(&loop->registry, token));
    EXPECT_JOURNAL("attach(0) detach(0) close(0)");
    p2pi_registry_remove(entry);
    p2p_event_loop_free(loop);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        MOCK_CASE(a_token_finds_its_entry_until_it_is_removed),
        MOCK_CASE(a_slot_that_is_used_again_has_a_new_generation),
        MOCK_CASE(the_generation_wraps_without_a_token_of_zero),
        MOCK_CASE(it_grows_and_nothing_moves),
        MOCK_CASE(a_state_of_any_size_is_aligned_and_has_its_room),
        MOCK_CASE(an_idle_connection_costs_a_socket_and_an_entry_of_184_bytes),
        MOCK_CASE(growing_without_memory_leaves_it_as_it_was),
        MOCK_CASE(a_used_slot_starts_clean),
        MOCK_CASE(a_dirty_entry_is_free_only_after_the_flush),
        MOCK_CASE(a_deferred_entry_is_free_after_both_flush_and_DETACHED),
        MOCK_CASE(interest_that_came_and_went_is_never_told),
        MOCK_CASE(renewing_gives_the_owner_another_token),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
