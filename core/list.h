/* Intrusive circular doubly linked lists: a link inside the object, a link as the head. */
#ifndef P2PI_LIST_H
#define P2PI_LIST_H

#include <stdbool.h>
#include <stddef.h>

typedef struct p2pi_link {
    struct p2pi_link *next, *prev;
} p2pi_link;

#define P2PI_CONTAINER(pointer, type, member) ((type *)(void *)((char *)(pointer) - offsetof(type, member)))

static inline void p2pi_list_init(p2pi_link *head) {
    head->next = head->prev = head;
}

static inline bool p2pi_list_empty(const p2pi_link *head) {
    return head->next == head;
}

/* A link that is in no list has no next, so that objects need no set-up beyond zeroed memory. */
static inline bool p2pi_link_used(const p2pi_link *link) {
    return link->next != NULL;
}

static inline void p2pi_list_append(p2pi_link *head, p2pi_link *link) {
    link->prev = head->prev;
    link->next = head;
    head->prev->next = link;
    head->prev = link;
}

static inline void p2pi_list_remove(p2pi_link *link) {
    if (!p2pi_link_used(link)) return;
    link->prev->next = link->next;
    link->next->prev = link->prev;
    link->next = NULL;
}

static inline p2pi_link *p2pi_list_pop(p2pi_link *head) {
    p2pi_link *first = head->next;
    if (first == head) return NULL;
    head->next = first->next;
    head->next->prev = head;
    first->next = NULL;
    return first;
}

/* Move all of `from` to the empty list `to`. */
static inline void p2pi_list_take(p2pi_link *to, p2pi_link *from) {
    p2pi_list_init(to);
    if (p2pi_list_empty(from)) return;
    *to = *from;
    to->next->prev = to->prev->next = to;
    p2pi_list_init(from);
}

#endif
