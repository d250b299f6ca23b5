/*
 * A connection's received bytes that are no whole message yet, or that nobody has taken. It grows by what has
 * arrived, never by what a header claims, and an idle connection has none.
 */
#include "internal.h"

#include <string.h>

#define FIRST_CAPACITY 512u

void p2pi_inbox_release(p2p_socket_t *sock) {
    p2pi_inbox *inbox = sock->in.inbox;
    sock->in.inbox = NULL;
    if (inbox != NULL && !inbox->lent) p2pi_free(inbox); /* else by whoever lent it */
}

void p2pi_inbox_unlend(p2p_socket_t *sock, p2pi_inbox *lent) {
    lent->lent = false;
    if (sock->in.inbox != lent)
        p2pi_free(lent);
    else if (lent->head == lent->tail)
        p2pi_inbox_release(sock);
}

void p2pi_inbox_consume(p2p_socket_t *sock, size_t length) {
    p2pi_inbox *inbox = sock->in.inbox;
    P2P_ASSERT(length <= inbox->tail - inbox->head);
    inbox->head += (uint32_t)length;
    if (inbox->head == inbox->tail && !inbox->lent) p2pi_inbox_release(sock);
}

/* Move what is there to a new block, when it must not be changed in place. */
static p2pi_inbox *renew(p2pi_inbox *old, size_t capacity) {
    p2pi_inbox *inbox = p2pi_alloc(sizeof *inbox + capacity);
    if (inbox == NULL) return NULL;
    inbox->head = 0;
    inbox->tail = old == NULL ? 0 : old->tail - old->head;
    inbox->capacity = (uint32_t)capacity;
    inbox->lent = false;
    if (old != NULL) memcpy(inbox->data, old->data + old->head, inbox->tail);
    if (old != NULL && !old->lent) p2pi_free(old);
    return inbox;
}

int p2pi_inbox_unshare(p2p_socket_t *sock) {
    p2pi_inbox *inbox = sock->in.inbox;
    if (inbox == NULL || !inbox->lent) return P2P_OK;
    sock->in.inbox = renew(inbox, inbox->capacity);
    return sock->in.inbox == NULL ? P2P_ERR_NO_MEMORY : P2P_OK;
}

static int reserve(p2p_socket_t *sock, size_t length) {
    p2pi_inbox *inbox = sock->in.inbox;
    if (inbox != NULL && !inbox->lent) {
        if (length <= inbox->capacity - inbox->tail) return P2P_OK;
        if (length <= inbox->capacity - (inbox->tail - inbox->head)) {
            memmove(inbox->data, inbox->data + inbox->head, inbox->tail - inbox->head);
            inbox->tail -= inbox->head;
            inbox->head = 0;
            return P2P_OK;
        }
    }
    size_t have = p2pi_inbox_length(sock);
    if (length > UINT32_MAX / 2 - have) return P2P_ERR_NO_MEMORY;
    size_t capacity = FIRST_CAPACITY;
    while (capacity < have + length) capacity *= 2;
    inbox = renew(inbox, capacity);
    if (inbox == NULL) return P2P_ERR_NO_MEMORY;
    sock->in.inbox = inbox;
    return P2P_OK;
}

int p2pi_inbox_append(p2p_socket_t *sock, const uint8_t *data, size_t length) {
    if (length == 0) return P2P_OK;
    int result = reserve(sock, length);
    if (result < 0) return result;
    memcpy(sock->in.inbox->data + sock->in.inbox->tail, data, length);
    sock->in.inbox->tail += (uint32_t)length;
    return P2P_OK;
}

/* Room to receive into directly; at most as much again as is there, so that a claim alone costs little. */
uint8_t *p2pi_inbox_room(p2p_socket_t *sock, size_t wanted, size_t *available) {
    size_t limit = p2pi_inbox_length(sock) + FIRST_CAPACITY;
    if (wanted > limit) wanted = limit;
    if (reserve(sock, wanted) < 0) return NULL;
    *available = wanted;
    return sock->in.inbox->data + sock->in.inbox->tail;
}
