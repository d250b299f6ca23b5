/* What only POSIX systems have: fork, signals, limits of descriptors, files and interfaces as they name them. */
#include "echo.h"
#include "probe.h"

#include <p2pnet/sys.h>

#include <fcntl.h>
#include <net/if.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

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
    p2p_handle_t old = raw_connect(server.port);
    assert_true(raw_send_text(old, "before"));
    loop_expect_text(loop, old, "before");
    for (int i = 0; i < 3; i++) run_child(loop, free_in_child);
    assert_true(raw_send_text(old, "after"));
    loop_expect_text(loop, old, "after");
    p2p_handle_t new = raw_connect(server.port);
    assert_true(raw_send_text(new, "new"));
    loop_expect_text(loop, new, "new");
    assert_int_equal(server.ended, 0);
    os_close(old);
    os_close(new);
    RUN_UNTIL(loop, server.ended == 2);
    echo_stop(&server);
    p2p_event_loop_free(loop);
}

/* What the child's memory was used for in the meantime is still there afterwards. */
static void use_memory_and_free(p2p_event_loop_t *loop) {
    enum { SIZE = 64 * 1024 };
    char *blocks[64];
    for (size_t i = 0; i < COUNT_OF(blocks); i++) {
        blocks[i] = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (blocks[i] == MAP_FAILED) _exit(1);
        memset(blocks[i], 'x', SIZE);
    }
    p2p_event_loop_free(loop);
    for (size_t i = 0; i < COUNT_OF(blocks); i++)
        if (memchr(blocks[i], 0, SIZE) != NULL) _exit(1);
}

