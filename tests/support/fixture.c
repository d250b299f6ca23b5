/* The counting allocator, and driving a loop. */
#include "fixture.h"

#include <stdatomic.h>
#include <stdlib.h>

/* ---- memory ---- */

/* Stands before each block; its size keeps the block aligned for any type. */
typedef union block_head {
    size_t size;
    max_align_t alignment;
} block_head;

static atomic_size_t bytes_in_use, bytes_peak, largest;
static atomic_ullong calls, fail_from, failures;
static atomic_bool fail_on;

static bool fails_now(void) {
    unsigned long long call = atomic_fetch_add(&calls, 1) + 1, from = atomic_load(&fail_from);
    if (from == 0 || call < from || (call > from && !atomic_load(&fail_on))) return false;
    atomic_fetch_add(&failures, 1);
    return true;
}

static void raise_to(atomic_size_t *most, size_t value) {
    size_t before = atomic_load(most);
    while (value > before && !atomic_compare_exchange_weak(most, &before, value)) {
    }
}

static void *counting_realloc(void *block, size_t size, void *user) {
    (void)user;
    if (fails_now()) return NULL;
    block_head *old = block == NULL ? NULL : (block_head *)block - 1;
    size_t old_size = old == NULL ? 0 : old->size;
    block_head *head = realloc(old, sizeof *head + size);
    if (head == NULL) return NULL;
    head->size = size;
    raise_to(&bytes_peak, atomic_fetch_add(&bytes_in_use, size - old_size) + size - old_size);
    raise_to(&largest, size);
    return head + 1;
}

static void *counting_alloc(size_t size, void *user) {
    return counting_realloc(NULL, size, user);
}

static void counting_free(void *block, void *user) {
    (void)user;
    block_head *head = (block_head *)block - 1;
    atomic_fetch_sub(&bytes_in_use, head->size);
    free(head);
}

size_t memory_in_use(void) {
    return atomic_load(&bytes_in_use);
}

void memory_mark(void) {
    atomic_store(&bytes_peak, memory_in_use());
    atomic_store(&largest, 0);
}

size_t memory_peak(void) {
    return atomic_load(&bytes_peak);
}

size_t memory_largest(void) {
    return atomic_load(&largest);
}

uint64_t memory_calls(void) {
    return atomic_load(&calls);
}

void memory_fail(uint64_t nth, bool from_then_on) {
    atomic_store(&fail_on, from_then_on);
    atomic_store(&failures, 0);
    atomic_store(&fail_from, nth == 0 ? 0 : atomic_load(&calls) + nth);
}

uint64_t memory_failures(void) {
    return atomic_load(&failures);
}

int descriptors_open(void) {
    return os_open_count();
}

/* ---- before and after a case ---- */

static int descriptors_before;

static void skip_without_backend(void) {
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    p2p_backend_report_t report = { 0 };
    options.backend = test_backend();
    p2p_event_loop_t *loop = p2p_event_loop_create_with(&options);
    p2p_event_loop_free(loop);
    if (loop != NULL || options.backend == NULL) return;
    p2p_event_loop_backend_report(NULL, &report, 1);
    if (report.verdict == P2P_BACKEND_REFUSED && report.error != P2P_ERR_NOT_SUPPORTED) return;
    p2p_cleanup();
    test_skip("backend %s: %s: %s", options.backend, p2p_backend_verdict_name(report.verdict), report.reason);
}

int fixture_start(const p2p_sys_ops *system, p2p_log_callback log) {
    static const p2p_allocator allocator = { counting_alloc, counting_realloc, counting_free, NULL };
    p2p_init_options_t options = P2P_INIT_OPTIONS_INIT;
    options.allocator = &allocator;
    options.system = system != NULL ? system : test_system();
    options.log = log;
    memory_fail(0, false);
    atomic_store(&bytes_in_use, 0);
    descriptors_before = descriptors_open();
    if (p2p_init_with(&options) != 0) fail_msg("p2p_init_with: %s", p2p_error_message(p2p_last_error()));
    skip_without_backend();
    return 0;
}

int fixture_setup(void **state) {
    (void)state;
    return fixture_start(NULL, NULL);
}

int fixture_teardown(void **state) {
    (void)state;
    memory_fail(0, false);
    p2p_cleanup();
    if (memory_in_use() != 0) fail_msg("%lu bytes leaked", (unsigned long)memory_in_use());
    if (descriptors_open() != descriptors_before) {
        fail_msg("%d descriptors open, %d before", descriptors_open(), descriptors_before);
    }
    return 0;
}

/* ---- loops ---- */

int64_t clock_ns(void) {
    return os_now_ns();
}

void needs_emulated_io(void) {
    const char *name = test_backend();
    if (name == NULL) p2p_backend_list(&name, 1);
    if (p2p_backend_find(name)->send != NULL) test_skip("backend %s leaves these calls to the kernel", name);
}

p2p_event_loop_t *loop_create(const p2p_event_loop_options_t *options) {
    p2p_event_loop_options_t chosen = P2P_EVENT_LOOP_OPTIONS_INIT;
    if (options != NULL) chosen = *options;
    if (chosen.backend == NULL) chosen.backend = test_backend();
    p2p_event_loop_t *loop = p2p_event_loop_create_with(&chosen);
    if (loop == NULL) fail_msg("no loop: %s", p2p_error_message(p2p_last_error()));
    return loop;
}

