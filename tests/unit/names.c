/*
 * Connecting by name (core/resolver.c, core/connect.c): the resolver is a list, a thread runs when the case says so,
 * the clock moves when told to, and each attempt to connect is a fake socket.
 */
#include "mock_backend.h"

#include "resolver.h"

#define NS_PER_MS 1000000ll
#define THREADS_MAX 32

static struct {
    const char *addresses[P2PI_ADDRESSES_MAX + 1]; /* what each name has; none: it is not found */
    const char *tried[P2PI_ADDRESSES_MAX];         /* in the order of trying */
    unsigned tried_count;
    p2p_handle_t handles[P2PI_ADDRESSES_MAX];
    p2p_sys_thread *threads[THREADS_MAX]; /* started and not run yet, oldest first */
    unsigned thread_count, threads_started;
    unsigned thread_fails;   /* the nth start from now */
    const char *unknown;     /* addresses with this in them are of a family that the machine lacks */
    const char *local;       /* of every handle */
    unsigned rests;
} world;

static struct {
    unsigned answers, closes, errors;
    int error;
} told;

static int made_up_resolve(const char *name, uint16_t port, p2p_socket_type_t type, p2p_address_t *out,
                           uint32_t capacity) {
    (void)name, (void)type;
    uint32_t count = 0;
    for (; world.addresses[count] != NULL && count < capacity; count++)
        assert_int_equal(p2p_address_parse(&out[count], world.addresses[count], port), 0);
    return count == 0 ? P2P_ERR_NAME_NOT_FOUND : (int)count;
}

static int made_up_start(p2p_sys_thread *thread) {
    if (world.thread_fails > 0 && --world.thread_fails == 0) return -os_number(ENOMEM);
    assert_in_range(world.thread_count, 0, THREADS_MAX - 1);
    world.threads[world.thread_count++] = thread;
    world.threads_started++;
    return 0;
}

static void run_thread(void) {
    assert_true(world.thread_count > 0);
    p2p_sys_thread *first = world.threads[0];
    memmove(world.threads, world.threads + 1, --world.thread_count * sizeof *world.threads);
    first->run(first);
}

static void made_up_rest(void) {
    world.rests++;
    run_thread();
}

static const char *listed(const p2p_address_t *address) {
    p2p_address_t each;
    for (int i = 0; world.addresses[i] != NULL; i++) {
        p2p_address_parse(&each, world.addresses[i], (uint16_t)p2p_address_port(address));
        if (memcmp(&each, address, sizeof each) == 0) return world.addresses[i];
    }
    fail();
    return NULL;
}

static int made_up_open(p2p_handle_t *out, const p2p_address_t *family_of, p2p_socket_type_t type) {
    if (world.unknown != NULL && strstr(listed(family_of), world.unknown) != NULL) return -os_number(EAFNOSUPPORT);
    return fake_sys()->open(out, family_of, type);
}

static int (*fake_connect)(p2p_handle_t handle, const p2p_address_t *address);
static int (*fake_peer_address)(p2p_handle_t handle, p2p_address_t *out);

static int made_up_connect(p2p_handle_t handle, const p2p_address_t *address) {
    world.handles[world.tried_count] = handle;
    world.tried[world.tried_count++] = listed(address);
    return fake_connect(handle, address);
}

static int made_up_local_address(p2p_handle_t handle, p2p_address_t *out) {
    (void)handle;
    return p2p_sys_default()->address_parse(out, world.local, 80);
}

static int made_up_peer_address(p2p_handle_t handle, p2p_address_t *out) {
    int result = fake_peer_address(handle, out);
    return result < 0 ? result : p2p_sys_default()->address_parse(out, world.tried[0], 80);
}

static p2p_sys_ops table;

static int setup(void **state) {
    assert_int_equal(mock_setup(state), 0);
    p2p_cleanup();
    memset(&world, 0, sizeof world);
    memset(&told, 0, sizeof told);
    world.local = "198.51.100.7";
    table = *fake_sys();
    fake_connect = table.connect;
    fake_peer_address = table.peer_address;
    table.resolve = made_up_resolve;
    table.thread_start = made_up_start;
    table.thread_rest = made_up_rest;
    table.open = made_up_open;
    table.connect = made_up_connect;
    table.local_address = made_up_local_address;
    table.peer_address = made_up_peer_address;
    return fixture_start(&table, NULL);
}

#define NAMES_CASE(function) cmocka_unit_test_setup_teardown(function, setup, mock_teardown)

/* ---- a socket that connects ---- */

static void on_connect(p2p_socket_t *sock, int error, void *user_data) {
    (void)sock, (void)user_data;
    told.answers++;
    told.error = error;
}

static void on_error(p2p_socket_t *sock, int error, void *user_data) {
    (void)sock, (void)error, (void)user_data;
    told.errors++;
}

static void on_close(p2p_socket_t *sock, int reason, void *user_data) {
    (void)sock, (void)reason, (void)user_data;
    told.closes++;
}

static const p2p_socket_callbacks_t callbacks = {
    .size = sizeof callbacks, .on_error = on_error, .on_connect = on_connect, .on_close = on_close
};

static void has(const char *first, const char *second, const char *third, const char *fourth) {
    const char *all[] = { first, second, third, fourth, NULL };
    memcpy(world.addresses, all, sizeof all);
}

static p2p_socket_t *add_fresh(p2p_event_loop_t *loop, p2p_socket_type_t type) {
    p2p_socket_t *sock = p2p_socket_create(type);
    assert_non_null(sock);
    assert_int_equal(p2p_event_loop_add_socket_with(loop, sock, &callbacks, NULL), 0);
    return sock;
}

