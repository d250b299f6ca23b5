/* The groups of cases, one file each. */
#ifndef CONFORMANCE_CASES_H
#define CONFORMANCE_CASES_H

#include "harness.h"

typedef struct case_group {
    const struct CMUnitTest *cases;
    size_t count;
} case_group;

#define CASE_GROUP(array) { array, sizeof(array) / sizeof(array[0]) }

extern const case_group rule_cases;     /* B1 to B14 */
extern const case_group interest_cases; /* adding, changing and removing */
extern const case_group peer_cases;     /* what the other side does */
extern const case_group stale_cases;    /* closed, duplicated and inherited handles */
extern const case_group wake_cases;     /* wake, signals, time-outs */
extern const case_group receive_cases;  /* the optional groups: receive, */
extern const case_group accept_cases;   /* accept, */
extern const case_group request_cases;  /* send and connect */
extern const case_group create_cases;   /* creation that fails */
extern const case_group posix_cases;    /* files, handle numbers, child processes, signals; empty on Windows */
extern const case_group win32_cases;    /* WSAPoll and Windows' select; empty elsewhere */

/** All cases of all groups. */
const struct CMUnitTest *conformance_cases(size_t *count);
/** What main does. A backend from outside registers its table first (conform.c does). */
int conformance_main(int argc, char **argv);

#endif
