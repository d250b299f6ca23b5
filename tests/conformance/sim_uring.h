/* io_uring of the made-up system that case b01 puts under a backend. */
#ifndef CONFORMANCE_SIM_URING_H
#define CONFORMANCE_SIM_URING_H

#include <p2pnet/backend.h>

/** Says what a handle of the made-up system is ready for: P2P_IN, P2P_OUT. */
typedef uint32_t sim_state_function(p2p_handle_t handle);

/** `maps` counts the pieces of memory that are mapped. */
void sim_uring_install(p2p_sys_ops *sys, sim_state_function *state, unsigned *maps);

#endif
