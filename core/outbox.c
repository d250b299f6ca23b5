/*
 * Bytes waiting to be sent: a list of chunks. Small frames share a chunk; a long one gets a chunk of its own
 * size; a shared message is only referred to. The list is written by gathered writes and never moves.
 */
#include "internal.h"

#include <string.h>

static p2pi_chunk *chunk_new(p2pi_chunk_pool *pool, size_t room) {
    const size_t ordinary = P2PI_CHUNK_SIZE - sizeof(p2pi_chunk);
    p2pi_chunk *chunk;
    if (room <= ordinary && pool != NULL && pool->spare != NULL) {
        chunk = pool->spare;
        pool->spare = chunk->next;
        pool->count--;
    } else {
        if (room < ordinary) room = ordinary;
        chunk = p2pi_alloc(sizeof *chunk + room);
        if (chunk == NULL) return NULL;
        chunk->capacity = (uint32_t)room;
    }
    chunk->next = NULL;
    chunk->message = NULL;
    chunk->data = chunk->bytes;
    chunk->head = chunk->tail = 0;
    return chunk;
}

static void chunk_free(p2pi_chunk_pool *pool, p2pi_chunk *chunk) {
    if (chunk->message != NULL) p2p_message_free(&chunk->message->public_part);
    bool ordinary = chunk->capacity == P2PI_CHUNK_SIZE - sizeof *chunk;
    if (ordinary && pool != NULL && pool->count < P2PI_CHUNK_SPARES) {
        chunk->next = pool->spare;
        pool->spare = chunk;
        pool->count++;
    } else {
        p2pi_free(chunk);
    }
}

void p2pi_chunk_pool_fini(p2pi_chunk_pool *pool) {
    while (pool->spare != NULL) {
        p2pi_chunk *chunk = pool->spare;
        pool->spare = chunk->next;
        p2pi_free(chunk);
    }
    pool->count = 0;
}

static void append(p2pi_outbox *box, p2pi_chunk *chunk) {
    if (box->last != NULL)
        box->last->next = chunk;
    else
        box->first = chunk;
    box->last = chunk;
    box->queued += sizeof *chunk;
}

static int add_reference(p2pi_outbox *box, p2pi_message *message) {
    p2pi_chunk *chunk = p2pi_alloc(sizeof *chunk);
    if (chunk == NULL) return P2P_ERR_NO_MEMORY;
    memset(chunk, 0, sizeof *chunk);
    chunk->message = p2pi_message_retain(&message->public_part);
    chunk->data = message->header;
    chunk->tail = P2P_FRAME_HEADER_SIZE + message->public_part.length;
    append(box, chunk);
    box->queued += chunk->tail;
    return P2P_OK;
}

int p2pi_outbox_add(p2pi_outbox *box, p2pi_chunk_pool *pool, const void *data, uint32_t length,
                    p2pi_message *message) {
    if (message != NULL && length >= P2PI_SHARE_SIZE) return add_reference(box, message);
    size_t size = (size_t)length + P2P_FRAME_HEADER_SIZE;
    p2pi_chunk *chunk = box->last;
    if (chunk == NULL || chunk->message != NULL || size > chunk->capacity - chunk->tail) {
        chunk = chunk_new(pool, size);
        if (chunk == NULL) return P2P_ERR_NO_MEMORY;
        append(box, chunk);
    }
    uint8_t *end = chunk->bytes + chunk->tail;
    p2pi_frame_header(end, length);
    if (length > 0) memcpy(end + P2P_FRAME_HEADER_SIZE, data, length);
    chunk->tail += (uint32_t)size;
    box->queued += size;
    return P2P_OK;
}

uint32_t p2pi_outbox_gather(const p2pi_outbox *box, p2p_iov *iov, uint32_t iov_max) {
    uint32_t count = 0;
    for (const p2pi_chunk *chunk = box->first; chunk != NULL && count < iov_max; chunk = chunk->next) {
        iov[count].base = (char *)(uintptr_t)(chunk->data + chunk->head);
        iov[count].len = chunk->tail - chunk->head;
        count++;
    }
    return count;
}

void p2pi_outbox_consume(p2pi_outbox *box, p2pi_chunk_pool *pool, size_t bytes) {
    box->queued -= bytes;
    while (bytes > 0) {
        p2pi_chunk *chunk = box->first;
        P2P_ASSERT(chunk != NULL);
        uint32_t left = chunk->tail - chunk->head;
        if (bytes < left) {
            chunk->head += (uint32_t)bytes;
            return;
        }
        bytes -= left;
        box->first = chunk->next;
        if (box->first == NULL) box->last = NULL;
        box->queued -= sizeof *chunk;
        chunk_free(pool, chunk);
    }
}

void p2pi_outbox_clear(p2pi_outbox *box, p2pi_chunk_pool *pool) {
    while (box->first != NULL) {
        p2pi_chunk *chunk = box->first;
        box->first = chunk->next;
        chunk_free(pool, chunk);
    }
    box->last = NULL;
    box->queued = 0;
}
