/* What the tests need from Windows. */
#include "os.h"

#include <io.h>
#include <stdio.h>
#include <stdlib.h>
#include <windows.h>

/* ---- errors ---- */

static const struct { int winsock, error; } numbers[] = {
    { WSAEINTR, EINTR }, { WSAEBADF, EBADF }, { WSAEACCES, EACCES }, { WSAEFAULT, EFAULT },
    { WSAEINVAL, EINVAL }, { WSAEMFILE, EMFILE }, { WSAEWOULDBLOCK, EAGAIN }, { WSAETIMEDOUT, ETIMEDOUT },
    { WSAEINPROGRESS, EINPROGRESS }, { WSAEALREADY, EALREADY }, { WSAENOTSOCK, ENOTSOCK },
    { WSAEDESTADDRREQ, EDESTADDRREQ }, { WSAEMSGSIZE, EMSGSIZE }, { WSAENOPROTOOPT, ENOPROTOOPT },
    { WSAEPROTONOSUPPORT, EPROTONOSUPPORT }, { WSAEOPNOTSUPP, EOPNOTSUPP }, { WSAEAFNOSUPPORT, EAFNOSUPPORT },
    { WSAEADDRINUSE, EADDRINUSE }, { WSAEADDRNOTAVAIL, EADDRNOTAVAIL }, { WSAENETDOWN, ENETDOWN },
    { WSAENETUNREACH, ENETUNREACH }, { WSAENETRESET, ENETRESET }, { WSAECONNABORTED, ECONNABORTED },
    { WSAECONNRESET, ECONNRESET }, { WSAENOBUFS, ENOBUFS }, { WSAEISCONN, EISCONN }, { WSAENOTCONN, ENOTCONN },
    { WSAESHUTDOWN, EPIPE }, { WSAECONNREFUSED, ECONNREFUSED }, { WSAEHOSTUNREACH, EHOSTUNREACH },
    { WSA_NOT_ENOUGH_MEMORY, ENOMEM }, { WSA_OPERATION_ABORTED, ECANCELED },
};

enum { NUMBER_COUNT = sizeof numbers / sizeof numbers[0] };

int os_number(int error) {
    for (int i = 0; i < NUMBER_COUNT; i++) {
        if (numbers[i].error == error) return numbers[i].winsock;
    }
    return WSABASEERR + 999; /* one that means nothing */
}

int os_failure(void) {
    int error = WSAGetLastError();
    for (int i = 0; i < NUMBER_COUNT; i++) {
        if (numbers[i].winsock == error) return -numbers[i].error;
    }
    return -EIO;
}

static int result_of(int result) {
    return result < 0 ? os_failure() : result;
}

bool os_is_wine(void) {
    return GetProcAddress(GetModuleHandleW(L"ntdll.dll"), "wine_get_version") != NULL;
}

/* The lowest number free at the start, kept from others: see os_duplicate. */
static HANDLE spare;

void os_start(void) {
    WSADATA facts;
    if (spare == NULL) spare = CreateEventW(NULL, TRUE, FALSE, NULL);
    WSAStartup(MAKEWORD(2, 2), &facts);
}

/* ---- sockets ---- */

p2p_handle_t os_socket(int family, int type) {
    return WSASocketW(family, type, 0, NULL, 0, WSA_FLAG_OVERLAPPED | WSA_FLAG_NO_HANDLE_INHERIT);
}

int os_close(p2p_handle_t handle) {
    int result = result_of(closesocket(handle));
    return result == -ENOTSOCK && CloseHandle((HANDLE)handle) ? 0 : result; /* os_null_device makes such */
}

void os_reset(p2p_handle_t handle) {
    struct linger linger = { 1, 0 };
    setsockopt(handle, SOL_SOCKET, SO_LINGER, (const char *)&linger, sizeof linger);
    closesocket(handle);
}

int os_stream_pair(p2p_handle_t ends[2]) {
    uint16_t port = 0;
    p2p_handle_t listener = os_socket(AF_INET, SOCK_STREAM);
    ends[0] = os_socket(AF_INET, SOCK_STREAM);
    ends[1] = P2P_INVALID_HANDLE;
    int result = os_bind_loopback(listener, &port);
    if (result == 0) result = os_listen(listener, 1);
    struct sockaddr_in address = os_loopback(port);
    if (result == 0) result = os_connect(ends[0], (struct sockaddr *)&address, sizeof address);
    if (result == 0) ends[1] = os_accept(listener);
    if (result == 0 && ends[1] == P2P_INVALID_HANDLE) result = os_failure();
    if (result < 0) closesocket(ends[0]);
    closesocket(listener);
    return result;
}

