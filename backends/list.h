/*
 * The backends p2pnet knows, for the choice in core/.
 */
#ifndef P2PI_BACKENDS_LIST_H
#define P2PI_BACKENDS_LIST_H

#include <p2pnet/backend.h>

typedef struct p2pi_backend_known {
    const char *name;
    const p2p_backend_ops *ops; /* NULL: not in this build */
} p2pi_backend_known;

/* Best first for the platform. */
extern const p2pi_backend_known p2pi_backends_known[];
extern const size_t p2pi_backends_known_count;

/* What is tried, in this order, when nobody names a backend; commas between. */
extern const char *const p2pi_backends_automatic;

#endif
