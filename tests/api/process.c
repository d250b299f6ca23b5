/* The library in its process: start and end, hooks, looking inside, peers that are gone. */
#include "echo.h"
#include "probe.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- start and end ---- */

static void init_is_counted_and_options_are_for_the_first_call(void **state) {
    (void)state; /* the fixture has made the first one */
    p2p_init_options_t options = P2P_INIT_OPTIONS_INIT;
    assert_int_equal(p2p_init(), 0);
    assert_int_equal(p2p_init_with(&options), P2P_ERR_ALREADY);
    assert_int_equal(p2p_init(), 0);
    p2p_cleanup();
    p2p_cleanup();
    uint64_t before = memory_calls();
    p2p_event_loop_free(loop_create(NULL));
    assert_true(memory_calls() > before); /* the fixture's allocator is still in force */
}

static void *no_alloc(size_t size, void *user) {
    (void)size;
    (void)user;
    return NULL;
}

static void bad_options_are_INVALID(void **state) {
    (void)state;
    p2p_init_options_t options = P2P_INIT_OPTIONS_INIT;
    p2p_allocator half = { no_alloc, NULL, NULL, NULL };
    p2p_sys_ops sys = *p2p_sys_default();
    p2p_cleanup(); /* the fixture's */
    options.size = 1;
    assert_int_equal(p2p_init_with(&options), P2P_ERR_INVALID);
    options = (p2p_init_options_t)P2P_INIT_OPTIONS_INIT;
    options.allocator = &half;
    assert_int_equal(p2p_init_with(&options), P2P_ERR_INVALID);
    options.allocator = NULL;
    options.system = &sys;
    sys.recv = NULL;
    assert_int_equal(p2p_init_with(&options), P2P_ERR_INVALID);
    sys = *p2p_sys_default();
    sys.size = 1;
    assert_int_equal(p2p_init_with(&options), P2P_ERR_INVALID);
    assert_int_equal(p2p_init_with(NULL), 0);
}

static void cleanup_without_init_has_no_effect(void **state) {
    (void)state;
    p2p_cleanup();
    p2p_cleanup();
    p2p_cleanup();
    assert_int_equal(p2p_init(), 0);
}

static void the_version_is_that_of_the_headers(void **state) {
    (void)state;
    char expected[32];
    snprintf(expected, sizeof expected, "%d.%d.%d", P2P_VERSION_MAJOR, P2P_VERSION_MINOR, P2P_VERSION_PATCH);
    assert_string_equal(p2p_version(), expected);
}

