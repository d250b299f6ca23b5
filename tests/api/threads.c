/* Other threads, and other loops: post, wake, stop, and embedding in somebody else's loop. */
#include "echo.h"

#include <stdatomic.h>
#include <stdlib.h>

/* ---- post ---- */

enum { THREADS = 4, POSTS = 20000 };

typedef struct poster poster;

typedef struct posted {
    poster *from;
    unsigned number;
} posted;

struct poster {
    p2p_event_loop_t *loop;
    os_thread thread;
    unsigned next; /* the number expected: loop thread only */
    unsigned *left;
    bool failed;
    posted items[POSTS];
};

static void check_posted(void *user_data) {
    posted *item = user_data;
    if (item->number != item->from->next++) item->from->failed = true;
    if (--*item->from->left == 0) p2p_event_loop_stop(item->from->loop);
}

static void post_all(void *arg) {
    poster *p = arg;
    for (unsigned i = 0; i < POSTS; i++) {
        p->items[i] = (posted){ p, i };
        while (p2p_event_loop_post(p->loop, check_posted, &p->items[i]) != 0) os_yield();
    }
}

static void tasks_of_four_threads_run_exactly_once_in_each_threads_order(void **state) {
    (void)state;
    static poster posters[THREADS];
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    unsigned left = THREADS * POSTS;
    options.keep_running = 1;
    p2p_event_loop_t *loop = loop_create(&options);
    memset(posters, 0, sizeof posters);
    for (int i = 0; i < THREADS; i++) {
        posters[i].loop = loop;
        posters[i].left = &left;
        assert_int_equal(os_thread_start(&posters[i].thread, post_all, &posters[i]), 0);
    }
    p2p_event_loop_run(loop); /* a lost wake-up would be a hang */
    for (int i = 0; i < THREADS; i++) os_thread_join(&posters[i].thread);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(posters[i].next, POSTS);
        assert_false(posters[i].failed);
    }
    assert_int_equal(loop_stats(loop).tasks_run, THREADS * POSTS);
    p2p_event_loop_free(loop);
}

/* One task at a time, each only after the last one ran: every post meets a loop that is about to sleep. */
typedef struct ping {
    p2p_event_loop_t *loop;
    atomic_uint done;
    unsigned rounds;
} ping;

static void count_ping(void *user_data) {
    atomic_fetch_add(&((ping *)user_data)->done, 1);
}

static void stop_loop(void *user_data) {
    p2p_event_loop_stop(user_data);
}

static void ping_many(void *arg) {
    ping *p = arg;
    for (unsigned i = 1; i <= p->rounds; i++) {
        while (p2p_event_loop_post(p->loop, count_ping, p) != 0) os_yield();
        while (atomic_load(&p->done) != i) os_yield();
    }
    while (p2p_event_loop_post(p->loop, stop_loop, p->loop) != 0) os_yield();
}

static void no_post_is_missed_by_a_loop_going_to_sleep(void **state) {
    (void)state;
    os_thread thread;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.keep_running = 1;
    ping p = { .loop = loop_create(&options), .rounds = OS_ROUNDS(5000, 200) };
    assert_int_equal(os_thread_start(&thread, ping_many, &p), 0);
    p2p_event_loop_run(p.loop);
    os_thread_join(&thread);
    assert_int_equal(atomic_load(&p.done), p.rounds);
    p2p_event_loop_free(p.loop);
}

static void wake_many(void *loop) {
    for (int i = 0; i < 200000; i++) p2p_event_loop_wake(loop);
}

static void many_wakes_neither_block_nor_add_up(void **state) {
    (void)state;
    os_thread thread;
    p2p_event_loop_t *loop = loop_create(NULL);
    assert_int_equal(os_thread_start(&thread, wake_many, loop), 0);
    os_thread_join(&thread); /* nobody has read them meanwhile */
    assert_int_equal(p2p_event_loop_run_once(loop, -1), 0);
    uint64_t waits = loop_stats(loop).waits;
    int64_t before = clock_ns();
    assert_int_equal(p2p_event_loop_run_once(loop, 20), 0);
    assert_true(loop_stats(loop).waits > waits);
    assert_true(clock_ns() - before >= 15 * (int64_t)P2P_NS_PER_MS); /* not woken again */
    p2p_event_loop_free(loop);
}

static void set_flag(void *user_data) {
    *(bool *)user_data = true;
}

static void tasks_posted_while_the_loop_is_not_running_wait_for_it(void **state) {
    (void)state;
    bool ran = false;
    p2p_event_loop_t *loop = loop_create(NULL);
    assert_int_equal(p2p_event_loop_post(loop, set_flag, &ran), 0);
    assert_false(ran);
    assert_int_equal(p2p_event_loop_run_once(loop, -1), 1);
    assert_true(ran);
    p2p_event_loop_free(loop);
}

