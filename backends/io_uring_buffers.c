/*
 * Receive buffers of backend io_uring: a ring of those that the kernel may fill. A receive takes as much of a buffer as
 * it has bytes, and the next goes on behind it (IOU_PBUF_RING_INC, Linux 6.12), whatever socket it is for. So many
 * short messages need few buffers, and a long one has a large one.
 */
#include "io_uring.h"

#include <stdatomic.h>

/* What the kernel header of Linux 6.1 lacks. */
enum { IN_RING_MEMORY = 0x1, IN_PIECES = 0x2 }; /* IOU_PBUF_RING_MMAP, IOU_PBUF_RING_INC */
#define OFFSET_OF_GROUP_0 0x80000000u             /* IORING_OFF_PBUF_RING */

typedef struct registration { /* struct io_uring_buf_reg; the flags are called `pad` in that header */
    uint64_t address;
    uint32_t count;
    uint16_t group, flags;
    uint64_t reserved[3];
} registration;

_Static_assert(sizeof(registration) == sizeof(struct io_uring_buf_reg), "the same layout");

int p2pi_uring_buffers_reserve(p2pi_uring_backend *backend, uint32_t count) {
    registration ring;
    memset(&ring, 0, sizeof(ring));
    if (count == backend->buffers_reserved) {
        return 0;
    }
    if (backend->buffers_reserved > 0) {
        (void)backend->sys->uring_register(backend->ring.handle, IORING_UNREGISTER_PBUF_RING, &ring, 1);
    }
    ring.count = count;
    ring.flags = IN_RING_MEMORY | IN_PIECES;
    int result = backend->sys->uring_register(backend->ring.handle, IORING_REGISTER_PBUF_RING, &ring, 1);
    backend->buffers_reserved = result < 0 ? 0 : count;
    return result < 0 ? result : 0;
}

static void provide(p2pi_uring_backend *backend, uint32_t index) {
    struct io_uring_buf *buffer = &backend->buffers->bufs[backend->buffers_tail & (backend->pool.count - 1)];
    buffer->addr = (uint64_t)(uintptr_t)(backend->pool.slab + (size_t)index * backend->pool.size);
    buffer->len = backend->pool.size;
    buffer->bid = (uint16_t)index;
    backend->use[index].used = 0;
    atomic_store_explicit((_Atomic uint16_t *)&backend->buffers->tail, ++backend->buffers_tail, memory_order_release);
}

int p2pi_uring_pool_bind(p2p_backend *head, const p2p_buffer_pool *pool) {
    p2pi_uring_backend *backend = (p2pi_uring_backend *)head;
    backend->use = backend->allocator->alloc(pool->count * sizeof(*backend->use), backend->allocator->user);
    if (backend->use == NULL) {
        return -ENOMEM;
    }
    memset(backend->use, 0, pool->count * sizeof(*backend->use));
    int result = p2pi_uring_buffers_reserve(backend, pool->count);
    if (result < 0) {
        return result;
    }
    void *memory = NULL;
    backend->buffers_size = pool->count * sizeof(struct io_uring_buf);
    result = backend->sys->uring_map(backend->ring.handle, OFFSET_OF_GROUP_0, backend->buffers_size, &memory);
    if (result < 0) {
        return result;
    }
    backend->buffers = memory;
    backend->pool = *pool;
    for (uint32_t i = 0; i < pool->count; i++) {
        provide(backend, i);
    }
    return 0;
}

uint32_t p2pi_uring_lend(p2pi_uring_backend *backend, uint32_t index, uint32_t size) {
    struct p2pi_uring_use *use = &backend->use[index];
    uint32_t offset = use->used;
    P2P_ASSERT(size <= backend->pool.size - offset);
    use->used += size;
    use->lent++;
    backend->buffers_full += use->used == backend->pool.size;
    return offset;
}

/* The kernel is done with a buffer when it is full. */
void p2pi_uring_buf_recycle(p2p_backend *head, uint32_t buffer_index) {
    p2pi_uring_backend *backend = (p2pi_uring_backend *)head;
    struct p2pi_uring_use *use = &backend->use[buffer_index];
    P2P_ASSERT(use->lent > 0);
    if (--use->lent == 0 && use->used == backend->pool.size) {
        backend->buffers_full--;
        provide(backend, buffer_index);
    }
}