p2p_event_loop_stats_t loop_stats(p2p_event_loop_t *loop) {
    p2p_event_loop_stats_t stats = { .size = sizeof stats };
    assert_int_equal(p2p_event_loop_stats(loop, &stats), 0);
    return stats;
}

static int64_t deadline(void) {
    return clock_ns() + RAW_DEADLINE_S * 1000000000ll;
}

bool loop_turn(p2p_event_loop_t *loop, int64_t deadline_ns, const char *awaited, const char *file, int line) {
    if (clock_ns() > deadline_ns) {
        print_error("deadline: %s\n", awaited);
        _fail(file, line);
    }
    int result = p2p_event_loop_run_once(loop, 1);
    if (result < 0) {
        print_error("the loop failed: %s, while awaiting: %s\n", p2p_error_name(result), awaited);
        _fail(file, line);
    }
    return true;
}

void loop_settle(p2p_event_loop_t *loop) {
    for (int i = 0; i < 20; i++) assert_true(p2p_event_loop_run_once(loop, 0) >= 0);
}

/* ---- the raw side ---- */

/* What to do after a non-blocking call gave `result`. */
typedef enum outcome { PROGRESS, AGAIN, ENDED } outcome;

static outcome judge(int64_t result) {
    if (result > 0) return PROGRESS;
    return result == -EAGAIN ? AGAIN : ENDED;
}

p2p_handle_t loop_accept(p2p_event_loop_t *loop, p2p_handle_t listener) {
    RUN_UNTIL(loop, raw_readable(listener));
    return raw_accept(listener);
}

bool loop_recv(p2p_event_loop_t *loop, p2p_handle_t fd, void *buffer, size_t size) {
    int64_t limit = deadline();
    for (char *to = buffer; size > 0;) {
        int64_t got = os_recv_now(fd, to, size);
        switch (judge(got)) {
        case PROGRESS: to += got, size -= (size_t)got; break;
        case AGAIN: loop_turn(loop, limit, "bytes for the raw peer", __FILE__, __LINE__); break;
        case ENDED: return false;
        }
    }
    return true;
}

int64_t loop_recv_frame(p2p_event_loop_t *loop, p2p_handle_t fd, void *buffer, uint32_t capacity) {
    uint32_t header;
    if (!loop_recv(loop, fd, &header, sizeof header)) return -1;
    uint32_t length = ntohl(header);
    assert_in_range(length, 0, capacity);
    return loop_recv(loop, fd, buffer, length) ? (int64_t)length : -1;
}

int loop_recv_end(p2p_event_loop_t *loop, p2p_handle_t fd) {
    char forgotten[4096];
    for (int64_t limit = deadline();;) {
        int64_t got = os_recv_now(fd, forgotten, sizeof forgotten);
        switch (judge(got)) {
        case PROGRESS: break;
        case AGAIN: loop_turn(loop, limit, "the end, at the raw peer", __FILE__, __LINE__); break;
        case ENDED: return (int)-got;
        }
    }
}

bool loop_send(p2p_event_loop_t *loop, p2p_handle_t fd, const void *data, size_t size) {
    int64_t limit = deadline();
    for (const char *from = data; size > 0;) {
        int64_t sent = os_send_now(fd, from, size);
        switch (judge(sent)) {
        case PROGRESS: from += sent, size -= (size_t)sent; break;
        case AGAIN: loop_turn(loop, limit, "room for the raw peer's bytes", __FILE__, __LINE__); break;
        case ENDED: return false;
        }
    }
    return true;
}

void loop_expect_text(p2p_event_loop_t *loop, p2p_handle_t fd, const char *text) {
    char buffer[1024] = { 0 };
    int64_t length = loop_recv_frame(loop, fd, buffer, sizeof buffer - 1);
    if (length < 0) fail_msg("the connection ended before \"%s\"", text);
    assert_string_equal(buffer, text);
}

/* ---- sockets ---- */

uint16_t socket_port(const p2p_socket_t *sock) {
    p2p_address_t address;
    assert_int_equal(p2p_socket_local_address(sock, &address), 0);
    return (uint16_t)p2p_address_port(&address);
}

p2p_socket_t *socket_listening(uint16_t *port) {
    p2p_socket_t *listener = p2p_socket_create(P2P_TCP);
    assert_non_null(listener);
    assert_int_equal(p2p_socket_bind(listener, "127.0.0.1", 0), 0);
    assert_int_equal(p2p_socket_listen(listener, 0), 0);
    *port = socket_port(listener);
    return listener;
}

p2p_socket_t *socket_pair(p2p_handle_t *fd) {
    uint16_t port;
    p2p_socket_t *listener = socket_listening(&port);
    *fd = raw_connect(port);
    assert_true(*fd != P2P_INVALID_HANDLE);
    p2p_socket_t *accepted = p2p_socket_accept(listener);
    assert_non_null(accepted);
    p2p_socket_close(listener);
    return accepted;
}

void socket_await_input(const p2p_socket_t *sock) {
    assert_true(os_poll(p2p_socket_handle(sock), POLLIN, RAW_DEADLINE_S * 1000) > 0);
}