static p2p_socket_t *connecting(p2p_event_loop_t *loop) {
    p2p_socket_t *sock = add_fresh(loop, P2P_TCP);
    assert_int_equal(p2p_socket_connect(sock, "peer.example", 80), 0);
    return sock;
}

/* The same, when the addresses are known and the first is being tried. */
static p2p_socket_t *trying(p2p_event_loop_t *loop) {
    p2p_socket_t *sock = connecting(loop);
    run_thread();
    mock_turn(loop);
    return sock;
}

static void turns(p2p_event_loop_t *loop) {
    for (int i = 0; i < 4; i++) mock_turn(loop);
}

static void connects(p2p_event_loop_t *loop, unsigned attempt) {
    fake_at(world.handles[attempt])->connected = true;
    mock_ready(world.handles[attempt], P2P_OUT);
    turns(loop);
}

static void fails(p2p_event_loop_t *loop, unsigned attempt, int error) {
    fake_at(world.handles[attempt])->connect_result = error;
    mock_ready(world.handles[attempt], P2P_OUT | P2P_ERR);
    turns(loop);
}

static void passes(p2p_event_loop_t *loop, int64_t time_ns) {
    fake_clock_ns += time_ns;
    mock_turn(loop);
}

static void end(p2p_event_loop_t *loop, p2p_socket_t *sock) {
    p2p_socket_close(sock);
    p2p_event_loop_free(loop);
}

static void expect_error(int given, int expected) {
    assert_string_equal(p2p_error_name(given), p2p_error_name(expected));
}

/* ---- names ---- */

static void host_names_are_told_from_addresses_and_nonsense(void **state) {
    (void)state;
    static const char *const names[] = { "a", "example.org", "example.org.", "3com.com", "a-b.c_d", "_srv.x",
                                         "1.2.3.4a", "0x.org", "x1", "xn--bcher-kva.example", "LOCALHOST",
                                         "a.b.c.d.e" };
    static const char *const others[] = { "", ".", "..", "a..b", ".a", "a..", "-a", "a-", "a.-b", "a b", "a/b", "a:1",
                                          "::1", "[::1]", "1", "1.2.3", "999.1.1.1", "1.2.3.4", "1.2.3.4.", "127.1",
                                          "0x7f000001", "0x7f.1", "a.0x1", ("b\xc3\xbc" "cher.example"),
                                          "a%eth0", "a\n",
                                          "unix:x" };
    char label[80];
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (!p2pi_is_host_name(names[i])) fail_msg("%s", names[i]);
    for (size_t i = 0; i < COUNT_OF(others); i++)
        if (p2pi_is_host_name(others[i])) fail_msg("%s", others[i]);
    memset(label, 'a', sizeof label);
    label[63] = '\0';
    assert_true(p2pi_is_host_name(label));
    label[63] = 'a', label[64] = '\0';
    assert_false(p2pi_is_host_name(label));
}

static void a_host_name_has_at_most_253_characters(void **state) {
    (void)state;
    char name[300];
    for (size_t i = 0; i < sizeof name; i++) name[i] = i % 50 == 49 ? '.' : 'a';
    name[253] = '\0';
    assert_true(p2pi_is_host_name(name));
    name[253] = 'a', name[254] = '\0';
    assert_false(p2pi_is_host_name(name));
    name[253] = '.';
    assert_true(p2pi_is_host_name(name)); /* the dot at the end is not counted */
}

static void a_name_is_no_address_to_bind_to(void **state) {
    (void)state;
    p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
    expect_error(p2p_socket_bind(sock, "peer.example", 80), P2P_ERR_BAD_ADDRESS);
    p2p_socket_close(sock);
}

static void families_alternate_beginning_with_the_first(void **state) {
    (void)state;
    static const char *const given[] = { "::1", "::2", "::3", "10.0.0.1", "10.0.0.2", "::4", "10.0.0.3", "::5" };
    static const char *const wanted[] = { "::1", "10.0.0.1", "::2", "10.0.0.2", "::3", "10.0.0.3", "::4", "::5" };
    p2p_address_t addresses[COUNT_OF(given)], expected;
    for (size_t i = 0; i < COUNT_OF(given); i++) p2p_address_parse(&addresses[i], given[i], 1);
    p2pi_connect_interleave(addresses, COUNT_OF(given));
    for (size_t i = 0; i < COUNT_OF(given); i++) {
        p2p_address_parse(&expected, wanted[i], 1);
        assert_memory_equal(&addresses[i], &expected, sizeof expected);
    }
    p2pi_connect_interleave(addresses, 0);
    p2pi_connect_interleave(addresses, 1);
}

/* ---- one after the other ---- */

static void nothing_is_tried_before_the_addresses_are_known(void **state) {
    (void)state;
    has("192.0.2.1", NULL, NULL, NULL);
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = connecting(loop);
    passes(loop, 5000 * NS_PER_MS);
    assert_int_equal(world.tried_count + told.answers, 0);
    run_thread();
    mock_turn(loop);
    assert_int_equal(world.tried_count, 1);
    end(loop, sock);
}

static void the_next_address_is_tried_a_quarter_of_a_second_later(void **state) {
    (void)state;
    has("2001:db8::1", "2001:db8::2", "192.0.2.1", NULL);
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = trying(loop);
    assert_string_equal(world.tried[0], "2001:db8::1");
    passes(loop, 250 * NS_PER_MS - 1);
    assert_int_equal(world.tried_count, 1);
    passes(loop, 1);
    assert_int_equal(world.tried_count, 2);
    assert_string_equal(world.tried[1], "192.0.2.1");
    passes(loop, 250 * NS_PER_MS - 1);
    assert_int_equal(world.tried_count, 2);
    passes(loop, 1);
    assert_int_equal(world.tried_count, 3);
    assert_string_equal(world.tried[2], "2001:db8::2");
    assert_true(p2p_event_loop_next_timeout(loop) > 1000); /* the system decides now, or the deadline */
    assert_int_equal(told.answers, 0);
    end(loop, sock);
}

