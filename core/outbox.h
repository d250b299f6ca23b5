/*
 * Bytes waiting to be sent: a list of chunks. Small frames share a chunk; a long one gets a chunk of its own
 * size; a shared message is only referred to. The list is written by gathered writes and never moves.
 */
#ifndef P2PI_OUTBOX_H
#define P2PI_OUTBOX_H

#include "blocks.h"
#include "frame.h"

#include <p2pnet/error.h>
#include <p2pnet/sys.h>

#include <string.h>

struct p2pi_message;

typedef struct p2pi_chunk {
    struct p2pi_chunk *next;
    struct p2pi_message *message; /* where data lies, or NULL: in bytes[] */
    const uint8_t *data;
    uint32_t head, tail; /* sent so far, filled so far */
    uint32_t capacity;   /* of bytes[]; a shared message counts as full */
    uint32_t block_size; /* of all this: a block that is used again may be longer than it has to be */
    uint8_t bytes[];
} p2pi_chunk;

typedef struct p2pi_outbox {
    p2pi_chunk *first, *last;
    uint32_t queued; /* bytes of memory, of chunks that are not sent whole; high_water bounds it */
    uint32_t staged_at; /* without chunks all that is queued lies in the loop's stage, here */
} p2pi_outbox;

static inline uint32_t p2pi_outbox_staged(const p2pi_outbox *box) {
    return box->first == NULL ? box->queued : 0;
}

/* Spare chunks of one loop. Sockets outside a loop have none and use the allocator. */
typedef struct p2pi_chunk_pool {
    p2pi_chunk *spare; /* ordinary ones */
    uint32_t count;
    p2pi_blocks blocks; /* for longer ones, and for inboxes */
} p2pi_chunk_pool;

/*
 * The frames that a turn queues on sockets without a backlog, one socket's behind the other's. Nearly all leave
 * when the turn writes its output; only what a socket does not take moves to chunks of its own. A message that is sent
 * to many, one after the other, lies here once, and those to whom the same ones were sent have the same part of it.
 */
typedef struct p2pi_stage {
    uint8_t *data;
    struct p2p_socket *last; /* whose frames end where the stage ends: more of its can come behind them */
    uint32_t used, capacity; /* capacity 0: the backend needs what it sends to stay where it is */
    uint32_t share;          /* what a socket can count on once it has begun: short of its high_water */
    uint32_t begin_end;      /* nobody begins from here on */
    uint32_t limit;          /* how far `last` may go by the short way: its share */
} p2pi_stage;

#define P2PI_STAGE_SIZE 262144u
#define P2PI_STAGE_SHARE 65536u /* of it a socket has at most so much; what is more goes to chunks */
#define P2PI_CHUNK_SIZE 2048u  /* bytes of an ordinary chunk, its head included */
#define P2PI_CHUNK_SPARES 256u /* a pool keeps at most this many */
#define P2PI_IOV_MAX 64u       /* pieces in one gathered write; POSIX promises at least 16, Linux has 1024 */

/* Add an empty chunk with room for `size` bytes at least; NULL when there is no memory. */
p2pi_chunk *p2pi_outbox_extend(p2pi_outbox *box, p2pi_chunk_pool *pool, size_t size);
/* Move what is staged to a chunk. */
int p2pi_outbox_unstage(p2pi_outbox *box, p2pi_chunk_pool *pool, const uint8_t *stage);
/* Add a message without copying it. */
int p2pi_outbox_refer(p2pi_outbox *box, struct p2pi_message *message);
void p2pi_outbox_drop_first(p2pi_outbox *box, p2pi_chunk_pool *pool);
void p2pi_outbox_clear(p2pi_outbox *box, p2pi_chunk_pool *pool);
void p2pi_chunk_pool_fini(p2pi_chunk_pool *pool);

static inline void p2pi_outbox_write_frame(uint8_t *out, const void *data, uint32_t length) {
    p2pi_frame_header(out, length);
    if (length > 0) p2pi_frame_copy(out + P2P_FRAME_HEADER_SIZE, data, length);
}

/* Add one frame by copying: whole, or not at all. */
static inline int p2pi_outbox_copy(p2pi_outbox *box, p2pi_chunk_pool *pool, const void *data, uint32_t length) {
    size_t size = (size_t)length + P2P_FRAME_HEADER_SIZE;
    p2pi_chunk *chunk = box->last;
    if (chunk == NULL || size > chunk->capacity - chunk->tail) {
        chunk = p2pi_outbox_extend(box, pool, size);
        if (chunk == NULL) return P2P_ERR_NO_MEMORY;
    }
    p2pi_outbox_write_frame(chunk->bytes + chunk->tail, data, length);
    chunk->tail += (uint32_t)size;
    box->queued += (uint32_t)size;
    return P2P_OK;
}

/* Fill iov with what is to be sent next; gives the number of pieces. */
static inline uint32_t p2pi_outbox_gather(const p2pi_outbox *box, p2p_iov *iov, uint32_t iov_max) {
    uint32_t count = 0;
    for (const p2pi_chunk *chunk = box->first; chunk != NULL && count < iov_max; chunk = chunk->next) {
        iov[count].base = (char *)(uintptr_t)(chunk->data + chunk->head);
        iov[count].len = chunk->tail - chunk->head;
        count++;
    }
    return count;
}

/* Forget `bytes` that were sent. */
static inline void p2pi_outbox_consume(p2pi_outbox *box, p2pi_chunk_pool *pool, size_t bytes) {
    while (bytes > 0) {
        p2pi_chunk *chunk = box->first;
        uint32_t left = chunk->tail - chunk->head;
        if (bytes < left) {
            chunk->head += (uint32_t)bytes;
            return;
        }
        bytes -= left;
        p2pi_outbox_drop_first(box, pool);
    }
}

#endif
