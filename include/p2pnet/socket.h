/**
 * @file p2pnet/socket.h
 * @brief TCP and UDP sockets: create, bind, listen, accept, connect, raw bytes, addresses, close.
 *
 * Outside an event loop a socket blocks, as BSD sockets do, unless p2p_socket_set_nonblocking
 * was called. Added to a loop (event_loop.h) no call on it blocks.
 *
 * A socket belongs to one thread at a time: the loop's thread while registered, otherwise
 * whichever thread uses it, one at a time. "Thread: owner" below means that.
 */
#ifndef P2PNET_SOCKET_H
#define P2PNET_SOCKET_H

#include <p2pnet/base.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct p2p_socket p2p_socket_t;

typedef enum p2p_socket_type { P2P_TCP = 1, P2P_UDP = 2 } p2p_socket_type_t;

/**
 * A network address and port, or a unix-domain address. Made by p2p_address_parse, p2p_socket_local_address,
 * p2p_socket_peer_address, p2p_datagram_recv and p2p_datagram_sender; its bytes are the system table's affair.
 * Copy it freely. All zero means "no address".
 */
typedef struct p2p_address {
    uint32_t length; /**< bytes used in storage, 0 = no address */
    uint32_t reserved;
    union {
        uint64_t alignment;
        uint8_t bytes[128]; /**< the system's struct sockaddr */
    } storage;
} p2p_address_t;

/** Enough for any text p2p_address_format makes, with its final zero. */
#define P2P_ADDRESS_TEXT_SIZE 128

/**
 * Make a socket. The operating system's handle is made later, by bind, connect or the first
 * datagram, when the address family is known; so this fails only for lack of memory.
 *
 * @param type  P2P_TCP or P2P_UDP.
 * @return the socket, to be given to p2p_socket_close; NULL with P2P_ERR_INVALID or NO_MEMORY.
 * Thread: any.
 */
P2P_API p2p_socket_t *p2p_socket_create(p2p_socket_type_t type);

/**
 * Take over an existing handle: listening, connected, connecting or fresh. Afterwards it is
 * p2pnet's to close. Its blocking mode is taken to be "blocking" until p2p_socket_set_nonblocking.
 *
 * Windows tells neither the mode, so that the handle is made blocking here, nor whether a connect
 * is under way: call p2p_socket_connect with the same address.
 *
 * @return the socket; NULL with P2P_ERR_INVALID (not a socket of that type) or NO_MEMORY, and
 *         then the handle is still yours.
 * Thread: any.
 */
P2P_API p2p_socket_t *p2p_socket_adopt(p2p_handle_t handle, p2p_socket_type_t type);

/**
 * Give the socket a local address.
 *
 * The port is the socket's alone. On Windows that is SO_EXCLUSIVEADDRUSE, which also keeps the port
 * taken while connections live that a closed listener has accepted; elsewhere SO_REUSEADDR,
 * which lets it be bound again at once. P2P_OPTION_REUSE_ADDRESS takes the place of both.
 *
 * "unix:/path" is a socket of this machine alone, with a path for an address; "unix:@name" (Linux) has a name that is
 * no file, and that anybody on the machine may take. Windows: P2P_ERR_NOT_SUPPORTED. The file is made with the
 * rights that the umask leaves, and stays when the socket is closed: unlink it yourself if it disturbs. A file that a
 * program has left behind, one that no socket has any more, is replaced; two programs that start at the same moment
 * can do that to each other. ADDRESS_IN_USE: a socket has it, or it is no socket, which is never touched.
 *
 * @param address  numeric IPv4 or IPv6 ("127.0.0.1", "::1", "fe80::1%eth0"; on Windows a number
 *                 after the %), or "localhost"; NULL and "0.0.0.0" mean every IPv4 address,
 *                 "::" every address of both families (an IPv4 peer's is "::ffff:127.0.0.1" there).
 *                 Or "unix:/path" or "unix:@name", of at most 107 bytes behind the colon (103 on macOS and the BSDs).
 * @param port     1..65535, or 0: the system picks one (see p2p_socket_local_address). Ignored for unix:.
 * @return 0; P2P_ERR_BAD_ADDRESS, ADDRESS_IN_USE, ADDRESS_NOT_AVAILABLE, ACCESS, ALREADY (bound
 *         or connected before), NOT_FOUND (no such folder), NOT_SUPPORTED, INVALID, TOO_MANY_FILES, SYSTEM; what
 *         p2p_socket_set_option gives for an option set before.
 * Thread: owner.
 */