static void an_address_that_fails_is_followed_by_the_next_at_once(void **state) {
    (void)state;
    has("2001:db8::1", "192.0.2.1", "192.0.2.2", NULL);
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = trying(loop);
    passes(loop, 100 * NS_PER_MS);
    fails(loop, 0, ECONNREFUSED);
    assert_int_equal(world.tried_count, 2);
    assert_false(fake_at(world.handles[0])->open);
    passes(loop, 250 * NS_PER_MS - 1); /* counted from then on */
    assert_int_equal(world.tried_count, 2);
    passes(loop, 1);
    assert_int_equal(world.tried_count, 3);
    end(loop, sock);
}

static void while_one_is_being_tried_the_failure_of_the_others_is_no_answer(void **state) {
    (void)state;
    has("2001:db8::1", "192.0.2.1", "192.0.2.2", NULL);
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = trying(loop);
    passes(loop, 250 * NS_PER_MS);
    fails(loop, 1, ECONNREFUSED);
    assert_int_equal(world.tried_count, 3);
    assert_true(p2p_event_loop_next_timeout(loop) > 1000); /* there is nothing more to begin */
    fails(loop, 2, ECONNREFUSED);
    assert_int_equal(told.answers, 0);
    connects(loop, 0);
    assert_int_equal(told.answers, 1);
    expect_error(told.error, 0);
    end(loop, sock);
}

static void addresses_that_fail_in_the_call_are_passed_over(void **state) {
    (void)state;
    has("2001:db8::1", "192.0.2.1", NULL, NULL);
    world.unknown = ":";
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = trying(loop);
    assert_int_equal(world.tried_count, 1);
    assert_string_equal(world.tried[0], "192.0.2.1");
    fails(loop, 0, ECONNREFUSED);
    assert_int_equal(told.answers, 1);
    expect_error(told.error, P2P_ERR_REFUSED); /* and not NOT_SUPPORTED */
    end(loop, sock);
}

static void all_addresses_are_tried_and_no_more_than_that(void **state) {
    (void)state;
    has("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4");
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = trying(loop);
    for (int i = 0; i < 8; i++) passes(loop, 250 * NS_PER_MS);
    assert_int_equal(world.tried_count, 4);
    assert_int_equal(fake_open_count(), 4);
    end(loop, sock);
}

/* ---- answers ---- */

static void the_first_to_connect_wins_and_the_others_are_reset(void **state) {
    (void)state;
    has("2001:db8::1", "192.0.2.1", "192.0.2.2", NULL);
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = trying(loop);
    passes(loop, 250 * NS_PER_MS);
    passes(loop, 250 * NS_PER_MS);
    connects(loop, 1);
    assert_int_equal(told.answers, 1);
    expect_error(told.error, 0);
    assert_true(p2p_socket_handle(sock) == world.handles[1]);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(fake_at(world.handles[i])->open, i == 1);
        assert_int_equal(fake_at(world.handles[i])->reset, i != 1);
    }
    passes(loop, 5000 * NS_PER_MS);
    assert_int_equal(world.tried_count, 3);
    assert_int_equal(told.answers + told.errors, 1);
    end(loop, sock);
}

static void of_two_that_connect_in_one_turn_one_wins(void **state) {
    (void)state;
    has("2001:db8::1", "192.0.2.1", NULL, NULL);
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = trying(loop);
    passes(loop, 250 * NS_PER_MS);
    fake_at(world.handles[1])->connected = true;
    mock_ready(world.handles[1], P2P_OUT);
    connects(loop, 0);
    assert_int_equal(told.answers, 1);
    assert_int_equal(fake_open_count(), 1);
    assert_true(fake_at(p2p_socket_handle(sock))->open);
    end(loop, sock);
}

static void on_any_backend_the_winner_sends_and_receives(void **state) {
    (void)state;
    static const uint32_t groups[] = { 0, MOCK_NATIVE };
    for (size_t i = 0; i < COUNT_OF(groups); i++) {
        assert_int_equal(mock_teardown(NULL) + setup(NULL), 0);
        has("2001:db8::1", NULL, NULL, NULL);
        p2p_event_loop_t *loop = mock_loop(groups[i], NULL);
        p2p_socket_t *sock = connecting(loop);
        assert_int_equal(p2p_message_send_data(sock, "one", 3), 0);
        run_thread();
        mock_turn(loop);
        assert_int_equal(p2p_message_send_data(sock, "two", 3), 0);
        if (groups[i] == 0) {
            connects(loop, 0);
            assert_int_equal(p2p_message_send_data(sock, "three", 5), 0);
            turns(loop);
            fake_socket *peer = fake_at(p2p_socket_handle(sock));
            assert_int_equal(peer->output_length, 23);
            assert_memory_equal(peer->output, "\0\0\0\3one\0\0\0\3two\0\0\0\5three", 23);
        } else {
            mock_complete(0);
            turns(loop);
            mock_complete(14);
            turns(loop);
            assert_int_equal(mock.sent_length, 14);
            assert_memory_equal(mock.sent, "\0\0\0\3one\0\0\0\3two", 14);
        }
        assert_int_equal(told.answers, 1);
        assert_int_equal(loop_stats(loop).messages_out, groups[i] == 0 ? 3 : 2);
        end(loop, sock);
    }
}

