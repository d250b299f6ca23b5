/*
 * The load finds what a server does wrong (bench/load.h): servers that lose, change, reorder and end, in a thread of
 * this process.
 */
#include "load.h"
#include "child.h"

#include "test_main.h"

#include <arpa/inet.h>
#include <math.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CLIENTS_MAX = 16, HEADER_SIZE = 4, SIZE = 64, FRAME_SIZE = HEADER_SIZE + SIZE };

typedef enum bad_habit { NONE, CHANGES_A_BYTE, CLOSES, SAYS_MORE, SWAPS_MESSAGES, FORGETS_A_MEMBER } bad_habit;

/* A server of fixed-size messages, by poll. After some messages it does what is wrong with it. */
typedef struct server {
    bench_process process;
    pthread_t thread;
    int listener;
    bool is_room;
    bad_habit fault;
    atomic_bool ends;
    struct pollfd fds[CLIENTS_MAX + 1];
    nfds_t count;
    unsigned messages;
} server;

static bool is_due(const server *s) {
    return s->messages == 100;
}

static void answer(server *s, nfds_t from, uint8_t *frame) {
    bool due = is_due(s) && s->fault != NONE;
    if (due && s->fault == CHANGES_A_BYTE) frame[FRAME_SIZE - 1] ^= 1;
    if (due && s->fault == CLOSES) shutdown(s->fds[from].fd, SHUT_RDWR);
    for (nfds_t i = s->is_room ? 1 : from; i <= (s->is_room ? s->count - 1 : from); i++) {
        if (due && s->fault == FORGETS_A_MEMBER && i == 2) continue;
        if (send(s->fds[i].fd, frame, FRAME_SIZE, MSG_NOSIGNAL) < 0) continue; /* gone */
        if (due && s->fault == SAYS_MORE) send(s->fds[i].fd, frame, FRAME_SIZE, MSG_NOSIGNAL);
    }
}

/* One message, or two that came together and go back in the wrong order. */
static void serve_one(server *s, nfds_t i) {
    uint8_t frames[2][FRAME_SIZE];
    ssize_t got = recv(s->fds[i].fd, frames[0], FRAME_SIZE, MSG_WAITALL);
    if (got != FRAME_SIZE) {
        close(s->fds[i].fd);
        s->fds[i] = s->fds[--s->count];
        return;
    }
    s->messages++;
    if (is_due(s) && s->fault == SWAPS_MESSAGES && recv(s->fds[i].fd, frames[1], FRAME_SIZE, MSG_WAITALL) == FRAME_SIZE)
        answer(s, i, frames[1]);
    answer(s, i, frames[0]);
}

static void *serve(void *argument) {
    server *s = argument;
    while (!atomic_load(&s->ends)) {
        if (poll(s->fds, s->count, 10) <= 0) continue;
        for (nfds_t i = s->count - 1; i > 0; i--) {
            if (s->fds[i].revents != 0) serve_one(s, i);
        }
        if (s->fds[0].revents != 0 && s->count <= CLIENTS_MAX)
            s->fds[s->count++] = (struct pollfd){ .fd = accept(s->listener, NULL, NULL), .events = POLLIN };
    }
    while (s->count > 0) close(s->fds[--s->count].fd);
    return NULL;
}

