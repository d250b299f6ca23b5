/*
 * A stress test: many clients send messages to an echo server and check every byte that comes back.
 *
 *   07_async_stress_test [--backend NAME] [--clients 100] [--messages 10] [--size 64] [--depth 1]
 *                        [--connect ADDRESS:PORT [--server-pid PID]] [--no-header]
 *
 * Server and clients share one loop; with --connect the clients drive a server that runs already
 * (06_async_server). When the work is done, all connections stay open and silent for a second, and the CPU
 * time used meanwhile is measured: of this process, or of the one named by --server-pid.
 * Ends with 1 if any message was lost, reordered or corrupted.
 */
#include "common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECTING_MAX 100          /* connections being made at a time, so that no listen queue overflows */
#define STALL_S 30                  /* without any progress for so long, what is missing is lost */
#define IN_FLIGHT_BYTES_MAX 200000u /* a client's; below high_water, so that it goes on reading */

typedef struct settings {
    const char *backend;
    const char *address;
    uint16_t port; /* 0: our own server */
    long server_pid;
    uint32_t clients;
    uint32_t messages; /* of each client */
    uint32_t size;     /* bytes of payload */
    uint32_t depth;    /* messages of a client under way at a time */
    int no_header;
} settings_t;

struct test;

typedef struct client {
    struct test *test;
    p2p_socket_t *socket;
    uint32_t id;
    uint32_t sent;
    uint32_t received;
    int64_t *sent_at_ns; /* of the messages under way: `depth` of them, message n at n % depth */
} client_t;

typedef struct test {
    settings_t settings;
    p2p_event_loop_t *loop;
    p2p_timer_t *stall_timer;
    p2p_timer_t *idle_timer;
    client_t *clients;
    uint32_t begun;     /* connects begun */
    uint32_t connected; /* connects done */
    uint32_t failed;    /* clients whose connection failed or ended */
    uint32_t active;    /* clients with messages to send or to receive */
    uint64_t received;
    uint64_t received_before; /* at the last look of the stall timer */
    uint64_t connected_before;
    uint64_t wrong;      /* reordered or corrupted */
    int64_t *latency_ns; /* of each message received */
    uint8_t *payload;
    int64_t begin_ns, end_ns;           /* from the first message to the last echo; 0: not yet */
    int64_t idle_begin_ns, idle_cpu_ns; /* the silent second */
    double idle_cpu_percent;            /* -1: not known */
} test_t;

/* ---- the server: 06_async_server in short ------------------------------------------------- */

static void echo(p2p_socket_t *connection, const void *data, uint32_t length, void *user_data) {
    (void)user_data;
    if (p2p_message_send_data(connection, data, length) < 0) p2p_socket_close(connection);
}

static void on_server_end(p2p_socket_t *connection, void *user_data) {
    (void)user_data;
    p2p_socket_close(connection);
}

static void on_server_error(p2p_socket_t *connection, int error, void *user_data) {
    (void)error, (void)user_data;
    p2p_socket_close(connection);
}

static const p2p_socket_callbacks_t connection_callbacks = {
    .size = sizeof(p2p_socket_callbacks_t),
    .on_read = on_server_end,
    .on_message = echo,
    .on_error = on_server_error,
};

static void on_connection(p2p_socket_t *listener, void *user_data) {
    test_t *test = user_data;
    p2p_socket_t *connection = p2p_socket_accept(listener);
    if (connection == NULL) return;
    if (p2p_event_loop_add_socket_with(test->loop, connection, &connection_callbacks, NULL) < 0) {
        fail("server: add");
        p2p_socket_close(connection);
    }
}

static void on_accept_error(p2p_socket_t *listener, int error, void *user_data) {
    (void)listener, (void)user_data;
    fprintf(stderr, "server: accept: %s\n", p2p_error_message(error));
}

static const p2p_socket_callbacks_t listener_callbacks = {
    .size = sizeof(p2p_socket_callbacks_t),
    .on_read = on_connection,
    .on_error = on_accept_error,
};

static int start_server(test_t *test, p2p_socket_t *listener) {
    p2p_address_t address;
    if (p2p_socket_bind(listener, "127.0.0.1", 0) < 0) return fail("bind");
    if (p2p_socket_listen(listener, 1024) < 0) return fail("listen");
    if (p2p_event_loop_add_socket_with(test->loop, listener, &listener_callbacks, test) < 0) return fail("add");
    if (p2p_socket_local_address(listener, &address) < 0) return fail("local address");
    test->settings.address = "127.0.0.1";
    test->settings.port = (uint16_t)p2p_address_port(&address);
    return EXIT_SUCCESS;
}