static void when_all_fail_the_first_ones_error_is_told_once(void **state) {
    (void)state;
    has("192.0.2.1", "192.0.2.2", NULL, NULL);
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = trying(loop);
    fails(loop, 0, ECONNREFUSED);
    assert_int_equal(told.answers, 0);
    fails(loop, 1, EHOSTUNREACH);
    assert_int_equal(told.answers, 1);
    expect_error(told.error, P2P_ERR_REFUSED);
    assert_int_equal(told.errors, 0);
    assert_int_equal(fake_open_count(), 0);
    assert_int_equal(p2p_socket_connect(sock, "peer.example", 80), 0); /* may be tried again */
    run_thread();
    turns(loop);
    connects(loop, 2);
    assert_int_equal(told.answers, 2);
    expect_error(told.error, 0);
    end(loop, sock);
}

static void a_name_without_addresses_is_told_as_not_found(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = connecting(loop);
    run_thread();
    turns(loop);
    assert_int_equal(told.answers, 1);
    expect_error(told.error, P2P_ERR_NAME_NOT_FOUND);
    end(loop, sock);
}

static void a_connection_to_itself_is_refused_and_reset(void **state) {
    (void)state;
    has("192.0.2.1", "192.0.2.2", NULL, NULL);
    world.local = "192.0.2.1";
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = trying(loop);
    connects(loop, 0);
    assert_false(fake_at(world.handles[0])->open);
    assert_true(fake_at(world.handles[0])->reset);
    assert_int_equal(world.tried_count, 2);
    fails(loop, 1, ETIMEDOUT);
    assert_int_equal(told.answers, 1);
    expect_error(told.error, P2P_ERR_REFUSED);
    end(loop, sock);
}

static void the_attempts_are_not_counted_as_sockets_or_callbacks(void **state) {
    (void)state;
    has("192.0.2.1", "192.0.2.2", NULL, NULL);
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = trying(loop);
    passes(loop, 250 * NS_PER_MS);
    assert_int_equal(world.tried_count, 2);
    assert_int_equal(p2p_event_loop_socket_count(loop), 1);
    fails(loop, 0, ECONNREFUSED);
    connects(loop, 1);
    p2p_event_loop_stats_t stats = loop_stats(loop);
    assert_int_equal(stats.callbacks, 1);
    assert_int_equal(stats.tasks_run, 0);
    assert_int_equal(stats.timers_fired, 0);
    assert_int_equal(p2p_event_loop_socket_count(loop), 1);
    end(loop, sock);
}

static void a_second_attempt_meanwhile_is_ALREADY(void **state) {
    (void)state;
    has("192.0.2.1", NULL, NULL, NULL);
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = connecting(loop), *udp = add_fresh(loop, P2P_UDP);
    expect_error(p2p_socket_connect(sock, "other.example", 80), P2P_ERR_ALREADY);
    assert_int_equal(p2p_socket_connect(udp, "peer.example", 80), 0);
    expect_error(p2p_socket_connect(udp, "192.0.2.1", 80), P2P_ERR_ALREADY);
    p2p_socket_close(udp);
    end(loop, sock);
    run_thread();
    run_thread();
}

/* ---- giving up ---- */

typedef enum stage { LOOKUP, TRYING, BOTH_TRYING, CONNECTED_UNTOLD, STAGES } stage;

static void go_on_to(p2p_event_loop_t *loop, stage where) {
    if (where >= TRYING) {
        run_thread();
        mock_turn(loop);
    }
    if (where >= BOTH_TRYING) passes(loop, 250 * NS_PER_MS);
    if (where >= CONNECTED_UNTOLD) {
        fake_at(world.handles[0])->connected = true;
        mock_ready(world.handles[0], P2P_OUT);
        mock_turn(loop);
    }
}

/* With a message queued. */
static p2p_socket_t *come_to(p2p_event_loop_t *loop, stage where) {
    p2p_socket_t *sock = connecting(loop);
    assert_int_equal(p2p_message_send_data(sock, "x", 1), 0);
    go_on_to(loop, where);
    return sock;
}

static void run_threads(p2p_event_loop_t *loop) {
    while (world.thread_count > 0) run_thread();
    turns(loop);
}

static void an_abort_at_any_time_ends_all_of_it(void **state) {
    (void)state;
    for (int where = 0; where < STAGES; where++) {
        assert_int_equal(mock_teardown(NULL) + setup(NULL), 0);
        has("192.0.2.1", "192.0.2.2", NULL, NULL);
        p2p_event_loop_t *loop = mock_loop(0, NULL);
        p2p_socket_t *sock = come_to(loop, (stage)where);
        p2p_socket_abort(sock);
        assert_int_equal(fake_open_count(), 0);
        run_threads(loop);
        passes(loop, 5000 * NS_PER_MS);
        assert_int_equal(told.answers, 0);
        assert_int_equal(told.closes, 1);
        assert_int_equal(fake_open_count(), 0);
        assert_int_equal(loop_stats(loop).lookups, 0);
        p2p_event_loop_free(loop);
    }
}

