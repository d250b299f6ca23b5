/* Host names: which texts are some, and looking one up in a thread of its own. */
#ifndef P2PI_RESOLVER_H
#define P2PI_RESOLVER_H

#include "internal.h"

#include <p2pnet/sys.h>

#define P2PI_NAME_MAX 253u     /* RFC 1035: 255 bytes, as it is sent. A dot may follow */
#define P2PI_ADDRESSES_MAX 32u /* of one name */
#define P2PI_LOOKUPS_MAX 8u    /* threads at a time, a loop */

/* Calls `answered`, in a turn, unless it is dropped before; from then on result and addresses are there. */
typedef struct p2pi_lookup {
    p2p_sys_thread thread;
    p2pi_task task;   /* the thread's answer to the loop */
    p2pi_link link;   /* in loop->lookups, until it is answered */
    p2p_event_loop_t *loop;
    void (*answered)(void *owner);
    void *owner;      /* NULL: nobody waits any more */
    bool begun, heard;
    atomic_int phase; /* what thread and loop agree by on who frees it */
    int result;       /* how many addresses, or an error */
    uint16_t port;
    p2p_socket_type_t type;
    /* Copies, as a thread may outlive its loop and p2p_cleanup. */
    p2p_allocator allocator;
    int (*resolve)(const char *name, uint16_t port, p2p_socket_type_t type, p2p_address_t *out, uint32_t capacity);
    p2p_address_t addresses[P2PI_ADDRESSES_MAX];
    char name[P2PI_NAME_MAX + 2];
} p2pi_lookup;

bool p2pi_is_host_name(const char *text);
/* NULL, and p2p_last_error, when it can't begin. The owner drops it, answered or not. */
p2pi_lookup *p2pi_lookup_start(p2p_event_loop_t *loop, const char *name, uint16_t port, p2p_socket_type_t type,
                               void (*answered)(void *owner), void *owner);
void p2pi_lookup_drop(p2pi_lookup *lookup);

/* connect.c: alternate the families, beginning with the first one's; within each the order stays. */
void p2pi_connect_interleave(p2p_address_t *addresses, uint32_t count);

#endif