p2p_handle_t os_accept(p2p_handle_t listener) {
    SOCKET handle = accept(listener, NULL, NULL);
    u_long blocking = 0;
    if (handle != INVALID_SOCKET) ioctlsocket(handle, (long)FIONBIO, &blocking); /* it has the listener's mode */
    return handle;
}

int os_connect(p2p_handle_t handle, const struct sockaddr *address, size_t size) {
    int result = result_of(connect(handle, address, (int)size));
    return result == -EAGAIN ? -EINPROGRESS : result;
}

int os_shutdown_send(p2p_handle_t handle) {
    return result_of(shutdown(handle, SD_SEND));
}

int os_shutdown_both(p2p_handle_t handle) {
    return result_of(shutdown(handle, SD_BOTH));
}

int os_set_nonblocking(p2p_handle_t handle, bool enabled) {
    u_long value = enabled;
    return result_of(ioctlsocket(handle, (long)FIONBIO, &value));
}

/* Nothing tells the mode: see whether a receive waits. The deadline of 1 ms is put back to none. */
bool os_is_nonblocking(p2p_handle_t handle) {
    char byte;
    DWORD brief_ms = 1, none = 0;
    setsockopt(handle, SOL_SOCKET, SO_RCVTIMEO, (const char *)&brief_ms, sizeof brief_ms);
    bool nonblocking = recv(handle, &byte, 1, MSG_PEEK) < 0 && WSAGetLastError() == WSAEWOULDBLOCK;
    setsockopt(handle, SOL_SOCKET, SO_RCVTIMEO, (const char *)&none, sizeof none);
    return nonblocking;
}

int os_mode(p2p_handle_t handle) {
    return os_is_nonblocking(handle);
}

int os_set_option(p2p_handle_t handle, int level, int name, int value) {
    return result_of(setsockopt(handle, level, name, (const char *)&value, sizeof value));
}

int os_get_option(p2p_handle_t handle, int level, int name, int *value) {
    int size = sizeof *value;
    return result_of(getsockopt(handle, level, name, (char *)value, &size));
}

int os_set_deadline(p2p_handle_t handle, int seconds) {
    int deadline_ms = seconds * 1000;
    int result = os_set_option(handle, SOL_SOCKET, SO_RCVTIMEO, deadline_ms);
    return result < 0 ? result : os_set_option(handle, SOL_SOCKET, SO_SNDTIMEO, deadline_ms);
}

/* A blocking call that reached its deadline says WSAETIMEDOUT, as a connection does that was lost. */
int64_t os_send(p2p_handle_t handle, const void *data, size_t size) {
    return result_of(send(handle, data, (int)size, 0));
}

/* Wine may tell a reset as an end; its WSAPoll knows better. */
int64_t os_recv(p2p_handle_t handle, void *buffer, size_t size) {
    int64_t got = result_of(recv(handle, buffer, (int)size, 0));
    if (got != 0 || size == 0) return got;
    int events = os_poll(handle, POLLIN, 0);
    return events > 0 && (events & POLLERR) != 0 ? -ECONNRESET : 0;
}

int64_t os_send_both(p2p_handle_t handle, const void *first, size_t first_size, const void *second,
                     size_t second_size) {
    WSABUF pieces[2] = {
        { (ULONG)first_size, (char *)(uintptr_t)first }, { (ULONG)second_size, (char *)(uintptr_t)second }
    };
    DWORD sent = 0;
    return WSASend(handle, pieces, 2, &sent, 0, NULL, NULL) == 0 ? (int64_t)sent : os_failure();
}

/* There is no call that does not wait on a blocking handle, so that it must be one of the other kind for it. */
int64_t os_send_now(p2p_handle_t handle, const void *data, size_t size) {
    os_set_nonblocking(handle, true);
    int64_t sent = os_send(handle, data, size);
    os_set_nonblocking(handle, false);
    return sent;
}

int64_t os_recv_now(p2p_handle_t handle, void *buffer, size_t size) {
    int ready = os_poll(handle, POLLIN, 0);
    if (ready <= 0) return ready < 0 ? ready : -EAGAIN;
    return os_recv(handle, buffer, size);
}

int64_t os_send_urgent(p2p_handle_t handle, char byte) {
    return result_of(send(handle, &byte, 1, MSG_OOB));
}

int os_poll(p2p_handle_t handle, int events, int timeout_ms) {
    WSAPOLLFD entry = { .fd = handle, .events = (short)events };
    int ready = WSAPoll(&entry, 1, timeout_ms);
    return ready > 0 ? entry.revents : result_of(ready);
}

bool os_is_open(p2p_handle_t handle) {
    int kind;
    return os_get_option(handle, SOL_SOCKET, SO_TYPE, &kind) == 0;
}