static void a_removed_socket_is_fresh_again_and_its_queue_empty(void **state) {
    (void)state;
    for (int where = 0; where < STAGES; where++) {
        assert_int_equal(mock_teardown(NULL) + setup(NULL), 0);
        has("192.0.2.1", "192.0.2.2", NULL, NULL);
        p2p_event_loop_t *loop = mock_loop(0, NULL);
        p2p_socket_t *sock = come_to(loop, (stage)where);
        assert_int_equal(p2p_event_loop_remove_socket(loop, sock), 0);
        assert_int_equal(fake_open_count(), 0);
        run_threads(loop);
        assert_int_equal(told.answers, 0);
        expect_error(p2p_message_send_data(sock, "y", 1), P2P_ERR_NOT_CONNECTED);
        assert_int_equal(p2p_event_loop_add_socket_with(loop, sock, &callbacks, NULL), 0);
        unsigned before = world.tried_count;
        assert_int_equal(p2p_socket_connect(sock, "peer.example", 80), 0);
        assert_int_equal(p2p_message_send_data(sock, "z", 1), 0);
        run_threads(loop);
        connects(loop, before);
        assert_int_equal(told.answers, 1);
        assert_int_equal(fake_at(p2p_socket_handle(sock))->output_length, 5);
        end(loop, sock);
    }
}

static void a_freed_loop_gives_the_socket_back_and_the_thread_frees_the_rest(void **state) {
    (void)state;
    for (int where = 0; where < STAGES; where++) {
        assert_int_equal(mock_teardown(NULL) + setup(NULL), 0);
        has("192.0.2.1", "192.0.2.2", NULL, NULL);
        p2p_event_loop_t *loop = mock_loop(0, NULL);
        p2p_socket_t *sock = come_to(loop, (stage)where);
        p2p_event_loop_free(loop);
        assert_int_equal(fake_open_count(), 0);
        assert_int_equal(told.answers + told.closes, 0);
        assert_int_equal(world.rests, 0); /* it was not waited for */
        p2p_socket_close(sock);
        if (where == LOOKUP) {
            assert_true(memory_in_use() > 0);
            run_thread();
        }
        assert_int_equal(memory_in_use(), 0);
    }
}

static void an_answer_that_was_posted_to_a_freed_loop_is_freed_with_it(void **state) {
    (void)state;
    has("192.0.2.1", NULL, NULL, NULL);
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = connecting(loop);
    run_thread();
    p2p_socket_close(sock);
    p2p_event_loop_free(loop);
    assert_int_equal(world.tried_count, 0);
}

static void closed_with_a_message_queued_it_still_connects_and_sends(void **state) {
    (void)state;
    has("192.0.2.1", "192.0.2.2", NULL, NULL);
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = connecting(loop);
    assert_int_equal(p2p_message_send_data(sock, "last", 4), 0);
    p2p_socket_close(sock);
    run_thread();
    mock_turn(loop);
    fails(loop, 0, ECONNREFUSED);
    connects(loop, 1);
    assert_int_equal(told.answers + told.closes, 0);
    assert_int_equal(fake_at(world.handles[1])->output_length, 8);
    assert_true(fake_at(world.handles[1])->shut);
    fake_at(world.handles[1])->input_end = true;
    mock_ready(world.handles[1], P2P_IN);
    turns(loop);
    assert_int_equal(told.answers, 0);
    assert_int_equal(told.closes, 1);
    p2p_event_loop_free(loop);
}

static void closed_with_a_message_queued_it_ends_when_nobody_can_be_reached(void **state) {
    (void)state;
    for (int found = 0; found < 2; found++) {
        assert_int_equal(mock_teardown(NULL) + setup(NULL), 0);
        if (found) has("192.0.2.1", NULL, NULL, NULL);
        p2p_event_loop_t *loop = mock_loop(0, NULL);
        p2p_socket_t *sock = connecting(loop);
        assert_int_equal(p2p_message_send_data(sock, "last", 4), 0);
        p2p_socket_close(sock);
        run_threads(loop);
        if (found) fails(loop, 0, ECONNREFUSED);
        assert_int_equal(told.answers, 0);
        assert_int_equal(told.closes, 1);
        p2p_event_loop_free(loop);
    }
}

static void closed_with_a_message_queued_it_ends_at_its_deadline(void **state) {
    (void)state;
    for (int where = 0; where < CONNECTED_UNTOLD; where++) {
        assert_int_equal(mock_teardown(NULL) + setup(NULL), 0);
        has("192.0.2.1", "192.0.2.2", NULL, NULL);
        p2p_event_loop_t *loop = mock_loop(0, NULL);
        p2p_socket_close(come_to(loop, (stage)where));
        passes(loop, 5000 * NS_PER_MS);
        assert_int_equal(told.closes, 1);
        assert_int_equal(fake_open_count(), 0);
        p2p_event_loop_free(loop);
        if (where == LOOKUP) run_thread();
    }
}

/* The private sockets may stand before or behind the user's in the registry. */
static void a_freed_loop_gives_no_attempt_to_anybody(void **state) {
    (void)state;
    for (int i = 0; i < 2 * STAGES; i++) {
        assert_int_equal(mock_teardown(NULL) + setup(NULL), 0);
        has("192.0.2.1", "192.0.2.2", NULL, NULL);
        p2p_event_loop_t *loop = mock_loop(0, NULL);
        p2p_socket_t *before[2] = { add_fresh(loop, P2P_TCP), add_fresh(loop, P2P_TCP) };
        p2p_socket_t *sock = connecting(loop);
        assert_int_equal(p2p_message_send_data(sock, "x", 1), 0);
        p2p_socket_close(before[0]);
        p2p_socket_close(before[1]);
        turns(loop);
        go_on_to(loop, (stage)(i / 2));
        bool closed = i % 2 == 1;
        if (closed) p2p_socket_close(sock);
        p2p_event_loop_free(loop);
        assert_int_equal(fake_open_count(), 0);
        if (!closed) p2p_socket_close(sock);
        while (world.thread_count > 0) run_thread();
        assert_int_equal(memory_in_use(), 0);
    }
}

/* ---- deadlines, and output that ends ---- */

