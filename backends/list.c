/*
 * Which backends there are, and which of them this build has: CMake defines P2P_HAVE_* for each.
 */
#include "list.h"

#ifdef P2P_HAVE_EPOLL
extern const p2p_backend_ops p2pi_backend_epoll;
#  define EPOLL &p2pi_backend_epoll
#else
#  define EPOLL NULL
#endif
#ifdef P2P_HAVE_POLL
extern const p2p_backend_ops p2pi_backend_poll;
#  define POLL &p2pi_backend_poll
#else
#  define POLL NULL
#endif
#ifdef P2P_HAVE_SELECT
extern const p2p_backend_ops p2pi_backend_select;
#  define SELECT &p2pi_backend_select
#else
#  define SELECT NULL
#endif
#ifdef P2P_HAVE_IO_URING
extern const p2p_backend_ops p2pi_backend_io_uring, p2pi_backend_io_uring_poll;
#  define IO_URING &p2pi_backend_io_uring
#  define IO_URING_POLL &p2pi_backend_io_uring_poll
#else
#  define IO_URING NULL
#  define IO_URING_POLL NULL
#endif
#ifdef P2P_HAVE_KQUEUE
extern const p2p_backend_ops p2pi_backend_kqueue;
#  define KQUEUE &p2pi_backend_kqueue
#else
#  define KQUEUE NULL
#endif
#ifdef P2P_HAVE_WSAPOLL
extern const p2p_backend_ops p2pi_backend_wsapoll;
#  define WSAPOLL &p2pi_backend_wsapoll
#else
#  define WSAPOLL NULL
#endif
#ifdef P2P_HAVE_AFD
extern const p2p_backend_ops p2pi_backend_afd;
#  define AFD &p2pi_backend_afd
#else
#  define AFD NULL
#endif

/* io_uring and afd stand behind what is chosen by itself, until they are measured to be better. */
const p2pi_backend_known p2pi_backends_known[] = {
#if defined(_WIN32)
    { "wsapoll", WSAPOLL }, { "select", SELECT }, { "afd", AFD },
    { "epoll", EPOLL }, { "kqueue", KQUEUE }, { "poll", POLL }, { "io_uring", IO_URING },
    { "io_uring_poll", IO_URING_POLL },
#elif defined(__linux__)
    { "epoll", EPOLL }, { "poll", POLL }, { "select", SELECT }, { "io_uring", IO_URING },
    { "io_uring_poll", IO_URING_POLL },
    { "kqueue", KQUEUE }, { "wsapoll", WSAPOLL }, { "afd", AFD },
#else
    { "kqueue", KQUEUE }, { "poll", POLL }, { "select", SELECT },
    { "epoll", EPOLL }, { "io_uring", IO_URING }, { "io_uring_poll", IO_URING_POLL },
    { "wsapoll", WSAPOLL }, { "afd", AFD },
#endif
};

const size_t p2pi_backends_known_count = sizeof(p2pi_backends_known) / sizeof(p2pi_backends_known[0]);

#if defined(_WIN32)
const char *const p2pi_backends_automatic = "wsapoll,select";
#elif defined(__linux__)
const char *const p2pi_backends_automatic = "epoll,poll,select";
#else
const char *const p2pi_backends_automatic = "kqueue,poll,select";
#endif
