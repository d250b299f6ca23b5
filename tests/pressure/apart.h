/* Somebody at the other end of a stream: a forked process, or on Windows a thread. */
#ifndef APART_H
#define APART_H

#include "os.h"

typedef struct apart {
    p2p_handle_t end; /* this side's end of the stream */
    void (*run)(p2p_handle_t end, void *data);
    void *data;
    p2p_handle_t theirs;
    os_thread thread;
    int64_t process;
} apart;

/** Run run(end, data), which is to return when its end of the stream ends. @return 0 or -errno. */
int apart_start(apart *a, void (*run)(p2p_handle_t end, void *data), void *data);
/** End the stream and wait for the other side to be gone. */
void apart_join(apart *a);

#endif