/* ---- the clients -------------------------------------------------------------------------- */

static void begin_idle(test_t *test) {
    test->end_ns = now_ns();
    test->idle_begin_ns = test->end_ns;
    test->idle_cpu_ns = cpu_time_ns(test->settings.server_pid);
    if (p2p_timer_start(test->idle_timer, P2P_NS_PER_SECOND, 0) < 0) p2p_event_loop_stop(test->loop);
}

static void on_idle_over(p2p_timer_t *timer, void *user_data) {
    (void)timer;
    test_t *test = user_data;
    int64_t cpu_ns = cpu_time_ns(test->settings.server_pid);
    if (cpu_ns >= 0 && test->idle_cpu_ns >= 0) {
        test->idle_cpu_percent =
            100.0 * (double)(cpu_ns - test->idle_cpu_ns) / (double)(now_ns() - test->idle_begin_ns);
    }
    p2p_event_loop_stop(test->loop);
}

/* Lets a server that died or a message that was dropped end the test. */
static void on_stall_timer(p2p_timer_t *timer, void *user_data) {
    (void)timer;
    test_t *test = user_data;
    if (test->received == test->received_before && test->connected == test->connected_before) {
        fprintf(stderr, "nothing moved for %d s: giving up\n", STALL_S);
        test->end_ns = now_ns();
        p2p_event_loop_stop(test->loop);
    }
    test->received_before = test->received;
    test->connected_before = test->connected;
}

static void client_is_done(test_t *test) {
    if (--test->active > 0) return;
    if (test->failed < test->settings.clients) {
        begin_idle(test);
    } else {
        p2p_event_loop_stop(test->loop);
    }
}

static void client_failed(client_t *client, const char *what, int error) {
    test_t *test = client->test;
    if (test->failed++ == 0) fprintf(stderr, "client %u: %s: %s\n", client->id, what, p2p_error_message(error));
    p2p_socket_close(client->socket);
    client->socket = NULL;
    if (client->received < test->settings.messages) client_is_done(test);
}

/* Message n of a client: its id, n, then bytes that depend on both and on their place. */
static void fill(uint8_t *payload, uint32_t size, uint32_t id, uint32_t sequence) {
    for (uint32_t i = 0; i < size; i++) {
        if (i < 8) {
            payload[i] = (uint8_t)((i < 4 ? id : sequence) >> (8 * (i % 4)));
        } else {
            payload[i] = (uint8_t)(id * 31 + sequence * 7 + i);
        }
    }
}

static void send_more(client_t *client) {
    test_t *test = client->test;
    const settings_t *settings = &test->settings;
    while (client->sent < settings->messages && client->sent - client->received < settings->depth) {
        fill(test->payload, settings->size, client->id, client->sent);
        int error = p2p_message_send_data(client->socket, test->payload, settings->size);
        if (error == P2P_ERR_QUEUE_FULL) return; /* the next echo, or on_write, brings us back */
        if (error < 0) {
            client_failed(client, "send", error);
            return;
        }
        client->sent_at_ns[client->sent % settings->depth] = now_ns();
        client->sent++;
    }
}

static void on_echo(p2p_socket_t *socket, const void *data, uint32_t length, void *user_data) {
    (void)socket;
    client_t *client = user_data;
    test_t *test = client->test;
    const settings_t *settings = &test->settings;
    if (client->received == client->sent) {
        test->wrong++; /* nothing was due */
        return;
    }
    uint32_t sequence = client->received++;
    test->latency_ns[test->received++] = now_ns() - client->sent_at_ns[sequence % settings->depth];
    fill(test->payload, settings->size, client->id, sequence);
    if (length != settings->size || memcmp(data, test->payload, length) != 0) test->wrong++;

    if (client->received == settings->messages) {
        client_is_done(test);
    } else {
        send_more(client);
    }
}

static void on_writable(p2p_socket_t *socket, void *user_data) {
    (void)socket;
    send_more(user_data);
}

static void on_end(p2p_socket_t *socket, void *user_data) {
    (void)socket;
    client_failed(user_data, "receive", P2P_ERR_CLOSED);
}

static void on_error(p2p_socket_t *socket, int error, void *user_data) {
    (void)socket;
    client_failed(user_data, "connection", error);
}

static void connect_next(test_t *test);