P2P_API int p2p_socket_bind(p2p_socket_t *socket, const char *address, uint16_t port);

/**
 * Start listening on a bound TCP socket.
 *
 * @param backlog  connections that may wait to be accepted; 0 or less means the system's maximum.
 * @return 0; P2P_ERR_INVALID (not TCP, not bound, already connected), ALREADY, ADDRESS_IN_USE, SYSTEM.
 * Thread: owner.
 */
P2P_API int p2p_socket_listen(p2p_socket_t *socket, int backlog);

/**
 * Take the next waiting connection. Blocks outside a loop, unless set non-blocking.
 *
 * @return a connected socket, to be closed by p2p_socket_close (a loop that it was added to
 *         closes it too, see p2p_event_loop_free); NULL with P2P_ERR_WOULD_BLOCK, INVALID (not
 *         listening), TOO_MANY_FILES, NO_MEMORY, SYSTEM.
 * Thread: owner.
 */
P2P_API p2p_socket_t *p2p_socket_accept(p2p_socket_t *listener);

/**
 * Connect. For UDP: fixes the peer, with a numeric address at once.
 *
 * Outside a loop: a blocking socket waits for the answer. A non-blocking one returns
 * P2P_ERR_WOULD_BLOCK while the attempt goes on; call again to ask (0 = connected), or add it
 * to a loop. In a loop it returns 0 when the attempt has begun, and exactly one answer follows
 * by on_connect (or, without it, by on_error on failure). Messages may be sent at once; they
 * are queued.
 *
 * A host name is looked up by the system's resolver. In a loop a thread does that, at most 8 for
 * each loop; further lookups wait for those to end. Then its addresses, at most 32, are tried, the
 * families by turns, one every 250 ms and at once when one fails; the first to connect is taken,
 * the others are reset. When all have failed, the error is that of the first (of those whose
 * family the machine has). A socket that is bound tries one address only, the first of its family.
 * A UDP socket is answered by on_connect, too, and stays as it is until then. Removed from the loop
 * meanwhile, a socket is as it was before (but not bound any more, once an address was being tried),
 * and what was queued is dropped. Outside a loop the call blocks, and tries the addresses in turn; a
 * non-blocking socket can't do that (NOT_SUPPORTED).
 *
 * A TCP socket that was connected to itself, as can happen when nobody listens at a port of this
 * machine, is closed, and the attempt was REFUSED.
 *
 * @param address  as for bind; NULL means the loopback address. Or a host name: letters, digits, '-', '_' and
 *                 '.', its last label no number; other alphabets in their ASCII form ("xn--...").
 * @return 0; P2P_ERR_WOULD_BLOCK, BAD_ADDRESS, NAME_NOT_FOUND, REFUSED (unix:, not blocking: also when the listener
 *         has no room, which backend io_uring waits for), UNREACHABLE, TIMED_OUT, RESET, ADDRESS_NOT_AVAILABLE (no free
 *         local port), NOT_FOUND (unix:, no such file), ALREADY (connected or connecting), INVALID, NO_MEMORY (a
 *         thread could not be started, too), NOT_SUPPORTED, TOO_MANY_FILES, ACCESS, SYSTEM; what
 *         p2p_socket_set_option gives for an option set before.
 * Thread: owner.
 */
P2P_API int p2p_socket_connect(p2p_socket_t *socket, const char *address, uint16_t port);

/**
 * Send raw bytes (not framed). Not for a TCP socket in a loop, which is in message mode.
 *
 * @return the number of bytes taken, which can be fewer than `size`; P2P_ERR_WOULD_BLOCK,
 *         NOT_CONNECTED, CLOSED or RESET (the peer is gone; SIGPIPE is never raised), INVALID, SYSTEM.
 * Thread: owner. `data` is read during the call only.
 */
P2P_API int64_t p2p_socket_send(p2p_socket_t *socket, const void *data, size_t size);

