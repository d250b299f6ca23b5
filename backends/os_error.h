/*
 * The numbers of the errors that a backend tells of by itself, as the operating system would have told them.
 */
#ifndef P2PI_BACKENDS_OS_ERROR_H
#define P2PI_BACKENDS_OS_ERROR_H

#if defined(_WIN32)

#include <winsock2.h>

#define P2PI_OS_NO_MEMORY WSA_NOT_ENOUGH_MEMORY
#define P2PI_OS_BAD_HANDLE WSAENOTSOCK
#define P2PI_OS_NOT_POLLABLE WSAENOTSOCK
#define P2PI_OS_NO_CALL WSAEOPNOTSUPP
#define P2PI_OS_NO_FUNCTION ERROR_PROC_NOT_FOUND
#define P2PI_OS_INTERRUPTED WSAEINTR
#define P2PI_OS_ERROR_NAMES                                                                                \
    { WSAEMFILE, "WSAEMFILE" }, { WSAENOBUFS, "WSAENOBUFS" }, { WSA_NOT_ENOUGH_MEMORY, "out of memory" },  \
        { WSAEOPNOTSUPP, "not in the system table" }, { WSAEACCES, "WSAEACCES" }, { WSAEINVAL, "WSAEINVAL" }, \
        { WSAENETDOWN, "WSAENETDOWN" }, { ERROR_PROC_NOT_FOUND, "not in ntdll.dll" },                         \
        { ERROR_DEV_NOT_EXIST, "this system has no such device" },                                            \
        { WSANOTINITIALISED, "p2p_init was not called (WSANOTINITIALISED)" }

#else

#include <errno.h>

#define P2PI_OS_NO_MEMORY ENOMEM
#define P2PI_OS_BAD_HANDLE EBADF
#define P2PI_OS_NOT_POLLABLE EPERM /* as epoll_ctl says of a regular file */
#define P2PI_OS_NO_CALL ENOSYS
#define P2PI_OS_INTERRUPTED EINTR
#define P2PI_OS_ERROR_NAMES                                                                          \
    { EMFILE, "EMFILE" }, { ENFILE, "ENFILE" }, { ENOMEM, "ENOMEM" }, { ENOSYS, "ENOSYS" }, \
        { EPERM, "EPERM" }, { EINVAL, "EINVAL" }

#endif

#endif
