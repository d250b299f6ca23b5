/*
 * A connection's received bytes that are no whole message yet, or that nobody has taken. It grows by what has
 * arrived, never by what a header claims, and an idle connection has none.
 */
#include "internal.h"

#include <string.h>

#define FIRST_CAPACITY 512u
#define PLACE_MIN 16384u /* a shorter rest of a message comes with what follows it */

static p2pi_blocks *blocks_of(const p2p_socket_t *sock) {
    return sock->loop == NULL ? NULL : &sock->loop->chunks.blocks;
}

static void give_back(const p2p_socket_t *sock, p2pi_inbox *inbox) {
    p2pi_block_give(blocks_of(sock), inbox, sizeof *inbox + inbox->capacity);
}

void p2pi_inbox_release(p2p_socket_t *sock) {
    p2pi_inbox *inbox = sock->in.inbox;
    sock->in.inbox = NULL;
    if (inbox != NULL && !inbox->lent) give_back(sock, inbox); /* else by whoever lent it */
}

void p2pi_inbox_unlend(p2p_socket_t *sock, p2pi_inbox *lent) {
    lent->lent = false;
    if (sock->in.inbox != lent)
        give_back(sock, lent);
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
static p2pi_inbox *renew(const p2p_socket_t *sock, size_t capacity) {
    p2pi_inbox *inbox, *old = sock->in.inbox;
    size_t size = sizeof *inbox + capacity;
    inbox = p2pi_block_take(blocks_of(sock), &size);
    if (inbox == NULL) return NULL;
    inbox->head = 0;
    inbox->tail = old == NULL ? 0 : old->tail - old->head;
    inbox->capacity = (uint32_t)(size - sizeof *inbox);
    inbox->lent = false;
    if (old != NULL) memcpy(inbox->data, old->data + old->head, inbox->tail);
    if (old != NULL && !old->lent) give_back(sock, old);
    return inbox;
}

int p2pi_inbox_unshare(p2p_socket_t *sock) {
    p2pi_inbox *inbox = sock->in.inbox;
    if (inbox == NULL || !inbox->lent) return P2P_OK;
    sock->in.inbox = renew(sock, inbox->capacity);
    return sock->in.inbox == NULL ? P2P_ERR_NO_MEMORY : P2P_OK;
}

/*
 * How much to make room for when `need` bytes have to fit, and `missing` more end the frame that they begin: for all of
 * it if that is at most eight times as much, else for twice as much. So a long message is moved seldom, and what it
 * claims costs little. `need` is at most INT32_MAX: nothing here wraps.
 */
static size_t capacity_for(size_t need, size_t missing) {
    if (need < FIRST_CAPACITY) return FIRST_CAPACITY;
    bool believed = missing > 0 && missing / 7 <= need && missing <= INT32_MAX;
    return need + (believed ? missing : need);
}

/* What the frame that begins with these bytes lacks; 0 if that is not known, or nothing. */
static size_t missing_after(const uint8_t *data, size_t length) {
    uint32_t claimed;
    size_t missing = 0;
    if (length < P2P_FRAME_HEADER_SIZE) return 0;
    (void)p2pi_frame_inspect(data, length, UINT32_MAX, &claimed, &missing);
    return missing;
}

static int reserve(p2p_socket_t *sock, size_t length, size_t missing) {
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
    if (length > INT32_MAX - have) return P2P_ERR_NO_MEMORY;
    inbox = renew(sock, capacity_for(have + length, missing));
    if (inbox == NULL) return P2P_ERR_NO_MEMORY;
    sock->in.inbox = inbox;
    return P2P_OK;
}

int p2pi_inbox_append(p2p_socket_t *sock, const uint8_t *data, size_t length) {
    if (length == 0) return P2P_OK;
    size_t have = p2pi_inbox_length(sock), missing;
    if (have == 0)
        missing = missing_after(data, length);
    else
        missing = missing_after(sock->in.inbox->data + sock->in.inbox->head, have);
    if (have > 0) missing = missing > length ? missing - length : 0;
    int result = reserve(sock, length, missing);
    if (result < 0) return result;
    memcpy(sock->in.inbox->data + sock->in.inbox->tail, data, length);
    sock->in.inbox->tail += (uint32_t)length;
    return P2P_OK;
}

/* Room to receive into directly; at most as much again as is there, so that a claim alone costs little. */
uint8_t *p2pi_inbox_room(p2p_socket_t *sock, size_t wanted, size_t *available) {
    size_t limit = p2pi_inbox_length(sock) + FIRST_CAPACITY;
    if (wanted > limit) wanted = limit;
    if (reserve(sock, wanted, 0) < 0) return NULL;
    *available = wanted;
    return sock->in.inbox->data + sock->in.inbox->tail;
}

uint8_t *p2pi_inbox_place(p2p_socket_t *sock, uint32_t at_most, uint32_t *room) {
    p2pi_inbox *inbox = sock->in.inbox;
    if (inbox == NULL || inbox->lent) return NULL;
    uint32_t length;
    size_t missing = 0;
    p2pi_frame_status status = p2pi_frame_inspect(inbox->data + inbox->head, p2pi_inbox_length(sock),
                                                  sock->message_limit, &length, &missing);
    if (status != P2PI_FRAME_PARTIAL || missing < PLACE_MIN || missing > inbox->capacity - inbox->tail) return NULL;
    *room = missing < at_most ? (uint32_t)missing : at_most;
    return inbox->data + inbox->tail;
}
