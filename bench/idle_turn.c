/*
 * What idle connections cost: many are registered, one of them gets a message, and a turn of the loop is timed. The
 * connections are made once and handed from backend to backend, round after round, so that all see the same machine.
 *
 *   idle_turn [connections 5000] [turns a round 50] [rounds 5] [backend…]     default: all that are built in
 *
 * Both ends are this process's: it needs two handles a connection (`ulimit -Sn "$(ulimit -Hn)"`). Prints for each
 * backend the median of its rounds with the lowest and the highest, and the ratio to the first. Under Wine it shows how
 * the cost grows, and nothing about how long Windows takes.
 */
#include <p2pnet/p2pnet.h>
#include <p2pnet/sys.h>

#include <stdio.h>
#include <stdlib.h>

enum { BACKENDS_MAX = 16, ROUNDS_MAX = 100 };

typedef struct measured {
    const char *backend;
    double turn_us[ROUNDS_MAX];
} measured;

static p2p_socket_t **near_ends, **far_ends;
static size_t count;
static unsigned received;

static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, p2p_error_message(p2p_last_error()));
    exit(1);
}

static size_t argument(int argc, char **argv, int index, size_t value, size_t max) {
    if (argc <= index) return value;
    unsigned long given = strtoul(argv[index], NULL, 10);
    if (given >= 1 && given <= max) return given;
    fprintf(stderr, "argument %d: a number from 1 to %lu\n", index, (unsigned long)max);
    exit(2);
}

static void connect_all(void) {
    p2p_address_t address;
    char text[64];
    p2p_socket_t *listener = p2p_socket_create(P2P_TCP);
    if (listener == NULL || p2p_socket_bind(listener, "127.0.0.1", 0) != 0 || p2p_socket_listen(listener, 16) != 0 ||
        p2p_socket_local_address(listener, &address) != 0)
        fail("listen");
    p2p_address_format(&address, text, sizeof text); /* 127.0.0.1:PORT */
    uint16_t port = (uint16_t)strtoul(text + sizeof "127.0.0.1", NULL, 10);
    for (size_t i = 0; i < count; i++) {
        far_ends[i] = p2p_socket_create(P2P_TCP);
        if (far_ends[i] == NULL || p2p_socket_connect(far_ends[i], "127.0.0.1", port) != 0) fail("connect");
        near_ends[i] = p2p_socket_accept(listener);
        if (near_ends[i] == NULL) fail("accept");
    }
    p2p_socket_close(listener);
}

static void on_message(p2p_socket_t *sock, const void *data, uint32_t length, void *user_data) {
    (void)sock, (void)data, (void)length, (void)user_data;
    received++;
}

/* @return how long the loop took to hear of one message; that it was sent is not counted. */
static int64_t hear_one(p2p_event_loop_t *loop, p2p_socket_t *from) {
    if (p2p_message_send_data(from, "x", 1) != 0) fail("send");
    int64_t begin_ns = p2p_sys_default()->now_ns();
    for (received = 0; received == 0;) {
        if (p2p_event_loop_run_once(loop, -1) < 0) fail("run_once");
    }
    return p2p_sys_default()->now_ns() - begin_ns;
}

static double measure(const char *backend, size_t turns) {
    static const p2p_socket_callbacks_t callbacks = { .size = sizeof callbacks, .on_message = on_message };
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.backend = backend;
    p2p_event_loop_t *loop = p2p_event_loop_create_with(&options);
    if (loop == NULL) fail(backend);
    for (size_t i = 0; i < count; i++) {
        if (p2p_event_loop_add_socket_with(loop, near_ends[i], &callbacks, NULL) != 0) fail("add_socket");
    }
    (void)hear_one(loop, far_ends[0]); /* the first turn makes the backend's set */
    int64_t total_ns = 0;
    for (size_t i = 1; i <= turns; i++) total_ns += hear_one(loop, far_ends[i * 7919 % count]);
    for (size_t i = 0; i < count; i++) p2p_event_loop_remove_socket(loop, near_ends[i]);
    p2p_event_loop_free(loop);
    return (double)total_ns / 1e3 / (double)turns;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    const char *names[BACKENDS_MAX];
    measured all[BACKENDS_MAX];
    count = argument(argc, argv, 1, 5000, 1000000);
    size_t turns = argument(argc, argv, 2, 50, 1000000), rounds = argument(argc, argv, 3, 5, ROUNDS_MAX);
    if (p2p_init() != 0) fail("p2p_init");
    size_t backends = argc > 4 ? (size_t)argc - 4 : p2p_backend_list(names, BACKENDS_MAX);
    if (backends > BACKENDS_MAX) backends = BACKENDS_MAX;
    near_ends = calloc(count, sizeof *near_ends);
    far_ends = calloc(count, sizeof *far_ends);
    if (near_ends == NULL || far_ends == NULL) return 1;
    connect_all();
    for (size_t round = 0; round < rounds; round++) {
        for (size_t i = 0; i < backends; i++) {
            all[i].backend = argc > 4 ? argv[4 + i] : names[i];
            all[i].turn_us[round] = measure(all[i].backend, turns);
        }
    }
    printf("%lu connections, 1 active, %lu rounds of %lu turns\n", (unsigned long)count, (unsigned long)rounds,
           (unsigned long)turns);
    for (size_t i = 0; i < backends; i++) qsort(all[i].turn_us, rounds, sizeof(double), compare);
    for (size_t i = 0; i < backends; i++) {
        double median = all[i].turn_us[rounds / 2];
        printf("%-8s %10.1f us a turn (%.1f to %.1f), %.3f times %s\n", all[i].backend, median, all[i].turn_us[0],
               all[i].turn_us[rounds - 1], median / all[0].turn_us[rounds / 2], all[0].backend);
    }
    for (size_t i = 0; i < count; i++) { /* no ports are left in TIME_WAIT */
        p2p_socket_abort(near_ends[i]);
        p2p_socket_abort(far_ends[i]);
    }
    free(near_ends);
    free(far_ends);
    p2p_cleanup();
    return 0;
}
