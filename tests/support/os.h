/*
 * What the tests need from the operating system, told in one way: sockets, the clock, threads. Not from p2pnet:
 * a peer that shares code with the library proves little.
 *
 * Errors are errno numbers everywhere; Windows' own are translated. EINTR is retried. Nothing asserts, so
 * helper threads may call all of it. os_posix.c and os_win32.c hold what differs.
 */
#ifndef OS_H
#define OS_H

#include <p2pnet/base.h>

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#  include <winsock2.h>
#  include <ws2tcpip.h>
#else
#  include <arpa/inet.h>
#  include <netinet/in.h>
#  include <netinet/tcp.h>
#  include <poll.h>
#  include <sys/socket.h>
#endif

/** Must come before the first socket, in each test program (p2p_test_main does it). */
void os_start(void);

/* ---- errors ---- */

/** The number that the system gives for this errno number, for what is put in place of the system. */
int os_number(int error);
/** -errno of the call that has just failed. */
int os_failure(void);
/** Wine stands in for Windows and differs in places; only for what a case says about such a one. */
bool os_is_wine(void);

/* ---- sockets: a handle, or P2P_INVALID_HANDLE; 0 or a count, or -errno ---- */

/** Blocking; not inherited by child processes. */
p2p_handle_t os_socket(int family, int type);
/** Takes any kind of handle that comes from here. */
int os_close(p2p_handle_t handle);
/** Close with RST. */
void os_reset(p2p_handle_t handle);
/** Two ends of a stream connection, blocking. @return 0 or -errno. */
int os_stream_pair(p2p_handle_t ends[2]);
struct sockaddr_in os_loopback(uint16_t port);
/** Bind to 127.0.0.1 and a port of the system's choice. */
int os_bind_loopback(p2p_handle_t handle, uint16_t *port);
int os_listen(p2p_handle_t handle, int backlog);
/** Wait for a connection; it is blocking. */
p2p_handle_t os_accept(p2p_handle_t listener);
/** -EINPROGRESS on a non-blocking handle. */
int os_connect(p2p_handle_t handle, const struct sockaddr *address, size_t size);
int os_shutdown_send(p2p_handle_t handle);
int os_shutdown_both(p2p_handle_t handle);
int os_local_port(p2p_handle_t handle);
int os_peer_port(p2p_handle_t handle);
int os_set_nonblocking(p2p_handle_t handle, bool enabled);
/** What can be read of the handle's mode (on POSIX F_GETFL), to compare. */
int os_mode(p2p_handle_t handle);
/** @return whether it is; where the system can't tell, by what its calls do. */
bool os_is_nonblocking(p2p_handle_t handle);
int os_set_option(p2p_handle_t handle, int level, int name, int value);
int os_get_option(p2p_handle_t handle, int level, int name, int *value);
/** For blocking calls on the handle: -EAGAIN after that long. */
int os_set_deadline(p2p_handle_t handle, int seconds);

int64_t os_send(p2p_handle_t handle, const void *data, size_t size);
int64_t os_recv(p2p_handle_t handle, void *buffer, size_t size);
/** Two pieces in one system call. */
int64_t os_send_both(p2p_handle_t handle, const void *first, size_t first_size, const void *second, size_t second_size);
/** On a blocking handle, but without waiting: -EAGAIN. */
int64_t os_send_now(p2p_handle_t handle, const void *data, size_t size);
int64_t os_recv_now(p2p_handle_t handle, void *buffer, size_t size);
/** One byte of urgent data. */
int64_t os_send_urgent(p2p_handle_t handle, char byte);

/** Wait for one handle; events and result of poll() (POLLIN, POLLOUT). @return 0 at the time-out, or -errno. */
int os_poll(p2p_handle_t handle, int events, int timeout_ms);
/** @return whether it is an open socket (on POSIX: any open handle). */
bool os_is_open(p2p_handle_t handle);
/** @return whether child programs get it too. */
bool os_is_inheritable(p2p_handle_t handle);
/** How many sockets (on POSIX: descriptors of any kind) this process has open. */
int os_open_count(void);
/** Let the process have as many as the system allows. @return how many that are. */
int os_raise_socket_limit(void);

/* ---- what is not a socket everywhere ---- */

/** What is put into ends[1] comes out of ends[0]. A pipe; on Windows, which can wait for sockets only, a connection. */
int os_pipe(p2p_handle_t ends[2]);
int64_t os_read(p2p_handle_t end, void *buffer, size_t size);
int64_t os_write(p2p_handle_t end, const void *data, size_t size);
/** A handle that is no socket. */
p2p_handle_t os_null_device(void);
/** From now on hide what is written to standard output and error. */
void os_mute(void);
/** @return how many bytes were written since os_mute; -1 if it could not hide them. */
int64_t os_unmute(void);
/** Set an environment variable; NULL removes it. */
void os_set_environment(const char *name, const char *value);

/* ---- clock and threads ---- */

int64_t os_now_ns(void);
/** Give the processor to another thread. */
void os_yield(void);

typedef struct os_thread {
    void (*run)(void *data);
    void *data;
    uintptr_t system;
} os_thread;

/** Run `run(data)` in a thread; the struct must stay until os_thread_join. @return 0 or -errno. */
int os_thread_start(os_thread *thread, void (*run)(void *data), void *data);
void os_thread_join(os_thread *thread);

/* ---- more of sockets ---- */

int os_shutdown_receive(p2p_handle_t handle);
/** Another handle of the same socket (on POSIX: of anything). @return P2P_INVALID_HANDLE when none is to be had. */
p2p_handle_t os_duplicate(p2p_handle_t handle);
/** The same under a number that is free now. @return 0; -EBUSY: the system gave it to somebody else. */
int os_duplicate_as(p2p_handle_t handle, p2p_handle_t number);

/* ---- what a system call costs ---- */

/** How often to repeat: `usual`, or `fewer` under Wine, whose server has a part in every call. */
#define OS_ROUNDS(usual, fewer) (os_is_wine() ? (fewer) : (usual))

#endif
