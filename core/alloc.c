/* All memory of the library passes through here, to the allocator that p2p_init_with was given. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

static void *default_alloc(size_t size, void *user) {
    (void)user;
    return malloc(size);
}

static void *default_realloc(void *block, size_t size, void *user) {
    (void)user;
    return realloc(block, size);
}

static void default_free(void *block, void *user) {
    (void)user;
    free(block);
}

const p2p_allocator p2pi_default_allocator = { default_alloc, default_realloc, default_free, NULL };

void *p2pi_alloc(size_t size) {
    const p2p_allocator *allocator = p2pi_allocator();
    return allocator->alloc(size, allocator->user);
}

void *p2pi_alloc_zeroed(size_t size) {
    void *block = p2pi_alloc(size);
    if (block != NULL) memset(block, 0, size);
    return block;
}

void *p2pi_realloc(void *block, size_t size) {
    const p2p_allocator *allocator = p2pi_allocator();
    return allocator->realloc(block, size, allocator->user);
}

void p2pi_free(void *block) {
    if (block == NULL) return;
    const p2p_allocator *allocator = p2pi_allocator();
    allocator->free(block, allocator->user);
}
