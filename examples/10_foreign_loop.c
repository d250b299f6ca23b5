/*
 * p2pnet as a guest in a loop that somebody else wrote, and a worker thread that does the slow part.
 *
 *   10_foreign_loop [--backend NAME] [--address A] [--port N]
 *
 * The server answers each message, a number N, with how many primes there are up to N. Counting would hold up
 * the loop, so a worker thread counts and posts the result. The foreign loop here is that of a game: it draws
 * a frame 20 times a second and sleeps in poll() (on Windows WSAPoll()) between. Three calls make p2pnet its guest:
 * ask for the timeout, wait for the handle, run one turn.
 */
#include "common.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_MAX 10000000ul
#define FRAME_NS (1000000000 / 20)

/* A connection. Jobs refer to it, so it is freed only when its socket is gone and no job is left. */
typedef struct client {
    struct server *server;
    p2p_socket_t *socket; /* NULL: closed */
    int gone;
    unsigned jobs;
} client_t;

typedef struct job {
    client_t *client;
    unsigned long number;
    unsigned long primes;
    struct job *next;
} job_t;

typedef struct server {
    p2p_event_loop_t *loop;
    unsigned long answers;
    lock_t *lock;
    /* Shared with the worker, under the lock. */
    job_t *first, **last;
    int stopping;
} server_t;

/* ---- the worker thread: touches jobs, never a socket -------------------------------------- */

static unsigned long count_primes(unsigned long max) {
    char *composite = calloc(max + 1, 1);
    if (composite == NULL) return 0;
    unsigned long count = 0;
    for (unsigned long n = 2; n <= max; n++) {
        if (composite[n]) continue;
        count++;
        for (unsigned long multiple = 2 * n; multiple <= max; multiple += n) composite[multiple] = 1;
    }
    free(composite);
    return count;
}

static void free_if_unused(client_t *client) {
    if (client->gone && client->jobs == 0) free(client);
}

static void close_client(client_t *client) {
    p2p_socket_close(client->socket);
    client->socket = NULL;
}

/* Posted by the worker; runs in the loop's thread, where the socket may be used. */
static void on_job_done(void *user_data) {
    job_t *job = user_data;
    client_t *client = job->client;
    client->jobs--;
    if (client->socket != NULL) {
        char text[80];
        int length = snprintf(text, sizeof text, "%lu primes up to %lu", job->primes, job->number);
        /* QUEUE_FULL: it asks and asks and doesn't read the answers. */
        if (p2p_message_send_data(client->socket, text, (uint32_t)length) < 0) {
            close_client(client);
        } else {
            client->server->answers++;
        }
    }
    free_if_unused(client);
    free(job);
}

static void work(void *user_data) {
    server_t *server = user_data;
    enter_lock(server->lock);
    for (;;) {
        while (server->first == NULL && !server->stopping) wait_in_lock(server->lock);
        job_t *job = server->first;
        if (job == NULL) break;
        server->first = job->next;
        if (server->first == NULL) server->last = &server->first;
        int stopping = server->stopping;
        leave_lock(server->lock);

        if (!stopping) job->primes = count_primes(job->number);
        /* Wakes the loop. This fails only for lack of memory. */
        if (p2p_event_loop_post(server->loop, on_job_done, job) < 0) exit(fail("post"));

        enter_lock(server->lock);
    }
    leave_lock(server->lock);
}

/* ---- the server: in the loop's thread ----------------------------------------------------- */

static void on_message(p2p_socket_t *socket, const void *data, uint32_t length, void *user_data) {
    client_t *client = user_data;
    char text[16] = "";
    if (length < sizeof text) memcpy(text, data, length);
    unsigned long number = length < sizeof text ? strtoul(text, NULL, 10) : ULONG_MAX;
    job_t *job = number <= NUMBER_MAX ? calloc(1, sizeof *job) : NULL;
    if (job == NULL) {
        p2p_message_send_data(socket, "too large", 9);
        return;
    }
    job->client = client;
    job->number = number;
    client->jobs++;

    server_t *server = client->server;
    enter_lock(server->lock);
    *server->last = job;
    server->last = &job->next;
    signal_lock(server->lock);
    leave_lock(server->lock);
}

static void on_end(p2p_socket_t *socket, void *user_data) {
    (void)socket;
    close_client(user_data);
}

static void on_error(p2p_socket_t *socket, int error, void *user_data) {
    (void)socket, (void)error;
    close_client(user_data);
}

/* The last callback of a socket, whoever closed it: us, or the loop when it is freed. */
static void on_close(p2p_socket_t *socket, int reason, void *user_data) {
    (void)socket, (void)reason;
    client_t *client = user_data;
    client->socket = NULL;
    client->gone = 1;
    free_if_unused(client);
}

