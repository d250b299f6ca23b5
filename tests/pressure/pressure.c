/* What all goals share. */
#include "pressure.h"

#include <p2pnet/sys.h>

#include <stdio.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#    define SANITIZED 1
#elif defined(__has_feature)
#    if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#        define SANITIZED 1
#    endif
#endif
#ifndef SANITIZED
#    define SANITIZED 0
#endif

void goal(bool met, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("GOAL ", stdout);
    vprintf(format, arguments);
    puts(met ? " PASS" : " FAIL");
    fflush(stdout);
    va_end(arguments);
    if (!met) fail();
}

unsigned goal_count(unsigned full, unsigned fewer) {
    return SANITIZED || os_is_wine() ? fewer : full;
}

/* ---- the clock ---- */

static int64_t clock_now;

static int64_t stopped_clock(void) {
    return clock_now;
}

void clock_advance(int64_t ns) {
    clock_now += ns;
}

int clock_setup(void **state) {
    static p2p_sys_ops system;
    (void)state;
    system = *test_system();
    system.now_ns = stopped_clock;
    clock_now = 1000000 * MS_NS;
    return fixture_start(&system, NULL);
}

/* ---- the host ---- */

static void on_message(p2p_socket_t *sock, const void *data, uint32_t length, void *user_data) {
    host *h = user_data;
    h->messages++;
    if (h->echo) assert_int_equal(p2p_message_send_data(sock, data, length), 0);
    if (h->hook != NULL) h->hook(h, sock, length);
}

static void on_end(p2p_socket_t *sock, void *user_data) {
    host *h = user_data;
    h->ended++;
    p2p_socket_close(sock);
}

static void on_error(p2p_socket_t *sock, int error, void *user_data) {
    host *h = user_data;
    h->errors++;
    h->error = error;
    if (h->failed != NULL) h->failed(h, sock, error);
    p2p_socket_close(sock);
}

static void on_close(p2p_socket_t *sock, int reason, void *user_data) {
    (void)sock, (void)reason;
    host *h = user_data;
    h->closed++;
}

static void on_connection(p2p_socket_t *listener, void *user_data) {
    static const p2p_socket_callbacks_t callbacks = {
        sizeof(p2p_socket_callbacks_t), on_end, on_message, NULL, on_error, NULL, on_close
    };
    host *h = user_data;
    p2p_socket_t *sock = p2p_socket_accept(listener);
    assert_non_null(sock);
    assert_int_equal(p2p_event_loop_add_socket_with(h->loop, sock, &callbacks, h), 0);
    h->accepted++;
    if (h->joined != NULL) h->joined(h, sock);
}

static void on_refusal(p2p_socket_t *listener, int error, void *user_data) {
    (void)listener;
    host *h = user_data;
    h->refusals++;
    h->error = error;
}

void host_open(host *h, const p2p_event_loop_options_t *options) {
    static const p2p_socket_callbacks_t callbacks = {
        sizeof(p2p_socket_callbacks_t), on_connection, NULL, NULL, on_refusal, NULL, NULL
    };
    h->loop = loop_create(options);
    h->listener = socket_listening(&h->port);
    assert_int_equal(p2p_event_loop_add_socket_with(h->loop, h->listener, &callbacks, h), 0);
}

void host_close(host *h) {
    p2p_event_loop_free(h->loop);
    p2p_socket_close(h->listener);
}

void host_admit(host *h, crowd *c, unsigned count) {
    const unsigned batch = 500; /* fewer than a listener's backlog holds */
    while (count > 0) {
        unsigned some = count < batch ? count : batch, before = h->accepted;
        crowd_begin(c, (crowd_order){ .what = CROWD_CONNECT, .port = h->port, .count = some }, NULL);
        RUN_UNTIL(h->loop, h->accepted - before == some && crowd_done(c));
        assert_int_equal(crowd_result(c), some);
        count -= some;
    }
}

/* ---- figures ---- */

size_t resident_bytes(void) {
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL) return 0;
    if (fscanf(file, "%*u %lu", &pages) != 1) pages = 0;
    fclose(file);
    return (size_t)pages * 4096;
}

static int compare(const void *left, const void *right) {
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

int64_t percentile(int64_t *values, size_t count, double part) {
    qsort(values, count, sizeof *values, compare);
    size_t at = (size_t)((double)count * part);
    return values[at < count ? at : count - 1];
}
