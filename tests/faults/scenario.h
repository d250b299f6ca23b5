/*
 * A little of everything, written so that each step may fail: two echo servers, a raw client, clients in the loop, one
 * of them by name, a datagram socket, a timer, a task and a watch. It ends by itself whatever fails, and gives
 * everything back.
 */
#ifndef SCENARIO_H
#define SCENARIO_H

#include <p2pnet/sys.h>

#include <stdbool.h>

typedef struct scenario {
    bool complete;    /* everything was done, as it is without faults */
    bool recovered;   /* afterwards the server served a new client */
    bool can_recover; /* it should: there is a loop that did not fail, and a server in it */
} scenario;

/** What the scenario needs of the system table, from which faults are made. */
void scenario_system(p2p_sys_ops *table);
/** `calm` is called before the recovery is tried, to end the faults. */
scenario scenario_run(void (*calm)(void));

#endif
