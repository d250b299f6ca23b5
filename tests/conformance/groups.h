/*
 * What the cases of the optional groups share: sockets that receive, accept and send by the backend, with a raw peer,
 * and all that must hold of each event. The bytes of a connection are a pattern, so that each is known by its place.
 *
 * Sockets, requests and lent buffers are kept here, so that a case that fails leaves none behind.
 */
#ifndef CONFORMANCE_GROUPS_H
#define CONFORMANCE_GROUPS_H

#include "harness.h"

enum {
    GROUP_SOCKETS_MAX = 64,
    GROUP_ACCEPTED_MAX = 64,
    FEW_WAITS = 16, /**< that do not block and bring nothing: what ends of its own accord must have ended by then */
};

/** A request, and what came of it. */
typedef struct group_op {
    p2p_op op; /**< first; its state and its data are freed by OP_DONE */
    p2p_iov iov[4];
    p2p_address_t address;
    uint8_t *data;
    bool is_done;
    int32_t result;
} group_op;

/** A socket of the backend's, and its peer. */
typedef struct group_socket {
    test_io *io; /**< NULL once it is detached */
    p2p_handle_t handle, peer;
    uint8_t salt;            /**< which pattern its bytes have */
    uint64_t sent, received; /**< by the peer, by us */
    bool armed;              /**< a receive or an accept, as far as is known */
    bool silent;             /**< no RECV and no ACCEPT may come: the last one had no MORE, or it was stopped */
    unsigned recv_events, ends, resets, starved;
    p2p_handle_t accepted[GROUP_ACCEPTED_MAX];
    int accepted_count;
    group_op request;
} group_socket;

int group_set_up(void **state);
int group_tear_down(void **state);
#define GROUP_CASE(name) cmocka_unit_test_setup_teardown(name, group_set_up, group_tear_down)

/** Skip the case unless the backend has the group. */
void need_receive(const harness *h);
void need_accept(const harness *h);
void need_requests(const harness *h);
/** A backend that receives gets these buffers, in a new instance. */
void use_pool(harness *h, uint32_t count, uint32_t size);

/* ---- sockets ---- */

/** Attach a handle, which is non-blocking and will be closed. peer may be P2P_INVALID_HANDLE. */
group_socket *group_attach(harness *h, p2p_handle_t handle, p2p_handle_t peer);
/** One end of a connection. */
group_socket *group_connection(harness *h);
/** The same, where the system has it without a network between: what is full stays full until the peer reads. */
group_socket *group_pair(harness *h);
group_socket *group_listener(harness *h, uint16_t *port);
/** Detach, and wait without blocking until that is over: a few waits must do. */
void group_detach(harness *h, group_socket *socket);
/** Close our handle; it has been detached. */
void group_close(group_socket *socket);
void group_close_peer(group_socket *socket);
/** As a program that exits: nothing is detached, the sockets' memory is gone when the backend is destroyed. */
void group_destroy(harness *h);

/** All that can be under way at once. NULL: what the backend leaves to the core. */
typedef struct group_all {
    group_socket *receiving; /**< some bytes have been sent to it */
    group_socket *accepting;
    uint16_t port;         /**< of the one that accepts */
    group_socket *sending; /**< there is no room */
    uint64_t filled;       /**< where in the pattern its send begins */
    group_socket *waited_for;
} group_all;
group_all group_start_all(harness *h);

/* ---- receiving ---- */

void start(harness *h, group_socket *socket);
void stop(harness *h, group_socket *socket);
/** The peer sends up to `size` bytes of the pattern. @return how many there was room for. */
size_t peer_sends(group_socket *socket, size_t size);
/** The peer ends its side, and what the backend has not taken is read to its end. */
void read_rest(group_socket *socket);
/** Pieces that are lent, at present. Each is compared when it comes and when it goes. */
uint32_t lent_count(void);
/** Give back the oldest until there are no more than these. */
void recycle_to(harness *h, uint32_t count);
/** Turn until all that was sent was received; give back at once, and start again what has ended. */
void receive_all(harness *h, group_socket *socket);

/* ---- requests: one a socket at a time ---- */

/** Send the pattern from `at` on, in `pieces` of unequal size. */
void send_pattern(harness *h, group_socket *socket, uint64_t at, size_t size, uint32_t pieces, uint32_t flags);
/** Send it past the backend until there is no room. @return the place after it. */
uint64_t fill_up(group_socket *socket);
/** A port of 127.0.0.1, or 0: the attempt has begun. */
void connect_to(harness *h, group_socket *socket, uint16_t port);
void cancel_request(harness *h, group_socket *socket);
/** Turn until it is done. @return its result. */
int32_t turn_until_done(harness *h, group_socket *socket);
/** The peer reads what is there and compares it with the pattern. @return the place after it. */
uint64_t peer_reads(group_socket *socket, uint64_t at);
/** expect_quiet, and that the process does not use the processor meanwhile either. */
void expect_idle(harness *h, int64_t duration_ns);

#endif
