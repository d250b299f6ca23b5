/**
 * @file p2pnet/base.h
 * @brief Library start and end, version, and the few types every header shares.
 *
 * No operating system header is included from here or from any other public
 * header, so including p2pnet never drags <windows.h> or <sys/socket.h> into a program.
 */
#ifndef P2PNET_BASE_H
#define P2PNET_BASE_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#  if defined(P2P_BUILDING_SHARED)
#    define P2P_API __declspec(dllexport)
#  elif defined(P2P_USING_SHARED)
#    define P2P_API __declspec(dllimport)
#  else
#    define P2P_API
#  endif
#  define P2P_EXPORT __declspec(dllexport)
typedef uintptr_t p2p_handle_t; /**< a SOCKET */
#else
#  define P2P_API __attribute__((visibility("default")))
#  define P2P_EXPORT P2P_API /**< what a plugin of somebody else exports */
typedef int p2p_handle_t; /**< a file descriptor */
#endif

/** What p2p_handle_t holds when there is no handle (-1, INVALID_SOCKET). */
#define P2P_INVALID_HANDLE ((p2p_handle_t)-1)

#define P2P_VERSION_MAJOR 1
#define P2P_VERSION_MINOR 3
#define P2P_VERSION_PATCH 0

/** Length of a frame header on the wire: an unsigned 32-bit big-endian length. */
#define P2P_FRAME_HEADER_SIZE 4u

#ifdef __cplusplus
extern "C" {
#endif

struct p2p_sys_ops;

/**
 * Where the library gets its memory. All three functions must be callable from
 * any thread; `user` is passed back unchanged. `alloc` and `realloc` return
 * NULL when there is no memory, and then p2pnet reports P2P_ERR_NO_MEMORY.
 */
typedef struct p2p_allocator {
    void *(*alloc)(size_t size, void *user);
    void *(*realloc)(void *block, size_t size, void *user); /**< block may be NULL */
    void (*free)(void *block, void *user);                  /**< block is never NULL */
    void *user;
} p2p_allocator;

typedef enum p2p_log_level { P2P_LOG_DEBUG, P2P_LOG_INFO, P2P_LOG_WARNING, P2P_LOG_ERROR } p2p_log_level_t;

/** Receives one line of text, without a newline, valid during the call. May come from any thread. */
typedef void (*p2p_log_callback)(p2p_log_level_t level, const char *text, void *user_data);

/** For p2p_init_with. Start from P2P_INIT_OPTIONS_INIT; what stays NULL keeps its default. */
typedef struct p2p_init_options {
    size_t size;                      /**< sizeof(p2p_init_options_t) */
    const p2p_allocator *allocator;   /**< copied; default malloc, realloc, free */
    const struct p2p_sys_ops *system; /**< copied; default the real operating system (see sys.h) */
    p2p_log_callback log;             /**< default none: the library never prints */
    void *log_user_data;
} p2p_init_options_t;

#define P2P_INIT_OPTIONS_INIT { sizeof(p2p_init_options_t), NULL, NULL, NULL, NULL }

/**
 * Start the library. Calls are counted; each successful one wants one p2p_cleanup.
 * Windows needs it before the first socket; elsewhere it costs nothing and may be left out.
 *
 * @return 0, or P2P_ERR_SYSTEM (Winsock could not be started).
 * Thread: any, but not at the same time as another p2p_init or p2p_cleanup.
 */
P2P_API int p2p_init(void);

/**
 * Start the library with an allocator, system table or log hook of your own.
 *
 * @param options  read during the call; NULL is the same as p2p_init.
 * @return 0; P2P_ERR_ALREADY when the library is started (only the first call can set
 *         these); P2P_ERR_INVALID for a bad size or an incomplete allocator or table.
 * Thread: as p2p_init, and before any other p2pnet function.
 */
P2P_API int p2p_init_with(const p2p_init_options_t *options);

/**
 * Undo one p2p_init. The last one forgets allocator, system table, log hook and registered
 * backends, so every loop, socket and message must be gone by then. Without p2p_init: no effect.
 *
 * One thing may outlive it: a thread that looks a host name up for a loop that was freed meanwhile.
 * The system's resolver can't be interrupted; when it comes back, the thread frees its memory by the
 * allocator that was in force, and ends. Who is to unload the library, or to end such an allocator,
 * frees the loop only when p2p_event_loop_stats says that it has no lookups.
 *
 * Thread: as p2p_init.
 */
P2P_API void p2p_cleanup(void);

/** @return the version of the library that runs, "1.3.0"; static. Thread: any. */
P2P_API const char *p2p_version(void);

#ifdef __cplusplus
}
#endif
#endif
