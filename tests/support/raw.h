/*
 * A peer that knows nothing of p2pnet: the system's sockets on the loopback address. Its calls block for at
 * most RAW_DEADLINE_S and never assert, so helper threads may use them.
 */
#ifndef RAW_H
#define RAW_H

#include "os.h"

#define RAW_DEADLINE_S 20

/** @return a handle, or P2P_INVALID_HANDLE. */
p2p_handle_t raw_connect(uint16_t port);
/** The same with a receive buffer of about `bytes`, for a peer that is soon full. */
p2p_handle_t raw_connect_small(uint16_t port, int bytes);
/** Listen on 127.0.0.1 and a port of the system's choice. @return a handle, or P2P_INVALID_HANDLE. */
p2p_handle_t raw_listen(uint16_t *port, int backlog);
/** Wait for a connection. @return a handle, or P2P_INVALID_HANDLE. */
p2p_handle_t raw_accept(p2p_handle_t listener);

bool raw_send(p2p_handle_t fd, const void *data, size_t size);
bool raw_send_header(p2p_handle_t fd, uint32_t claimed_length);
/** Header and payload in one system call. */
bool raw_send_frame(p2p_handle_t fd, const void *data, uint32_t length);
bool raw_send_text(p2p_handle_t fd, const char *text);
/** Build a frame. @return its length in bytes. */
size_t raw_frame(uint8_t *out, const void *data, uint32_t length);

/** Exactly `size` bytes. @return false at the end, an error or the deadline. */
bool raw_recv(p2p_handle_t fd, void *buffer, size_t size);
/** A whole frame that has at most `capacity` bytes. @return its length, or -1. */
int64_t raw_recv_frame(p2p_handle_t fd, void *buffer, uint32_t capacity);
/** Read and forget until the connection ends. @return 0 = FIN, ECONNRESET, …; EAGAIN or ETIMEDOUT at the deadline. */
int raw_recv_end(p2p_handle_t fd);
/** @return whether a read would not block now. */
bool raw_readable(p2p_handle_t fd);

/** End the sending side. */
bool raw_fin(p2p_handle_t fd);
/** Close with RST. */
void raw_reset(p2p_handle_t fd);

/** Bytes that depend on their place and on `seed`, to notice loss, doubling and reordering. */
void raw_fill(void *out, size_t size, uint32_t seed);

#endif
