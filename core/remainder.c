/*
 * What is left of a closed connection that had output on its way: it writes that, tells the peer (FIN), lets the
 * peer's input run dry, so that closing does not reset what was just sent, and closes. A deadline bounds it.
 */
#include "internal.h"

/*
 * Output is queued here; or the system still holds some, which closing would throw away as soon as the peer sends
 * another byte, or has sent one that nobody read.
 */
bool p2pi_remainder_wanted(const p2p_socket_t *sock) {
    if (sock->type == P2P_UDP) return false; /* datagrams are lost or not; nobody waits for an end */
    if (sock->state != P2PI_STATE_CONNECTED && sock->state != P2PI_STATE_CONNECTING) return false;
    if (sock->out.queued > 0) return true;
    bool lives = sock->end == 0 && (sock->output_error == 0 || sock->ending);
    bool deaf = sock->end == P2P_ERR_TOO_LONG; /* the answers to what came before are to arrive */
    return sock->state == P2PI_STATE_CONNECTED && (lives || deaf) && sock->has_sent &&
           sock->loop->sys->unsent(sock->handle) != 0;
}

void p2pi_remainder_timed_out(p2p_socket_t *sock) {
    if (!sock->shut) { /* what is left is lost: the peer shall not take it for a clean end */
        sock->resetting = true;
        sock->close_reason = P2P_ERR_TIMED_OUT;
    }
    p2pi_remainder_finish(sock);
}

int p2pi_remainder_begin(p2p_socket_t *sock) {
    p2p_event_loop_t *loop = sock->loop;
    p2pi_deadlines_end(sock);
    int result = p2pi_deadline_start(sock, P2P_DEADLINE_DRAIN);
    if (result < 0) return result;
    if (loop->input.socket == sock) {
        loop->input.socket = NULL;
        loop->input.end = loop->input.data;
    }
    p2pi_list_remove(&sock->again);
    sock->tell = 0;
    p2pi_inbox_release(sock);
    if (sock->end == P2P_ERR_TOO_LONG) sock->end = 0; /* nothing is to be understood any more, only to run dry */
    sock->remainder = true;
    loop->remainder_count++;
    p2pi_output_schedule(sock);
    if (sock->out.queued == 0 && sock->state == P2PI_STATE_CONNECTED)
        p2pi_remainder_advance(sock);
    else
        p2pi_connection_pump(sock);
    return P2P_OK;
}

/* Something was written, or the peer has ended its side. */
void p2pi_remainder_advance(p2p_socket_t *sock) {
    p2p_event_loop_t *loop = sock->loop;
    if (sock->out.queued == 0 && sock->request == NULL) {
        if (!sock->shut) loop->sys->shutdown_send(sock->handle);
        sock->shut = true;
        if (sock->end != 0) {
            p2pi_remainder_finish(sock);
            return;
        }
    }
    p2pi_connection_pump(sock);
}

void p2pi_remainder_finish(p2p_socket_t *sock) {
    p2p_event_loop_t *loop = sock->loop;
    sock->remainder = false;
    loop->remainder_count--;
    if (sock->output_error != 0 && sock->output_error != P2P_ERR_CLOSED) sock->close_reason = sock->output_error;
    p2pi_socket_finish(sock);
}
