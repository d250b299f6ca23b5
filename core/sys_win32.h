/*
 * What the parts of the Windows system table share: sys_win32.c holds the table and the socket calls,
 * sys_win32_wait.c what waits and what ends a wait.
 */
#ifndef P2PI_SYS_WIN32_H
#define P2PI_SYS_WIN32_H

#include "sys_sockets.h"

/* What a failed call returns. */
static inline int p2pi_win32_result(int result) {
    return result < 0 ? p2pi_sys_failure() : result;
}

/* FIONBIO. */
int p2pi_win32_set_nonblocking(p2p_handle_t handle, int enabled);
/* A socket that child processes don't inherit, blocking. */
int p2pi_win32_open(p2p_handle_t *out, int family, int type);

int p2pi_win32_poll(struct pollfd *fds, uint32_t count, int64_t timeout_ns);
int p2pi_win32_select(int nfds, void *readable, void *writable, void *exceptional, int64_t timeout_ns);
int p2pi_win32_wait_one(p2p_handle_t handle, uint32_t mask, int64_t timeout_ns);
int p2pi_win32_wake_open(p2p_handle_t ends[2]);
int p2pi_win32_wake_signal(p2p_handle_t end);
int p2pi_win32_wake_drain(p2p_handle_t end);
void p2pi_win32_wake_close(p2p_handle_t ends[2]);

#endif
