/* The made-up reports: each number follows from names and places, so that they are always the same. */
#include "made_up.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

enum { ROUNDS = 5, SUBJECTS_MAX = 10, CELLS_MAX = 24 };

bench_sample made_up_sample(int metric, ...) {
    bench_sample sample;
    for (size_t i = 0; i < BENCH_METRIC_COUNT; i++) sample.value[i] = NAN;
    va_list more;
    va_start(more, metric);
    for (; metric != BENCH_METRIC_COUNT; metric = va_arg(more, int)) sample.value[metric] = va_arg(more, double);
    va_end(more);
    return sample;
}

static const struct {
    const char *name, *version;
    double cost; /* of the base */
    double jitter;
} subjects[SUBJECTS_MAX] = {
    { "epoll", "1.3.0", 1, 0.02 },       { "io_uring", "1.3.0", 1.08, 0.03 },
    { "poll", "1.3.0", 1.3, 0.02 },      { "raw", "Linux 6.1", 0.97, 0.02 },
    { "libuv", "1.44.2", 1.45, 0.04 },   { "libuv+gather", "1.44.2", 1.2, 0.04 },
    { "libevent", "2.1.12", 1.6, 0.03 }, { "libevent+gather", "2.1.12", 1.35, 0.03 },
    { "libev", "4.33", 1.1, 0.4 },       { "io_uring_poll", "1.3.0", 1.15, 0.02 },
};

static bench_sample samples[CELLS_MAX][SUBJECTS_MAX][ROUNDS];
static bench_series series[CELLS_MAX][SUBJECTS_MAX];
static bench_cell cells[CELLS_MAX];
static bench_report report;

static uint32_t scattered;

/* From -1 to 1 */
static double scatter(void) {
    scattered = scattered * 1664525 + 1013904223;
    return (double)(scattered >> 8) / (1 << 23) - 1;
}

static bench_sample timers_sample(double cost) {
    return made_up_sample(BENCH_ADD, 55 * cost, BENCH_RESTART, 50 * cost, BENCH_CANCEL, 40 * cost, BENCH_FIRE,
                          140 * cost, BENCH_METRIC_COUNT);
}

static bench_sample sample_of(const bench_job *job, double cost) {
    if (strcmp(job->workload, "timers") == 0) return timers_sample(cost);
    double bytes = strcmp(job->workload, "idle") == 0 ? 200 * cost : NAN;
    double cpu = cost * (800 + job->size / 8.0 + 90 * log10(1.0 + job->conns)) / (job->depth > 1 ? 4 : 1);
    double latency = cost * 9 * (1 + job->conns / 8.0);
    return made_up_sample(BENCH_RATE, 8e8 / cpu, BENCH_CPU, cpu, BENCH_CPU_USER, 0.3 * cpu, BENCH_CPU_SYSTEM, 0.7 * cpu,
                          BENCH_BUSY, 93.0, BENCH_P50, latency, BENCH_P90, latency * 1.3, BENCH_P99, latency * 2.2,
                          BENCH_P999, latency * 9, BENCH_MAX, latency * 40, BENCH_BYTES, bytes, BENCH_METRIC_COUNT);
}

static void add_cell(bench_job job, const char *unit) {
    size_t index = report.cell_count++;
    job.seconds = 1;
    cells[index] = (bench_cell){ job, unit, series[index], SUBJECTS_MAX };
    for (size_t i = 0; i < SUBJECTS_MAX; i++) {
        series[index][i] = (bench_series){ subjects[i].name, subjects[i].version, samples[index][i], ROUNDS, NULL };
        if (strcmp(subjects[i].name, "io_uring_poll") == 0) { /* it has no rounds */
            series[index][i].refused = "io_uring is disabled by the sysctl kernel.io_uring_disabled";
            series[index][i].round_count = 0;
        }
        bool grows = strcmp(subjects[i].name, "poll") == 0 && strcmp(job.workload, "timers") != 0;
        double growth = grows ? 1 + job.conns / 500.0 : 1;
        double cost = growth * subjects[i].cost, jitter = subjects[i].jitter;
        for (size_t round = 0; round < ROUNDS; round++)
            samples[index][i][round] = sample_of(&job, cost * (1 + jitter * scatter()));
    }
}

