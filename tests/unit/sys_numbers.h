/* The error numbers of the system that the tests run on, and what each is to p2pnet. */
#ifndef SYS_NUMBERS_H
#define SYS_NUMBERS_H

#include <stddef.h>
#include <stdint.h>

typedef struct sys_number {
    int number;   /* of the system */
    int expected; /* P2P_ERR_* */
} sys_number;

extern const sys_number sys_numbers[];
extern const size_t sys_number_count;

/** How many bytes the table gives the system at once. */
extern const int64_t sys_send_max;

#endif
