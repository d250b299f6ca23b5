/* The other side as a thread. */
#include "apart.h"

static void run_thread(void *data) {
    apart *a = data;
    a->run(a->theirs, a->data);
    os_close(a->theirs);
}

int apart_start(apart *a, void (*run)(p2p_handle_t end, void *data), void *data) {
    p2p_handle_t ends[2];
    int result = os_stream_pair(ends);
    if (result < 0) return result;
    a->end = ends[0];
    a->theirs = ends[1];
    a->run = run;
    a->data = data;
    return os_thread_start(&a->thread, run_thread, a);
}

void apart_join(apart *a) {
    os_shutdown_both(a->end);
    os_thread_join(&a->thread);
    os_close(a->end);
}
