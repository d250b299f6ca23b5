/* The library, on the backend that the subject is named after, with a loop's default options. */
#include "subjects.h"
#include "workloads.h"

#include <p2pnet/p2pnet.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static const char *version(void) {
    return p2p_version();
}

static _Noreturn void fail(const char *what) {
    static char text[512];
    const char *why = p2p_error_message(p2p_last_error());
    p2p_backend_report_t report;
    if (p2p_event_loop_backend_report(NULL, &report, 1) == 1 && report.reason[0] != '\0') why = report.reason;
    snprintf(text, sizeof text, "%s: %s", what, why);
    errno = 0;
    bench_fail(text);
}

static p2p_event_loop_t *loop;

/* ---- echo ------------------------------------------------------------------------------------- */

static void on_end(p2p_socket_t *client, void *user_data) {
    (void)user_data;
    p2p_socket_close(client);
}

static void on_error(p2p_socket_t *client, int error, void *user_data) {
    (void)error, (void)user_data;
    p2p_socket_close(client);
}

static void echo_message(p2p_socket_t *client, const void *data, uint32_t length, void *user_data) {
    (void)user_data;
    if (p2p_message_send_data(client, data, length) < 0) p2p_socket_close(client);
}

static const p2p_socket_callbacks_t echo_callbacks = {
    .size = sizeof(p2p_socket_callbacks_t),
    .on_read = on_end,
    .on_message = echo_message,
    .on_error = on_error,
};

static void on_echo_connection(p2p_socket_t *listener, void *user_data) {
    (void)user_data;
    p2p_socket_t *client = p2p_socket_accept(listener);
    if (client == NULL) return;
    if (p2p_event_loop_add_socket_with(loop, client, &echo_callbacks, NULL) < 0) p2p_socket_close(client);
}

static void serve(const char *backend, int listener, p2p_read_callback on_connection) {
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.backend = backend;
    if (p2p_init() < 0 || (loop = p2p_event_loop_create_with(&options)) == NULL) fail(backend);
    p2p_socket_t *sock = p2p_socket_adopt(listener, P2P_TCP);
    if (sock == NULL || p2p_event_loop_add_socket(loop, sock, on_connection, NULL) < 0) fail("listener");
    p2p_event_loop_run(loop);
    fail("run");
}

static void echo(const char *subject, int listener) {
    serve(subject, listener, on_echo_connection);
}

/* ---- broadcast ----------------------------------------------------------------------------------- */

static p2p_socket_t **members;
static size_t member_count, member_capacity;

static void leave(p2p_socket_t *member) {
    for (size_t i = 0; i < member_count; i++) {
        if (members[i] == member) members[i] = members[--member_count];
    }
    p2p_socket_close(member);
}

static void on_member_end(p2p_socket_t *member, void *user_data) {
    (void)user_data;
    leave(member);
}

static void on_member_error(p2p_socket_t *member, int error, void *user_data) {
    (void)error, (void)user_data;
    leave(member);
}

/* A message object for many: the library stores it once. Who can't be sent to is about to be told of. */
static void tell_all(p2p_socket_t *from, const void *data, uint32_t length, void *user_data) {
    (void)from, (void)user_data;
    p2p_message_t *message = p2p_message_create(data, length);
    if (message == NULL) fail("message");
    for (size_t i = 0; i < member_count; i++) p2p_message_send(members[i], message);
    p2p_message_free(message);
}

static const p2p_socket_callbacks_t member_callbacks = {
    .size = sizeof(p2p_socket_callbacks_t),
    .on_read = on_member_end,
    .on_message = tell_all,
    .on_error = on_member_error,
};

static void on_member(p2p_socket_t *listener, void *user_data) {
    (void)user_data;
    p2p_socket_t *member = p2p_socket_accept(listener);
    if (member == NULL) return;
    if (member_count == member_capacity) {
        member_capacity = member_capacity == 0 ? 64 : member_capacity * 2;
        p2p_socket_t **more = realloc(members, member_capacity * sizeof *members);
        if (more == NULL) bench_fail("realloc");
        members = more;
    }
    members[member_count++] = member;
    if (p2p_event_loop_add_socket_with(loop, member, &member_callbacks, NULL) < 0) fail("add_socket");
}

static void broadcast(const char *subject, int listener) {
    serve(subject, listener, on_member);
}

const bench_subject bench_p2pnet = {
    .name = "p2pnet",
    .version = version,
    .echo = echo,
    .broadcast = broadcast,
    .reactor = &bench_p2pnet_reactor,
};

const bench_subject bench_null = {
    .name = "null",
    .version = version,
    .echo_alone = bench_run_null_echo,
};