static const p2p_socket_callbacks_t client_callbacks = {
    .size = sizeof(p2p_socket_callbacks_t),
    .on_read = on_end,
    .on_message = on_message,
    .on_error = on_error,
    .on_close = on_close,
};

static void on_connection(p2p_socket_t *listener, void *user_data) {
    server_t *server = user_data;
    p2p_socket_t *socket = p2p_socket_accept(listener);
    if (socket == NULL) return;
    client_t *client = calloc(1, sizeof *client);
    if (client == NULL || p2p_event_loop_add_socket_with(server->loop, socket, &client_callbacks, client) < 0) {
        free(client);
        p2p_socket_close(socket);
        return;
    }
    client->server = server;
    client->socket = socket;
}

/* ---- the foreign loop --------------------------------------------------------------------- */

static int foreign_loop(server_t *server) {
    p2p_handle_t handle = p2p_event_loop_backend_handle(server->loop);
    if (handle == P2P_INVALID_HANDLE) {
        printf("backend %s has no handle to wait for: looking once a frame instead\n",
               p2p_event_loop_backend_name(server->loop));
    }
    fflush(stdout);

    unsigned long frames = 0;
    int64_t next_frame_ns = now_ns();
    while (!stop_requested()) {
        /* How long may we sleep? Until the next frame, but no longer than p2pnet can wait. */
        int64_t left_ns = next_frame_ns - now_ns();
        int timeout_ms = left_ns > 0 ? (int)((left_ns + 999999) / 1000000) : 0;
        int guest_timeout_ms = p2p_event_loop_next_timeout(server->loop);
        if (guest_timeout_ms >= 0 && guest_timeout_ms < timeout_ms) timeout_ms = guest_timeout_ms;

        wait_readable(handle, timeout_ms);

        /* One turn without waiting. Cheap when there is nothing to do. */
        if (p2p_event_loop_run_once(server->loop, 0) < 0) return fail("run once");

        if (now_ns() >= next_frame_ns) {
            frames++; /* the game would draw */
            next_frame_ns += FRAME_NS;
        }
    }
    printf("%lu frames, %lu answers\n", frames, server->answers);
    return EXIT_SUCCESS;
}

static int serve(server_t *server, p2p_socket_t *listener, const options_t *options) {
    p2p_address_t address;
    char text[P2P_ADDRESS_TEXT_SIZE];
    if (p2p_socket_bind(listener, options->address, options->port) < 0) return fail("bind");
    if (p2p_socket_listen(listener, 128) < 0) return fail("listen");
    if (p2p_event_loop_add_socket(server->loop, listener, on_connection, server) < 0) return fail("add");
    if (p2p_socket_local_address(listener, &address) < 0) return fail("local address");
    p2p_address_format(&address, text, sizeof text);
    printf("listening on %s (backend %s)\n", text, p2p_event_loop_backend_name(server->loop));

    thread_t *worker = start_thread(work, server);
    if (worker == NULL) {
        fprintf(stderr, "no thread could be started\n");
        return EXIT_FAILURE;
    }
    int status = foreign_loop(server);

    /* The worker gives back what is still waiting, uncounted. It must be gone before the loop is freed. */
    enter_lock(server->lock);
    server->stopping = 1;
    signal_lock(server->lock);
    leave_lock(server->lock);
    join_thread(worker);
    return status;
}

int main(int argc, char **argv) {
    options_t options = { NULL, "127.0.0.1", 8080 };
    parse_options(argc, argv, &options, "");

    if (p2p_init() < 0) return fail("p2pnet");
    p2p_event_loop_options_t loop_options = P2P_EVENT_LOOP_OPTIONS_INIT;
    loop_options.backend = options.backend;
    server_t server = {
        .loop = p2p_event_loop_create_with(&loop_options),
        .lock = create_lock(),
        .last = &server.first,
    };
    p2p_socket_t *listener = p2p_socket_create(P2P_TCP);
    int status = EXIT_FAILURE;
    if (server.loop == NULL) {
        fail_loop();
    } else if (listener == NULL) {
        fail("socket");
    } else if (server.lock == NULL) {
        fprintf(stderr, "not enough memory\n");
    } else {
        stop_on_ctrl_c(server.loop);
        status = serve(&server, listener, &options);
    }

    /* Posted results that are still queued run now, once. */
    stop_on_ctrl_c(NULL);
    p2p_event_loop_free(server.loop);
    p2p_socket_close(listener);
    free_lock(server.lock);
    p2p_cleanup();
    return status;
}
