/* A stand-in for kqueue on Linux, and the backend kqueue on top of it. */
#ifndef KQUEUE_EMULATION_H
#define KQUEUE_EMULATION_H

#include <p2pnet/sys.h>

/** The system's table with kqueue, kevent, and a close that knows their descriptors. Each call makes the backend known,
 *  since p2p_cleanup forgets it. */
const p2p_sys_ops *kqueue_emulation(void);

/** @return why this case says nothing on the emulation; NULL when it does. */
const char *kqueue_emulation_objection(const char *test_case);

#endif
