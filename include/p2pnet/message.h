/**
 * @file p2pnet/message.h
 * @brief Messages over TCP: an unsigned 32-bit big-endian length, then that many bytes. Over UDP: a datagram each.
 *
 * The format is Erlang's {packet,4}, tokio's LengthDelimitedCodec, Twisted's
 * Int32StringReceiver and Netty's 4-byte length field. 0 is a legal length. A message may have
 * at most max_message_size bytes (default 1 MiB), checked when sent and when received.
 */
#ifndef P2PNET_MESSAGE_H
#define P2PNET_MESSAGE_H

#include <p2pnet/base.h>
#include <p2pnet/socket.h>

#ifdef __cplusplus
extern "C" {
#endif

/** max_message_size where nothing else is set: 1 MiB. */
#define P2P_DEFAULT_MAX_MESSAGE_SIZE (1024u * 1024u)

/**
 * A message. Made by p2p_message_create and p2p_message_recv only, as it is counted inside;
 * freed by p2p_message_free. Its bytes may be changed until it is sent for the first time; its fields never.
 */
typedef struct p2p_message {
    uint32_t length; /**< bytes at data */
    uint8_t *data;   /**< never NULL, also when length is 0 */
} p2p_message_t;

/**
 * Make a message.
 *
 * @param data    `length` bytes to copy; NULL leaves the bytes zero, to be filled in.
 * @param length  0 to 2^32-1-64.
 * @return the message; NULL with P2P_ERR_NO_MEMORY, or TOO_LONG when no frame can carry it.
 * Thread: any.
 */
P2P_API p2p_message_t *p2p_message_create(const void *data, uint32_t length);

/**
 * Send a message. It stays yours, and may be sent to any number of sockets and freed at once.
 *
 * In a loop this never blocks: it queues, and all that a socket was given in a turn leaves in one
 * gathered write (but see p2p_message_send_data). From 1 KiB up the bytes are stored once, however
 * many sockets they go to: don't change them afterwards.
 * Outside a loop a blocking socket returns when the system has taken all of it; a non-blocking
 * one keeps what the system did not take and writes that before the next message.
 *
 * A connected P2P_UDP socket sends one datagram at once, without a header; nothing is queued. In a loop QUEUE_FULL
 * says that the system could not take it, and on_write when it can again. The network may still lose it.
 *
 * @return 0: taken whole. Failure takes nothing: P2P_ERR_QUEUE_FULL (in a loop: high_water is reached;
 *         on_write tells when to go on), WOULD_BLOCK (outside a loop), TOO_LONG, NOT_CONNECTED, CLOSED,
 *         RESET, NO_MEMORY, INVALID. A blocking send that fails midway leaves the connection unusable.
 * Thread: owner of the socket; one message may be sent by several threads at a time.
 */
P2P_API int p2p_message_send(p2p_socket_t *socket, const p2p_message_t *message);

/**
 * Send bytes as one message, without making a p2p_message_t first. In a loop 16 KiB and more are
 * written in the call, as far as the system takes them, unless something is queued before them or the
 * backend sends by itself.
 *
 * @param data  `length` bytes, read during the call; may be NULL when length is 0.
 * @return as p2p_message_send.
 * Thread: owner of the socket.
 */
P2P_API int p2p_message_send_data(p2p_socket_t *socket, const void *data, uint32_t length);

/**
 * Take the next message.
 *
 * Called first in an on_read callback: the message, or NULL only because the connection has ended.
 * Called again in the same callback: the next message, or NULL with P2P_ERR_WOULD_BLOCK.
 * Outside a loop: waits for a whole message (a non-blocking socket: NULL with WOULD_BLOCK, and
 * what has arrived is kept).
 *
 * Of a P2P_UDP socket: the next datagram, which has no end to tell. NULL with WOULD_BLOCK, REFUSED and the like (an
 * earlier datagram did not arrive), or TOO_LONG (longer than max_message_size, or than 64 KiB; it is dropped); the
 * socket goes on. p2p_datagram_recv gives the sender, too.
 *
 * @return the message, yours to free; NULL with P2P_ERR_CLOSED (ended between messages), TRUNCATED (ended
 *         inside one), TOO_LONG (its header claims more than max_message_size; the connection is dead),
 *         RESET, TIMED_OUT, WOULD_BLOCK, NOT_CONNECTED, NO_MEMORY, INVALID, SYSTEM.
 * Thread: owner of the socket.
 */
P2P_API p2p_message_t *p2p_message_recv(p2p_socket_t *socket);

/** Give a message back. NULL is ignored. Thread: any. */
P2P_API void p2p_message_free(p2p_message_t *message);

#ifdef __cplusplus
}
#endif
#endif