/* ---- one message, many threads ---- */

typedef struct sender {
    os_thread thread;
    p2p_message_t *message;
    p2p_socket_t *sock;
    p2p_handle_t fd;
    bool ok;
} sender;

static void send_shared(void *arg) {
    sender *s = arg;
    uint8_t back[2000];
    s->ok = true;
    for (int i = 0; i < 200; i++) {
        s->ok = s->ok && p2p_message_send(s->sock, s->message) == 0 &&
                raw_recv_frame(s->fd, back, sizeof back) == s->message->length;
    }
}

static void one_message_may_be_sent_by_several_threads_at_a_time(void **state) {
    (void)state;
    sender senders[THREADS];
    p2p_message_t *message = p2p_message_create(NULL, 2000);
    for (int i = 0; i < THREADS; i++) {
        senders[i].message = message;
        senders[i].sock = socket_pair(&senders[i].fd);
        assert_int_equal(os_thread_start(&senders[i].thread, send_shared, &senders[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        os_thread_join(&senders[i].thread);
        assert_true(senders[i].ok);
        p2p_socket_close(senders[i].sock);
        os_close(senders[i].fd);
    }
    p2p_message_free(message);
}

/* A loop in each thread, all under the same message. */
typedef struct worker {
    os_thread thread;
    p2p_message_t *message;
    unsigned echoed;
    bool ok;
} worker;

static void run_loop_of_ones_own(void *arg) {
    worker *w = arg;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    echo_server server;
    uint8_t back[2000];
    options.backend = test_backend();
    p2p_event_loop_t *loop = p2p_event_loop_create_with(&options);
    p2p_socket_t *client = p2p_socket_create(P2P_TCP);
    w->ok = loop != NULL && client != NULL && echo_try_start(&server, loop, false) == 0 &&
            p2p_event_loop_add_socket(loop, client, NULL, NULL) == 0 &&
            p2p_socket_connect(client, "127.0.0.1", server.port) == 0;
    for (int i = 0; w->ok && i < 50; i++) w->ok = p2p_message_send(client, w->message) == 0;
    while (w->ok && w->echoed < 50) {
        w->ok = p2p_event_loop_run_once(loop, 1) >= 0;
        for (p2p_message_t *m; (m = p2p_message_recv(client)) != NULL; w->echoed++) {
            w->ok = w->ok && m->length == sizeof back;
            p2p_message_free(m);
        }
    }
    p2p_socket_close(client);
    if (loop != NULL) echo_stop(&server);
    p2p_event_loop_free(loop);
}

static void loops_in_several_threads_do_not_disturb_each_other(void **state) {
    (void)state;
    worker workers[THREADS];
    memset(workers, 0, sizeof workers);
    p2p_message_t *message = p2p_message_create(NULL, 2000);
    for (int i = 0; i < THREADS; i++) {
        workers[i].message = message;
        assert_int_equal(os_thread_start(&workers[i].thread, run_loop_of_ones_own, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        os_thread_join(&workers[i].thread);
        assert_true(workers[i].ok);
        assert_int_equal(workers[i].echoed, 50);
    }
    p2p_message_free(message);
}

/* ---- embedding ---- */

static void ignore_timer(p2p_timer_t *timer, void *user_data) {
    (void)timer;
    (void)user_data;
}

static void next_timeout_is_what_a_foreign_loop_may_wait(void **state) {
    (void)state;
    bool ran = false;
    p2p_event_loop_t *loop = loop_create(NULL);
    assert_int_equal(p2p_event_loop_next_timeout(loop), -1);
    p2p_timer_t *timer = p2p_timer_create(loop, ignore_timer, NULL);
    assert_int_equal(p2p_timer_start(timer, 3600 * P2P_NS_PER_SECOND, 0), 0);
    int timeout = p2p_event_loop_next_timeout(loop);
    assert_in_range(timeout, 3500 * 1000, 3600 * 1000 + 1);
    assert_int_equal(p2p_timer_start(timer, 1, 0), 0);
    assert_in_range(p2p_event_loop_next_timeout(loop), 0, 1); /* rounded up, never early */
    assert_int_equal(p2p_timer_stop(timer), 0);
    assert_int_equal(p2p_event_loop_next_timeout(loop), -1);
    assert_int_equal(p2p_event_loop_post(loop, set_flag, &ran), 0);
    assert_int_equal(p2p_event_loop_next_timeout(loop), 0);
    assert_false(ran);
    assert_int_equal(p2p_event_loop_run_once(loop, 0), 1);
    assert_int_equal(p2p_event_loop_next_timeout(loop), -1);
    p2p_event_loop_free(loop);
}

static void take_nothing(p2p_socket_t *sock, void *user_data) {
    (void)sock;
    ++*(unsigned *)user_data;
}

static void next_timeout_is_zero_while_a_message_waits(void **state) {
    (void)state;
    unsigned reads = 0;
    p2p_handle_t fd;
    p2p_event_loop_t *loop = loop_create(NULL);
    p2p_socket_t *sock = socket_pair(&fd);
    assert_int_equal(p2p_event_loop_add_socket(loop, sock, take_nothing, &reads), 0);
    assert_int_equal(p2p_event_loop_next_timeout(loop), -1);
    assert_true(raw_send_text(fd, "hello"));
    RUN_UNTIL(loop, reads > 0);
    assert_int_equal(p2p_event_loop_next_timeout(loop), 0);
    p2p_message_free(p2p_message_recv(sock));
    RUN_UNTIL(loop, p2p_event_loop_next_timeout(loop) == -1);
    p2p_socket_close(sock);
    os_close(fd);
    p2p_event_loop_free(loop);
}

/* Wait as a foreign loop would, for the handle, and give the library its turn. */
static bool foreign_turn(p2p_event_loop_t *loop, p2p_handle_t handle) {
    int timeout = p2p_event_loop_next_timeout(loop);
    int ready = os_poll(handle, POLLIN, timeout >= 0 ? timeout : RAW_DEADLINE_S * 1000);
    assert_true(p2p_event_loop_run_once(loop, 0) >= 0);
    return ready > 0 || timeout >= 0; /* false: nothing happened until the deadline */
}

static p2p_handle_t handle_or_skip(p2p_event_loop_t *loop) {
    p2p_handle_t handle = p2p_event_loop_backend_handle(loop);
    if (handle == P2P_INVALID_HANDLE) {
        int error = p2p_last_error();
        if (error != P2P_ERR_NOT_SUPPORTED) fail_msg("no handle, but %s", p2p_error_name(error));
        p2p_event_loop_free(loop);
        test_skip("this backend has no handle to wait for");
    }
    return handle;
}

static void post_once(void *arg) {
    ping *p = arg;
    p2p_event_loop_post(p->loop, count_ping, p);
}

static void the_handle_lets_a_foreign_loop_serve_sockets_timers_and_tasks(void **state) {
    (void)state;
    os_thread thread;
    echo_server server;
    ping p = { .loop = loop_create(NULL) };
    p2p_handle_t handle = handle_or_skip(p.loop);
    echo_start(&server, p.loop, false);
    p2p_handle_t fd = raw_connect(server.port);
    for (unsigned i = 1; i <= 20; i++) {
        assert_true(raw_send_text(fd, "hello"));
        while (server.messages < i) assert_true(foreign_turn(p.loop, handle));
        p2p_event_loop_next_timeout(p.loop);
        char text[8];
        assert_int_equal(raw_recv_frame(fd, text, sizeof text), 5);
    }
    while (p2p_event_loop_next_timeout(p.loop) == 0 || raw_readable(handle)) assert_true(foreign_turn(p.loop, handle));
    p2p_timer_t *timer = p2p_timer_create(p.loop, ignore_timer, NULL);
    assert_int_equal(p2p_timer_start(timer, 2 * P2P_NS_PER_MS, 0), 0);
    while (loop_stats(p.loop).timers_fired == 0) assert_true(foreign_turn(p.loop, handle));
    assert_int_equal(os_thread_start(&thread, post_once, &p), 0);
    while (atomic_load(&p.done) == 0) assert_true(foreign_turn(p.loop, handle));
    os_thread_join(&thread);
    os_close(fd);
    echo_stop(&server);
    p2p_event_loop_free(p.loop);
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        CASE(tasks_of_four_threads_run_exactly_once_in_each_threads_order),
        CASE(no_post_is_missed_by_a_loop_going_to_sleep),
        CASE(many_wakes_neither_block_nor_add_up),
        CASE(tasks_posted_while_the_loop_is_not_running_wait_for_it),
        CASE(one_message_may_be_sent_by_several_threads_at_a_time),
        CASE(loops_in_several_threads_do_not_disturb_each_other),
        CASE(next_timeout_is_what_a_foreign_loop_may_wait),
        CASE(next_timeout_is_zero_while_a_message_waits),
        CASE(the_handle_lets_a_foreign_loop_serve_sockets_timers_and_tasks),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
