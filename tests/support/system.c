/* The system that the cases run on. */
#include "test_main.h"

#include <p2pnet/sys.h>

#if defined(P2P_TEST_KQUEUE_EMULATED)
#include "emulation.h"

#include <stdbool.h>
#include <string.h>

static bool is_emulated(void) {
    return test_backend() != NULL && strcmp(test_backend(), "kqueue") == 0;
}

const p2p_sys_ops *test_system(void) {
    return is_emulated() ? kqueue_emulation() : p2p_sys_default();
}

const char *test_objection(const char *test_case) {
    return is_emulated() ? kqueue_emulation_objection(test_case) : NULL;
}
#else
const p2p_sys_ops *test_system(void) {
    return p2p_sys_default();
}

const char *test_objection(const char *test_case) {
    (void)test_case;
    return NULL;
}
#endif
