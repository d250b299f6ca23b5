/**
 * @file p2pnet/watch.h
 * @brief Raw readiness of any handle the backend can wait for: pipes, other libraries' sockets.
 *
 * A watch never closes its handle and never changes its blocking mode. Readiness is
 * level-triggered: the callback runs every turn while the condition holds. That fits libcurl's
 * multi interface, c-ares, hiredis and libpq.
 */
#ifndef P2PNET_WATCH_H
#define P2PNET_WATCH_H

#include <p2pnet/base.h>
#include <p2pnet/event_loop.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct p2p_watch p2p_watch_t;

#define P2P_READABLE 0x1u /**< a read would not block: data, the end, or an error */
#define P2P_WRITABLE 0x2u /**< a write would not block, or an error */

/** `ready`: those of the wanted bits that hold. An error or hang-up shows as every wanted bit. */
typedef void (*p2p_watch_callback)(p2p_watch_t *watch, uint32_t ready, void *user_data);

/**
 * Watch a handle. Free the watch before the handle is closed.
 *
 * @param interest  P2P_READABLE | P2P_WRITABLE; 0 watches nothing until p2p_watch_set.
 * @return the watch, freed by p2p_watch_free or with its loop; NULL with P2P_ERR_INVALID (not an open
 *         handle), NOT_SUPPORTED (a regular file: it is always ready), LIMIT, ALREADY (backends that allow
 *         one registration a handle), NO_MEMORY, SYSTEM.
 * Thread: the loop's.
 */
P2P_API p2p_watch_t *p2p_event_loop_watch(p2p_event_loop_t *loop, p2p_handle_t handle, uint32_t interest,
                                          p2p_watch_callback callback, void *user_data);

/**
 * Change what is watched; applied before the loop next waits.
 * @return 0; P2P_ERR_INVALID.
 * Thread: the loop's.
 */
P2P_API int p2p_watch_set(p2p_watch_t *watch, uint32_t interest);

/** Stop and free. NULL is ignored. Its callback does not run any more. Thread: the loop's. */
P2P_API void p2p_watch_free(p2p_watch_t *watch);

#ifdef __cplusplus
}
#endif
#endif
