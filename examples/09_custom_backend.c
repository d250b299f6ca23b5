/*
 * A backend of your own: this one counts the calls and passes each on to another backend.
 *
 *   09_custom_backend [--backend NAME]      NAME is the backend behind it
 *
 * A backend is a table of functions (p2pnet/backend.h, docs/backend-authors.md). Six of them are required;
 * what is left NULL the library does itself. A few messages go round on it, then the counts are printed.
 */
#include "common.h"

#include <p2pnet/backend.h>

#include <stdio.h>
#include <stdlib.h>

#define ROUNDS 5

/* ---- the backend -------------------------------------------------------------------------- */

/* An instance begins with p2p_backend; the rest is ours. */
typedef struct counting {
    p2p_backend head;
    p2p_backend *inner;
    const p2p_backend_ops *ops; /* of the inner one */
    const p2p_allocator *allocator;
} counting_t;

static const p2p_backend_ops *inner_ops;

static struct counts { unsigned long attach, set_interest, detach, wait, events, wake; } counts;

/* A backend takes its memory from the allocator in its env, which stays valid as long as the instance. */
static int counting_create(p2p_backend **out, const p2p_backend_env *env) {
    counting_t *self = env->allocator->alloc(sizeof *self, env->allocator->user);
    if (self == NULL) return P2P_ERR_NO_MEMORY;
    self->head.ops = NULL; /* the table that was registered */
    self->allocator = env->allocator;
    int error = inner_ops->create(&self->inner, env);
    if (error < 0) {
        env->allocator->free(self, env->allocator->user);
        return error;
    }
    /* On an old kernel an instance may come with a smaller table of its own. */
    self->ops = self->inner->ops != NULL ? self->inner->ops : inner_ops;
    *out = &self->head;
    return 0;
}

static void counting_destroy(p2p_backend *backend) {
    counting_t *self = (counting_t *)backend;
    self->ops->destroy(self->inner);
    self->allocator->free(self, self->allocator->user);
}

static int counting_attach(p2p_backend *backend, p2p_io *io) {
    counting_t *self = (counting_t *)backend;
    counts.attach++;
    return self->ops->attach(self->inner, io);
}

static int counting_set_interest(p2p_backend *backend, p2p_io *io, uint32_t old_mask, uint32_t new_mask) {
    counting_t *self = (counting_t *)backend;
    counts.set_interest++;
    return self->ops->set_interest(self->inner, io, old_mask, new_mask);
}

static int counting_detach(p2p_backend *backend, p2p_io *io) {
    counting_t *self = (counting_t *)backend;
    counts.detach++;
    return self->ops->detach(self->inner, io);
}

static int counting_wait(p2p_backend *backend, p2p_backend_event *out, int capacity, int64_t timeout_ns) {
    counting_t *self = (counting_t *)backend;
    counts.wait++;
    int result = self->ops->wait(self->inner, out, capacity, timeout_ns);
    if (result > 0) counts.events += (unsigned long)result;
    return result;
}

static int counting_wake(p2p_backend *backend) {
    counting_t *self = (counting_t *)backend;
    counts.wake++;
    return self->ops->wake(self->inner);
}

static int counting_bind_thread(p2p_backend *backend) {
    counting_t *self = (counting_t *)backend;
    return self->ops->bind_thread(self->inner);
}

/* Usually such a table is static const. This one depends on the backend behind it. */
static p2p_backend_ops counting_ops = {
    .size = sizeof(p2p_backend_ops),
    .abi = P2P_BACKEND_ABI,
    .name = "counting",
    .create = counting_create,
    .destroy = counting_destroy,
    .set_interest = counting_set_interest,
    .detach = counting_detach,
    .wait = counting_wait,
    .wake = counting_wake,
};

static int register_counting(const char *inner_name) {
    inner_ops = p2p_backend_find(inner_name);
    if (inner_ops == NULL) return p2p_last_error();
    counting_ops.caps = inner_ops->caps;
    counting_ops.io_state_size = inner_ops->io_state_size;
    if (inner_ops->attach != NULL) counting_ops.attach = counting_attach;
    if (inner_ops->bind_thread != NULL) counting_ops.bind_thread = counting_bind_thread;
    return p2p_backend_register(&counting_ops);
}

/* ---- something to do: a ball goes to and fro on one loop ---------------------------------- */

