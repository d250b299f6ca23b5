/* The other side as a process. */
#include "apart.h"

#include <sys/wait.h>
#include <unistd.h>

int apart_start(apart *a, void (*run)(p2p_handle_t end, void *data), void *data) {
    p2p_handle_t ends[2];
    int result = os_stream_pair(ends);
    if (result < 0) return result;
    a->end = ends[0];
    a->process = fork();
    if (a->process == 0) {
        os_close(ends[0]);
        run(ends[1], data);
        _exit(0);
    }
    os_close(ends[1]);
    return a->process < 0 ? os_failure() : 0;
}

void apart_join(apart *a) {
    os_close(a->end);
    waitpid((pid_t)a->process, NULL, 0);
}
