/* Milestone 1.3: what the asynchronous echo server owes its clients, which are raw sockets in another thread. */
#include "echo.h"

#include <stdatomic.h>
#include <stdio.h>

typedef struct clients {
    echo_server server;
    atomic_uint failures;
} clients;

typedef void (*client_body)(void *);

static void expect(clients *c, bool ok) {
    if (!ok) atomic_fetch_add(&c->failures, 1);
}

static bool echoed(p2p_handle_t fd, const void *data, uint32_t length) {
    uint8_t back[4096];
    return raw_send_frame(fd, data, length) && raw_recv_frame(fd, back, sizeof back) == length &&
           memcmp(back, data, length) == 0;
}

static bool text_echoed(p2p_handle_t fd, const char *text) {
    return echoed(fd, text, (uint32_t)strlen(text));
}

/* Run the server until the clients' thread has ended; every connection must have ended by then. */
static void serve(client_body body, unsigned accepted, unsigned messages) {
    clients c = { .failures = 0 };
    os_thread thread;
    p2p_event_loop_t *loop = loop_create(NULL);
    echo_start(&c.server, loop, false);
    assert_int_equal(os_thread_start(&thread, body, &c), 0);
    p2p_event_loop_run(loop);
    assert_int_equal(p2p_last_error(), 0);
    os_thread_join(&thread);
    RUN_UNTIL(loop, c.server.ended == accepted);
    assert_int_equal(atomic_load(&c.failures), 0);
    assert_int_equal(c.server.accepted, accepted);
    assert_int_equal(c.server.messages, messages);
    assert_int_equal(p2p_event_loop_socket_count(loop), 1);
    echo_stop(&c.server);
    p2p_event_loop_free(loop);
}

static void done(clients *c) {
    p2p_event_loop_stop(c->server.loop);
}

static void one_client(void *arg) {
    clients *c = arg;
    p2p_handle_t fd = raw_connect(c->server.port);
    expect(c, text_echoed(fd, "hello") && text_echoed(fd, "") && text_echoed(fd, "again"));
    os_close(fd);
    done(c);
}

static void single_client(void **state) {
    (void)state;
    serve(one_client, 1, 3);
}

static void clients_in_turn(void *arg) {
    clients *c = arg;
    for (int i = 0; i < 20; i++) {
        p2p_handle_t fd = raw_connect(c->server.port);
        expect(c, text_echoed(fd, "one") && text_echoed(fd, "two") && raw_fin(fd) && raw_recv_end(fd) == 0);
        os_close(fd);
    }
    done(c);
}

static void sequential_clients(void **state) {
    (void)state;
    serve(clients_in_turn, 20, 40);
}

static void clients_together(void *arg) {
    clients *c = arg;
    p2p_handle_t fds[10];
    for (unsigned i = 0; i < COUNT_OF(fds); i++) fds[i] = raw_connect(c->server.port);
    for (int round = 0; round < 5; round++) {
        for (unsigned i = 0; i < COUNT_OF(fds); i++) {
            char text[32];
            snprintf(text, sizeof text, "client %u, round %d", i, round);
            expect(c, text_echoed(fds[i], text));
        }
    }
    for (unsigned i = 0; i < COUNT_OF(fds); i++) os_close(fds[i]);
    done(c);
}

static void ten_concurrent_clients_stay_connected(void **state) {
    (void)state;
    serve(clients_together, 10, 50);
}

/* All messages go out before any answer is read. */
static void hundred_clients(void *arg) {
    clients *c = arg;
    p2p_handle_t fds[100];
    uint8_t sent[64], back[64];
    for (unsigned i = 0; i < COUNT_OF(fds); i++) fds[i] = raw_connect(c->server.port);
    for (unsigned m = 0; m < 10; m++) {
        for (unsigned i = 0; i < COUNT_OF(fds); i++) {
            raw_fill(sent, sizeof sent, i * 10 + m);
            expect(c, raw_send_frame(fds[i], sent, sizeof sent));
        }
    }
    for (unsigned i = 0; i < COUNT_OF(fds); i++) {
        for (unsigned m = 0; m < 10; m++) {
            raw_fill(sent, sizeof sent, i * 10 + m);
            expect(c, raw_recv_frame(fds[i], back, sizeof back) == sizeof back &&
                          memcmp(sent, back, sizeof back) == 0);
        }
        expect(c, !raw_readable(fds[i]));
        os_close(fds[i]);
    }
    done(c);
}

static void hundred_clients_send_ten_messages_each_without_loss(void **state) {
    (void)state;
    serve(hundred_clients, 100, 1000);
}

static void slow_and_fast(void *arg) {
    clients *c = arg;
    uint8_t frame[64];
    char text[64];
    p2p_handle_t slow = raw_connect(c->server.port), fast = raw_connect(c->server.port);
    size_t length = raw_frame(frame, "very slow", 9);
    for (size_t i = 0; i < length; i++) {
        expect(c, raw_send(slow, frame + i, 1));
        snprintf(text, sizeof text, "between byte %u and the next", (unsigned)i);
        expect(c, text_echoed(fast, text));
    }
    expect(c, raw_recv_frame(slow, text, sizeof text) == 9 && memcmp(text, "very slow", 9) == 0);
    os_close(slow);
    os_close(fast);
    done(c);
}

static void slow_client_does_not_hold_up_another(void **state) {
    (void)state;
    serve(slow_and_fast, 2, 14);
}

static void leave_in_mid_message(void *arg) {
    clients *c = arg;
    p2p_handle_t stays = raw_connect(c->server.port);
    expect(c, text_echoed(stays, "before"));
    for (int i = 0; i < 10; i++) {
        p2p_handle_t leaves = raw_connect(c->server.port);
        expect(c,
               text_echoed(leaves, "whole") && raw_send_header(leaves, 100) && raw_send(leaves, "part", 4));
        if (i % 2 == 0) {
            os_close(leaves);
        } else {
            raw_reset(leaves);
        }
    }
    expect(c, text_echoed(stays, "after"));
    os_close(stays);
    done(c);
}

static void disconnect_in_mid_message(void **state) {
    (void)state;
    serve(leave_in_mid_message, 11, 12);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        CASE(single_client),
        CASE(sequential_clients),
        CASE(ten_concurrent_clients_stay_connected),
        CASE(hundred_clients_send_ten_messages_each_without_loss),
        CASE(slow_client_does_not_hold_up_another),
        CASE(disconnect_in_mid_message),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
