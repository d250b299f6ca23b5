/* Peers whose process is killed in the middle of a message, or whose host is gone without a word, or that are none. */
#include "pressure.h"

#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BODY = 1000 };

static unsigned truncated, other;

static void count_end(host *h, p2p_socket_t *sock, int error) {
    (void)h, (void)sock;
    if (error == P2P_ERR_TRUNCATED)
        truncated++;
    else
        other++;
}

/* Sends a frame but for its last byte, and stays. */
static pid_t start_victim(uint16_t port) {
    static const uint8_t body[BODY];
    pid_t victim = fork();
    assert_true(victim >= 0);
    if (victim > 0) return victim;
    p2p_handle_t fd = raw_connect(port);
    raw_send_header(fd, BODY);
    raw_send(fd, body, BODY - 1);
    for (;;) pause();
}

static void a_killed_peer_is_noticed(void **state) {
    (void)state;
    const unsigned count = goal_count(1000, 100);
    host h = { .failed = count_end };
    int64_t *times_ns = calloc(count, sizeof *times_ns);
    assert_non_null(times_ns);
    truncated = other = 0;
    host_open(&h, NULL);
    for (unsigned i = 0; i < count; i++) {
        uint64_t bytes = loop_stats(h.loop).bytes_in;
        pid_t victim = start_victim(h.port);
        RUN_UNTIL(h.loop, loop_stats(h.loop).bytes_in - bytes == BODY + 3);
        int64_t begin_ns = clock_ns();
        kill(victim, SIGKILL);
        RUN_UNTIL(h.loop, h.errors == i + 1 || h.ended > 0);
        times_ns[i] = clock_ns() - begin_ns;
        waitpid(victim, NULL, 0);
    }
    int64_t p50 = percentile(times_ns, count, 0.5), p99 = percentile(times_ns, count, 0.99), max = times_ns[count - 1];
    free(times_ns);
    host_close(&h);
    goal(truncated == count && other + h.ended + h.messages == 0,
         "G-N11 kill9: %u peers killed in a message, %u told as truncated, detect p50 %.2f p99 %.2f max %.2f ms", count,
         truncated, (double)p50 / 1e6, (double)p99 / 1e6, (double)max / 1e6);
}

/* ---- a host that is gone without a word ---- */

#if defined(__linux__)
/* The loopback device of this network namespace. */
static bool set_loopback(bool up) {
    struct ifreq request = { .ifr_name = "lo" };
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    request.ifr_flags = up ? IFF_UP | IFF_RUNNING : 0;
    bool done = fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &request) == 0;
    close(fd);
    return done;
}

static bool enter_own_network(void) {
    return unshare(CLONE_NEWNET) == 0 && set_loopback(true);
}
#else
static bool set_loopback(bool up) {
    (void)up;
    return false;
}

static bool enter_own_network(void) {
    return false;
}
#endif

static int64_t failed_ns;

static void note_time(host *h, p2p_socket_t *sock, int error) {
    (void)h, (void)sock, (void)error;
    failed_ns = clock_ns();
}

static void keep_alive(host *h, p2p_socket_t *sock) {
    (void)h;
    assert_int_equal(p2p_socket_set_option(sock, P2P_OPTION_KEEPALIVE, 1), 0);
}

static void a_host_that_vanishes_is_noticed_by_keepalive(void **state) {
    (void)state;
    enum { PROMISED_S = 1 + 10 };
    host h = { .joined = keep_alive, .failed = note_time };
    if (!enter_own_network()) {
        p2p_cleanup();
        test_skip("a network namespace of its own needs Linux and root");
    }
    host_open(&h, NULL);
    p2p_handle_t fd = raw_connect(h.port);
    RUN_UNTIL(h.loop, h.accepted == 1);
    assert_true(set_loopback(false));
    int64_t begin_ns = clock_ns();
    for (unsigned s = 0; h.errors + h.ended == 0 && s < 10 * PROMISED_S; s++)
        assert_true(p2p_event_loop_run_once(h.loop, 1000) >= 0);
    set_loopback(true);
    double took_s = (double)(failed_ns - begin_ns) / 1e9;
    os_close(fd);
    host_close(&h);
    goal(h.errors == 1 && h.ended == 0 && h.error == P2P_ERR_TIMED_OUT && took_s >= 1,
         "G-N11 vanish: %s after %.1f s (keepalive 1 s: %d s promised)", p2p_error_name(h.error), took_s, PROMISED_S);
}

/* ---- a connection to oneself ---- */

static bool allow_one_port(void) {
    FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "w");
    return file != NULL && fputs("40000 40001", file) >= 0 && fclose(file) == 0;
}

static unsigned connected;
static int answer;

static void on_connect(p2p_socket_t *sock, int error, void *user_data) {
    unsigned *answers = user_data;
    answer = error;
    connected += error == 0;
    ++*answers;
    p2p_socket_close(sock);
}

static void a_connection_to_itself_is_no_connection(void **state) {
    (void)state;
    enum { ATTEMPTS = 50, PORT = 40000 };
    static const p2p_socket_callbacks_t callbacks = {
        sizeof(p2p_socket_callbacks_t), NULL, NULL, NULL, NULL, on_connect, NULL
    };
    unsigned raw = 0, answers = 0;
    if (!enter_own_network() || !allow_one_port()) {
        p2p_cleanup();
        test_skip("a network namespace of its own needs Linux and root");
    }
    connected = 0;
    for (int i = 0; i < ATTEMPTS; i++) { /* nobody listens; now and then the system answers for itself */
        p2p_handle_t fd = raw_connect(PORT);
        if (fd == P2P_INVALID_HANDLE) continue;
        raw++;
        raw_reset(fd);
    }
    p2p_event_loop_t *loop = loop_create(NULL);
    for (unsigned i = 0; i < ATTEMPTS; i++) {
        p2p_socket_t *sock = p2p_socket_create(P2P_TCP);
        assert_int_equal(p2p_event_loop_add_socket_with(loop, sock, &callbacks, &answers), 0);
        assert_int_equal(p2p_socket_connect(sock, "127.0.0.1", PORT), 0);
        RUN_UNTIL(loop, answers == i + 1);
    }
    p2p_event_loop_free(loop);
    goal(raw > 0 && connected == 0 && answer == P2P_ERR_REFUSED,
         "G-N13 selfconnect: the system connects %u of %d with themselves, %u of %d are told as connected", raw,
         ATTEMPTS,
         connected, ATTEMPTS);
}

int main(int argc, char **argv) {
    const struct CMUnitTest cases[] = {
        GOAL("G-N11.killed", a_killed_peer_is_noticed),
        GOAL("G-N11.vanished", a_host_that_vanishes_is_noticed_by_keepalive),
        GOAL("G-N13", a_connection_to_itself_is_no_connection), /* both leave the network of the cases before */
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
