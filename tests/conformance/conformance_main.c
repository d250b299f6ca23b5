/* All cases of the suite as one list, and p2p_test_main for it. */
#include "cases.h"

const struct CMUnitTest *conformance_cases(size_t *count) {
    static struct CMUnitTest cases[256];
    const case_group *groups[] = { &rule_cases, &interest_cases, &peer_cases, &stale_cases, &wake_cases,
                                   &receive_cases, &accept_cases, &request_cases, &create_cases, &posix_cases,
                                   &win32_cases };
    *count = 0;
    for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
        for (size_t k = 0; k < groups[i]->count; k++) {
            cases[(*count)++] = groups[i]->cases[k];
        }
    }
    return cases;
}

int conformance_main(int argc, char **argv) {
    size_t count;
    const struct CMUnitTest *cases = conformance_cases(&count);
    return p2p_test_main(argc, argv, cases, count);
}
