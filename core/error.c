/* Error codes, their texts, and this thread's last failure. */
#include "internal.h"

static _Thread_local int last_error;
static _Thread_local int last_os_error;

int p2p_last_error(void) {
    return last_error;
}

int p2p_last_os_error(void) {
    return last_os_error;
}

int p2pi_fail(int error) {
    last_error = error;
    last_os_error = 0;
    return error;
}

int p2pi_fail_os(const p2p_sys_ops *sys, int64_t os_result) {
    P2P_ASSERT(os_result < 0 && os_result >= INT32_MIN);
    last_os_error = (int)-os_result;
    last_error = sys->translate_error(last_os_error);
    return last_error;
}

int p2pi_fail_with(int error, int os_error) {
    last_os_error = os_error;
    return last_error = error;
}

void p2pi_clear_error(void) {
    last_error = last_os_error = 0;
}

const char *p2p_error_name(int error) {
#define P2PI_NAME(number, name, text) \
    case number: return "P2P_ERR_" #name;
    switch (error) {
        case P2P_OK: return "P2P_OK";
        P2P_ERROR_MAP(P2PI_NAME)
        default: return "P2P_ERR_?";
    }
#undef P2PI_NAME
}

const char *p2p_error_message(int error) {
#define P2PI_TEXT(number, name, text) \
    case number: return text;
    switch (error) {
        case P2P_OK: return "success";
        P2P_ERROR_MAP(P2PI_TEXT)
        default: return "unknown error code";
    }
#undef P2PI_TEXT
}
