/*
 * Requests: a send or a connect that the backend, or the emulation, has been asked for and has not told the end of.
 * They are kept for the next ones, so that sending allocates nothing.
 */
#include "internal.h"

#include <string.h>

static p2pi_request *request_alloc(p2p_event_loop_t *loop) {
    p2pi_request *request = p2pi_alloc_zeroed(sizeof *request + loop->ops.op_state_size);
    if (request != NULL) request->op.state = request + 1;
    return request;
}

p2pi_request *p2pi_request_new(p2p_socket_t *sock) {
    p2p_event_loop_t *loop = sock->loop;
    p2pi_request *request = loop->requests;
    if (request != NULL)
        loop->requests = request->next;
    else if ((request = request_alloc(loop)) == NULL)
        return NULL;
    if (loop->ops.op_state_size > 0) memset(request->op.state, 0, loop->ops.op_state_size);
    request->op.io = &sock->entry->io;
    request->socket = sock;
    sock->request = request;
    p2pi_list_append(&loop->in_flight, &request->in_flight);
    return request;
}

/* Spare requests are kept as p2pi_request_new wants them. */
void p2pi_request_free(p2p_event_loop_t *loop, p2pi_request *request) {
    p2pi_list_remove(&request->in_flight);
    if (request->orphan.first != NULL) p2pi_outbox_clear(&request->orphan, &loop->chunks);
    if (request->is_connect) {
        request->op.address = NULL;
        request->is_connect = false;
    }
    request->cancelled = false;
    request->next = loop->requests;
    loop->requests = request;
}

/* Hand over what the emulation has completed. */
void p2pi_request_drain(p2p_event_loop_t *loop) {
    while (loop->done_first != NULL) {
        p2pi_request *request = loop->done_first;
        loop->done_first = request->next;
        if (loop->done_first == NULL) loop->done_last = &loop->done_first;
        p2pi_request_done(loop, request, request->result);
    }
}

/* OP_DONE. */
void p2pi_request_done(p2p_event_loop_t *loop, p2pi_request *request, int64_t result) {
    p2p_socket_t *sock = request->socket;
    if (request->is_connect) {
        p2pi_connecting_done(loop, request, result);
        return;
    }
    bool cancelled = request->cancelled && result < 0; /* by close or remove */
    if (sock != NULL) sock->request = NULL;
    p2pi_request_free(loop, request);
    if (sock != NULL && !cancelled) p2pi_output_sent(loop, sock, result);
}
