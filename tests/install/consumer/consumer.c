/* Makes a loop, posts a task to it and runs it: enough to see that headers and library are found and fit. */
#include <p2pnet/p2pnet.h>

#include <stdio.h>

static void on_task(void *user_data) {
    *(int *)user_data = 1;
}

int main(void) {
    int ran = 0;
    if (p2p_init() != P2P_OK) return 1;
    p2p_event_loop_t *loop = p2p_event_loop_create();
    if (loop == NULL || p2p_event_loop_post(loop, on_task, &ran) != P2P_OK) return 1;
    p2p_event_loop_run(loop);
    printf("p2pnet %s, backend %s\n", p2p_version(), p2p_event_loop_backend_name(loop));
    p2p_event_loop_free(loop);
    p2p_cleanup();
    return ran ? 0 : 1;
}
