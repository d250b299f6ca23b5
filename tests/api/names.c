/* Connecting by name: real threads and sockets, and a resolver that the case makes up. */
#include "echo.h"
#include "probe.h"

#include <p2pnet/sys.h>

#include <stdatomic.h>

#if !defined(_WIN32)
#include <netdb.h>
#include <unistd.h>
#endif

#define NAMES_ADDRESSES_MAX 4

/* What every name has: where it says so in place of the port that was asked for. */
static struct {
    const char *host[NAMES_ADDRESSES_MAX];
    uint16_t port[NAMES_ADDRESSES_MAX];
    unsigned count;
    atomic_bool gate_shut; /* lookups do not come back meanwhile */
    atomic_uint now, most, total;
} names;

static int made_up_resolve(const char *name, uint16_t port, p2p_socket_type_t type, p2p_address_t *out,
                           uint32_t capacity) {
    (void)name, (void)type;
    unsigned now = atomic_fetch_add(&names.now, 1) + 1, most = atomic_load(&names.most);
    while (now > most && !atomic_compare_exchange_weak(&names.most, &most, now)) {
    }
    while (atomic_load(&names.gate_shut)) p2p_sys_default()->thread_rest();
    unsigned count = names.count;
    for (unsigned i = 0; i < count && i < capacity; i++)
        p2p_sys_default()->address_parse(&out[i], names.host[i], names.port[i] != 0 ? names.port[i] : port);
    atomic_fetch_add(&names.total, 1);
    atomic_fetch_sub(&names.now, 1);
    return count == 0 ? P2P_ERR_NAME_NOT_FOUND : (int)count;
}

static int setup(void **state) {
    p2p_sys_ops table = *test_system();
    (void)state;
    names.count = 0;
    atomic_store(&names.gate_shut, false);
    atomic_store(&names.most, 0);
    atomic_store(&names.total, 0);
    table.resolve = made_up_resolve;
    return fixture_start(&table, NULL);
}

static void name_has(const char *host, uint16_t port) {
    names.host[names.count] = host;
    names.port[names.count++] = port;
}

/* A thread that nobody waits for frees what it had, and is then gone as far as a case can tell. */
static void await_threads(void) {
    int64_t limit = clock_ns() + RAW_DEADLINE_S * 1000000000ll;
    atomic_store(&names.gate_shut, false);
    while (memory_in_use() > 0 && clock_ns() < limit) os_yield();
    assert_int_equal(memory_in_use(), 0);
}

static void expect_error(int given, int expected) {
    assert_string_equal(p2p_error_name(given), p2p_error_name(expected));
}

static void add_fresh(probe *p, p2p_event_loop_t *loop, p2p_socket_type_t type) {
    p2p_socket_t *sock = p2p_socket_create(type);
    assert_non_null(sock);
    probe_add(p, loop, sock, &probe_by_read);
}

static uint16_t dead_port(void) {
    uint16_t port;
    os_close(raw_listen(&port, 1));
    return port;
}

/* ---- in a loop ---- */

static void what_was_queued_before_leaves_in_its_order(void **state) {
    (void)state;
    probe p = { 0 };
    uint16_t port;
    p2p_handle_t listener = raw_listen(&port, 1);
    p2p_event_loop_t *loop = loop_create(NULL);
    name_has("127.0.0.1", 0);
    add_fresh(&p, loop, P2P_TCP);
    assert_int_equal(p2p_socket_connect(p.sock, "peer.example", port), 0);
    assert_int_equal(p2p_message_send_data(p.sock, "one", 3), 0);
    p2p_message_t *big = p2p_message_create(NULL, 2000); /* referred to, not copied */
    assert_int_equal(p2p_message_send(p.sock, big), 0);
    p2p_message_free(big);
    assert_string_equal(p.trace, "");
    RUN_UNTIL(loop, p.connects == 1);
    expect_error(p.connect_error, 0);
    assert_int_equal(p2p_message_send_data(p.sock, "three", 5), 0);
    p.fd = loop_accept(loop, listener);
    uint8_t zeros[2000];
    loop_expect_text(loop, p.fd, "one");
    assert_int_equal(loop_recv_frame(loop, p.fd, zeros, sizeof zeros), 2000);
    loop_expect_text(loop, p.fd, "three");
    assert_true(raw_send_text(p.fd, "answer"));
    RUN_UNTIL(loop, p.messages == 1);
    assert_string_equal(p.text, "answer|");
    loop_settle(loop);
    uint64_t wakeups = loop_stats(loop).wakeups;
    loop_settle(loop);
    assert_int_equal(loop_stats(loop).wakeups, wakeups); /* an idle connection like any other */
    probe_close(&p);
    os_close(listener);
    p2p_event_loop_free(loop);
}

