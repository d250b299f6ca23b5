#include "made_up_names.h"

made_up_world world;
made_up_told told;

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

void run_thread(void) {
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

p2p_sys_ops made_up_table;

int names_setup(void **state) {
    assert_int_equal(mock_setup(state), 0);
    p2p_cleanup();
    memset(&world, 0, sizeof world);
    memset(&told, 0, sizeof told);
    world.local = "198.51.100.7";
    made_up_table = *fake_sys();
    fake_connect = made_up_table.connect;
    fake_peer_address = made_up_table.peer_address;
    made_up_table.resolve = made_up_resolve;
    made_up_table.thread_start = made_up_start;
    made_up_table.thread_rest = made_up_rest;
    made_up_table.open = made_up_open;
    made_up_table.connect = made_up_connect;
    made_up_table.local_address = made_up_local_address;
    made_up_table.peer_address = made_up_peer_address;
    return fixture_start(&made_up_table, NULL);
}

void anew(void) {
    assert_int_equal(mock_teardown(NULL) + names_setup(NULL), 0);
}

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

const p2p_socket_callbacks_t callbacks = {
    .size = sizeof callbacks, .on_error = on_error, .on_connect = on_connect, .on_close = on_close
};

void has(const char *first, const char *second, const char *third, const char *fourth) {
    const char *all[] = { first, second, third, fourth, NULL };
    memcpy(world.addresses, all, sizeof all);
}

p2p_socket_t *add_fresh(p2p_event_loop_t *loop, p2p_socket_type_t type) {
    p2p_socket_t *sock = p2p_socket_create(type);
    assert_non_null(sock);
    assert_int_equal(p2p_event_loop_add_socket_with(loop, sock, &callbacks, NULL), 0);
    return sock;
}

p2p_socket_t *connecting(p2p_event_loop_t *loop) {
    p2p_socket_t *sock = add_fresh(loop, P2P_TCP);
    assert_int_equal(p2p_socket_connect(sock, "peer.example", 80), 0);
    return sock;
}

p2p_socket_t *trying(p2p_event_loop_t *loop) {
    p2p_socket_t *sock = connecting(loop);
    run_thread();
    mock_turn(loop);
    return sock;
}

void turns(p2p_event_loop_t *loop) {
    for (int i = 0; i < 4; i++) mock_turn(loop);
}

void connects(p2p_event_loop_t *loop, unsigned attempt) {
    fake_at(world.handles[attempt])->connected = true;
    mock_ready(world.handles[attempt], P2P_OUT);
    turns(loop);
}

void fails(p2p_event_loop_t *loop, unsigned attempt, int error) {
    fake_at(world.handles[attempt])->connect_result = error;
    mock_ready(world.handles[attempt], P2P_OUT | P2P_ERR);
    turns(loop);
}

void passes(p2p_event_loop_t *loop, int64_t time_ns) {
    fake_clock_ns += time_ns;
    mock_turn(loop);
}

void end(p2p_event_loop_t *loop, p2p_socket_t *sock) {
    p2p_socket_close(sock);
    p2p_event_loop_free(loop);
}

void expect_error(int given, int expected) {
    assert_string_equal(p2p_error_name(given), p2p_error_name(expected));
}