static void the_deadline_is_for_the_lookup_and_all_attempts_together(void **state) {
    (void)state;
    for (int where = 0; where < CONNECTED_UNTOLD; where++) {
        assert_int_equal(mock_teardown(NULL) + setup(NULL), 0);
        has("192.0.2.1", "192.0.2.2", NULL, NULL);
        p2p_event_loop_t *loop = mock_loop(0, NULL);
        p2p_socket_t *sock = come_to(loop, (stage)where);
        assert_int_equal(p2p_socket_set_timeout(sock, P2P_DEADLINE_CONNECT, 1000), 0); /* counts anew */
        passes(loop, 1000 * NS_PER_MS - 1);
        turns(loop);
        assert_int_equal(told.answers, 0);
        passes(loop, 1);
        turns(loop);
        assert_int_equal(told.answers, 1);
        expect_error(told.error, P2P_ERR_TIMED_OUT);
        assert_int_equal(p2p_socket_timed_out(sock), P2P_DEADLINE_CONNECT);
        assert_int_equal(fake_open_count(), 0);
        unsigned tried = world.tried_count;
        run_threads(loop);
        assert_int_equal(world.tried_count, tried);
        assert_int_equal(p2p_socket_connect(sock, "peer.example", 80), 0); /* may be tried again */
        run_threads(loop);
        connects(loop, tried);
        assert_int_equal(told.answers, 2);
        expect_error(told.error, 0);
        passes(loop, 2000 * NS_PER_MS);
        assert_int_equal(told.answers + told.errors, 2);
        end(loop, sock);
    }
}

static void a_datagram_socket_has_that_deadline_too(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = add_fresh(loop, P2P_UDP);
    assert_int_equal(p2p_socket_set_timeout(sock, P2P_DEADLINE_CONNECT, 1000), 0);
    assert_int_equal(p2p_socket_connect(sock, "peer.example", 80), 0);
    passes(loop, 1000 * NS_PER_MS);
    turns(loop);
    assert_int_equal(told.answers, 1);
    expect_error(told.error, P2P_ERR_TIMED_OUT);
    run_threads(loop);
    assert_int_equal(told.answers, 1);
    end(loop, sock);
}

static void a_call_that_fails_leaves_no_deadline_behind(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(MOCK_NATIVE, NULL);
    p2p_socket_t *by_name = add_fresh(loop, P2P_TCP), *by_number = add_fresh(loop, P2P_TCP);
    has("192.0.2.1", NULL, NULL, NULL);
    world.thread_fails = 1;
    assert_true(p2p_socket_connect(by_name, "peer.example", 80) < 0);
    mock_fail(MOCK_CONNECT, 1, ENOBUFS);
    assert_true(p2p_socket_connect(by_number, "192.0.2.1", 80) < 0);
    passes(loop, 60000 * NS_PER_MS);
    turns(loop);
    assert_int_equal(told.answers + told.errors, 0);
    p2p_socket_close(by_number);
    end(loop, by_name);
}

static void output_that_was_shut_down_meanwhile_ends_behind_what_is_queued(void **state) {
    (void)state;
    for (int drained = 0; drained < 2; drained++) {
        for (int where = 0; where < STAGES; where++) {
            assert_int_equal(mock_teardown(NULL) + setup(NULL), 0);
            has("192.0.2.1", "192.0.2.2", NULL, NULL);
            p2p_event_loop_t *loop = mock_loop(0, NULL);
            p2p_socket_t *sock = come_to(loop, (stage)where);
            assert_int_equal(drained ? p2p_event_loop_drain(loop, 0) : p2p_socket_shutdown(sock, 0), 0);
            run_threads(loop);
            if (where != CONNECTED_UNTOLD) connects(loop, 0);
            turns(loop);
            assert_int_equal(told.answers, 1);
            expect_error(told.error, 0);
            assert_int_equal(fake_at(p2p_socket_handle(sock))->output_length, 5);
            assert_true(fake_at(p2p_socket_handle(sock))->shut);
            end(loop, sock);
        }
    }
}

static void output_that_cannot_be_drained_in_time_ends_the_attempt(void **state) {
    (void)state;
    for (int where = 0; where < CONNECTED_UNTOLD; where++) {
        assert_int_equal(mock_teardown(NULL) + setup(NULL), 0);
        has("192.0.2.1", "192.0.2.2", NULL, NULL);
        p2p_event_loop_t *loop = mock_loop(0, NULL);
        p2p_socket_t *sock = come_to(loop, (stage)where);
        assert_int_equal(p2p_socket_shutdown(sock, 1000), 0);
        passes(loop, 1000 * NS_PER_MS);
        turns(loop);
        assert_int_equal(told.answers, 1);
        expect_error(told.error, P2P_ERR_TIMED_OUT);
        assert_int_equal(p2p_socket_unsent(sock), 5);
        assert_int_equal(fake_open_count(), 0);
        run_threads(loop);
        assert_int_equal(told.answers, 1);
        end(loop, sock);
    }
}

static int64_t unsent;

static void ask_unsent(p2p_socket_t *sock, int reason, void *user_data) {
    (void)reason, (void)user_data;
    unsent = p2p_socket_unsent(sock);
}

