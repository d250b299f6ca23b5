/**
 * @file p2pnet/error.h
 * @brief Error codes, their names and texts, and this thread's last failure.
 *
 * Functions that return an int give 0 or a positive value on success and one of
 * these negative codes on failure. Functions that return a pointer give NULL, and
 * p2p_last_error() says why.
 */
#ifndef P2PNET_ERROR_H
#define P2PNET_ERROR_H

#include <p2pnet/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/** X(number, name, text): the one place where codes are defined. Numbers never change. */
#define P2P_ERROR_MAP(X)                                                                        \
    X(-1, INVALID, "invalid argument, or a call that does not fit the object's state")          \
    X(-2, NO_MEMORY, "out of memory")                                                           \
    X(-3, WOULD_BLOCK, "nothing to do now without waiting; try again later")                    \
    X(-4, CLOSED, "the connection has ended")                                                   \
    X(-5, TRUNCATED, "the connection ended inside a message")                                   \
    X(-6, TOO_LONG, "message longer than max_message_size")                                     \
    X(-7, QUEUE_FULL, "output queue at its high-water mark; the peer reads too slowly")         \
    X(-8, TIMED_OUT, "timed out")                                                               \
    X(-9, REFUSED, "connection refused")                                                        \
    X(-10, RESET, "connection reset by peer")                                                   \
    X(-11, UNREACHABLE, "network or host unreachable")                                          \
    X(-12, ADDRESS_IN_USE, "address already in use")                                            \
    X(-13, ADDRESS_NOT_AVAILABLE, "address not available on this machine")                      \
    X(-14, BAD_ADDRESS, "not a numeric IPv4 or IPv6 address, nor a unix: one")                  \
    X(-15, NAME_NOT_FOUND, "host name not found")                                               \
    X(-16, ACCESS, "permission denied")                                                         \
    X(-17, TOO_MANY_FILES, "out of file descriptors or socket handles")                         \
    X(-18, LIMIT, "a limit of the library or the backend is reached")                           \
    X(-19, NOT_SUPPORTED, "not supported on this machine or by this backend")                   \
    X(-20, NOT_CONNECTED, "not connected")                                                      \
    X(-21, ALREADY, "already done or already registered")                                       \
    X(-22, NOT_FOUND, "not found or not registered")                                            \
    X(-23, BUSY, "busy: the loop is running")                                                   \
    X(-24, CANCELLED, "cancelled")                                                              \
    X(-25, SYSTEM, "operating system error; see p2p_last_os_error()")

#define P2P_ERROR_ENUM(number, name, text) P2P_ERR_##name = number,
enum { P2P_OK = 0, P2P_ERROR_MAP(P2P_ERROR_ENUM) };
#undef P2P_ERROR_ENUM

/**
 * @return the code of this thread's last failure; 0 when none happened yet. Success does not
 *         reset it, except in p2p_event_loop_run, which sets it either way.
 * Thread: any; each thread has its own.
 */
P2P_API int p2p_last_error(void);

/**
 * @return the operating system's number behind p2p_last_error (errno, or a WSA code), 0 if
 *         the failure did not come from the system.
 * Thread: any; each thread has its own.
 */
P2P_API int p2p_last_os_error(void);

/** @return "P2P_ERR_REFUSED" for -9, "P2P_OK" for 0, "P2P_ERR_?" for an unknown code; static. Thread: any. */
P2P_API const char *p2p_error_name(int error);

/** @return an English sentence for the code; static, never NULL. Thread: any. */
P2P_API const char *p2p_error_message(int error);

#ifdef __cplusplus
}
#endif
#endif
