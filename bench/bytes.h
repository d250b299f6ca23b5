/*
 * What servers share that handle bytes by themselves: the frames of a stream, and bytes that wait. A frame is a message
 * with its header, a 32-bit big-endian length.
 */
#ifndef P2P_BENCH_BYTES_H
#define P2P_BENCH_BYTES_H

#include <stddef.h>
#include <stdint.h>

typedef struct bench_piece {
    uint8_t *data;
    size_t size;
} bench_piece;

/* Memory for `size` bytes, which keeps what was in `old`; without memory the process ends. */
void *bench_memory(void *old, size_t size);

/* ---- frames: all zero is a stream's beginning ------------------------------------------------- */

typedef struct bench_frames {
    uint8_t *part; /* a frame of which not all has come */
    size_t have, capacity;
} bench_frames;

/* Where to read to: a buffer that all streams share, or, for much that is missing of a frame, the frame itself. */
bench_piece bench_frames_room(bench_frames *frames);
/*
 * The next whole frame, valid until the stream's next call. `input` is what was read to the room, and shrinks.
 * @return size 0 when there is no more; the beginning of a frame is kept.
 */
bench_piece bench_frames_next(bench_frames *frames, bench_piece *input);
void bench_frames_free(bench_frames *frames);

/* ---- bytes that wait, in one piece: all zero is none ------------------------------------------- */

typedef struct bench_bytes {
    uint8_t *data;
    size_t begin, end, capacity;
} bench_bytes;

void bench_bytes_add(bench_bytes *bytes, const uint8_t *data, size_t size);
bench_piece bench_bytes_all(const bench_bytes *bytes);
void bench_bytes_drop(bench_bytes *bytes, size_t size); /* from the front */
void bench_bytes_free(bench_bytes *bytes);

#endif
