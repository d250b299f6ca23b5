#include "blocks.h"

#include "internal.h"

struct p2pi_spare {
    p2pi_spare *next;
    size_t size;
};

static size_t class_of(size_t size) {
    size_t class = 0;
    while (size >>= 1) class++;
    return class;
}

/* A new block takes the place of kept ones: free those, longest first, until they were `size` bytes or few are left. */
static void make_room(p2pi_blocks *blocks, size_t size) {
    size_t class = P2PI_BLOCK_CLASSES, held = blocks->held;
    while (class > 0 && held - blocks->held < size && blocks->held > P2PI_SPARE_FEW) {
        p2pi_spare *spare = blocks->spare[class - 1];
        if (spare == NULL) {
            class--;
            continue;
        }
        blocks->spare[class - 1] = spare->next;
        blocks->held -= spare->size;
        p2pi_free(spare);
    }
}

void *p2pi_block_take(p2pi_blocks *blocks, size_t *size) {
    size_t first = class_of(*size);
    for (size_t class = first; blocks != NULL && class <= first + 1 && class < P2PI_BLOCK_CLASSES; class++) {
        p2pi_spare *spare = blocks->spare[class];
        if (spare == NULL || spare->size < *size || spare->size - *size > *size / 4) continue;
        blocks->spare[class] = spare->next;
        blocks->held -= spare->size;
        *size = spare->size;
        return spare;
    }
    if (blocks != NULL) make_room(blocks, *size);
    return p2pi_alloc(*size);
}

void p2pi_block_give(p2pi_blocks *blocks, void *block, size_t size) {
    size_t class = class_of(size);
    if (blocks == NULL || class >= P2PI_BLOCK_CLASSES || size > P2PI_SPARE_BYTES - blocks->held) {
        p2pi_free(block);
        return;
    }
    p2pi_spare *spare = block;
    spare->next = blocks->spare[class];
    spare->size = size;
    blocks->spare[class] = spare;
    blocks->held += size;
}

void p2pi_blocks_fini(p2pi_blocks *blocks) {
    for (size_t class = 0; class < P2PI_BLOCK_CLASSES; class++) {
        while (blocks->spare[class] != NULL) {
            p2pi_spare *spare = blocks->spare[class];
            blocks->spare[class] = spare->next;
            p2pi_free(spare);
        }
    }
    blocks->held = 0;
}
