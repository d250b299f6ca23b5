/*
 * What a connection sends and must get back: message after message, each with its number in its payload. Any part of it
 * can be made and checked by its place alone, so nothing has to be kept.
 */
#ifndef P2P_BENCH_STREAM_H
#define P2P_BENCH_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct bench_stream {
    size_t frame_size; /* header and payload */
    uint8_t *pattern;  /* a frame but for its number */
} bench_stream;

/* @return false without memory. */
bool bench_stream_init(bench_stream *stream, uint32_t size);
void bench_stream_free(bench_stream *stream);

/* The bytes from place `at` on. */
void bench_stream_fill(const bench_stream *stream, uint64_t at, uint8_t *out, size_t length);
bool bench_stream_check(const bench_stream *stream, uint64_t at, const uint8_t *data, size_t length);

#endif
