/* The slower half of outbox.h: chunks come and go. */
#include "outbox.h"

#include "internal.h"

#define ORDINARY_CAPACITY (P2PI_CHUNK_SIZE - sizeof(p2pi_chunk))

/* The room that stays unused in a chunk once another one is behind it. */
static uint32_t wasted(const p2pi_chunk *chunk) {
    return chunk->capacity - chunk->tail;
}

static void append(p2pi_outbox *box, p2pi_chunk *chunk) {
    if (box->last != NULL) {
        box->last->next = chunk;
        box->queued += wasted(box->last);
    } else {
        box->first = chunk;
    }
    box->last = chunk;
    box->queued += (uint32_t)sizeof *chunk;
}

p2pi_chunk *p2pi_outbox_extend(p2pi_outbox *box, p2pi_chunk_pool *pool, size_t size) {
    p2pi_chunk *chunk;
    if (size < ORDINARY_CAPACITY) size = ORDINARY_CAPACITY;
    if (size == ORDINARY_CAPACITY && pool != NULL && pool->spare != NULL) {
        chunk = pool->spare;
        pool->spare = chunk->next;
        pool->count--;
    } else {
        size_t block_size = sizeof *chunk + size;
        chunk = p2pi_block_take(pool == NULL ? NULL : &pool->blocks, &block_size);
        if (chunk == NULL) return NULL;
        chunk->block_size = (uint32_t)block_size;
        chunk->capacity = (uint32_t)size;
    }
    chunk->next = NULL;
    chunk->message = NULL;
    chunk->data = chunk->bytes;
    chunk->head = chunk->tail = 0;
    append(box, chunk);
    return chunk;
}

int p2pi_outbox_unstage(p2pi_outbox *box, p2pi_chunk_pool *pool, const uint8_t *stage) {
    uint32_t size = p2pi_outbox_staged(box);
    p2pi_chunk *chunk = p2pi_outbox_extend(box, pool, size);
    if (chunk == NULL) return P2P_ERR_NO_MEMORY;
    memcpy(chunk->bytes, stage + box->staged_at, size);
    chunk->tail = size;
    return P2P_OK;
}

int p2pi_outbox_refer(p2pi_outbox *box, p2pi_message *message) {
    p2pi_chunk *chunk = p2pi_alloc(sizeof *chunk);
    if (chunk == NULL) return P2P_ERR_NO_MEMORY;
    chunk->next = NULL;
    chunk->message = p2pi_message_retain(message);
    chunk->data = message->header;
    chunk->head = 0;
    chunk->tail = chunk->capacity = P2P_FRAME_HEADER_SIZE + message->public_part.length;
    append(box, chunk);
    box->queued += chunk->tail;
    return P2P_OK;
}

void p2pi_outbox_drop_first(p2pi_outbox *box, p2pi_chunk_pool *pool) {
    p2pi_chunk *chunk = box->first;
    P2P_ASSERT(chunk != NULL);
    box->first = chunk->next;
    if (box->first == NULL)
        box->last = NULL;
    else
        box->queued -= wasted(chunk);
    box->queued -= chunk->tail + (uint32_t)sizeof *chunk;
    if (chunk->message != NULL) {
        p2p_message_free(&chunk->message->public_part);
        p2pi_free(chunk);
    } else if (chunk->capacity == ORDINARY_CAPACITY && pool != NULL && pool->count < P2PI_CHUNK_SPARES) {
        chunk->next = pool->spare;
        pool->spare = chunk;
        pool->count++;
    } else {
        p2pi_block_give(pool == NULL ? NULL : &pool->blocks, chunk, chunk->block_size);
    }
}

void p2pi_outbox_clear(p2pi_outbox *box, p2pi_chunk_pool *pool) {
    while (box->first != NULL) p2pi_outbox_drop_first(box, pool);
    box->queued = 0;
}

void p2pi_chunk_pool_fini(p2pi_chunk_pool *pool) {
    while (pool->spare != NULL) {
        p2pi_chunk *chunk = pool->spare;
        pool->spare = chunk->next;
        p2pi_free(chunk);
    }
    pool->count = 0;
    p2pi_blocks_fini(&pool->blocks);
}
