#include "subjects.h"

#include <p2pnet/p2pnet.h>
#include <string.h>

static const bench_subject *const peers[] = {
    &bench_raw,
#ifdef P2P_BENCH_URING
    &bench_raw_uring,
#endif
#ifdef P2P_BENCH_LIBUV
    &bench_libuv, &bench_libuv_gather,
#endif
#ifdef P2P_BENCH_LIBEVENT
    &bench_libevent, &bench_libevent_gather,
#endif
#ifdef P2P_BENCH_LIBEV
    &bench_libev,
#endif
};

size_t bench_peer_names(const char **names, size_t capacity) {
    for (size_t i = 0; i < COUNT_OF(peers) && i < capacity; i++) names[i] = peers[i]->name;
    return COUNT_OF(peers);
}

size_t bench_backend_names(const char **names, size_t capacity) {
    size_t count = p2p_backend_list(names, capacity);
    if (count < capacity) names[count] = bench_null.name;
    return count + 1;
}

const bench_subject *bench_subject_find(const char *name) {
    const char *backends[64];
    size_t count = p2p_backend_list(backends, COUNT_OF(backends));
    if (strcmp(bench_null.name, name) == 0) return &bench_null;
    for (size_t i = 0; i < COUNT_OF(peers); i++) {
        if (strcmp(peers[i]->name, name) == 0) return peers[i];
    }
    for (size_t i = 0; i < count && i < COUNT_OF(backends); i++) {
        if (strcmp(backends[i], name) == 0) return &bench_p2pnet;
    }
    return NULL;
}