/**
 * Receive raw bytes. Not for a TCP socket in a loop, which is in message mode.
 *
 * @return the number of bytes stored, 0 when the peer has ended its side (for UDP: an empty
 *         datagram); P2P_ERR_WOULD_BLOCK, NOT_CONNECTED, RESET, INVALID, SYSTEM.
 * Thread: owner. `buffer` is written during the call only.
 */
P2P_API int64_t p2p_socket_recv(p2p_socket_t *socket, void *buffer, size_t size);

/**
 * Send one datagram on a P2P_UDP socket.
 *
 * @param to  the receiver; NULL for the peer fixed by p2p_socket_connect.
 * @return 0; P2P_ERR_WOULD_BLOCK, TOO_LONG (more than the network takes), REFUSED (an earlier
 *         datagram found nobody; never told on Windows), INVALID, NOT_CONNECTED, UNREACHABLE, SYSTEM.
 * Thread: owner. `data` is read during the call only.
 */
P2P_API int p2p_datagram_send(p2p_socket_t *socket, const void *data, size_t size, const p2p_address_t *to);

/**
 * Receive one datagram. A longer one than `size` is cut, and the rest is lost.
 *
 * @param from  receives the sender's address; may be NULL.
 * @return its length in bytes, 0 for an empty one; P2P_ERR_WOULD_BLOCK, REFUSED, INVALID, SYSTEM.
 * Thread: owner. `buffer` and `from` are written during the call only.
 */
P2P_API int64_t p2p_datagram_recv(p2p_socket_t *socket, void *buffer, size_t size, p2p_address_t *from);

/**
 * Tell who sent the datagram that on_message has been given.
 *
 * @param out  receives the address; of length 0 when the sender has none (a unix-domain socket that is not bound).
 * @return 0; P2P_ERR_NOT_FOUND (not inside an on_message of this socket), INVALID.
 * Thread: owner.
 */
P2P_API int p2p_datagram_sender(const p2p_socket_t *socket, p2p_address_t *out);

/** What can be set of a socket. "Off or on" is 0 or 1. */
typedef enum p2p_socket_option {
    P2P_OPTION_NODELAY = 1,    /**< TCP: small writes are sent at once; on unless set to 0 */
    P2P_OPTION_KEEPALIVE,      /**< TCP: 0 off (default), else 1..32767 seconds of silence after which the peer is asked
                                    whether it lives: 10 times, every tenth of that time (1 to 75 s). No answer ends
                                    the connection with TIMED_OUT */
    P2P_OPTION_SEND_BUFFER,    /**< bytes the system holds for sending, 1 or more. It may take less, and tells another
                                    number afterwards: Linux twice the one it uses */
    P2P_OPTION_RECEIVE_BUFFER, /**< the same for receiving; before listen or connect, or TCP's window stays */
    P2P_OPTION_REUSE_ADDRESS,  /**< SO_REUSEADDR in place of what p2p_socket_bind does by itself. On Windows 1 lets
                                    other programs take the port away */
    P2P_OPTION_REUSE_PORT,     /**< several sockets, all with this option, share a port; where the system can it shares
                                    connections and datagrams out among them. Windows: NOT_SUPPORTED */
    P2P_OPTION_DUAL_STACK,     /**< "::" takes IPv4 too; on unless set to 0. Before bind */
    P2P_OPTION_BROADCAST       /**< UDP: may send to broadcast addresses; default off */
} p2p_socket_option_t;

/**
 * Set an option. Before the socket has its system's handle it is kept for it, and what the system refuses is
 * told by the call that makes the handle: bind, connect, or the first datagram. What was set is set again on each new
 * handle, as after a failed connect. An accepted connection begins with the options of its listener.
 *
 * One that says nothing about a socket of this family is success without effect: NODELAY and KEEPALIVE of a unix-domain
 * socket, DUAL_STACK of an IPv4 one.
 *
 * @return 0; P2P_ERR_INVALID (no such option, or not for this type, value or moment), NOT_SUPPORTED, ACCESS,
 *         NO_MEMORY, SYSTEM. A failure changes nothing.
 * Thread: owner.
 */
P2P_API int p2p_socket_set_option(p2p_socket_t *socket, p2p_socket_option_t option, int value);

