#include "stream.h"

#include <stdlib.h>
#include <string.h>

enum { HEADER_SIZE = 4, NUMBER_SIZE = 8, PREFIX_SIZE = HEADER_SIZE + NUMBER_SIZE };

bool bench_stream_init(bench_stream *stream, uint32_t size) {
    stream->frame_size = (size_t)size + HEADER_SIZE;
    stream->pattern = malloc(stream->frame_size);
    if (stream->pattern == NULL) return false;
    for (int i = 0; i < HEADER_SIZE; i++) stream->pattern[i] = (uint8_t)(size >> (24 - 8 * i));
    for (size_t i = HEADER_SIZE; i < stream->frame_size; i++) stream->pattern[i] = (uint8_t)(i * 31);
    return true;
}

void bench_stream_free(bench_stream *stream) {
    free(stream->pattern);
}

/* The header and the message's number: what there is room for of it. */
static size_t make_prefix(const bench_stream *stream, uint64_t number, uint8_t out[PREFIX_SIZE]) {
    memcpy(out, stream->pattern, HEADER_SIZE);
    memcpy(out + HEADER_SIZE, &number, NUMBER_SIZE);
    return stream->frame_size < PREFIX_SIZE ? stream->frame_size : PREFIX_SIZE;
}

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

void bench_stream_fill(const bench_stream *stream, uint64_t at, uint8_t *out, size_t length) {
    while (length > 0) {
        uint8_t prefix[PREFIX_SIZE];
        size_t prefix_size = make_prefix(stream, at / stream->frame_size, prefix);
        size_t offset = (size_t)(at % stream->frame_size), end = least(offset + length, stream->frame_size);
        for (size_t i = offset; i < least(end, prefix_size); i++) out[i - offset] = prefix[i];
        if (end > prefix_size) {
            size_t from = offset > prefix_size ? offset : prefix_size;
            memcpy(out + (from - offset), stream->pattern + from, end - from);
        }
        out += end - offset;
        length -= end - offset;
        at += end - offset;
    }
}

bool bench_stream_check(const bench_stream *stream, uint64_t at, const uint8_t *data, size_t length) {
    while (length > 0) {
        uint8_t prefix[PREFIX_SIZE];
        size_t prefix_size = make_prefix(stream, at / stream->frame_size, prefix);
        size_t offset = (size_t)(at % stream->frame_size), end = least(offset + length, stream->frame_size);
        if (offset < prefix_size &&
            memcmp(data, prefix + offset, least(end, prefix_size) - offset) != 0) return false;
        if (end > prefix_size) {
            size_t from = offset > prefix_size ? offset : prefix_size;
            if (memcmp(data + (from - offset), stream->pattern + from, end - from) != 0) return false;
        }
        data += end - offset;
        length -= end - offset;
        at += end - offset;
    }
    return true;
}
