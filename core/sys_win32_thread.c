/* The system table's threads on Windows: for the calls that can't be made without waiting. */
#include "sys_win32.h"

#include <process.h>

#define STACK_SIZE (512u * 1024u)

static unsigned __stdcall enter(void *thread) {
    p2p_sys_thread *it = thread;
    it->run(it);
    return 0;
}

/* Not CreateThread, which the C library needs to know of. Its errno says "too many" or "no memory": one to us. */
int p2pi_win32_thread_start(p2p_sys_thread *thread) {
    uintptr_t handle = _beginthreadex(NULL, STACK_SIZE, enter, thread, STACK_SIZE_PARAM_IS_A_RESERVATION, NULL);
    if (handle == 0) return -WSAENOBUFS;
    CloseHandle((HANDLE)handle);
    return 0;
}

void p2pi_win32_thread_rest(void) {
    Sleep(1);
}