static void start(server *s, bad_habit fault, bool is_room) {
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t length = sizeof address;
    memset(s, 0, sizeof *s);
    s->fault = fault;
    s->is_room = is_room;
    s->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_return_code(bind(s->listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_return_code(listen(s->listener, CLIENTS_MAX), 0);
    assert_return_code(getsockname(s->listener, (struct sockaddr *)&address, &length), 0);
    s->process = (bench_process){ .pid = getpid(), .port = ntohs(address.sin_port) };
    s->fds[s->count++] = (struct pollfd){ .fd = s->listener, .events = POLLIN };
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static const char *run(bench_load_kind *load, bad_habit fault, bench_job job, bench_sample *sample) {
    server s;
    start(&s, fault, load == bench_load_broadcast);
    bench_sample_clear(sample);
    const char *failed = load(&job, &s.process, false, sample);
    atomic_store(&s.ends, true);
    pthread_join(s.thread, NULL);
    return failed;
}

static const bench_job small = { .workload = "", .conns = 4, .active = 4, .size = SIZE, .depth = 2, .seconds = 0.05 };
/* Until something goes wrong. */
static const bench_job patient = { .workload = "", .conns = 4, .active = 4, .size = SIZE, .depth = 2, .seconds = 30 };

static void a_right_server_is_measured(void **state) {
    (void)state;
    static bench_load_kind *const kinds[] = { bench_load_echo, bench_load_broadcast, bench_load_accept };
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        bench_sample sample;
        assert_null(run(kinds[i], NONE, small, &sample));
        assert_true(sample.value[BENCH_RATE] > 0);
        assert_true(sample.value[BENCH_P50] > 0 && sample.value[BENCH_P50] <= sample.value[BENCH_MAX]);
        assert_true(isnan(sample.value[BENCH_SYSCALLS]));
    }
}

static void an_open_loop_sends_as_often_as_it_is_told(void **state) {
    (void)state;
    bench_job job = small;
    bench_sample sample;
    job.rate = 400;
    job.seconds = 0.5;
    assert_null(run(bench_load_echo, NONE, job, &sample));
    assert_true(sample.value[BENCH_RATE] > 0 && sample.value[BENCH_RATE] < 480); /* a busy machine does less */
}

/* Only half of the connections talk; all are there. */
static void idle_connections_say_nothing_after_they_came(void **state) {
    (void)state;
    bench_job job = small;
    bench_sample sample;
    job.active = 2;
    assert_null(run(bench_load_echo, NONE, job, &sample));
    assert_true(sample.value[BENCH_RATE] > 0);
}

static void echo_finds(bad_habit fault, const char *what) {
    bench_sample sample;
    const char *failed = run(bench_load_echo, fault, patient, &sample);
    assert_non_null(failed);
    assert_string_equal(failed, what);
}

static void a_changed_byte_is_found(void **state) {
    (void)state;
    bench_sample sample;
    echo_finds(CHANGES_A_BYTE, "what came back is not what was sent");
    assert_string_equal(run(bench_load_broadcast, CHANGES_A_BYTE, patient, &sample),
                        "what came back is not what was sent");
    assert_string_equal(run(bench_load_accept, CHANGES_A_BYTE, patient, &sample),
                        "what came back is not what was sent");
}

static void a_closed_connection_is_found(void **state) {
    (void)state;
    bench_sample sample;
    bench_load_kind *const kinds[] = { bench_load_echo, bench_load_broadcast, bench_load_accept };
    for (size_t i = 0; i < COUNT_OF(kinds); i++) assert_non_null(run(kinds[i], CLOSES, patient, &sample));
}

static void messages_in_the_wrong_order_are_found(void **state) {
    (void)state;
    bench_sample sample;
    echo_finds(SWAPS_MESSAGES, "what came back is not what was sent");
    assert_string_equal(run(bench_load_broadcast, SWAPS_MESSAGES, patient, &sample),
                        "a message was lost, or came out of order");
}

static void a_message_too_many_is_found(void **state) {
    (void)state;
    bench_sample sample;
    echo_finds(SAYS_MORE, "what came back is not what was sent");
    assert_string_equal(run(bench_load_broadcast, SAYS_MORE, patient, &sample),
                        "a message was lost, or came out of order");
}

static void a_member_that_is_forgotten_is_found(void **state) {
    (void)state;
    bench_sample sample;
    assert_string_equal(run(bench_load_broadcast, FORGETS_A_MEMBER, patient, &sample),
                        "a message was lost, or came out of order");
}

static void a_server_that_is_not_there_is_a_reason(void **state) {
    (void)state;
    server s;
    bench_sample sample;
    start(&s, NONE, false);
    atomic_store(&s.ends, true);
    pthread_join(s.thread, NULL);
    assert_string_equal(bench_load_echo(&small, &s.process, false, &sample), "cannot connect");
    assert_string_equal(bench_load_broadcast(&small, &s.process, false, &sample), "cannot connect");
    assert_string_equal(bench_load_accept(&small, &s.process, false, &sample), "cannot connect");
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        cmocka_unit_test(a_right_server_is_measured),
        cmocka_unit_test(an_open_loop_sends_as_often_as_it_is_told),
        cmocka_unit_test(idle_connections_say_nothing_after_they_came),
        cmocka_unit_test(a_changed_byte_is_found),
        cmocka_unit_test(a_closed_connection_is_found),
        cmocka_unit_test(messages_in_the_wrong_order_are_found),
        cmocka_unit_test(a_message_too_many_is_found),
        cmocka_unit_test(a_member_that_is_forgotten_is_found),
        cmocka_unit_test(a_server_that_is_not_there_is_a_reason),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
