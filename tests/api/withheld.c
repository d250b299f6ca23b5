/*
 * io_uring can be withheld from a process: by a seccomp filter, by the limit of locked memory, by the administrator.
 * That is a reason to take another backend, and the reason is told in words. Each case restrains a child process.
 */
#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { URING_SETUP = 425, LOOPS_MAX = 1000 };

/* What the child found. */
typedef struct attempt {
    char obstacle[128]; /* why it could not be restrained; "" if it was */
    int made;           /* how many loops on the first candidate there were before */
    int error;
    char name[32]; /* of the backend; "": no loop */
    p2p_backend_report_t first;
    size_t leaked_bytes;
    int leaked_handles;
} attempt;

typedef struct restraint {
    void (*apply)(attempt *a, long argument);
    long argument;
    p2p_event_loop_options_t options;
    bool until_it_shows; /* make loops until the first candidate is refused */
} restraint;

static void note_obstacle(attempt *a, const char *call) {
    snprintf(a->obstacle, sizeof a->obstacle, "%s: %s", call, strerror(errno));
}

static void note_attempt(attempt *a, p2p_event_loop_t *loop) {
    a->error = loop == NULL ? p2p_last_error() : 0;
    snprintf(a->name, sizeof a->name, "%s", loop == NULL ? "" : p2p_event_loop_backend_name(loop));
    p2p_event_loop_backend_report(NULL, &a->first, 1);
}

static void make_loops(const restraint *r, attempt *a) {
    static p2p_event_loop_t *loops[LOOPS_MAX];
    size_t bytes = memory_in_use();
    int handles = descriptors_open(), count = 0;
    do {
        loops[count] = p2p_event_loop_create_with(&r->options);
        note_attempt(a, loops[count++]);
    } while (r->until_it_shows && a->first.verdict == P2P_BACKEND_CHOSEN && count < LOOPS_MAX);
    a->made = count - 1;
    while (count > 0) p2p_event_loop_free(loops[--count]);
    a->leaked_bytes = memory_in_use() - bytes;
    a->leaked_handles = descriptors_open() - handles;
}

static attempt try_under(const restraint *r) {
    attempt a = { 0 };
    int ends[2], status;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        r->apply(&a, r->argument);
        if (a.obstacle[0] == '\0') make_loops(r, &a);
        _exit(write(ends[1], &a, sizeof a) != sizeof a);
    }
    close(ends[1]);
    ssize_t got = read(ends[0], &a, sizeof a);
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(got, sizeof a);
    if (a.obstacle[0] != '\0') test_skip("%s", a.obstacle);
    assert_int_equal(a.leaked_bytes, 0);
    assert_int_equal(a.leaked_handles, 0);
    return a;
}

/* Without restraint it must be there, or its refusal would show nothing. */
static void needs_io_uring(void) {
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    p2p_backend_report_t report = { 0 };
    options.backend = "io_uring";
    p2p_event_loop_t *loop = p2p_event_loop_create_with(&options);
    p2p_event_loop_backend_report(NULL, &report, 1);
    p2p_event_loop_free(loop);
    if (loop == NULL) test_skip("io_uring is not to be had here anyway: %s", report.reason);
}

static void expect_refused(const attempt *a, const char *why) {
    if (strstr(a->first.reason, why) == NULL) fail_msg("the reason does not say \"%s\": \"%s\"", why, a->first.reason);
    assert_int_equal(a->first.verdict, P2P_BACKEND_REFUSED);
    assert_string_equal(p2p_error_name(a->first.error), "P2P_ERR_NOT_SUPPORTED");
}