static void errors_have_names_and_texts(void **state) {
    (void)state;
#define CHECK_TEXT(number, name, text)                             \
    assert_string_equal(p2p_error_name(number), "P2P_ERR_" #name); \
    assert_string_equal(p2p_error_message(number), text);
    P2P_ERROR_MAP(CHECK_TEXT)
#undef CHECK_TEXT
    assert_string_equal(p2p_error_name(0), "P2P_OK");
    assert_string_equal(p2p_error_name(-9999), "P2P_ERR_?");
    assert_string_equal(p2p_error_name(1), "P2P_ERR_?");
    assert_non_null(p2p_error_message(0));
    assert_non_null(p2p_error_message(-9999));
}

/* ---- hooks ---- */

static atomic_uint lines_logged;

static void log_line(p2p_log_level_t level, const char *text, void *user_data) {
    (void)user_data;
    assert_in_range(level, P2P_LOG_DEBUG, P2P_LOG_ERROR);
    assert_non_null(text);
    assert_null(strchr(text, '\n'));
    atomic_fetch_add(&lines_logged, 1);
}

static int setup_log(void **state) {
    (void)state;
    return fixture_start(NULL, log_line);
}

static void a_log_hook_gets_lines_without_newlines(void **state) {
    (void)state;
    echo_server server;
    p2p_event_loop_t *loop = loop_create(NULL);
    echo_start(&server, loop, false);
    p2p_handle_t fd = raw_connect(server.port);
    assert_true(raw_send_text(fd, "hello"));
    loop_expect_text(loop, fd, "hello");
    assert_true(raw_send_header(fd, 0xffffffff));
    RUN_UNTIL(loop, server.ended == 1);
    os_close(fd);
    echo_stop(&server);
    p2p_event_loop_free(loop);
}

/* What a library writes to standard output or error is a bug. */
static void the_library_prints_nothing(void **state) {
    (void)state;
    echo_server server;
    os_mute();
    p2p_event_loop_t *loop = loop_create(NULL);
    echo_start(&server, loop, false);
    p2p_handle_t fd = raw_connect(server.port);
    raw_send_header(fd, 0xffffffff);
    RUN_UNTIL(loop, server.ended == 1);
    raw_reset(fd);
    echo_stop(&server);
    p2p_event_loop_free(loop);
    assert_int_equal(os_unmute(), 0);
}

/* ---- looking inside ---- */

static void stats_count_what_happened(void **state) {
    (void)state;
    echo_server server;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.measure_callbacks = 1;
    p2p_event_loop_t *loop = loop_create(&options);
    echo_start(&server, loop, true);
    p2p_handle_t fd = raw_connect(server.port);
    for (int i = 0; i < 10; i++) {
        assert_true(raw_send_text(fd, "hello"));
        loop_expect_text(loop, fd, "hello");
    }
    RUN_UNTIL(loop, loop_stats(loop).output_queued == 0); /* the last answer is known to have been sent */
    p2p_event_loop_stats_t stats = loop_stats(loop);
    assert_int_equal(stats.accepted, 1);
    assert_int_equal(stats.messages_in, 10);
    assert_int_equal(stats.messages_out, 10);
    assert_int_equal(stats.bytes_in, 10 * 9);
    assert_int_equal(stats.bytes_out, 10 * 9);
    assert_int_equal(stats.output_queued, 0);
    assert_int_equal(stats.buffers_lent, 0);
    assert_int_equal(stats.callbacks, 11);
    assert_true(stats.callback_max_ns > 0);
    assert_true(stats.waits > 0 && stats.turns > 0 && stats.wakeups > 0);
    assert_true(stats.events >= stats.wakeups && stats.events_max >= 1);
    assert_true(stats.wakeups <= stats.waits);
    os_close(fd);
    echo_stop(&server);
    p2p_event_loop_free(loop);
}

static void stats_fill_no_more_than_the_caller_knows(void **state) {
    (void)state;
    p2p_event_loop_stats_t stats;
    memset(&stats, 0x55, sizeof stats);
    p2p_event_loop_t *loop = loop_create(NULL);
    stats.size = offsetof(p2p_event_loop_stats_t, waits);
    assert_int_equal(p2p_event_loop_run_once(loop, 0), 0);
    assert_int_equal(p2p_event_loop_stats(loop, &stats), 0);
    assert_int_equal(stats.turns, 1);
    assert_int_equal(stats.waits, 0x5555555555555555u);
    p2p_event_loop_free(loop);
}

typedef struct lines {
    int count;
    char text[4096];
} lines;

static void add_line(const char *line, void *user_data) {
    lines *l = user_data;
    assert_null(strchr(line, '\n'));
    l->count++;
    strncat(l->text, line, sizeof l->text - strlen(l->text) - 2);
    strcat(l->text, "\n");
}

static void ignore_watch(p2p_watch_t *watch, uint32_t ready, void *user_data) {
    (void)watch;
    (void)ready;
    (void)user_data;
}

static void ignore_timer(p2p_timer_t *timer, void *user_data) {
    (void)timer;
    (void)user_data;
}

static void dump_describes_what_is_registered(void **state) {
    (void)state;
    lines empty = { 0 }, full = { 0 };
    echo_server server;
    p2p_handle_t ends[2];
    p2p_event_loop_t *loop = loop_create(NULL);
    int count = p2p_event_loop_dump(loop, add_line, &empty);
    assert_int_equal(count, empty.count);
    echo_start(&server, loop, false);
    p2p_handle_t fd = raw_connect(server.port);
    RUN_UNTIL(loop, server.accepted == 1);
    assert_int_equal(os_pipe(ends), 0);
    p2p_watch_t *watch = p2p_event_loop_watch(loop, ends[0], P2P_READABLE, ignore_watch, NULL);
    assert_int_equal(p2p_timer_start(p2p_timer_create(loop, ignore_timer, NULL), UINT64_MAX, 0), 0);
    count = p2p_event_loop_dump(loop, add_line, &full);
    assert_int_equal(count, full.count);
    assert_true(full.count >= empty.count + 3);
    assert_non_null(strstr(full.text, "127.0.0.1"));
    p2p_watch_free(watch);
    os_close(ends[0]);
    os_close(ends[1]);
    os_close(fd);
    echo_stop(&server);
    p2p_event_loop_free(loop);
}

/* ---- peers that are gone ---- */

/* SIGPIPE, where there is one, has its default action: it would end this program. */
static void sending_to_peers_that_are_gone_raises_no_SIGPIPE(void **state) {
    (void)state;
    for (int i = 0; i < 10; i++) {
        probe p = { 0 };
        p2p_event_loop_t *loop = loop_create(NULL);
        probe_open(&p, loop, &probe_by_read);
        raw_reset(p.fd);
        p.fd = P2P_INVALID_HANDLE;
        for (int k = 0; k < 5; k++) {
            p2p_message_send_data(p.sock, "x", 1);
            assert_true(p2p_event_loop_run_once(loop, 0) >= 0);
        }
        RUN_UNTIL(loop, p.errors > 0);
        probe_close(&p);
        p2p_event_loop_free(loop);
    }
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        CASE(init_is_counted_and_options_are_for_the_first_call),
        CASE(bad_options_are_INVALID),
        CASE(cleanup_without_init_has_no_effect),
        CASE(the_version_is_that_of_the_headers),
        CASE(errors_have_names_and_texts),
        cmocka_unit_test_setup_teardown(a_log_hook_gets_lines_without_newlines, setup_log, fixture_teardown),
        CASE(the_library_prints_nothing),
        CASE(stats_count_what_happened),
        CASE(stats_fill_no_more_than_the_caller_knows),
        CASE(dump_describes_what_is_registered),
        CASE(sending_to_peers_that_are_gone_raises_no_SIGPIPE),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
