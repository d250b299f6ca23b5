/* The wire format: a 32-bit big-endian length, then that many bytes. Pure; no I/O, no memory. Inline, as every
 * message passes through here twice. */
#ifndef P2PI_FRAME_H
#define P2PI_FRAME_H

#include <p2pnet/base.h>

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum p2pi_frame_status { P2PI_FRAME_PARTIAL, P2PI_FRAME_WHOLE, P2PI_FRAME_TOO_LONG } p2pi_frame_status;

/*
 * Look at the first `have` bytes of a frame. *length: the payload's, once the header is there.
 * *missing: for PARTIAL, how many bytes are needed to learn more (the rest of the header, or of the frame).
 */
static inline p2pi_frame_status p2pi_frame_inspect(const uint8_t *data, size_t have, uint32_t length_max,
                                                   uint32_t *length, size_t *missing) {
    if (have < P2P_FRAME_HEADER_SIZE) {
        *missing = P2P_FRAME_HEADER_SIZE - have;
        return P2PI_FRAME_PARTIAL;
    }
    uint32_t claimed = (uint32_t)data[0] << 24 | (uint32_t)data[1] << 16 | (uint32_t)data[2] << 8 | data[3];
    *length = claimed;
    if (claimed > length_max) return P2PI_FRAME_TOO_LONG;
    /* Compared by subtraction: the claimed length is the peer's, and adding to it could wrap. */
    size_t payload = have - P2P_FRAME_HEADER_SIZE;
    if (payload < claimed) {
        *missing = claimed - payload;
        return P2PI_FRAME_PARTIAL;
    }
    return P2PI_FRAME_WHOLE;
}

static inline void p2pi_frame_header(uint8_t out[P2P_FRAME_HEADER_SIZE], uint32_t length) {
    out[0] = (uint8_t)(length >> 24);
    out[1] = (uint8_t)(length >> 16);
    out[2] = (uint8_t)(length >> 8);
    out[3] = (uint8_t)length;
}

/* Most messages are short, and calling memcpy costs as much as copying them, by pieces of 16 bytes that may overlap. */
static inline void p2pi_frame_copy(uint8_t *out, const void *payload, uint32_t length) {
    const uint8_t *data = payload;
    if (length < 16 || length > 64) {
        memcpy(out, data, length);
        return;
    }
    memcpy(out, data, 16);
    if (length > 32) {
        memcpy(out + 16, data + 16, 16);
        memcpy(out + length - 32, data + length - 32, 16);
    }
    memcpy(out + length - 16, data + length - 16, 16);
}

#endif
