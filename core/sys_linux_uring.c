/*
 * The system table's entries for io_uring. The C library has no functions for these calls, so they are made by number;
 * io_uring_setup(2) and its siblings describe them. Their numbers are the same on all architectures but Alpha.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "sys_posix.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__alpha__)
enum { FIRST_CALL = 535 };
#else
enum { FIRST_CALL = 425 }; /* io_uring_setup, _enter and _register follow each other (Linux 5.1) */
#endif

int p2pi_linux_uring_setup(uint32_t entries, struct io_uring_params *params) {
    return p2pi_posix_result((int)syscall(FIRST_CALL, entries, params));
}

int p2pi_linux_uring_enter(int ring, uint32_t to_submit, uint32_t min_complete, uint32_t flags, const void *argument,
                           size_t argument_size) {
    long result = syscall(FIRST_CALL + 1, ring, to_submit, min_complete, flags, argument, argument_size);
    return p2pi_posix_result((int)result);
}

int p2pi_linux_uring_register(int ring, uint32_t operation, void *argument, uint32_t count) {
    return p2pi_posix_result((int)syscall(FIRST_CALL + 2, ring, operation, argument, count));
}

int p2pi_linux_uring_map(int ring, uint64_t offset, size_t size, void **out) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, (off_t)offset);
    if (memory == MAP_FAILED) return p2pi_posix_failure();
    if (madvise(memory, size, MADV_DONTFORK) < 0) {
        int result = p2pi_posix_failure();
        munmap(memory, size);
        return result;
    }
    *out = memory;
    return 0;
}

void p2pi_linux_uring_unmap(void *memory, size_t size) {
    munmap(memory, size);
}