/**
 * Ask for an option's value, as the system has it; before there is a handle, as it was set.
 *
 * @return the value, 0 or more; P2P_ERR_NOT_FOUND (no handle yet, and nothing set), INVALID, NOT_SUPPORTED, SYSTEM.
 * Thread: owner.
 */
P2P_API int p2p_socket_get_option(const p2p_socket_t *socket, p2p_socket_option_t option);

/** @return "nodelay", "keepalive", …, or "unknown option"; static. Thread: any. */
P2P_API const char *p2p_socket_option_name(p2p_socket_option_t option);

/**
 * Choose whether calls outside a loop block. While registered the wish is only remembered.
 *
 * @return 0; P2P_ERR_INVALID, SYSTEM.
 * Thread: owner.
 */
P2P_API int p2p_socket_set_nonblocking(p2p_socket_t *socket, int enabled);

/**
 * Stop reading, until p2p_socket_resume: a connection's messages are neither read nor delivered, a listener
 * accepts nothing, a datagram socket is not read. Output goes on. In a callback it takes effect at once: messages
 * that were received already are kept, and in an on_read that has not taken the message it was called for, that one
 * is still given. The end of a paused connection is not noticed, or not told, until it is resumed; sending to it may
 * fail before. What waits in the system costs no wake-up meanwhile; with backend io_uring one, as a receive that was
 * under way is let come, and kept.
 *
 * A pause is the socket's, not the registration's: it can come before adding and outlasts removal. Outside a loop it
 * changes nothing. Pausing twice is pausing once. A closed socket is closed as if it were not paused.
 *
 * @return 0; P2P_ERR_INVALID.
 * Thread: owner.
 */
P2P_API int p2p_socket_pause(p2p_socket_t *socket);

/** End p2p_socket_pause: what was kept comes from the next turn on. @return 0; P2P_ERR_INVALID. Thread: owner. */
P2P_API int p2p_socket_resume(p2p_socket_t *socket);

/**
 * Set the longest message this socket sends and accepts, instead of its loop's
 * max_message_size (outside a loop: instead of 1 MiB).
 *
 * @param size_bytes  payload without the header; 0 goes back to the default.
 * @return 0; P2P_ERR_INVALID.
 * Thread: owner.
 */
P2P_API int p2p_socket_set_max_message_size(p2p_socket_t *socket, uint32_t size_bytes);

/** A timeout that never comes. */
#define P2P_NO_TIMEOUT UINT32_MAX

/**
 * What a socket in a loop can be given a deadline for. When it passes, the connection is over: on_error (without it
 * on_read; for a connect on_connect) gets P2P_ERR_TIMED_OUT, and p2p_socket_timed_out tells which.
 */
typedef enum p2p_deadline {
    P2P_DEADLINE_NONE,
    P2P_DEADLINE_CONNECT, /**< from p2p_socket_connect to the connection */
    P2P_DEADLINE_IDLE,    /**< between one byte received or sent and the next */
    P2P_DEADLINE_READ,    /**< from the first bytes of a message to its last, as long as it is being received */
    P2P_DEADLINE_WRITE,   /**< while output waits: between one byte taken by the system and the next */
    P2P_DEADLINE_DRAIN    /**< after p2p_socket_close: until the peer has everything and has ended its side;
                               after p2p_socket_shutdown: until the system has taken everything */
} p2p_deadline_t;

/**
 * Give a socket a timeout of its own. A deadline that runs counts from now on.
 *
 * @param timeout_ms  milliseconds; 0: the loop's option of that name; P2P_NO_TIMEOUT: none.
 * @return 0; P2P_ERR_INVALID, NO_MEMORY.
 * Thread: owner.
 */
P2P_API int p2p_socket_set_timeout(p2p_socket_t *socket, p2p_deadline_t which, uint32_t timeout_ms);

/** @return which deadline passed last, also in on_close; P2P_DEADLINE_NONE if none, or for NULL. Thread: owner. */
P2P_API p2p_deadline_t p2p_socket_timed_out(const p2p_socket_t *socket);

/** @return "none", "connect", "idle", "read", "write", "drain"; "" for another number; static. Thread: any. */
P2P_API const char *p2p_deadline_name(p2p_deadline_t which);