typedef struct game {
    p2p_event_loop_t *loop;
    uint32_t rounds;
} game_t;

static void on_server_message(p2p_socket_t *socket, const void *data, uint32_t length, void *user_data) {
    (void)user_data;
    if (p2p_message_send_data(socket, data, length) < 0) p2p_socket_close(socket);
}

static void on_client_message(p2p_socket_t *socket, const void *data, uint32_t length, void *user_data) {
    game_t *game = user_data;
    game->rounds++;
    if (game->rounds == ROUNDS || p2p_message_send_data(socket, data, length) < 0) {
        p2p_event_loop_stop(game->loop);
    }
}

static void on_error(p2p_socket_t *socket, int error, void *user_data) {
    (void)socket;
    game_t *game = user_data;
    fprintf(stderr, "connection: %s\n", p2p_error_message(error));
    p2p_event_loop_stop(game->loop);
}

static const p2p_socket_callbacks_t server_callbacks = {
    .size = sizeof(p2p_socket_callbacks_t),
    .on_message = on_server_message,
    .on_error = on_error,
};

static const p2p_socket_callbacks_t client_callbacks = {
    .size = sizeof(p2p_socket_callbacks_t),
    .on_message = on_client_message,
    .on_error = on_error,
};

static void on_connection(p2p_socket_t *listener, void *user_data) {
    game_t *game = user_data;
    p2p_socket_t *socket = p2p_socket_accept(listener);
    if (socket == NULL) return;
    if (p2p_event_loop_add_socket_with(game->loop, socket, &server_callbacks, game) < 0) {
        fail("add");
        p2p_socket_close(socket);
        p2p_event_loop_stop(game->loop);
    }
}

static int play(game_t *game, p2p_socket_t *listener, p2p_socket_t *client) {
    p2p_address_t address;
    if (p2p_socket_bind(listener, "127.0.0.1", 0) < 0) return fail("bind");
    if (p2p_socket_listen(listener, 1) < 0) return fail("listen");
    if (p2p_socket_local_address(listener, &address) < 0) return fail("local address");
    if (p2p_event_loop_add_socket(game->loop, listener, on_connection, game) < 0) return fail("add");
    if (p2p_event_loop_add_socket_with(game->loop, client, &client_callbacks, game) < 0) return fail("add");
    uint16_t port = (uint16_t)p2p_address_port(&address);
    if (p2p_socket_connect(client, "127.0.0.1", port) < 0) return fail("connect");
    if (p2p_message_send_data(client, "ball", 4) < 0) return fail("send");

    p2p_event_loop_run(game->loop);
    if (p2p_last_error() != 0) return fail("run");
    printf("backend %s, in front of %s: %lu rounds\n", p2p_event_loop_backend_name(game->loop), inner_ops->name,
           (unsigned long)game->rounds);
    return game->rounds == ROUNDS || stop_requested() ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv) {
    const char *best = NULL;
    if (p2p_init() < 0) return fail("p2pnet");
    p2p_backend_list(&best, 1);
    options_t options = { best, NULL, 0 };
    parse_options(argc, argv, &options, "");
    if (register_counting(options.backend) < 0) return fail(options.backend);

    p2p_event_loop_options_t loop_options = P2P_EVENT_LOOP_OPTIONS_INIT;
    loop_options.backend = "counting"; /* ours is never chosen automatically */
    game_t game = { .loop = p2p_event_loop_create_with(&loop_options) };
    p2p_socket_t *listener = p2p_socket_create(P2P_TCP);
    p2p_socket_t *client = p2p_socket_create(P2P_TCP);
    int status = EXIT_FAILURE;
    if (game.loop == NULL) {
        fail_loop();
    } else if (listener == NULL || client == NULL) {
        fail("socket");
    } else {
        stop_on_ctrl_c(game.loop);
        status = play(&game, listener, client);
    }

    stop_on_ctrl_c(NULL);
    p2p_event_loop_free(game.loop);
    p2p_socket_close(client);
    p2p_socket_close(listener);
    if (status == EXIT_SUCCESS) {
        printf("  attach %lu, set_interest %lu, detach %lu, wait %lu (%lu events), wake %lu\n", counts.attach,
               counts.set_interest, counts.detach, counts.wait, counts.events, counts.wake);
    }
    p2p_cleanup();
    return status;
}
