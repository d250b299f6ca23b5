/* Gives the seed an end without a change to its text: SIGTERM stops the loop that it made. */
#include <p2pnet/p2pnet.h>

#include <signal.h>
#include <string.h>

p2p_event_loop_t *seed_loop_create(void);

static p2p_event_loop_t *volatile seed_loop;

static void on_sigterm(int number) {
    (void)number;
    p2p_event_loop_stop(seed_loop);
}

static void on_tick(p2p_timer_t *timer, void *user_data) {
    (void)timer, (void)user_data;
}

p2p_event_loop_t *seed_loop_create(void) {
    seed_loop = p2p_event_loop_create();
    signal(SIGTERM, on_sigterm);
    /* Valgrind 3.19 takes io_uring_enter for a call that can't wait, and holds signals back until the program has run
     * for a while: so it is kept running. */
    if (strncmp(p2p_event_loop_backend_name(seed_loop), "io_uring", 8) == 0)
        p2p_timer_start(p2p_timer_create(seed_loop, on_tick, NULL), P2P_NS_PER_MS, P2P_NS_PER_MS / 4);
    return seed_loop;
}
