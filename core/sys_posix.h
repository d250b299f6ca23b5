/*
 * What the parts of the POSIX system table share: sys_posix.c holds the table and the socket calls,
 * sys_posix_option.c the options, sys_posix_wait.c what waits and what ends a wait, sys_posix_thread.c threads.
 * sys_posix_unix.c's part is in sys_sockets.h.
 */
#ifndef P2PI_SYS_POSIX_H
#define P2PI_SYS_POSIX_H

#include <p2pnet/sys.h>

#include <errno.h>

/* What a failed call returns. Some systems have two numbers for "would block"; callers see one. */
static inline int p2pi_posix_failure(void) {
    return errno == EWOULDBLOCK ? -EAGAIN : -errno;
}

static inline int p2pi_posix_result(int result) {
    return result < 0 ? p2pi_posix_failure() : result;
}

#if defined(__APPLE__) || defined(__FreeBSD__) || defined(__NetBSD__) || defined(__OpenBSD__) || defined(__DragonFly__)
#define P2PI_POSIX_KQUEUE 1
#endif

int64_t p2pi_posix_now_ns(void);
#if !defined(__linux__)
/* Close-on-exec and the mode asked for, where a call can't give them with the handle. */
int p2pi_posix_finish_handle(int handle, int nonblocking);
#endif

int p2pi_posix_set_option(p2p_handle_t handle, p2p_sys_option option, int value);
int p2pi_posix_get_option(p2p_handle_t handle, p2p_sys_option option, int *value);

int p2pi_posix_poll(struct pollfd *fds, uint32_t count, int64_t timeout_ns);
int p2pi_posix_select(int nfds, void *readable, void *writable, void *exceptional, int64_t timeout_ns);
int p2pi_posix_wait_one(p2p_handle_t handle, uint32_t mask, int64_t timeout_ns);
int p2pi_posix_wake_open(p2p_handle_t ends[2]);
int p2pi_posix_wake_signal(p2p_handle_t end);
int p2pi_posix_wake_drain(p2p_handle_t end);
void p2pi_posix_wake_close(p2p_handle_t ends[2]);
int p2pi_posix_thread_start(p2p_sys_thread *thread);
void p2pi_posix_thread_rest(void);
#if defined(__linux__)
int p2pi_posix_epoll_create(void);
int p2pi_posix_epoll_ctl(int epoll, int operation, p2p_handle_t handle, struct epoll_event *event);
int p2pi_posix_epoll_wait(int epoll, struct epoll_event *events, int capacity, int64_t timeout_ns, int precise);
int p2pi_linux_uring_setup(uint32_t entries, struct io_uring_params *params);
int p2pi_linux_uring_enter(int ring, uint32_t to_submit, uint32_t min_complete, uint32_t flags, const void *argument,
                           size_t argument_size);
int p2pi_linux_uring_register(int ring, uint32_t operation, void *argument, uint32_t count);
int p2pi_linux_uring_map(int ring, uint64_t offset, size_t size, void **out);
void p2pi_linux_uring_unmap(void *memory, size_t size);
#endif
#if defined(P2PI_POSIX_KQUEUE)
int p2pi_posix_kqueue(void);
int p2pi_posix_kevent(int queue, const struct kevent *changes, int change_count, struct kevent *events, int capacity,
                      int64_t timeout_ns);
#endif

#endif
