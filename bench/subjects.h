/* What is compared: which subjects there are is decided when this is built. */
#ifndef P2P_BENCH_SUBJECTS_H
#define P2P_BENCH_SUBJECTS_H

#include "bench.h"

extern const bench_subject bench_p2pnet; /* one for all backends: its functions are told which */
extern const bench_subject bench_null; /* the library on a backend that waits for nothing */
extern const bench_subject bench_raw, bench_raw_uring;
extern const bench_subject bench_libuv, bench_libuv_gather;
extern const bench_subject bench_libevent, bench_libevent_gather;
extern const bench_subject bench_libev;

extern const bench_reactor bench_p2pnet_reactor, bench_raw_reactor;

#endif
