/*
 * p2p-bench: what the harness, the workloads and the subjects know of each other. A subject is what is compared: the
 * library on one of its backends, or a peer that does the same job. A workload is what it has to do, with numbers from
 * a job. A run gives a sample; the runs of a job on several subjects, taken in turns, make a cell of the report.
 *
 * A subject runs in a process of its own, which is this program again: p2p-bench --child SUBJECT WORKLOAD NUMBERS.
 */
#ifndef P2P_BENCH_H
#define P2P_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

/* ---- what is to be done ---------------------------------------------------------------------- */

typedef struct bench_job {
    const char *workload;
    uint32_t conns;  /* connections; members of the room; pairs of sockets; timers; tasks */
    uint32_t active; /* of these, how many have something to do */
    uint32_t size;   /* bytes of payload a message, without the 4 of its header */
    uint32_t depth;  /* messages in flight a connection */
    uint32_t writes; /* dispatch: how often a byte is passed on in a run */
    double rate;     /* open loop: messages a second of all connections together; 0: closed loop */
    double seconds;  /* how long to measure */
} bench_job;

/* ---- what came out --------------------------------------------------------------------------- */

/* id, name in files, unit, whether more is better, what it is */
#define BENCH_METRICS(X)                                                                            \
    X(RATE, "rate", "1/s", true, "messages, deliveries, connections, events or tasks a second")     \
    X(CPU, "cpu", "ns", false, "processor time of the server, a message")                           \
    X(CPU_USER, "cpu_user", "ns", false, "of it in user space")                                     \
    X(CPU_SYSTEM, "cpu_system", "ns", false, "of it in the kernel")                                 \
    X(BUSY, "busy", "%", false, "how much of its processor the server used")                        \
    X(P50, "p50", "us", false, "latency that half of the messages were within")                     \
    X(P90, "p90", "us", false, "latency of 90 %")                                                   \
    X(P99, "p99", "us", false, "latency of 99 %")                                                   \
    X(P999, "p99.9", "us", false, "latency of 99.9 %")                                              \
    X(MAX, "max", "us", false, "the longest")                                                       \
    X(SYSCALLS, "syscalls", "calls", false, "system calls of the server, a message")                \
    X(BYTES, "bytes", "B", false, "private memory of the server, a connection")                     \
    X(ADD, "add", "ns", false, "starting a timer")                                                  \
    X(RESTART, "restart", "ns", false, "starting a timer that runs")                                \
    X(CANCEL, "cancel", "ns", false, "stopping a timer")                                            \
    X(FIRE, "fire", "ns", false, "a timer that is due")

typedef enum bench_metric {
#define X(id, name, unit, more_is_better, text) BENCH_##id,
    BENCH_METRICS(X)
#undef X
    BENCH_METRIC_COUNT
} bench_metric;

typedef struct bench_metric_info {
    const char *name, *unit;
    bool more_is_better;
    const char *text;
} bench_metric_info;

extern const bench_metric_info bench_metrics[BENCH_METRIC_COUNT];

typedef struct bench_sample {
    double value[BENCH_METRIC_COUNT]; /* NAN: not measured */
} bench_sample;

typedef struct bench_series {
    const char *subject, *version;
    bench_sample *rounds; /* oldest first */
    size_t round_count;
    const char *refused; /* why it could not run, or NULL; then there are no rounds */
} bench_series;

typedef struct bench_cell {
    bench_job job;
    const char *unit; /* what is counted: "message", "delivery", "connection", "event", "timer", "task" */
    bench_series *series;
    size_t series_count; /* the first one is the base of the ratios */
} bench_cell;

typedef struct bench_report {
    const char *command; /* as it was typed */
    const char *started; /* UTC, ISO 8601 */
    const char *machine; /* processor and how many of them */
    const char *kernel, *compiler, *library;
    bench_cell *cells;
    size_t cell_count;
    const char **notes; /* what is left out, and why */
    size_t note_count;
} bench_report;

/* ---- subjects ---------------------------------------------------------------------------------- */

/*
 * A loop as far as dispatch, timers, post and wake need one. All but `post` are called in one thread. What fails ends
 * the process by bench_fail.
 */
typedef void (*bench_callback)(void *argument);

typedef struct bench_reactor {
    void *(*create)(const char *subject);
    void (*turn)(void *loop); /* waits until something happens, and handles all that has happened */
    /* Calls `ready` in every turn in which there is something to read from fd, for ever. */
    void (*watch)(void *loop, int fd, bench_callback ready, void *argument);
    void *(*timer)(void *loop, bench_callback fired, void *argument); /* one-shot; not started. NULL: no timers */
    void (*timer_start)(void *timer, uint64_t delay_ns);              /* restarts one that runs */
    void (*timer_stop)(void *timer);
    void (*post)(void *loop, bench_callback task, void *argument); /* any thread; each task runs once. NULL: can't */
} bench_reactor;

typedef struct bench_subject {
    const char *name;
    const char *(*version)(void);
    /*
     * Serve every connection that `listener` (it listens, non-blocking, close-on-exec) brings, until the process is
     * killed. A message is a 32-bit big-endian length and as many bytes.
     *
     * echo: each message goes back to where it came from. A connection that ends or is reset is closed.
     * broadcast: each message goes to all who are connected, its sender too, in one order for all.
     */
    void (*echo)(const char *subject, int listener);
    void (*broadcast)(const char *subject, int listener);
    /* Echo with nobody else: it makes its messages up by itself. NULL but for the null backend. */
    void (*echo_alone)(const bench_job *job, bench_sample *sample);
    const bench_reactor *reactor; /* NULL: none */
} bench_subject;

/* subjects.c: what was found when this was built. The library's backends are subjects named as the backends are. */
const bench_subject *bench_subject_find(const char *name);
/* @return how many; `names` gets at most `capacity`: backends (available ones), or peers. */
size_t bench_backend_names(const char **names, size_t capacity);
size_t bench_peer_names(const char **names, size_t capacity);

/* ---- for all ------------------------------------------------------------------------------------- */

/* Says on stderr what went wrong, with errno's text unless it is 0, and ends the process: the run counts as failed. */
_Noreturn void bench_fail(const char *what);
int64_t bench_now_ns(void); /* CLOCK_MONOTONIC */

#endif
