/* The system table's threads: for the calls that can't be made without waiting. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include "sys_posix.h"

#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <time.h>

/* For getaddrinfo and the modules that it loads; a thread's own variables come out of it, too. */
#define STACK_SIZE (512u * 1024u)
#define REST_NS 100000

static void *enter(void *thread) {
    p2p_sys_thread *it = thread;
    it->run(it);
    return NULL;
}

/* Signals are blocked, as a new thread has the mask of its maker: the program's handlers run in its own threads. */
static int start(const pthread_attr_t *attributes, p2p_sys_thread *thread) {
    pthread_t unused;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&unused, attributes, enter, thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error == EAGAIN ? -ENOMEM : -error; /* EAGAIN: no room for another thread, not "try again" */
}

int p2pi_posix_thread_start(p2p_sys_thread *thread) {
    pthread_attr_t attributes;
    int error = pthread_attr_init(&attributes);
    if (error != 0) return -error;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_SIZE); /* where that is too little, it stays the system's */
    int result = start(&attributes, thread);
    pthread_attr_destroy(&attributes);
    return result;
}

void p2pi_posix_thread_rest(void) {
    const struct timespec rest = { 0, REST_NS };
    nanosleep(&rest, NULL);
}