bench_report *made_up_report(void) {
    static const uint32_t grown[] = { 1, 10, 100, 1000, 10000, 19000 }, sizes[] = { 64, 16384, 262144 };
    static const char *notes[] = { "libfoo: not found when this was built",
                                   "system calls were not counted: strace is not there" };
    scattered = 1;
    report = (bench_report){ .command = "p2p-bench echo broadcast --backend all --html report.html",
                             .started = "2026-01-02T03:04:05Z",
                             .machine = "a machine that does not exist, 2 processors",
                             .kernel = "Linux 0.0.0",
                             .compiler = "cc 0.0.0",
                             .library = "p2pnet 1.3.0",
                             .cells = cells,
                             .notes = notes,
                             .note_count = COUNT_OF(notes) };
    for (size_t i = 0; i < COUNT_OF(grown); i++)
        add_cell((bench_job){ .workload = "echo", .conns = grown[i], .size = 64, .depth = 1 }, "message");
    add_cell((bench_job){ .workload = "echo", .conns = 100, .size = 64, .depth = 16 }, "message");
    add_cell((bench_job){ .workload = "broadcast", .conns = 100, .active = 100, .size = 64, .depth = 1 }, "delivery");
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        add_cell((bench_job){ .workload = "open", .conns = 100, .size = sizes[i], .depth = 1, .rate = 2e4 }, "message");
    add_cell((bench_job){ .workload = "idle", .conns = 10000, .active = 100, .size = 64, .depth = 1 }, "message");
    add_cell((bench_job){ .workload = "dispatch", .conns = 9000, .active = 100, .writes = 10000 }, "event");
    add_cell((bench_job){ .workload = "timers", .conns = 1000000 }, "timer");
    samples[0][4][2] = made_up_sample(BENCH_METRIC_COUNT); /* a round that failed */
    series[7][8].subject = NAME_THAT_NEEDS_QUOTES;
    return &report;
}

bench_report *made_up_corners(void) {
    static bench_sample zero, zeroes[2], one;
    zero = zeroes[0] = made_up_sample(BENCH_RATE, 0.0, BENCH_CPU, 0.0, BENCH_BYTES, 0.0, BENCH_METRIC_COUNT);
    zeroes[1] = one = made_up_sample(BENCH_RATE, 1.0, BENCH_CPU, 1.0, BENCH_BYTES, 1.0, BENCH_METRIC_COUNT);
    static bench_series alone[] = { { "raw", NULL, &zero, 1, NULL } },
                        refused[] = { { "raw", NULL, NULL, 0, "no" }, { "epoll", NULL, NULL, 0, "neither" } },
                        two[] = { { "raw", NULL, &one, 1, NULL }, { "epoll", NULL, zeroes, 2, NULL } },
                        without_base[] = { { "raw", NULL, NULL, 0, "no" }, { "epoll", NULL, zeroes, 2, NULL } };
    static bench_cell few[] = { { { .workload = "echo", .conns = 1 }, "message", alone, 1 },
                                { { .workload = "idle", .conns = 1 }, "message", refused, 2 },
                                { { .workload = "accept", .conns = 10, .active = 5 }, "connection", two, 2 },
                                { { .workload = "accept", .conns = 5, .active = 5 }, "connection", two, 2 },
                                { { .workload = "accept", .conns = 10 }, "connection", two, 2 },
                                { { .workload = "wake" }, "task", without_base, 2 } };
    static bench_report corners;
    corners = (bench_report){ .command = "p2p-bench",
                              .started = "2026-01-02T03:04:05Z",
                              .machine = "none",
                              .kernel = "none",
                              .compiler = "none",
                              .library = "none",
                              .cells = few,
                              .cell_count = COUNT_OF(few) };
    return &corners;
}

static bench_sample simple(double rate, double cpu, double p50, double syscalls) {
    return made_up_sample(BENCH_RATE, rate, BENCH_CPU, cpu, BENCH_CPU_USER, cpu / 4, BENCH_CPU_SYSTEM, cpu * 0.75,
                          BENCH_P50, p50, BENCH_P99, 2 * p50, BENCH_MAX, 30 * p50, BENCH_SYSCALLS, syscalls,
                          BENCH_METRIC_COUNT);
}

bench_cell *made_up_cell(void) {
    static bench_sample base[3], faster[3], shaky[3];
    for (size_t i = 0; i < 3; i++) {
        double drift = 1 + 0.02 * (double)i;
        base[i] = simple(1e6 * drift, 1000, 9, 2);
        faster[i] = simple(1.25e6 * drift, 800, 7.5, 1.5);
        shaky[i] = simple(1e5 * (1 + (double)i), 2000 + 10 * (double)i, 1000, 3.25);
    }
    shaky[0].value[BENCH_CPU] = NAN;
    static bench_series lines[] = { { "raw", "Linux", base, 3, NULL },
                                    { "epoll", "1.3.0", faster, 3, NULL },
                                    { "libevent+gather", "2.1.12", shaky, 3, NULL },
                                    { "io_uring", "1.3.0", NULL, 0, "disabled by kernel.io_uring_disabled" } };
    static bench_cell cell = {
        { .workload = "echo", .conns = 10000, .size = 64, .depth = 1, .seconds = 1 }, "message", lines, COUNT_OF(lines)
    };
    return &cell;
}
