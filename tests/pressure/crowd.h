/*
 * Many raw peers, in a process of their own, so that they take none of the descriptors of the one under attack; in a
 * thread where there is no fork (see apart.h). Members do one order at a time.
 */
#ifndef CROWD_H
#define CROWD_H

#include "apart.h"
#include "raw.h"

typedef struct crowd {
    apart apart;
} crowd;

typedef enum crowd_do {
    CROWD_CONNECT, /* `count` more members connect to `port` */
    CROWD_SEND,    /* each sends `size` bytes */
    CROWD_TRICKLE, /* `count` of them send a zero, a member a millisecond; it takes a second at least */
    CROWD_READ,    /* each reads a frame whose payload is raw_fill(`size`, `seed`) */
    CROWD_ENDED,   /* how many have seen the end; those leave */
    CROWD_RESET,   /* all leave by RST */
    CROWD_KINDS
} crowd_do;

typedef struct crowd_order {
    uint32_t what; /* crowd_do */
    uint32_t port, count, size, seed;
} crowd_order;

/** To be called before there is any socket, as a child process would keep it open. */
void crowd_open(crowd *c);
/** Give an order. `data`: what to send, `order.size` bytes. */
void crowd_begin(crowd *c, crowd_order order, const void *data);
bool crowd_done(const crowd *c);
/** @return how many members did as told. Waits for it. */
int crowd_result(crowd *c);
/** All leave by RST. */
void crowd_close(crowd *c);

/** An order, driving a loop until it is done; gives its result. */
#define CROWD_RUN(c, loop, order, data) (crowd_begin(c, order, data), crowd_await(c, loop), crowd_result(c))
struct p2p_event_loop;
void crowd_await(const crowd *c, struct p2p_event_loop *loop);

#endif