static void on_connect(p2p_socket_t *socket, int error, void *user_data) {
    (void)socket;
    client_t *client = user_data;
    test_t *test = client->test;
    test->connected++;
    if (error < 0) client_failed(client, "connect", error);
    connect_next(test);
    if (test->connected < test->settings.clients) return;

    /* All are there: begin. */
    test->begin_ns = now_ns();
    for (uint32_t i = 0; i < test->settings.clients; i++) {
        if (test->clients[i].socket != NULL) send_more(&test->clients[i]);
    }
}

static const p2p_socket_callbacks_t client_callbacks = {
    .size = sizeof(p2p_socket_callbacks_t),
    .on_read = on_end,
    .on_message = on_echo,
    .on_write = on_writable,
    .on_error = on_error,
    .on_connect = on_connect,
};

static int connect_client(test_t *test, client_t *client) {
    client->socket = p2p_socket_create(P2P_TCP);
    if (client->socket == NULL) return p2p_last_error();
    int error = p2p_event_loop_add_socket_with(test->loop, client->socket, &client_callbacks, client);
    if (error < 0) return error;
    return p2p_socket_connect(client->socket, test->settings.address, test->settings.port);
}

/* Begin the next connect. When that fails at once, the test can't be done at all. */
static void connect_next(test_t *test) {
    if (test->begun == test->settings.clients) return;
    client_t *client = &test->clients[test->begun++];
    if (connect_client(test, client) < 0) {
        fprintf(stderr, "client %u of %u: ", client->id, test->settings.clients);
        fail("connect");
        p2p_event_loop_stop(test->loop);
    }
}

/* ---- the result --------------------------------------------------------------------------- */

