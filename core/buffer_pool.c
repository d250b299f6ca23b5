/* The loop's receive buffers: one slab, handed to the backend, lent to the core for the length of an event. */
#include "internal.h"

int p2pi_buffers_init(p2p_event_loop_t *loop) {
    loop->buffers.count = loop->options.receive_buffers;
    loop->buffers.size = loop->options.receive_buffer_size;
    loop->buffers.slab = p2pi_alloc_zeroed((size_t)loop->buffers.count * loop->buffers.size);
    if (loop->buffers.slab == NULL) return p2pi_fail(P2P_ERR_NO_MEMORY);
    int result = loop->ops.pool_bind(loop->backend, &loop->buffers);
    return result < 0 ? p2pi_fail_os(loop->sys, result) : P2P_OK;
}

void p2pi_buffers_fini(p2p_event_loop_t *loop) {
    p2pi_free(loop->buffers.slab);
}
