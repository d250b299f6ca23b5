/* Peers whose process is killed in the middle of a message. */
#include "pressure.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
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

int main(int argc, char **argv) {
    const struct CMUnitTest cases[] = {
        GOAL("G-N11.killed", a_killed_peer_is_noticed),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
