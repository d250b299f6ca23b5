/* The library in its process: start and end, hooks, looking inside, fork, signals, and descriptors that run out. */
#include "echo.h"
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

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
    int fd = raw_connect(server.port);
    assert_true(raw_send_text(fd, "hello"));
    loop_expect_text(loop, fd, "hello");
    assert_true(raw_send_header(fd, 0xffffffff));
    RUN_UNTIL(loop, server.ended == 1);
    close(fd);
    echo_stop(&server);
    p2p_event_loop_free(loop);
}

/* Start with nothing on standard output and error: what a library writes there is a bug. */
static void the_library_prints_nothing(void **state) {
    (void)state;
    echo_server server;
    int ends[2], saved[2] = { dup(1), dup(2) };
    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    fflush(stdout);
    fflush(stderr);
    dup2(ends[1], 1);
    dup2(ends[1], 2);
    p2p_event_loop_t *loop = loop_create(NULL);
    echo_start(&server, loop, false);
    int fd = raw_connect(server.port);
    raw_send_header(fd, 0xffffffff);
    RUN_UNTIL(loop, server.ended == 1);
    raw_reset(fd);
    echo_stop(&server);
    p2p_event_loop_free(loop);
    dup2(saved[0], 1);
    dup2(saved[1], 2);
    char byte;
    assert_int_equal(read(ends[0], &byte, 1), -1);
    assert_int_equal(errno, EAGAIN);
    for (int i = 0; i < 2; i++) {
        close(saved[i]);
        close(ends[i]);
    }
}

/* ---- looking inside ---- */

static void stats_count_what_happened(void **state) {
    (void)state;
    echo_server server;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.measure_callbacks = 1;
    p2p_event_loop_t *loop = loop_create(&options);
    echo_start(&server, loop, true);
    int fd = raw_connect(server.port);
    for (int i = 0; i < 10; i++) {
        assert_true(raw_send_text(fd, "hello"));
        loop_expect_text(loop, fd, "hello");
    }
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
    close(fd);
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
    int ends[2];
    p2p_event_loop_t *loop = loop_create(NULL);
    int count = p2p_event_loop_dump(loop, add_line, &empty);
    assert_int_equal(count, empty.count);
    echo_start(&server, loop, false);
    int fd = raw_connect(server.port);
    RUN_UNTIL(loop, server.accepted == 1);
    assert_int_equal(pipe(ends), 0);
    p2p_watch_t *watch = p2p_event_loop_watch(loop, ends[0], P2P_READABLE, ignore_watch, NULL);
    assert_int_equal(p2p_timer_start(p2p_timer_create(loop, ignore_timer, NULL), UINT64_MAX, 0), 0);
    count = p2p_event_loop_dump(loop, add_line, &full);
    assert_int_equal(count, full.count);
    assert_true(full.count >= empty.count + 3);
    assert_non_null(strstr(full.text, "127.0.0.1"));
    p2p_watch_free(watch);
    close(ends[0]);
    close(ends[1]);
    close(fd);
    echo_stop(&server);
    p2p_event_loop_free(loop);
}

/* ---- fork ---- */

static void run_child(p2p_event_loop_t *loop, void (*body)(p2p_event_loop_t *)) {
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(RAW_DEADLINE_S);
        body(loop);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void free_in_child(p2p_event_loop_t *loop) {
    int before = descriptors_open();
    p2p_event_loop_free(loop);
    if (descriptors_open() >= before) _exit(1); /* at least the connections are closed */
}

/* The epoll set is shared with the child: if the child took sockets out of it, the parent would go deaf. */
static void a_child_that_frees_the_loop_does_not_disturb_the_parent(void **state) {
    (void)state;
    echo_server server;
    p2p_event_loop_t *loop = loop_create(NULL);
    echo_start(&server, loop, false);
    int old = raw_connect(server.port);
    assert_true(raw_send_text(old, "before"));
    loop_expect_text(loop, old, "before");
    for (int i = 0; i < 3; i++) run_child(loop, free_in_child);
    assert_true(raw_send_text(old, "after"));
    loop_expect_text(loop, old, "after");
    int new = raw_connect(server.port);
    assert_true(raw_send_text(new, "new"));
    loop_expect_text(loop, new, "new");
    assert_int_equal(server.ended, 0);
    close(old);
    close(new);
    RUN_UNTIL(loop, server.ended == 2);
    echo_stop(&server);
    p2p_event_loop_free(loop);
}

static void free_with_output(p2p_event_loop_t *loop) {
    p2p_event_loop_free(loop);
}

static void a_child_that_frees_the_loop_writes_nothing_to_its_peers(void **state) {
    (void)state;
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_read);
    loop_settle(loop);
    assert_int_equal(p2p_message_send_data(p.sock, "once", 4), 0); /* queued at the time of the fork */
    run_child(loop, free_with_output);
    assert_false(raw_readable(p.fd)); /* neither the message nor an end */
    assert_string_equal(p.trace, "");
    loop_expect_text(loop, p.fd, "once");
    loop_settle(loop);
    assert_false(raw_readable(p.fd));
    probe_close(&p);
    p2p_event_loop_free(loop);
}

