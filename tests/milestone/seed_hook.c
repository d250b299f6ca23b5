/* Gives the seed an end without a change to its text: SIGTERM stops the loop that it made. */
#include <p2pnet/p2pnet.h>

#include <signal.h>

p2p_event_loop_t *seed_loop_create(void);

static p2p_event_loop_t *volatile seed_loop;

static void on_sigterm(int number) {
    (void)number;
    p2p_event_loop_stop(seed_loop);
}

p2p_event_loop_t *seed_loop_create(void) {
    seed_loop = p2p_event_loop_create();
    signal(SIGTERM, on_sigterm);
    return seed_loop;
}
