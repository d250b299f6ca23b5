/* What the tests need from a POSIX system. */
#include "os.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

void os_start(void) {
}

int os_number(int error) {
    return error;
}

bool os_is_wine(void) {
    return false;
}

int os_failure(void) {
    return errno == EWOULDBLOCK ? -EAGAIN : -errno;
}

static int result_of(int result) {
    return result < 0 ? os_failure() : result;
}

/* ---- sockets ---- */

p2p_handle_t os_socket(int family, int type) {
    int handle = socket(family, type, 0);
    if (handle >= 0) fcntl(handle, F_SETFD, FD_CLOEXEC);
    return handle;
}

int os_close(p2p_handle_t handle) {
    return result_of(close(handle));
}

void os_reset(p2p_handle_t handle) {
    struct linger linger = { 1, 0 };
    setsockopt(handle, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(handle);
}

int os_stream_pair(p2p_handle_t ends[2]) {
    return result_of(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
}

p2p_handle_t os_accept(p2p_handle_t listener) {
    int handle;
    do {
        handle = accept(listener, NULL, NULL);
    } while (handle < 0 && errno == EINTR);
    if (handle >= 0) fcntl(handle, F_SETFD, FD_CLOEXEC);
    return handle;
}

/* A connect that a signal interrupts goes on in the background. */
static int finish_connect(p2p_handle_t handle) {
    int error = 0;
    int ready = os_poll(handle, POLLOUT, 20000);
    if (ready <= 0) return ready < 0 ? ready : -ETIMEDOUT;
    int result = os_get_option(handle, SOL_SOCKET, SO_ERROR, &error);
    return result < 0 ? result : -error;
}

int os_connect(p2p_handle_t handle, const struct sockaddr *address, size_t size) {
    if (connect(handle, address, (socklen_t)size) == 0) return 0;
    return errno == EINTR ? finish_connect(handle) : os_failure();
}

int os_shutdown_send(p2p_handle_t handle) {
    return result_of(shutdown(handle, SHUT_WR));
}

int os_shutdown_both(p2p_handle_t handle) {
    return result_of(shutdown(handle, SHUT_RDWR));
}

int os_set_nonblocking(p2p_handle_t handle, bool enabled) {
    int mode = fcntl(handle, F_GETFL);
    if (mode < 0) return os_failure();
    return result_of(fcntl(handle, F_SETFL, enabled ? mode | O_NONBLOCK : mode & ~O_NONBLOCK));
}

int os_mode(p2p_handle_t handle) {
    return fcntl(handle, F_GETFL);
}

bool os_is_nonblocking(p2p_handle_t handle) {
    int mode = fcntl(handle, F_GETFL);
    return mode >= 0 && (mode & O_NONBLOCK) != 0;
}

int os_set_option(p2p_handle_t handle, int level, int name, int value) {
    return result_of(setsockopt(handle, level, name, &value, sizeof value));
}

int os_get_option(p2p_handle_t handle, int level, int name, int *value) {
    socklen_t size = sizeof *value;
    return result_of(getsockopt(handle, level, name, value, &size));
}

int os_set_deadline(p2p_handle_t handle, int seconds) {
    struct timeval deadline = { seconds, 0 };
    int result = result_of(setsockopt(handle, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof deadline));
    return result < 0 ? result : result_of(setsockopt(handle, SOL_SOCKET, SO_SNDTIMEO, &deadline, sizeof deadline));
}

static int64_t send_with(p2p_handle_t handle, const void *data, size_t size, int flags) {
    ssize_t sent;
    do {
        sent = send(handle, data, size, flags | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? os_failure() : sent;
}

static int64_t recv_with(p2p_handle_t handle, void *buffer, size_t size, int flags) {
    ssize_t got;
    do {
        got = recv(handle, buffer, size, flags);
    } while (got < 0 && errno == EINTR);
    return got < 0 ? os_failure() : got;
}

int64_t os_send(p2p_handle_t handle, const void *data, size_t size) {
    return send_with(handle, data, size, 0);
}

int64_t os_recv(p2p_handle_t handle, void *buffer, size_t size) {
    return recv_with(handle, buffer, size, 0);
}

int64_t os_send_both(p2p_handle_t handle, const void *first, size_t first_size, const void *second,
                     size_t second_size) {
    struct iovec pieces[2] = {
        { (void *)(uintptr_t)first, first_size }, { (void *)(uintptr_t)second, second_size }
    };
    struct msghdr message = { .msg_iov = pieces, .msg_iovlen = 2 };
    ssize_t sent;
    do {
        sent = sendmsg(handle, &message, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? os_failure() : sent;
}

int64_t os_send_now(p2p_handle_t handle, const void *data, size_t size) {
    return send_with(handle, data, size, MSG_DONTWAIT);
}

int64_t os_recv_now(p2p_handle_t handle, void *buffer, size_t size) {
    return recv_with(handle, buffer, size, MSG_DONTWAIT);
}

int64_t os_send_urgent(p2p_handle_t handle, char byte) {
    return send_with(handle, &byte, 1, MSG_OOB);
}

int os_poll(p2p_handle_t handle, int events, int timeout_ms) {
    struct pollfd entry = { .fd = handle, .events = (short)events };
    int ready;
    do {
        ready = poll(&entry, 1, timeout_ms);
    } while (ready < 0 && errno == EINTR);
    return ready > 0 ? entry.revents : result_of(ready);
}

bool os_is_open(p2p_handle_t handle) {
    return fcntl(handle, F_GETFD) >= 0;
}

bool os_is_inheritable(p2p_handle_t handle) {
    int flags = fcntl(handle, F_GETFD);
    return flags < 0 || (flags & FD_CLOEXEC) == 0;
}

static int limit_of_sockets(void) {
    struct rlimit limit;
    return getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < 65536 ? (int)limit.rlim_cur : 65536;
}

int os_open_count(void) {
    DIR *directory = opendir("/proc/self/fd");
    int count = 0;
    if (directory == NULL) {
        for (int handle = limit_of_sockets() - 1; handle >= 0; handle--) count += os_is_open(handle);
        return count;
    }
    while (readdir(directory) != NULL) count++;
    closedir(directory);
    return count - 3; /* ".", ".." and the directory itself */
}

int os_raise_socket_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    return limit_of_sockets();
}

/* ---- what is not a socket everywhere ---- */

int os_pipe(p2p_handle_t ends[2]) {
    return result_of(pipe(ends));
}

int64_t os_read(p2p_handle_t end, void *buffer, size_t size) {
    ssize_t got;
    do {
        got = read(end, buffer, size);
    } while (got < 0 && errno == EINTR);
    return got < 0 ? os_failure() : got;
}

int64_t os_write(p2p_handle_t end, const void *data, size_t size) {
    ssize_t written;
    do {
        written = write(end, data, size);
    } while (written < 0 && errno == EINTR);
    return written < 0 ? os_failure() : written;
}

p2p_handle_t os_null_device(void) {
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static FILE *hidden;
static int shown[2];

void os_mute(void) {
    fflush(stdout);
    fflush(stderr);
    hidden = tmpfile();
    if (hidden == NULL) return;
    for (int i = 0; i < 2; i++) {
        shown[i] = dup(1 + i);
        dup2(fileno(hidden), 1 + i);
    }
}

int64_t os_unmute(void) {
    if (hidden == NULL) return -1;
    fflush(stdout);
    fflush(stderr);
    int64_t written = lseek(fileno(hidden), 0, SEEK_END);
    for (int i = 0; i < 2; i++) {
        dup2(shown[i], 1 + i);
        close(shown[i]);
    }
    fclose(hidden);
    return written;
}

void os_set_environment(const char *name, const char *value) {
    if (value != NULL) {
        setenv(name, value, 1);
    } else {
        unsetenv(name);
    }
}

/* ---- clock and threads ---- */

int64_t os_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void os_yield(void) {
    sched_yield();
}

static void *run_thread(void *data) {
    os_thread *thread = data;
    thread->run(thread->data);
    return NULL;
}

int os_thread_start(os_thread *thread, void (*run)(void *data), void *data) {
    pthread_t system;
    thread->run = run;
    thread->data = data;
    int error = pthread_create(&system, NULL, run_thread, thread);
    thread->system = (uintptr_t)system;
    return -error;
}

void os_thread_join(os_thread *thread) {
    pthread_join((pthread_t)thread->system, NULL);
}

/* ---- more of sockets ---- */

int os_shutdown_receive(p2p_handle_t handle) {
    return result_of(shutdown(handle, SHUT_RD));
}

p2p_handle_t os_duplicate(p2p_handle_t handle) {
    return fcntl(handle, F_DUPFD_CLOEXEC, 0);
}

int os_duplicate_as(p2p_handle_t handle, p2p_handle_t number) {
    int got = fcntl(handle, F_DUPFD_CLOEXEC, number);
    if (got == number) return 0;
    if (got >= 0) close(got);
    return -EBUSY;
}