static void addresses_that_refuse_are_passed_over(void **state) {
    (void)state;
    probe p = { 0 };
    uint16_t port;
    p2p_handle_t listener = raw_listen(&port, 1);
    p2p_event_loop_t *loop = loop_create(NULL);
    name_has("127.0.0.1", dead_port());
    name_has("127.0.0.1", dead_port());
    name_has("127.0.0.1", port);
    add_fresh(&p, loop, P2P_TCP);
    assert_int_equal(p2p_socket_connect(p.sock, "peer.example", port), 0);
    RUN_UNTIL(loop, p.connects == 1);
    expect_error(p.connect_error, 0);
    p.fd = loop_accept(loop, listener);
    assert_true(raw_send_text(p.fd, "hello"));
    RUN_UNTIL(loop, p.messages == 1);
    assert_int_equal(p2p_event_loop_socket_count(loop), 1);
    probe_close(&p);
    os_close(listener);
    p2p_event_loop_free(loop);
}

static void when_all_refuse_one_answer_says_so_and_it_may_be_tried_again(void **state) {
    (void)state;
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    name_has("127.0.0.1", dead_port());
    name_has("127.0.0.1", dead_port());
    add_fresh(&p, loop, P2P_TCP);
    for (unsigned i = 1; i <= 2; i++) {
        assert_int_equal(p2p_socket_connect(p.sock, "peer.example", 80), 0);
        RUN_UNTIL(loop, p.connects == i);
        loop_settle(loop);
        expect_error(p.connect_error, P2P_ERR_REFUSED);
        assert_int_equal(p.connects, i);
    }
    assert_string_equal(p.trace, "cc");
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void error_told(p2p_socket_t *sock, int error, void *user_data) {
    (void)sock;
    *(int *)user_data = error;
}

static void without_on_connect_a_name_not_found_is_told_by_on_error(void **state) {
    (void)state;
    static const p2p_socket_callbacks_t only_error = { .size = sizeof only_error, .on_error = error_told };
    int error = 0;
    p2p_event_loop_t *loop = loop_create(NULL);
    p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
    assert_int_equal(p2p_event_loop_add_socket_with(loop, sock, &only_error, &error), 0);
    assert_int_equal(p2p_socket_connect(sock, "nobody.example", 80), 0);
    RUN_UNTIL(loop, error != 0);
    expect_error(error, P2P_ERR_NAME_NOT_FOUND);
    p2p_socket_close(sock);
    p2p_event_loop_free(loop);
}

/* A listener whose queue is full, so that further attempts to connect stay without an answer. */
typedef struct silent_listener {
    p2p_handle_t fd, inside[8];
    uint16_t port;
} silent_listener;

static void silent_open(silent_listener *silent) {
    silent->fd = raw_listen(&silent->port, 0);
    struct sockaddr_in address = os_loopback(silent->port);
    for (size_t i = 0; i < COUNT_OF(silent->inside); i++) {
        silent->inside[i] = os_socket(AF_INET, SOCK_STREAM);
        assert_int_equal(os_set_nonblocking(silent->inside[i], true), 0);
        os_connect(silent->inside[i], (struct sockaddr *)&address, sizeof address);
    }
}

static void silent_close(silent_listener *silent) {
    os_close(silent->fd);
    for (size_t i = 0; i < COUNT_OF(silent->inside); i++) os_close(silent->inside[i]);
}

static void the_second_address_connects_while_the_first_keeps_silent(void **state) {
    (void)state;
    probe p = { 0 };
    silent_listener silent;
    uint16_t port;
    silent_open(&silent);
    p2p_handle_t listener = raw_listen(&port, 1);
    p2p_event_loop_t *loop = loop_create(NULL);
    name_has("127.0.0.1", silent.port);
    name_has("127.0.0.1", port);
    add_fresh(&p, loop, P2P_TCP);
    int64_t before_ns = clock_ns();
    assert_int_equal(p2p_socket_connect(p.sock, "peer.example", 80), 0);
    RUN_UNTIL(loop, p.connects == 1);
    expect_error(p.connect_error, 0);
    assert_true(clock_ns() - before_ns >= 250 * 1000000);
    p.fd = loop_accept(loop, listener);
    assert_int_equal(p2p_message_send_data(p.sock, "hello", 5), 0);
    loop_expect_text(loop, p.fd, "hello");
    probe_close(&p);
    p2p_event_loop_free(loop);
    silent_close(&silent);
    os_close(listener);
}

/* ---- leaving ---- */

static void close_during_the_lookup_is_followed_by_on_close_only(void **state) {
    (void)state;
    for (int aborts = 0; aborts < 2; aborts++) {
        probe p = { 0 };
        p2p_event_loop_t *loop = loop_create(NULL);
        atomic_store(&names.gate_shut, true);
        add_fresh(&p, loop, P2P_TCP);
        assert_int_equal(p2p_socket_connect(p.sock, "peer.example", 80), 0);
        loop_settle(loop);
        if (aborts)
            p2p_socket_abort(p.sock);
        else
            p2p_socket_close(p.sock);
        RUN_UNTIL(loop, p.closes == 1);
        atomic_store(&names.gate_shut, false);
        RUN_UNTIL(loop, loop_stats(loop).lookups == 0);
        loop_settle(loop);
        assert_string_equal(p.trace, "x");
        p2p_event_loop_free(loop);
    }
}

static void run_ends_although_a_lookup_given_up_is_still_under_way(void **state) {
    (void)state;
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    atomic_store(&names.gate_shut, true);
    add_fresh(&p, loop, P2P_TCP);
    assert_int_equal(p2p_socket_connect(p.sock, "peer.example", 80), 0);
    p2p_socket_close(p.sock);
    p2p_event_loop_run(loop);
    assert_int_equal(p.closes, 1);
    p2p_event_loop_free(loop); /* nor does this wait for it: the gate is shut */
    await_threads();
}

static void a_loop_freed_during_lookups_leaves_the_sockets_to_their_owner(void **state) {
    (void)state;
    p2p_socket_t *socks[12]; /* more than there are threads */
    p2p_event_loop_t *loop = loop_create(NULL);
    atomic_store(&names.gate_shut, true);
    for (size_t i = 0; i < COUNT_OF(socks); i++) {
        socks[i] = p2p_socket_create(P2P_TCP);
        assert_int_equal(p2p_event_loop_add_socket(loop, socks[i], NULL, NULL), 0);
        assert_int_equal(p2p_socket_connect(socks[i], "peer.example", 80), 0);
    }
    loop_settle(loop);
    p2p_event_loop_free(loop);
    for (size_t i = 0; i < COUNT_OF(socks); i++) {
        expect_error(p2p_message_send_data(socks[i], "x", 1), P2P_ERR_NOT_CONNECTED);
        p2p_socket_close(socks[i]);
    }
    await_threads();
}

/* Thread and loop meet at every point of their handshake, sooner or later. */
static void a_loop_may_be_freed_at_any_moment_of_a_lookup(void **state) {
    (void)state;
    name_has("127.0.0.1", dead_port());
    for (int i = 0; i < OS_ROUNDS(300, 20); i++) {
        p2p_event_loop_t *loop = loop_create(NULL);
        p2p_socket_t *socks[3];
        for (size_t k = 0; k < COUNT_OF(socks); k++) {
            socks[k] = p2p_socket_create(P2P_TCP);
            assert_int_equal(p2p_event_loop_add_socket(loop, socks[k], NULL, NULL), 0);
            assert_int_equal(p2p_socket_connect(socks[k], "peer.example", 80), 0);
        }
        for (int k = 0; k < i % 7; k++) os_yield();
        if (i % 2 == 0) assert_true(p2p_event_loop_run_once(loop, 0) >= 0);
        p2p_event_loop_free(loop);
        for (size_t k = 0; k < COUNT_OF(socks); k++) p2p_socket_close(socks[k]);
    }
    await_threads();
}

static void twenty_lookups_have_eight_threads(void **state) {
    (void)state;
    static probe probes[20];
    uint16_t port;
    p2p_handle_t listener = raw_listen(&port, COUNT_OF(probes));
    p2p_event_loop_t *loop = loop_create(NULL);
    memset(probes, 0, sizeof probes);
    name_has("127.0.0.1", port);
    atomic_store(&names.gate_shut, true);
    for (size_t i = 0; i < COUNT_OF(probes); i++) {
        add_fresh(&probes[i], loop, P2P_TCP);
        assert_int_equal(p2p_socket_connect(probes[i].sock, "peer.example", 80), 0);
    }
    RUN_UNTIL(loop, atomic_load(&names.now) == 8);
    loop_settle(loop);
    atomic_store(&names.gate_shut, false);
    for (size_t i = 0; i < COUNT_OF(probes); i++) {
        RUN_UNTIL(loop, probes[i].connects == 1);
        expect_error(probes[i].connect_error, 0);
    }
    assert_int_equal(atomic_load(&names.most), 8);
    assert_int_equal(atomic_load(&names.total), 20);
    for (size_t i = 0; i < COUNT_OF(probes); i++) probe_close(&probes[i]);
    os_close(listener);
    p2p_event_loop_free(loop);
}

/* ---- datagrams ---- */

static void a_datagram_sockets_peer_is_fixed_and_told(void **state) {
    (void)state;
    probe p = { 0 };
    char buffer[8];
    uint16_t port;
    p2p_handle_t peer = os_socket(AF_INET, SOCK_DGRAM);
    assert_int_equal(os_bind_loopback(peer, &port), 0);
    assert_int_equal(os_set_deadline(peer, RAW_DEADLINE_S), 0);
    p2p_event_loop_t *loop = loop_create(NULL);
    name_has("127.0.0.1", port);
    add_fresh(&p, loop, P2P_UDP);
    assert_int_equal(p2p_socket_connect(p.sock, "peer.example", 80), 0);
    expect_error(p2p_datagram_send(p.sock, "x", 1, NULL), P2P_ERR_NOT_CONNECTED);
    RUN_UNTIL(loop, p.connects == 1);
    expect_error(p.connect_error, 0);
    assert_int_equal(p2p_datagram_send(p.sock, "hello", 5, NULL), 0);
    assert_int_equal(os_recv(peer, buffer, sizeof buffer), 5);
    probe_close(&p);
    os_close(peer);
    p2p_event_loop_free(loop);
}

static void a_datagram_socket_that_is_bound_stays_so_when_no_name_is_found(void **state) {
    (void)state;
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    add_fresh(&p, loop, P2P_UDP);
    assert_int_equal(p2p_socket_bind(p.sock, "127.0.0.1", 0), 0);
    uint16_t port = socket_port(p.sock);
    assert_int_equal(p2p_socket_connect(p.sock, "nobody.example", 80), 0);
    RUN_UNTIL(loop, p.connects == 1);
    expect_error(p.connect_error, P2P_ERR_NAME_NOT_FOUND);
    assert_int_equal(socket_port(p.sock), port);
    probe_close(&p);
    p2p_event_loop_free(loop);
}

/* ---- outside a loop ---- */

static void a_blocking_socket_tries_the_addresses_in_turn(void **state) {
    (void)state;
    char buffer[5];
    uint16_t port;
    p2p_handle_t listener = raw_listen(&port, 1);
    p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
    name_has("127.0.0.1", dead_port());
    name_has("127.0.0.1", port);
    assert_int_equal(p2p_socket_connect(sock, "peer.example", 80), 0);
    p2p_handle_t fd = raw_accept(listener);
    assert_int_equal(p2p_socket_send(sock, "hello", 5), 5);
    assert_true(raw_recv(fd, buffer, 5));
    p2p_socket_close(sock);
    os_close(fd);
    os_close(listener);
}

static void a_blocking_socket_is_told_why_the_first_address_failed(void **state) {
    (void)state;
    p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
    expect_error(p2p_socket_connect(sock, "nobody.example", 80), P2P_ERR_NAME_NOT_FOUND);
    name_has("127.0.0.1", dead_port());
    name_has("255.255.255.255", 80);
    expect_error(p2p_socket_connect(sock, "peer.example", 80), P2P_ERR_REFUSED);
    assert_int_equal(p2p_last_os_error(), os_number(ECONNREFUSED));
    p2p_socket_close(sock);
}

static void a_nonblocking_socket_outside_a_loop_has_no_names(void **state) {
    (void)state;
    p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
    assert_int_equal(p2p_socket_set_nonblocking(sock, 1), 0);
    expect_error(p2p_socket_connect(sock, "peer.example", 80), P2P_ERR_NOT_SUPPORTED);
    assert_int_equal(atomic_load(&names.total), 0);
    p2p_socket_close(sock);
}

static void text_that_is_neither_address_nor_name_is_not_looked_up(void **state) {
    (void)state;
    static const char *const texts[] = { "1.2.3", "999.1.1.1", "a..b", "a b", "host:80", "", "0x7f.1" };
    p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        expect_error(p2p_socket_connect(sock, texts[i], 80), P2P_ERR_BAD_ADDRESS);
    assert_int_equal(atomic_load(&names.total), 0);
    p2p_socket_close(sock);
}

/* The test asks the system by itself for a name that this machine has. */
static void the_systems_resolver_gives_its_addresses_in_its_order(void **state) {
    (void)state;
    char name[256] = "";
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found = NULL;
    if (gethostname(name, sizeof name - 1) != 0 || getaddrinfo(name, "80", &hints, &found) != 0)
        test_skip("the system doesn't know an address of \"%s\"", name);
    p2p_address_t addresses[32];
    int count = p2p_sys_default()->resolve(name, 80, P2P_TCP, addresses, COUNT_OF(addresses));
    int at = 0;
    for (struct addrinfo *each = found; each != NULL && at < (int)COUNT_OF(addresses); each = each->ai_next, at++) {
        assert_in_range(at, 0, count - 1);
        assert_int_equal(addresses[at].length, each->ai_addrlen);
        assert_memory_equal(addresses[at].storage.bytes, each->ai_addr, each->ai_addrlen);
    }
    assert_int_equal(at, count);
    assert_int_equal(p2p_sys_default()->resolve(name, 80, P2P_UDP, addresses, 1), 1);
    freeaddrinfo(found);
}

static void the_systems_resolver_says_when_there_is_none(void **state) {
    (void)state;
    p2p_address_t address;
    expect_error(p2p_sys_default()->resolve("a name with blanks", 80, P2P_TCP, &address, 1), P2P_ERR_NAME_NOT_FOUND);
}

/* ---- connections to oneself ---- */

/* A socket of the library bound to a port of 127.0.0.1 that is free. */
static p2p_socket_t *bound(uint16_t *port) {
    p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
    assert_int_equal(p2p_socket_bind(sock, "127.0.0.1", 0), 0);
    *port = socket_port(sock);
    return sock;
}

/* Nobody has it, and it is not in TIME_WAIT, which a raw socket does not overlook. */
static void expect_port_free(uint16_t port) {
    struct sockaddr_in address = os_loopback(port);
    p2p_handle_t next = os_socket(AF_INET, SOCK_STREAM);
    assert_int_equal(bind(next, (struct sockaddr *)&address, sizeof address), 0);
    os_close(next);
}

static void a_connection_to_itself_is_refused_in_a_loop(void **state) {
    (void)state;
    probe p = { 0 };
    uint16_t port;
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_add(&p, loop, bound(&port), &probe_by_read);
    if (p2p_socket_connect(p.sock, "127.0.0.1", port) == 0) {
        RUN_UNTIL(loop, p.connects == 1);
        loop_settle(loop);
        expect_error(p.connect_error, P2P_ERR_REFUSED);
        assert_string_equal(p.trace, "c");
    }
    probe_close(&p);
    expect_port_free(port);
    p2p_event_loop_free(loop);
}

static void a_connection_to_itself_is_refused_outside_a_loop(void **state) {
    (void)state;
    for (int nonblocking = 0; nonblocking < 2; nonblocking++) {
        uint16_t port;
        p2p_socket_t *sock = bound(&port);
        assert_int_equal(p2p_socket_set_nonblocking(sock, nonblocking), 0);
        int result = p2p_socket_connect(sock, "127.0.0.1", port);
        while (result == P2P_ERR_WOULD_BLOCK) result = p2p_socket_connect(sock, NULL, 0);
        expect_error(result, P2P_ERR_REFUSED);
        p2p_socket_close(sock);
        expect_port_free(port);
    }
}

/* Both call the other (RFC 9293, 3.5). The first call is lost at a listener that is full and then gone; before it is
 * repeated, a second later, the other side calls. A machine that is too slow for that begins anew. */
static bool meet(probe *a, probe *b, p2p_event_loop_t *loop) {
    silent_listener silent;
    uint16_t port;
    silent_open(&silent);
    probe_add(a, loop, bound(&port), &probe_by_read);
    assert_int_equal(p2p_socket_connect(a->sock, "127.0.0.1", silent.port), 0);
    loop_settle(loop); /* a backend that connects by itself has begun */
    silent_close(&silent);
    p2p_socket_t *other = p2p_socket_create(P2P_TCP);
    assert_int_equal(p2p_socket_bind(other, "127.0.0.1", silent.port), 0);
    probe_add(b, loop, other, &probe_by_read);
    assert_int_equal(p2p_socket_connect(b->sock, "127.0.0.1", port), 0);
    RUN_UNTIL(loop, a->connects == 1 && b->connects == 1);
    return a->connect_error == 0 && b->connect_error == 0;
}

static void two_sockets_that_connect_to_each_other_meet(void **state) {
    (void)state;
    probe a = { 0 }, b = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    for (int i = 0; i < 10 && !meet(&a, &b, loop); i++) {
        probe_close(&a);
        probe_close(&b);
        memset(&a, 0, sizeof a);
        memset(&b, 0, sizeof b);
    }
    assert_int_equal(p2p_message_send_data(a.sock, "hello", 5), 0);
    RUN_UNTIL(loop, b.messages == 1);
    assert_int_equal(p2p_message_send_data(b.sock, "hello", 5), 0);
    RUN_UNTIL(loop, a.messages == 1);
    probe_close(&a);
    probe_close(&b);
    p2p_event_loop_free(loop);
}

#define NAMES_CASE(function) cmocka_unit_test_setup_teardown(function, setup, fixture_teardown)

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        NAMES_CASE(what_was_queued_before_leaves_in_its_order),
        NAMES_CASE(addresses_that_refuse_are_passed_over),
        NAMES_CASE(when_all_refuse_one_answer_says_so_and_it_may_be_tried_again),
        NAMES_CASE(without_on_connect_a_name_not_found_is_told_by_on_error),
        NAMES_CASE(the_second_address_connects_while_the_first_keeps_silent),
        NAMES_CASE(close_during_the_lookup_is_followed_by_on_close_only),
        NAMES_CASE(run_ends_although_a_lookup_given_up_is_still_under_way),
        NAMES_CASE(a_loop_freed_during_lookups_leaves_the_sockets_to_their_owner),
        NAMES_CASE(a_loop_may_be_freed_at_any_moment_of_a_lookup),
        NAMES_CASE(twenty_lookups_have_eight_threads),
        NAMES_CASE(a_datagram_sockets_peer_is_fixed_and_told),
        NAMES_CASE(a_datagram_socket_that_is_bound_stays_so_when_no_name_is_found),
        NAMES_CASE(a_blocking_socket_tries_the_addresses_in_turn),
        NAMES_CASE(a_blocking_socket_is_told_why_the_first_address_failed),
        NAMES_CASE(a_nonblocking_socket_outside_a_loop_has_no_names),
        NAMES_CASE(text_that_is_neither_address_nor_name_is_not_looked_up),
        NAMES_CASE(the_systems_resolver_gives_its_addresses_in_its_order),
        NAMES_CASE(the_systems_resolver_says_when_there_is_none),
        NAMES_CASE(a_connection_to_itself_is_refused_in_a_loop),
        NAMES_CASE(a_connection_to_itself_is_refused_outside_a_loop),
        NAMES_CASE(two_sockets_that_connect_to_each_other_meet),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
