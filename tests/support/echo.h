/* An echo server in a loop, in both styles: on_read with p2p_message_recv, and on_message. */
#ifndef ECHO_H
#define ECHO_H

#include "fixture.h"

typedef struct echo_server {
    p2p_event_loop_t *loop;
    p2p_socket_t *listener;
    uint16_t port;
    bool by_message;
    unsigned accepted, ended, messages;
    unsigned errors; /* of the listener */
} echo_server;

/** Listen on 127.0.0.1. The server must stay where it is until echo_stop. */
void echo_start(echo_server *server, p2p_event_loop_t *loop, bool by_message);
/** The same without assertions. @return 0 or P2P_ERR_*, and then there is nothing to stop. */
int echo_try_start(echo_server *server, p2p_event_loop_t *loop, bool by_message);
/** Close the listener. Connections end with their peers, or with the loop. */
void echo_stop(echo_server *server);

#endif