/* Asked for alone it fails; from a list the next is taken. The reason is there in both cases. */
static void expect_withheld(restraint *r, const char *why) {
    static const char *const alone[] = { "io_uring", "io_uring_poll" };
    static const char *const lists[] = { "io_uring,epoll", "io_uring_poll,epoll" };
    needs_io_uring();
    for (size_t i = 0; i < COUNT_OF(alone); i++) {
        r->options.backend = alone[i];
        attempt a = try_under(r);
        expect_refused(&a, why);
        assert_string_equal(a.name, "");
        assert_string_equal(p2p_error_name(a.error), "P2P_ERR_NOT_SUPPORTED");
        r->options.backend = lists[i];
        a = try_under(r);
        expect_refused(&a, why);
        assert_string_equal(a.name, "epoll");
    }
}

/* ---- a filter of system calls ---- */

static void filter_calls(attempt *a, long error) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, URING_SETUP, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { COUNT_OF(code), code };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) note_obstacle(a, "PR_SET_NO_NEW_PRIVS");
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0) note_obstacle(a, "PR_SET_SECCOMP");
}

static void a_filter_that_forbids_io_uring_is_a_reason(void **state) {
    (void)state;
    restraint r = { filter_calls, EPERM, P2P_EVENT_LOOP_OPTIONS_INIT, false };
    expect_withheld(&r, "io_uring_setup: EPERM: forbidden by a seccomp filter");
}

static void a_filter_that_denies_io_uring_is_a_reason(void **state) {
    (void)state;
    restraint r = { filter_calls, ENOSYS, P2P_EVENT_LOOP_OPTIONS_INIT, false };
    expect_withheld(&r, "io_uring_setup: ENOSYS: the kernel has no such call");
}

/* ---- the limit of locked memory, which root does not have ---- */

/* A user of the child's own if there is one to be had: what others lock is counted by user too. */
static void become_ordinary(attempt *a) {
    if (geteuid() != 0) return;
    uid_t own = 1u << 20 | (uid_t)getpid(), nobody = 65534;
    if (setgroups(0, NULL) < 0 || setgid(nobody) < 0) note_obstacle(a, "setgid");
    if (setuid(own) < 0 && setuid(nobody) < 0) note_obstacle(a, "setuid");
}

static void limit_locked_memory(attempt *a, long bytes) {
    struct rlimit limit = { (rlim_t)bytes, (rlim_t)bytes };
    if (setrlimit(RLIMIT_MEMLOCK, &limit) < 0) note_obstacle(a, "RLIMIT_MEMLOCK");
    become_ordinary(a);
}

/* Rings are not counted in every kernel and not for everybody (CAP_IPC_LOCK). */
static void needs_locked_memory_counted(void) {
    restraint r = { limit_locked_memory, 0, P2P_EVENT_LOOP_OPTIONS_INIT, false };
    needs_io_uring();
    r.options.backend = "io_uring";
    if (try_under(&r).error == 0) test_skip("this kernel does not count rings as locked memory");
}

static void without_locked_memory_io_uring_is_not_to_be_had(void **state) {
    (void)state;
    restraint r = { limit_locked_memory, 4096, P2P_EVENT_LOOP_OPTIONS_INIT, false };
    needs_locked_memory_counted();
    expect_withheld(&r, "RLIMIT_MEMLOCK");
    r.argument = 0;
    expect_withheld(&r, "RLIMIT_MEMLOCK");
}

/* The first that finds none left is refused, and nothing of it stays. */
static void loops_are_made_until_locked_memory_runs_out(void **state) {
    (void)state;
    restraint r = { limit_locked_memory, 1024 * 1024, P2P_EVENT_LOOP_OPTIONS_INIT, true };
    needs_locked_memory_counted();
    for (int polls = 0; polls < 2; polls++) {
        r.options.backend = polls ? "io_uring_poll,epoll" : "io_uring,epoll";
        attempt a = try_under(&r);
        expect_refused(&a, "RLIMIT_MEMLOCK");
        assert_string_equal(a.name, "epoll");
        print_message("%d loops before\n", a.made);
    }
}