static void what_an_abort_or_a_removal_drops_is_told(void **state) {
    (void)state;
    static const p2p_socket_callbacks_t asking = { .size = sizeof asking, .on_close = ask_unsent };
    for (int removes = 0; removes < 2; removes++) {
        p2p_event_loop_t *loop = mock_loop(0, NULL);
        p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
        assert_int_equal(p2p_event_loop_add_socket_with(loop, sock, &asking, NULL), 0);
        assert_int_equal(p2p_socket_connect(sock, "peer.example", 80), 0);
        assert_int_equal(p2p_message_send_data(sock, "lost", 4), 0);
        unsent = 0;
        if (removes) {
            assert_int_equal(p2p_event_loop_remove_socket(loop, sock), 0);
            unsent = p2p_socket_unsent(sock);
            p2p_socket_close(sock);
        } else {
            p2p_socket_abort(sock);
            turns(loop);
        }
        assert_int_equal(unsent, 8);
        run_threads(loop);
        end(loop, NULL);
        assert_int_equal(mock_teardown(NULL) + setup(NULL), 0);
    }
}

/* ---- bound sockets ---- */

static p2p_socket_t *connecting_bound(p2p_event_loop_t *loop) {
    p2p_handle_t handle = fake_handle(P2P_SYS_STREAM | P2P_SYS_BOUND);
    p2p_socket_t *sock = p2p_socket_adopt(handle, P2P_TCP);
    assert_non_null(sock);
    assert_int_equal(p2p_event_loop_add_socket_with(loop, sock, &callbacks, NULL), 0);
    assert_int_equal(p2p_socket_connect(sock, "peer.example", 80), 0);
    return sock;
}

static void a_bound_socket_tries_the_first_address_of_its_family_by_its_own_handle(void **state) {
    (void)state;
    has("2001:db8::1", "192.0.2.1", "192.0.2.2", NULL);
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = connecting_bound(loop);
    p2p_handle_t handle = p2p_socket_handle(sock);
    run_thread();
    turns(loop);
    passes(loop, 1000 * NS_PER_MS);
    assert_int_equal(world.tried_count, 1);
    assert_string_equal(world.tried[0], "192.0.2.1");
    assert_true(world.handles[0] == handle);
    connects(loop, 0);
    expect_error(told.error, 0);
    assert_true(p2p_socket_handle(sock) == handle);
    end(loop, sock);
}

static void a_bound_socket_without_an_address_of_its_family_is_told_so(void **state) {
    (void)state;
    static const char *const only[] = { "2001:db8::1", NULL };
    for (size_t i = 0; i < COUNT_OF(only); i++) {
        assert_int_equal(mock_teardown(NULL) + setup(NULL), 0);
        has(only[i], NULL, NULL, NULL);
        p2p_event_loop_t *loop = mock_loop(0, NULL);
        p2p_socket_t *sock = connecting_bound(loop);
        run_thread();
        turns(loop);
        assert_int_equal(told.answers, 1);
        expect_error(told.error, only[i] != NULL ? P2P_ERR_NOT_SUPPORTED : P2P_ERR_NAME_NOT_FOUND);
        assert_int_equal(fake_open_count(), 0); /* as after any attempt that failed */
        end(loop, sock);
    }
}

static void a_bound_socket_removed_during_the_lookup_keeps_its_handle(void **state) {
    (void)state;
    has("192.0.2.1", NULL, NULL, NULL);
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = connecting_bound(loop);
    assert_int_equal(p2p_event_loop_remove_socket(loop, sock), 0);
    assert_int_equal(fake_open_count(), 1);
    expect_error(p2p_socket_bind(sock, "192.0.2.9", 1), P2P_ERR_ALREADY); /* it is bound */
    end(loop, sock);
    run_thread();
}

/* ---- threads ---- */

static void eight_threads_serve_twenty_lookups(void **state) {
    (void)state;
    p2p_socket_t *socks[20];
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    for (size_t i = 0; i < COUNT_OF(socks); i++) socks[i] = connecting(loop);
    assert_int_equal(world.threads_started, 8);
    assert_int_equal(loop_stats(loop).lookups, 8);
    p2p_socket_close(socks[19]); /* one that waits in line */
    for (unsigned done = 1; done <= 19; done++) {
        run_thread();
        mock_turn(loop);
        assert_int_equal(world.threads_started, done + 8 < 19 ? done + 8 : 19);
    }
    turns(loop);
    assert_int_equal(told.answers, 19);
    for (size_t i = 0; i < 19; i++) p2p_socket_close(socks[i]);
    p2p_event_loop_free(loop);
}

static void a_lookup_given_up_keeps_its_place_until_its_thread_is_done(void **state) {
    (void)state;
    p2p_socket_t *socks[9];
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    for (size_t i = 0; i < 8; i++) socks[i] = connecting(loop);
    p2p_socket_close(socks[0]);
    socks[8] = connecting(loop);
    mock_turn(loop);
    assert_int_equal(world.threads_started, 8);
    run_thread();
    mock_turn(loop);
    assert_int_equal(world.threads_started, 9);
    run_threads(loop);
    assert_int_equal(told.answers, 8);
    for (size_t i = 1; i < 9; i++) p2p_socket_close(socks[i]);
    p2p_event_loop_free(loop);
}

static void a_thread_that_cannot_start_is_the_calls_error(void **state) {
    (void)state;
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = add_fresh(loop, P2P_TCP);
    world.thread_fails = 1;
    expect_error(p2p_socket_connect(sock, "peer.example", 80), P2P_ERR_NO_MEMORY);
    assert_int_equal(p2p_last_os_error(), os_number(ENOMEM));
    assert_int_equal(loop_stats(loop).lookups, 0);
    turns(loop);
    assert_int_equal(told.answers, 0);
    has("192.0.2.1", NULL, NULL, NULL);
    assert_int_equal(p2p_socket_connect(sock, "peer.example", 80), 0);
    run_threads(loop);
    connects(loop, 0);
    assert_int_equal(told.answers, 1);
    end(loop, sock);
}