static void a_child_loses_no_memory_with_the_loop(void **state) {
    (void)state;
    p2p_event_loop_t *loop = loop_create(NULL);
    loop_settle(loop);
    run_child(loop, use_memory_and_free);
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

static void free_and_use_messages(p2p_event_loop_t *loop) {
    p2p_message_free(p2p_message_create("spare", 5)); /* which goes with the loop that runs */
    p2p_event_loop_free(loop);
    p2p_message_t *message = p2p_message_create("whole", 5);
    if (message == NULL || memcmp(message->data, "whole", 5) != 0) _exit(1);
    p2p_message_free(message);
}

static void fork_in_callback(void *loop) {
    run_child(loop, free_and_use_messages);
}

static void a_child_that_frees_the_loop_in_a_callback_has_messages(void **state) {
    (void)state;
    p2p_event_loop_t *loop = loop_create(NULL);
    assert_int_equal(p2p_event_loop_post(loop, fork_in_callback, loop), 0);
    loop_settle(loop);
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
    p2p_handle_t fd = raw_connect(server.port);
    raw_send_text(fd, "hello");
    while (server.messages == 0) p2p_event_loop_run_once(loop, 10);
    p2p_event_loop_next_timeout(loop);
    if (raw_recv_frame(fd, back, sizeof back) != 5) _exit(2);
    os_close(fd);
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

static p2p_event_loop_t *volatile signalled_loop;

static void stop_on_signal(int number) {
    (void)number;
    p2p_event_loop_stop(signalled_loop);
}

static void kill_main(void *main_thread) {
    pthread_kill(*(pthread_t *)main_thread, SIGUSR1);
}

static void stop_is_safe_in_a_signal_handler(void **state) {
    (void)state;
#if defined(__SANITIZE_THREAD__)
    test_skip("ThreadSanitizer holds signals back in calls it doesn't know, epoll_pwait2 and pselect among them");
#endif
    pthread_t self = pthread_self();
    os_thread thread;
    p2p_event_loop_t *loop = loop_create(NULL);
    uint16_t port;
    p2p_socket_t *listener = socket_listening(&port);
    assert_int_equal(p2p_event_loop_add_socket(loop, listener, NULL, NULL), 0); /* so that run has to wait */
    signalled_loop = loop;
    struct sigaction action = { .sa_handler = stop_on_signal }, before;
    assert_int_equal(sigaction(SIGUSR1, &action, &before), 0);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(os_thread_start(&thread, kill_main, &self), 0);
        p2p_event_loop_run(loop);
        assert_int_equal(p2p_last_error(), 0);
        os_thread_join(&thread);
    }
    sigaction(SIGUSR1, &before, NULL);
    p2p_event_loop_free(loop);
    p2p_socket_close(listener);
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
    p2p_handle_t fd = raw_connect(server.port);
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
    os_close(fd);
    echo_stop(&server);
    p2p_event_loop_free(loop);
}

/* ---- descriptors run out ---- */

typedef struct starved {
    p2p_event_loop_t *loop;
    unsigned accepted, errors, errors_wanted;
    int error;
    int64_t first, last; /* error by the clock */
    p2p_socket_t *kept[3];
} starved;

static void accept_one(p2p_socket_t *listener, void *user_data) {
    starved *s = user_data;
    p2p_socket_t *accepted = p2p_socket_accept(listener);
    if (accepted == NULL) return;
    s->accepted++;
    p2p_socket_close(accepted);
}

static void accept_and_keep(p2p_socket_t *listener, void *user_data) {
    starved *s = user_data;
    p2p_socket_t *accepted = p2p_socket_accept(listener);
    if (accepted != NULL) s->kept[s->accepted++] = accepted;
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
    p2p_handle_t fds[3];
    options.accept_pause_ms = 20;
    starved s = { .loop = loop_create(&options), .errors_wanted = 3 };
    p2p_socket_t *listener = socket_listening(&port);
    assert_int_equal(p2p_event_loop_add_socket_with(s.loop, listener, &callbacks, &s), 0);
    for (size_t i = 0; i < COUNT_OF(fds); i++) fds[i] = raw_connect(port);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = before;
    low.rlim_cur = (rlim_t)fcntl(0, F_DUPFD_CLOEXEC, 0); /* the next free number */
    os_close((int)low.rlim_cur);
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
    for (size_t i = 0; i < COUNT_OF(fds); i++) os_close(fds[i]);
    p2p_socket_close(listener);
    p2p_event_loop_free(s.loop);
}

/* Each pause has one error; what is free again is used, and no more. */
static void with_one_descriptor_free_again_one_connection_is_accepted(void **state) {
    (void)state;
    static const p2p_socket_callbacks_t callbacks = {
        sizeof(p2p_socket_callbacks_t), accept_and_keep, NULL, NULL, note_starvation, NULL, NULL
    };
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    struct rlimit before, low;
    uint16_t port;
    p2p_handle_t fds[3];
    options.accept_pause_ms = 1;
    starved s = { .loop = loop_create(&options) };
    p2p_socket_t *listener = socket_listening(&port);
    assert_int_equal(p2p_event_loop_add_socket_with(s.loop, listener, &callbacks, &s), 0);
    for (size_t i = 0; i < COUNT_OF(fds); i++) fds[i] = raw_connect(port);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = before;
    for (unsigned allowed = 0; allowed < COUNT_OF(fds); allowed++) {
        int free_number = fcntl(0, F_DUPFD_CLOEXEC, 0); /* the lowest */
        os_close(free_number);
        low.rlim_cur = (rlim_t)free_number + (allowed > 0);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
        unsigned errors = s.errors + 3;
        RUN_UNTIL(s.loop, s.accepted == allowed && s.errors >= errors);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0); /* the listener rests: nothing comes of it yet */
    }
    RUN_UNTIL(s.loop, s.accepted == COUNT_OF(fds));
    for (size_t i = 0; i < COUNT_OF(fds); i++) {
        p2p_socket_close(s.kept[i]);
        os_close(fds[i]);
    }
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
    os_close((int)low.rlim_cur);
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

/* ---- files and interfaces ---- */

static void never_ready(p2p_watch_t *watch, uint32_t ready, void *user_data) {
    (void)watch;
    (void)ready;
    (void)user_data;
    fail_msg("a file was told to be ready");
}

static void watching_a_regular_file_is_NOT_SUPPORTED(void **state) {
    (void)state;
    FILE *file = tmpfile();
    assert_non_null(file);
    p2p_event_loop_t *loop = loop_create(NULL);
    for (uint32_t interest = 0; interest <= 1; interest++) {
        assert_null(p2p_event_loop_watch(loop, fileno(file), interest, never_ready, NULL));
        assert_int_equal(p2p_last_error(), P2P_ERR_NOT_SUPPORTED);
    }
    p2p_event_loop_free(loop);
    fclose(file);
}

static void a_scope_can_be_the_name_of_an_interface(void **state) {
    (void)state;
    char expected[P2P_ADDRESS_TEXT_SIZE], formatted[P2P_ADDRESS_TEXT_SIZE];
    p2p_address_t address;
    unsigned lo = if_nametoindex("lo");
    if (lo == 0) test_skip("no interface lo");
    snprintf(expected, sizeof expected, "[fe80::1%%%u]:80", lo);
    assert_int_equal(p2p_address_parse(&address, "fe80::1%lo", 80), 0);
    assert_int_equal(p2p_address_format(&address, formatted, sizeof formatted), strlen(expected));
    assert_string_equal(formatted, expected);
}

/* ---- threads that look names up ---- */

static struct {
    atomic_bool gate_shut, begun;
    bool signals_blocked;
    p2p_socket_t *sock;
} names;

static int held_resolve(const char *name, uint16_t port, p2p_socket_type_t type, p2p_address_t *out,
                        uint32_t capacity) {
    (void)name, (void)type, (void)capacity;
    sigset_t blocked;
    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    names.signals_blocked = sigismember(&blocked, SIGTERM) == 1 && sigismember(&blocked, SIGUSR1) == 1;
    atomic_store(&names.begun, true);
    while (atomic_load(&names.gate_shut)) p2p_sys_default()->thread_rest();
    p2p_sys_default()->address_parse(out, "127.0.0.1", port);
    return 1;
}

static int names_setup(void **state) {
    (void)state;
    p2p_sys_ops table = *test_system();
    table.resolve = held_resolve;
    atomic_store(&names.gate_shut, true);
    atomic_store(&names.begun, false);
    return fixture_start(&table, NULL);
}

static p2p_event_loop_t *loop_that_looks_up(uint16_t port) {
    p2p_event_loop_t *loop = loop_create(NULL);
    names.sock = p2p_socket_create(P2P_TCP);
    assert_int_equal(p2p_event_loop_add_socket(loop, names.sock, NULL, NULL), 0);
    assert_int_equal(p2p_socket_connect(names.sock, "peer.example", port), 0);
    RUN_UNTIL(loop, atomic_load(&names.begun));
    return loop;
}

/* A handler of the program's would run on a small stack, beside whatever it was written for. */
static void no_signal_is_delivered_to_a_thread_of_the_library(void **state) {
    (void)state;
    sigset_t before, after;
    pthread_sigmask(SIG_BLOCK, NULL, &before);
    p2p_event_loop_t *loop = loop_that_looks_up(1);
    assert_true(names.signals_blocked);
    pthread_sigmask(SIG_BLOCK, NULL, &after);
    assert_int_equal(sigismember(&after, SIGTERM), sigismember(&before, SIGTERM)); /* the caller's are as they were */
    atomic_store(&names.gate_shut, false);
    RUN_UNTIL(loop, loop_stats(loop).lookups == 0);
    p2p_socket_close(names.sock);
    p2p_event_loop_free(loop);
}

static void free_without_threads(p2p_event_loop_t *loop) {
    p2p_event_loop_free(loop);
    p2p_socket_close(names.sock);
    if (memory_in_use() != 0) _exit(1);
}

/* The child has no threads: it must neither wait for one nor leave it anything to free. */
static void a_child_frees_a_loop_whose_lookup_is_under_way(void **state) {
    (void)state;
    uint16_t port;
    p2p_handle_t listener = raw_listen(&port, 1);
    p2p_event_loop_t *loop = loop_that_looks_up(port);
    run_child(loop, free_without_threads);
    atomic_store(&names.gate_shut, false);
    while (loop_stats(loop).lookups > 0) os_yield(); /* posted, and not heard */
    run_child(loop, free_without_threads);
    p2p_handle_t fd = loop_accept(loop, listener); /* the parent goes on */
    os_close(fd);
    os_close(listener);
    p2p_socket_close(names.sock);
    p2p_event_loop_free(loop);
}

#define NAMES_CASE(function) cmocka_unit_test_setup_teardown(function, names_setup, fixture_teardown)

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        CASE(a_child_that_frees_the_loop_does_not_disturb_the_parent),
        CASE(a_child_that_frees_the_loop_writes_nothing_to_its_peers),
        CASE(a_child_loses_no_memory_with_the_loop),
        CASE(a_child_that_frees_the_loop_in_a_callback_has_messages),
        CASE(a_child_can_have_a_loop_of_its_own),
        CASE(stop_is_safe_in_a_signal_handler),
        CASE(a_storm_of_signals_changes_nothing),
        CASE(out_of_descriptors_a_listener_rests_says_why_and_resumes),
        CASE(with_one_descriptor_free_again_one_connection_is_accepted),
        CASE(without_descriptors_creation_fails_with_TOO_MANY_FILES),
        CASE(watching_a_regular_file_is_NOT_SUPPORTED),
        CASE(a_scope_can_be_the_name_of_an_interface),
        NAMES_CASE(no_signal_is_delivered_to_a_thread_of_the_library),
        NAMES_CASE(a_child_frees_a_loop_whose_lookup_is_under_way),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
