/*
 * Goals under pressure: each case is one goal, prints its figure in a line
 *
 *     GOAL G-N1 zero: 1000000 frames, 1000000 callbacks PASS
 *
 * and fails when the goal is missed. What is asserted are counts, bytes, orders, and times on a clock that the case
 * moves by itself; times on the real clock are printed only. Whoever attacks uses the system's sockets, never p2pnet.
 */
#ifndef PRESSURE_H
#define PRESSURE_H

#include "crowd.h"
#include "fixture.h"

/** A case named after its goal. */
#define GOAL(id, function) \
    { id, function, fixture_setup, fixture_teardown, NULL }
/** The same with a clock that stands still but for clock_advance. */
#define GOAL_ON_CLOCK(id, function) \
    { id, function, clock_setup, fixture_teardown, NULL }

/** Print the line, and fail the case unless the goal is met. The text is "G-N1 zero: what was found". */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
void goal(bool met, const char *format, ...);

/** How often, or how many: `fewer` where everything costs much more, with sanitizers and under Wine. */
unsigned goal_count(unsigned full, unsigned fewer);

int clock_setup(void **state);
void clock_advance(int64_t ns);

#define MS_NS 1000000ll

/** A loop with a listener whose connections are counted, and closed at their end. */
typedef struct host {
    p2p_event_loop_t *loop;
    p2p_socket_t *listener;
    uint16_t port;
    bool echo;                                                         /* send each message back */
    void (*hook)(struct host *h, p2p_socket_t *sock, uint32_t length); /* called for each message */
    void (*joined)(struct host *h, p2p_socket_t *sock);                /* for each connection */
    void (*failed)(struct host *h, p2p_socket_t *sock, int error);     /* for each that ends by an error */
    unsigned accepted, messages, ended, errors, closed;
    unsigned refusals; /* errors of the listener */
    int error;         /* of the last of them, or of the last connection's */
} host;

/** Listen in a new loop on test_backend(); NULL: default options. */
void host_open(host *h, const p2p_event_loop_options_t *options);
/** Frees the loop, and with it the connections. */
void host_close(host *h);
/** Let so many of a crowd connect, as fast as they are accepted. */
void host_admit(host *h, crowd *c, unsigned count);

/** Bytes of this process that are in memory now; 0: the system does not tell. */
size_t resident_bytes(void);
/** Sort, and give the value that this part of them does not exceed: 0.5 is the median. */
int64_t percentile(int64_t *values, size_t count, double part);

#endif
