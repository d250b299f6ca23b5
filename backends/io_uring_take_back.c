/* Calls that the kernel has not taken when their socket leaves. */
#include "io_uring.h"

static void taken_back(p2pi_uring_backend *backend, p2pi_uring_io *of, uint32_t about) {
    switch (about) {
    case P2PI_ABOUT_REQUEST:
        p2pi_uring_not_quiet(backend, of);
        of->request = P2PI_FINISHED;
        p2pi_uring_finish(backend, of);
        return;
    case P2PI_ABOUT_RECV:
    case P2PI_ABOUT_ACCEPT: of->stream = P2PI_IDLE; return;
    default: of->poll = P2PI_IDLE; return;
    }
}

/* A kernel short of memory leaves calls where they are, and takes them when the handle may be somebody else's. They do
 * nothing then; that one comes back says nothing, as if it had been about a change. */
void p2pi_uring_take_back(p2pi_uring_backend *backend, p2pi_uring_io *of) {
    uint32_t count = p2pi_uring_pending(&backend->ring);
    for (uint32_t i = 0; i < count; i++) {
        struct io_uring_sqe *call = p2pi_uring_pending_call(&backend->ring, i);
        uint32_t about = (uint32_t)call->user_data >> P2PI_ABOUT_SHIFT;
        bool names_handle = about != P2PI_ABOUT_CHANGE;
        if (names_handle && call->user_data == (of->io->token | (uint64_t)about << P2PI_ABOUT_SHIFT)) {
            p2pi_uring_set_call(call, IORING_OP_NOP, -1);
            p2pi_uring_set_name(call, of->io->token);
            taken_back(backend, of, about);
        }
    }
}