static void a_thread_that_cannot_start_later_is_told(void **state) {
    (void)state;
    p2p_socket_t *socks[9];
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    for (size_t i = 0; i < COUNT_OF(socks); i++) socks[i] = connecting(loop);
    world.thread_fails = 1;
    run_thread();
    turns(loop);
    assert_int_equal(told.answers, 2);
    run_threads(loop);
    assert_int_equal(told.answers, 9);
    for (size_t i = 0; i < 9; i++) p2p_socket_close(socks[i]);
    p2p_event_loop_free(loop);
}

static void a_system_table_without_names_does_not_support_them(void **state) {
    (void)state;
    p2p_cleanup();
    table.resolve = NULL;
    assert_int_equal(fixture_start(&table, NULL), 0);
    p2p_event_loop_t *loop = mock_loop(0, NULL);
    p2p_socket_t *sock = add_fresh(loop, P2P_TCP), *outside = p2p_socket_create(P2P_TCP);
    expect_error(p2p_socket_connect(sock, "peer.example", 80), P2P_ERR_NOT_SUPPORTED);
    expect_error(p2p_socket_connect(outside, "peer.example", 80), P2P_ERR_NOT_SUPPORTED);
    p2p_socket_close(outside);
    end(loop, sock);
}

static void each_allocation_may_fail(void **state) {
    (void)state;
    bool failed = true;
    for (uint64_t nth = 1; failed; nth++) {
        assert_int_equal(mock_teardown(NULL) + setup(NULL), 0);
        has("192.0.2.1", "192.0.2.2", NULL, NULL);
        p2p_event_loop_t *loop = mock_loop(0, NULL);
        p2p_socket_t *sock = add_fresh(loop, P2P_TCP);
        memory_fail(nth, false);
        int result = p2p_socket_connect(sock, "peer.example", 80);
        if (result < 0) expect_error(result, P2P_ERR_NO_MEMORY);
        run_threads(loop);
        if (world.tried_count > 0) connects(loop, 0);
        failed = memory_failures() > 0;
        memory_fail(0, false);
        assert_int_equal(told.answers, result == 0);
        if (result == 0) expect_error(told.error, 0); /* when not by one address, by the other */
        end(loop, sock);
    }
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        NAMES_CASE(host_names_are_told_from_addresses_and_nonsense),
        NAMES_CASE(a_host_name_has_at_most_253_characters),
        NAMES_CASE(a_name_is_no_address_to_bind_to),
        NAMES_CASE(families_alternate_beginning_with_the_first),
        NAMES_CASE(nothing_is_tried_before_the_addresses_are_known),
        NAMES_CASE(the_next_address_is_tried_a_quarter_of_a_second_later),
        NAMES_CASE(an_address_that_fails_is_followed_by_the_next_at_once),
        NAMES_CASE(while_one_is_being_tried_the_failure_of_the_others_is_no_answer),
        NAMES_CASE(addresses_that_fail_in_the_call_are_passed_over),
        NAMES_CASE(all_addresses_are_tried_and_no_more_than_that),
        NAMES_CASE(the_first_to_connect_wins_and_the_others_are_reset),
        NAMES_CASE(of_two_that_connect_in_one_turn_one_wins),
        NAMES_CASE(on_any_backend_the_winner_sends_and_receives),
        NAMES_CASE(when_all_fail_the_first_ones_error_is_told_once),
        NAMES_CASE(a_name_without_addresses_is_told_as_not_found),
        NAMES_CASE(a_connection_to_itself_is_refused_and_reset),
        NAMES_CASE(the_attempts_are_not_counted_as_sockets_or_callbacks),
        NAMES_CASE(a_second_attempt_meanwhile_is_ALREADY),
        NAMES_CASE(an_abort_at_any_time_ends_all_of_it),
        NAMES_CASE(a_removed_socket_is_fresh_again_and_its_queue_empty),
        NAMES_CASE(a_freed_loop_gives_the_socket_back_and_the_thread_frees_the_rest),
        NAMES_CASE(an_answer_that_was_posted_to_a_freed_loop_is_freed_with_it),
        NAMES_CASE(closed_with_a_message_queued_it_still_connects_and_sends),
        NAMES_CASE(closed_with_a_message_queued_it_ends_when_nobody_can_be_reached),
        NAMES_CASE(closed_with_a_message_queued_it_ends_at_its_deadline),
        NAMES_CASE(a_freed_loop_gives_no_attempt_to_anybody),
        NAMES_CASE(the_deadline_is_for_the_lookup_and_all_attempts_together),
        NAMES_CASE(a_datagram_socket_has_that_deadline_too),
        NAMES_CASE(a_call_that_fails_leaves_no_deadline_behind),
        NAMES_CASE(output_that_was_shut_down_meanwhile_ends_behind_what_is_queued),
        NAMES_CASE(output_that_cannot_be_drained_in_time_ends_the_attempt),
        NAMES_CASE(what_an_abort_or_a_removal_drops_is_told),
        NAMES_CASE(a_bound_socket_tries_the_first_address_of_its_family_by_its_own_handle),
        NAMES_CASE(a_bound_socket_without_an_address_of_its_family_is_told_so),
        NAMES_CASE(a_bound_socket_removed_during_the_lookup_keeps_its_handle),
        NAMES_CASE(eight_threads_serve_twenty_lookups),
        NAMES_CASE(a_lookup_given_up_keeps_its_place_until_its_thread_is_done),
        NAMES_CASE(a_thread_that_cannot_start_is_the_calls_error),
        NAMES_CASE(a_thread_that_cannot_start_later_is_told),
        NAMES_CASE(a_system_table_without_names_does_not_support_them),
        NAMES_CASE(each_allocation_may_fail),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