bool os_is_inheritable(p2p_handle_t handle) {
    DWORD flags = HANDLE_FLAG_INHERIT;
    GetHandleInformation((HANDLE)handle, &flags);
    return (flags & HANDLE_FLAG_INHERIT) != 0;
}

/* Handles are multiples of four; Wine gives out the lowest that is free, and Windows is taken to stay low, too. */
int os_open_count(void) {
    int count = 0;
    for (p2p_handle_t handle = 4, last = 4; handle - last < 512 * 4; handle += 4) {
        if (os_is_open(handle)) count++, last = handle;
    }
    return count;
}

int os_raise_socket_limit(void) {
    return 65536; /* there is none; under Wine it is wineserver's */
}

/* ---- what is not a socket everywhere ---- */

int os_pipe(p2p_handle_t ends[2]) {
    return os_stream_pair(ends);
}

int64_t os_read(p2p_handle_t end, void *buffer, size_t size) {
    return os_recv(end, buffer, size);
}

int64_t os_write(p2p_handle_t end, const void *data, size_t size) {
    return os_send(end, data, size);
}

p2p_handle_t os_null_device(void) {
    return (p2p_handle_t)CreateFileW(L"NUL", GENERIC_READ, 0, NULL, OPEN_EXISTING, 0, NULL);
}

static FILE *hidden;
static int shown[2];

void os_mute(void) {
    fflush(stdout);
    fflush(stderr);
    hidden = tmpfile();
    if (hidden == NULL) return;
    for (int i = 0; i < 2; i++) {
        shown[i] = _dup(1 + i);
        _dup2(_fileno(hidden), 1 + i);
    }
}

int64_t os_unmute(void) {
    if (hidden == NULL) return -1;
    fflush(stdout);
    fflush(stderr);
    int64_t written = _lseeki64(_fileno(hidden), 0, SEEK_END);
    for (int i = 0; i < 2; i++) {
        _dup2(shown[i], 1 + i);
        _close(shown[i]);
    }
    fclose(hidden);
    return written;
}

void os_set_environment(const char *name, const char *value) {
    _putenv_s(name, value != NULL ? value : "");
}

/* ---- clock and threads ---- */

int64_t os_now_ns(void) {
    LARGE_INTEGER ticks, frequency;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&frequency);
    int64_t seconds = ticks.QuadPart / frequency.QuadPart, rest = ticks.QuadPart % frequency.QuadPart;
    return seconds * 1000000000 + rest * 1000000000 / frequency.QuadPart;
}

void os_yield(void) {
    SwitchToThread();
}

static DWORD WINAPI run_thread(void *data) {
    os_thread *thread = data;
    thread->run(thread->data);
    return 0;
}

int os_thread_start(os_thread *thread, void (*run)(void *data), void *data) {
    thread->run = run;
    thread->data = data;
    HANDLE system = CreateThread(NULL, 0, run_thread, thread, 0, NULL);
    thread->system = (uintptr_t)system;
    return system != NULL ? 0 : -ENOMEM;
}

void os_thread_join(os_thread *thread) {
    WaitForSingleObject((HANDLE)thread->system, INFINITE);
    CloseHandle((HANDLE)thread->system);
}

/* ---- more of sockets ---- */

int os_shutdown_receive(p2p_handle_t handle) {
    return result_of(shutdown(handle, SD_RECEIVE));
}

/* Winsock opens a handle of the process meanwhile. It shall have the spare number, and the duplicate the lowest one
 * that is free: so it is with Wine. */
p2p_handle_t os_duplicate(p2p_handle_t handle) {
    WSAPROTOCOL_INFOW facts;
    p2p_handle_t duplicate = P2P_INVALID_HANDLE;
    CloseHandle(spare);
    if (WSADuplicateSocketW(handle, GetCurrentProcessId(), &facts) == 0) {
        duplicate = WSASocketW(FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, &facts, 0,
                               WSA_FLAG_OVERLAPPED | WSA_FLAG_NO_HANDLE_INHERIT);
    }
    spare = CreateEventW(NULL, TRUE, FALSE, NULL);
    return duplicate;
}

/* A number can't be asked for, but one that was freed just now is given out again before long. */
int os_duplicate_as(p2p_handle_t handle, p2p_handle_t number) {
    enum { TRIES = 64 };
    p2p_handle_t others[TRIES];
    int count = 0;
    bool found = false;
    while (count < TRIES && !found) {
        p2p_handle_t got = os_duplicate(handle);
        found = got == number;
        if (!found) others[count++] = got;
    }
    while (count > 0) os_close(others[--count]);
    return found ? 0 : -EBUSY;
}
