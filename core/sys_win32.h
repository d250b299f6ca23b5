/*
 * What the parts of the Windows system table share: sys_win32.c holds the table and the socket calls,
 * sys_win32_option.c the options, sys_win32_wait.c what waits and what ends a wait, sys_win32_afd.c the driver below
 * Winsock, sys_win32_thread.c threads.
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
int p2pi_win32_set_option(p2p_handle_t handle, p2p_sys_option option, int value);
int p2pi_win32_get_option(p2p_handle_t handle, p2p_sys_option option, int *value);
/* A socket that child processes don't inherit, blocking. */
int p2pi_win32_open(p2p_handle_t *out, int family, int type);

int p2pi_win32_poll(struct pollfd *fds, uint32_t count, int64_t timeout_ns);
int p2pi_win32_select(int nfds, void *readable, void *writable, void *exceptional, int64_t timeout_ns);
int p2pi_win32_wait_one(p2p_handle_t handle, uint32_t mask, int64_t timeout_ns);
int p2pi_win32_wake_open(p2p_handle_t ends[2]);
int p2pi_win32_wake_signal(p2p_handle_t end);
int p2pi_win32_wake_drain(p2p_handle_t end);
void p2pi_win32_wake_close(p2p_handle_t ends[2]);
int p2pi_win32_port_open(p2p_handle_t *out);
int p2pi_win32_port_wait(p2p_handle_t port, struct _OVERLAPPED_ENTRY *results, uint32_t capacity, int64_t timeout_ns);
int p2pi_win32_port_post(p2p_handle_t port);
int p2pi_win32_port_close(p2p_handle_t handle);

int p2pi_win32_thread_start(p2p_sys_thread *thread);
void p2pi_win32_thread_rest(void);

p2p_sys_function p2pi_win32_nt_function(const char *name);
int p2pi_win32_afd_open(p2p_sys_function nt_create_file, p2p_handle_t port, p2p_handle_t *out);
int p2pi_win32_afd_poll(p2p_sys_function nt_device_io_control_file, p2p_handle_t device, p2p_afd_poll *poll);
int p2pi_win32_afd_cancel(p2p_sys_function nt_cancel_io_file_ex, p2p_handle_t device, p2p_afd_poll *poll);
int p2pi_win32_lower_socket(p2p_handle_t handle, p2p_sys_lower which, p2p_handle_t *out);

#endif