static int compare(const void *a, const void *b) {
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

static double percentile_us(const test_t *test, unsigned percent) {
    if (test->received == 0) return 0;
    return (double)test->latency_ns[(test->received - 1) * percent / 100] / 1000;
}

static int print_result(test_t *test) {
    const settings_t *settings = &test->settings;
    uint64_t total = (uint64_t)settings->clients * settings->messages;
    uint64_t lost = total - test->received;
    double seconds = test->end_ns > test->begin_ns ? (double)(test->end_ns - test->begin_ns) / 1e9 : 0;
    char idle[32] = "-";
    if (test->idle_cpu_percent >= 0) snprintf(idle, sizeof idle, "%.2f", test->idle_cpu_percent);
    qsort(test->latency_ns, (size_t)test->received, sizeof test->latency_ns[0], compare);

    if (!settings->no_header) {
        printf("%-10s %7s %9s %6s %6s %9s %9s %9s %11s %10s\n", "backend", "clients", "messages", "lost", "wrong",
               "p50 us", "p99 us", "max us", "messages/s", "idle CPU %");
    }
    printf("%-10s %7u %9llu %6llu %6llu %9.1f %9.1f %9.1f %11.0f %10s\n", p2p_event_loop_backend_name(test->loop),
           settings->clients, (unsigned long long)total, (unsigned long long)lost, (unsigned long long)test->wrong,
           percentile_us(test, 50), percentile_us(test, 99), percentile_us(test, 100),
           seconds > 0 ? (double)test->received / seconds : 0, idle);
    return lost == 0 && test->wrong == 0 && test->failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- setting up --------------------------------------------------------------------------- */

static int run(test_t *test) {
    const settings_t *settings = &test->settings;
    test->stall_timer = p2p_timer_create(test->loop, on_stall_timer, test);
    test->idle_timer = p2p_timer_create(test->loop, on_idle_over, test);
    uint64_t stall_ns = STALL_S * P2P_NS_PER_SECOND;
    if (test->stall_timer == NULL || test->idle_timer == NULL ||
        p2p_timer_start(test->stall_timer, stall_ns, stall_ns) < 0) {
        return fail("timer");
    }
    for (uint32_t i = 0; i < settings->clients && i < CONNECTING_MAX; i++) connect_next(test);

    p2p_event_loop_run(test->loop);
    if (p2p_last_error() != 0) return fail("run");
    if (stop_requested()) {
        fprintf(stderr, "interrupted, no result\n");
        return EXIT_SUCCESS;
    }
    if (test->connected < settings->clients) {
        fprintf(stderr, "only %u of %u clients got a connection\n", test->connected, settings->clients);
        return EXIT_FAILURE;
    }
    return print_result(test);
}

/* Memory for all clients; 0 when there isn't enough. */
static int prepare(test_t *test) {
    const settings_t *settings = &test->settings;
    test->clients = calloc(settings->clients, sizeof test->clients[0]);
    test->latency_ns = calloc(settings->clients, settings->messages * sizeof test->latency_ns[0]);
    test->payload = malloc(settings->size + 1);
    int64_t *sent_at_ns = calloc(settings->clients, settings->depth * sizeof sent_at_ns[0]);
    if (test->clients != NULL) test->clients[0].sent_at_ns = sent_at_ns;
    if (test->clients == NULL || test->latency_ns == NULL || test->payload == NULL || sent_at_ns == NULL) return 0;
    for (uint32_t i = 0; i < settings->clients; i++) {
        client_t *client = &test->clients[i];
        client->test = test;
        client->id = i;
        client->sent_at_ns = sent_at_ns + (size_t)i * settings->depth;
    }
    test->active = settings->clients;
    test->idle_cpu_percent = -1;
    return 1;
}

static void clean_up(test_t *test) {
    for (uint32_t i = 0; test->clients != NULL && i < test->begun; i++) p2p_socket_close(test->clients[i].socket);
    p2p_event_loop_free(test->loop);
    if (test->clients != NULL) free(test->clients[0].sent_at_ns);
    free(test->clients);
    free(test->latency_ns);
    free(test->payload);
}

/* The number given, if one was. */
static uint32_t number_or(uint32_t otherwise, const char *name, const char *text, long min, long max) {
    return text != NULL ? (uint32_t)parse_number(name, text, min, max) : otherwise;
}

static void read_arguments(int argc, char **argv, settings_t *settings) {
    char *backend = NULL, *clients = NULL, *messages = NULL, *size = NULL, *depth = NULL;
    char *connect = NULL, *server_pid = NULL, *no_header = NULL;
    const option_t known[] = {
        { "--backend", &backend, 0 },
        { "--clients", &clients, 0 },
        { "--messages", &messages, 0 },
        { "--size", &size, 0 },
        { "--depth", &depth, 0 },
        { "--connect", &connect, 0 },
        { "--server-pid", &server_pid, 0 },
        { "--no-header", &no_header, 1 },
        { NULL, NULL, 0 },
    };
    read_options(argc, argv, known, 0,
                 "[--backend NAME] [--clients N] [--messages N] [--size BYTES] [--depth N]\n"
                 "       [--connect ADDRESS:PORT [--server-pid PID]] [--no-header]");
    settings->backend = backend;
    settings->clients = number_or(settings->clients, "--clients", clients, 1, 100000);
    settings->messages = number_or(settings->messages, "--messages", messages, 1, 10000000);
    settings->size = number_or(settings->size, "--size", size, 0, P2P_DEFAULT_MAX_MESSAGE_SIZE);
    settings->depth = number_or(settings->depth, "--depth", depth, 1, 10000);
    if (connect != NULL) parse_endpoint(connect, &settings->address, &settings->port);
    if (server_pid != NULL) settings->server_pid = parse_number("--server-pid", server_pid, 1, 0x7fffffff);
    settings->no_header = no_header != NULL;
    uint32_t depth_max = IN_FLIGHT_BYTES_MAX / (settings->size + P2P_FRAME_HEADER_SIZE);
    if (depth_max == 0) depth_max = 1;
    if (settings->depth > depth_max) {
        settings->depth = depth_max;
        fprintf(stderr, "depth is limited to %u by the output queue\n", depth_max);
    }
}

int main(int argc, char **argv) {
    test_t test = { .settings = { .clients = 100, .messages = 10, .size = 64, .depth = 1 } };
    read_arguments(argc, argv, &test.settings);
    raise_socket_limit();

    if (p2p_init() < 0) return fail("p2pnet");
    p2p_event_loop_options_t loop_options = P2P_EVENT_LOOP_OPTIONS_INIT;
    loop_options.backend = test.settings.backend;
    test.loop = p2p_event_loop_create_with(&loop_options);
    p2p_socket_t *listener = p2p_socket_create(P2P_TCP);
    int status = EXIT_FAILURE;
    if (test.loop == NULL) {
        fail_loop();
    } else if (listener == NULL) {
        fail("socket");
    } else if (!prepare(&test)) {
        fprintf(stderr, "not enough memory for so many messages\n");
    } else if (test.settings.port != 0 || start_server(&test, listener) == EXIT_SUCCESS) {
        stop_on_ctrl_c(test.loop);
        status = run(&test);
    }

    stop_on_ctrl_c(NULL);
    clean_up(&test);
    p2p_socket_close(listener);
    p2p_cleanup();
    return status;
}