static void use_own_loop(p2p_event_loop_t *parents) {
    p2p_event_loop_free(parents);
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    echo_server server;
    char back[8];
    options.backend = test_backend();
    p2p_event_loop_t *loop = p2p_event_loop_create_with(&options);
    if (loop == NULL || echo_try_start(&server, loop, false) != 0) _exit(1);
    int fd = raw_connect(server.port);
    raw_send_text(fd, "hello");
    while (server.messages == 0) p2p_event_loop_run_once(loop, 10);
    p2p_event_loop_next_timeout(loop);
    if (raw_recv_frame(fd, back, sizeof back) != 5) _exit(2);
    close(fd);
    echo_stop(&server);
    p2p_event_loop_free(loop);
}

static void a_child_can_have_a_loop_of_its_own(void **state) {
    (void)state;
    probe p = { 0 };
    p2p_event_loop_t *loop = loop_create(NULL);
    probe_open(&p, loop, &probe_by_read);
    loop_settle(loop);
    run_child(loop, use_own_loop);
    assert_true(raw_send_text(p.fd, "hello"));
    RUN_UNTIL(loop, p.messages == 1);
    probe_close(&p);
    p2p_event_loop_free(loop);
}

/* ---- signals ---- */

/* SIGPIPE has its default action: one would end this program. */
static void sending_to_peers_that_are_gone_raises_no_SIGPIPE(void **state) {
    (void)state;
    for (int i = 0; i < 10; i++) {
        probe p = { 0 };
        p2p_event_loop_t *loop = loop_create(NULL);
        probe_open(&p, loop, &probe_by_read);
        raw_reset(p.fd);
        p.fd = -1;
        for (int k = 0; k < 5; k++) {
            p2p_message_send_data(p.sock, "x", 1);
            assert_true(p2p_event_loop_run_once(loop, 0) >= 0);
        }
        RUN_UNTIL(loop, p.errors > 0);
        probe_close(&p);
        p2p_event_loop_free(loop);
    }
}

static atomic_uint alarms;

static void count_alarm(int number) {
    (void)number;
    atomic_fetch_add(&alarms, 1);
}

static void note_time(p2p_timer_t *timer, void *user_data) {
    (void)timer;
    *(int64_t *)user_data = clock_ns();
}

static void a_storm_of_signals_changes_nothing(void **state) {
    (void)state;
    echo_server server;
    struct sigaction action = { .sa_handler = count_alarm }, before; /* without SA_RESTART */
    struct itimerval storm = { { 0, 200 }, { 0, 200 } }, calm = { { 0, 0 }, { 0, 0 } };
    p2p_event_loop_t *loop = loop_create(NULL);
    echo_start(&server, loop, false);
    int fd = raw_connect(server.port);
    static uint8_t data[20000], back[20000];
    uint8_t header[4] = { 0, 0, sizeof data >> 8, sizeof data & 0xff };
    atomic_store(&alarms, 0);
    assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &storm, NULL), 0);
    for (uint32_t i = 0; i < 300 || atomic_load(&alarms) < 50; i++) {
        raw_fill(data, sizeof data, i);
        assert_true(loop_send(loop, fd, header, sizeof header));
        assert_true(loop_send(loop, fd, data, sizeof data));
        assert_int_equal(loop_recv_frame(loop, fd, back, sizeof back), sizeof back);
        assert_memory_equal(back, data, sizeof back);
    }
    /* Interrupted waits neither shorten a timer nor end a turn for ever. */
    int64_t fired = 0, begin = clock_ns();
    assert_int_equal(p2p_timer_start(p2p_timer_create(loop, note_time, &fired), 20 * P2P_NS_PER_MS, 0), 0);
    RUN_UNTIL(loop, fired != 0);
    assert_true(fired - begin >= 20 * (int64_t)P2P_NS_PER_MS);
    setitimer(ITIMER_REAL, &calm, NULL);
    sigaction(SIGALRM, &before, NULL);
    assert_int_equal(server.errors + server.ended, 0);
    close(fd);
    echo_stop(&server);
    p2p_event_loop_free(loop);
}