/** @return 0 and the local address in *out; P2P_ERR_INVALID (no handle yet), SYSTEM. Thread: owner. */
P2P_API int p2p_socket_local_address(const p2p_socket_t *socket, p2p_address_t *out);

/** @return 0 and the peer's address in *out; P2P_ERR_NOT_CONNECTED, INVALID, SYSTEM. Thread: owner. */
P2P_API int p2p_socket_peer_address(const p2p_socket_t *socket, p2p_address_t *out);

/**
 * Make an address from text.
 *
 * @param text  as for p2p_socket_bind; with "unix:" the port is ignored.
 * @return 0; P2P_ERR_BAD_ADDRESS, NOT_SUPPORTED ("unix:" where there is none), INVALID.
 * Thread: any.
 */
P2P_API int p2p_address_parse(p2p_address_t *out, const char *text, uint16_t port);

/**
 * Write an address as text: "127.0.0.1:8080", "[::1]:8080", "[::ffff:127.0.0.1]:8080" (an IPv4 peer of an IPv6 socket),
 * "unix:/path", "unix:@name"; "unix:" for a unix-domain socket that nobody has bound, as most clients. A zero in a
 * name is written as @, another control character as ?.
 *
 * @param size  of `text` in bytes; P2P_ADDRESS_TEXT_SIZE is always enough.
 * @return the length of the text; P2P_ERR_INVALID (no address, or too little room; then `text` is "").
 * Thread: any.
 */
P2P_API int p2p_address_format(const p2p_address_t *address, char *text, size_t size);

/** @return the port, 0..65535; P2P_ERR_INVALID, also for a unix-domain address, which has none. Thread: any. */
P2P_API int p2p_address_port(const p2p_address_t *address);

/** @return the user_data given when the socket was added to a loop; NULL if none. Thread: owner. */
P2P_API void *p2p_socket_user_data(const p2p_socket_t *socket);

/** @return the operating system's handle, still p2pnet's; P2P_INVALID_HANDLE when there is none yet. Thread: owner. */
P2P_API p2p_handle_t p2p_socket_handle(const p2p_socket_t *socket);

/**
 * End the sending side: what is queued is still written, and then the peer is told (FIN). Sending fails with
 * P2P_ERR_CLOSED from now on; messages are received until the peer ends its side, too. Close the socket then.
 *
 * In a loop this returns at once. When the system has not taken everything in time, the connection is over with
 * P2P_ERR_TIMED_OUT (P2P_DEADLINE_DRAIN), and p2p_socket_unsent tells how much was left. Outside a loop a blocking
 * socket waits until the system has taken everything.
 *
 * @param drain_ms  milliseconds, in a loop; 0: the socket's or the loop's drain timeout; P2P_NO_TIMEOUT: none.
 * @return 0; P2P_ERR_ALREADY (shut down before), NOT_CONNECTED, WOULD_BLOCK (outside a loop: call again), INVALID (not
 *         TCP), NO_MEMORY, or why output is over already.
 * Thread: owner.
 */
P2P_API int p2p_socket_shutdown(p2p_socket_t *socket, uint32_t drain_ms);

/**
 * Tell how much of what was queued the system has not taken: bytes, headers included. Once output is over (on_error,
 * on_close) these are lost; some of them may have been on their way. What the system took can be lost, too, when
 * the connection is reset.
 *
 * @return the number; P2P_ERR_INVALID.
 * Thread: owner; also in on_close.
 */
P2P_API int64_t p2p_socket_unsent(const p2p_socket_t *socket);

/**
 * Close. NULL is ignored. In a loop: no callback but on_close runs any more, and messages still
 * queued are written by the loop in the background (option drain_timeout_ms), which then tells
 * the peer, lets its input run dry and closes. Outside a loop it closes at once.
 *
 * The pointer is dead afterwards; on_close receives it a last time.
 * Thread: owner.
 */
P2P_API void p2p_socket_close(p2p_socket_t *socket);

/**
 * Close at once: drops what is queued and resets a TCP connection (RST). Otherwise as p2p_socket_close.
 * Thread: owner.
 */
P2P_API void p2p_socket_abort(p2p_socket_t *socket);

#ifdef __cplusplus
}
#endif
#endif