/* The rings fit, the buffers' ring does not: no loop that later fails, or that quietly is another backend. */
static void the_ring_of_receive_buffers_counts_too(void **state) {
    (void)state;
    restraint r = { limit_locked_memory, 256 * 1024, P2P_EVENT_LOOP_OPTIONS_INIT, false };
    needs_locked_memory_counted();
    r.options.backend = "io_uring,epoll";
    assert_string_equal(try_under(&r).name, "io_uring");
    r.options.receive_buffers = 16384; /* 256 KiB of it */
    r.options.receive_buffer_size = 4096;
    attempt a = try_under(&r);
    expect_refused(&a, "RLIMIT_MEMLOCK");
    assert_string_equal(a.name, "epoll");
    r.options.backend = "io_uring";
    a = try_under(&r);
    assert_string_equal(p2p_error_name(a.error), "P2P_ERR_NOT_SUPPORTED");
    expect_refused(&a, "RLIMIT_MEMLOCK");
}

/* ---- the administrator ---- */

static const char sysctl[] = "/proc/sys/kernel/io_uring_disabled";
static int guard_end = -1; /* the guard sets the system right when this is closed, however this process ends */
static pid_t guard;

static bool set_sysctl(char value) {
    int file = open(sysctl, O_WRONLY | O_CLOEXEC);
    if (file < 0) return false;
    bool done = write(file, &value, 1) == 1;
    close(file);
    return done;
}

static void start_guard(char value) {
    int ends[2];
    char byte;
    assert_int_equal(pipe(ends), 0);
    guard = fork();
    assert_true(guard >= 0);
    if (guard == 0) {
        setsid();
        close(ends[1]);
        _exit(read(ends[0], &byte, 1) != 0 || !set_sysctl(value));
    }
    close(ends[0]);
    guard_end = ends[1];
}

static int restore_and_tear_down(void **state) {
    int status = 0;
    if (guard_end >= 0) {
        close(guard_end);
        assert_int_equal(waitpid(guard, &status, 0), guard);
    }
    guard_end = -1;
    assert_int_equal(status, 0);
    return fixture_teardown(state);
}

static void leave_as_is(attempt *a, long argument) {
    (void)a;
    (void)argument;
}

static void disabled_by_the_administrator_is_a_reason(void **state) {
    (void)state;
    restraint r = { leave_as_is, 0, P2P_EVENT_LOOP_OPTIONS_INIT, false };
    char value = '\0';
    needs_io_uring();
    if (getenv("P2P_TEST_SYSCTL") == NULL) test_skip("it would disturb other processes; P2P_TEST_SYSCTL=1 allows it");
    int file = open(sysctl, O_RDONLY | O_CLOEXEC);
    if (file < 0 || read(file, &value, 1) != 1) test_skip("%s: %s", sysctl, strerror(errno));
    close(file);
    if (!set_sysctl(value)) test_skip("%s can't be written: %s", sysctl, strerror(errno));
    start_guard(value);
    assert_true(set_sysctl('2'));
    r.options.backend = "io_uring,epoll";
    attempt list = try_under(&r);
    r.options.backend = "io_uring";
    attempt alone = try_under(&r);
    expect_refused(&list, "io_uring_setup: EPERM: forbidden by a seccomp filter or by kernel.io_uring_disabled");
    assert_string_equal(list.name, "epoll");
    expect_refused(&alone, "kernel.io_uring_disabled");
    assert_string_equal(p2p_error_name(alone.error), "P2P_ERR_NOT_SUPPORTED");
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        CASE(a_filter_that_forbids_io_uring_is_a_reason),
        CASE(a_filter_that_denies_io_uring_is_a_reason),
        CASE(without_locked_memory_io_uring_is_not_to_be_had),
        CASE(loops_are_made_until_locked_memory_runs_out),
        CASE(the_ring_of_receive_buffers_counts_too),
        cmocka_unit_test_setup_teardown(disabled_by_the_administrator_is_a_reason, fixture_setup,
                                        restore_and_tear_down),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
