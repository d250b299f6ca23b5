/*
 * Blocks of memory that a loop keeps for the next inbox or long chunk: messages in a steady flow ask the allocator for
 * nothing. An allocator that gives long blocks back to the system at once costs more than the message: its pages are
 * mapped and cleared anew each time. Blocks in use and blocks kept are together no more than were in use at one time,
 * but for a few short ones: messages of several lengths would otherwise take each other's place.
 */
#ifndef P2PI_BLOCKS_H
#define P2PI_BLOCKS_H

#include <stddef.h>

typedef struct p2pi_spare p2pi_spare;

#define P2PI_BLOCK_CLASSES 24u       /* class N: of 2^N bytes and more; longer blocks are not kept */
#define P2PI_SPARE_FEW (32u << 10)   /* these make no room for others */
#define P2PI_SPARE_BYTES (16u << 20) /* a loop keeps at most this much */

typedef struct p2pi_blocks {
    p2pi_spare *spare[P2PI_BLOCK_CLASSES];
    size_t held;
} p2pi_blocks;

/*
 * A block of at least *size bytes, which is set to what it has: one that is used again is at most a quarter longer.
 * `blocks` may be NULL. NULL when there is no memory.
 */
void *p2pi_block_take(p2pi_blocks *blocks, size_t *size);
void p2pi_block_give(p2pi_blocks *blocks, void *block, size_t size);
void p2pi_blocks_fini(p2pi_blocks *blocks);

#endif
