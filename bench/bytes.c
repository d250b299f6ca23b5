#include "bytes.h"

#include "bench.h"

#include <stdlib.h>
#include <string.h>

enum { HEADER = 4 };

static uint8_t shared[64 * 1024];

void *bench_memory(void *old, size_t size) {
    void *memory = realloc(old, size);
    if (memory == NULL) bench_fail("realloc");
    return memory;
}

/* ---- frames ---------------------------------------------------------------------------------- */

static size_t frame_size(const uint8_t *header) {
    return HEADER + ((size_t)header[0] << 24 | (size_t)header[1] << 16 | (size_t)header[2] << 8 | header[3]);
}

/* How much the part has to become; first that is its header. */
static size_t part_size(bench_frames *frames) {
    size_t size = frames->have < HEADER ? HEADER : frame_size(frames->part);
    if (frames->capacity < size) {
        frames->part = bench_memory(frames->part, size);
        frames->capacity = size;
    }
    return size;
}

bench_piece bench_frames_room(bench_frames *frames) {
    if (frames->have >= HEADER) {
        size_t missing = part_size(frames) - frames->have;
        if (missing >= sizeof shared) return (bench_piece){ frames->part + frames->have, missing };
    }
    return (bench_piece){ shared, sizeof shared };
}

static bench_piece take(bench_piece *input, size_t size) {
    bench_piece taken = { input->data, size };
    input->data += size;
    input->size -= size;
    return taken;
}

bench_piece bench_frames_next(bench_frames *frames, bench_piece *input) {
    if (frames->have == 0 && input->size >= HEADER) {
        size_t size = frame_size(input->data);
        if (size <= input->size) return take(input, size);
    }
    while (input->size > 0) {
        size_t missing = part_size(frames) - frames->have;
        bench_piece more = take(input, missing < input->size ? missing : input->size);
        uint8_t *to = frames->part + frames->have;
        if (more.data != to) memcpy(to, more.data, more.size);
        frames->have += more.size;
        if (frames->have >= HEADER && frames->have == frame_size(frames->part)) {
            frames->have = 0;
            return (bench_piece){ frames->part, frame_size(frames->part) };
        }
    }
    return (bench_piece){ NULL, 0 };
}

void bench_frames_free(bench_frames *frames) {
    free(frames->part);
}

/* ---- bytes that wait --------------------------------------------------------------------------- */

void bench_bytes_add(bench_bytes *bytes, const uint8_t *data, size_t size) {
    if (bytes->capacity - bytes->end < size) {
        size_t waiting = bytes->end - bytes->begin;
        /* Room at the front is used when it is half of all or more, so that a byte is moved but few times. */
        if (bytes->begin < bytes->capacity / 2 || bytes->capacity - waiting < size) {
            bytes->capacity = 2 * (bytes->capacity + size);
            bytes->data = bench_memory(bytes->data, bytes->capacity);
        }
        memmove(bytes->data, bytes->data + bytes->begin, waiting);
        bytes->begin = 0;
        bytes->end = waiting;
    }
    memcpy(bytes->data + bytes->end, data, size);
    bytes->end += size;
}

bench_piece bench_bytes_all(const bench_bytes *bytes) {
    return (bench_piece){ bytes->data + bytes->begin, bytes->end - bytes->begin };
}

void bench_bytes_drop(bench_bytes *bytes, size_t size) {
    bytes->begin += size;
    if (bytes->begin == bytes->end) bytes->begin = bytes->end = 0;
}

void bench_bytes_free(bench_bytes *bytes) {
    free(bytes->data);
}