/* ---- descriptors run out ---- */

typedef struct starved {
    p2p_event_loop_t *loop;
    unsigned accepted, errors, errors_wanted;
    int error;
    int64_t first, last; /* error by the clock */
} starved;

static void accept_one(p2p_socket_t *listener, void *user_data) {
    starved *s = user_data;
    p2p_socket_t *accepted = p2p_socket_accept(listener);
    if (accepted == NULL) return;
    s->accepted++;
    p2p_socket_close(accepted);
}

static void note_starvation(p2p_socket_t *listener, int error, void *user_data) {
    starved *s = user_data;
    (void)listener;
    s->error = error;
    s->last = clock_ns();
    if (s->errors++ == 0) s->first = s->last;
    if (s->errors == s->errors_wanted) p2p_event_loop_stop(s->loop);
}

static void out_of_descriptors_a_listener_rests_says_why_and_resumes(void **state) {
    (void)state;
    static const p2p_socket_callbacks_t callbacks = {
        sizeof(p2p_socket_callbacks_t), accept_one, NULL, NULL, note_starvation, NULL, NULL
    };
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    struct rlimit before, low;
    uint16_t port;
    int fds[3];
    options.accept_pause_ms = 20;
    starved s = { .loop = loop_create(&options), .errors_wanted = 3 };
    p2p_socket_t *listener = socket_listening(&port);
    assert_int_equal(p2p_event_loop_add_socket_with(s.loop, listener, &callbacks, &s), 0);
    assert_int_equal(p2p_event_loop_run_once(s.loop, 0), 0);
    for (size_t i = 0; i < COUNT_OF(fds); i++) fds[i] = raw_connect(port);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = before;
    low.rlim_cur = (rlim_t)fcntl(0, F_DUPFD_CLOEXEC, 0); /* the next free number */
    close((int)low.rlim_cur);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    uint64_t waits = loop_stats(s.loop).waits;
    p2p_event_loop_run(s.loop); /* until the third error */
    int error = p2p_last_error();
    waits = loop_stats(s.loop).waits - waits;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(error, 0);
    assert_string_equal(p2p_error_name(s.error), "P2P_ERR_TOO_MANY_FILES");
    assert_int_equal(s.accepted, 0);
    assert_true(waits <= 12); /* two pauses, not a busy loop */
    assert_true(s.last - s.first >= 35 * (int64_t)P2P_NS_PER_MS);
    RUN_UNTIL(s.loop, s.accepted == COUNT_OF(fds)); /* nobody in the queue was lost */
    for (size_t i = 0; i < COUNT_OF(fds); i++) close(fds[i]);
    p2p_socket_close(listener);
    p2p_event_loop_free(s.loop);
}

static void without_descriptors_creation_fails_with_TOO_MANY_FILES(void **state) {
    (void)state;
    struct rlimit before, low;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = before;
    low.rlim_cur = (rlim_t)fcntl(0, F_DUPFD_CLOEXEC, 0);
    close((int)low.rlim_cur);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    options.backend = test_backend();
    p2p_event_loop_t *loop = p2p_event_loop_create_with(&options);
    int error = p2p_last_error(), bound = p2p_socket_bind(sock, "127.0.0.1", 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_null(loop);
    assert_string_equal(p2p_error_name(error), "P2P_ERR_TOO_MANY_FILES");
    assert_string_equal(p2p_error_name(bound), "P2P_ERR_TOO_MANY_FILES");
    assert_int_equal(p2p_socket_bind(sock, "127.0.0.1", 0), 0);
    p2p_socket_close(sock);
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
        CASE(a_child_that_frees_the_loop_does_not_disturb_the_parent),
        CASE(a_child_that_frees_the_loop_writes_nothing_to_its_peers),
        CASE(a_child_can_have_a_loop_of_its_own),
        CASE(sending_to_peers_that_are_gone_raises_no_SIGPIPE),
        CASE(a_storm_of_signals_changes_nothing),
        CASE(out_of_descriptors_a_listener_rests_says_why_and_resumes),
        CASE(without_descriptors_creation_fails_with_TOO_MANY_FILES),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
