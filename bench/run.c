#include "run.h"

#include "child.h"
#include "process.h"

#include <p2pnet/p2pnet.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count > 0 ? count : 1, size);
    if (memory == NULL) bench_fail("calloc");
    return memory;
}

static char *format(const char *text, const char *a, const char *b) {
    size_t size = strlen(text) + strlen(a) + strlen(b) + 1;
    char *result = allocate(size, 1);
    snprintf(result, size, text, a, b);
    return result;
}

/* ---- progress ---------------------------------------------------------------------------------- */

typedef struct progress {
    bool shown;
    size_t runs_done, runs;
    int64_t begun_ns;
} progress;

static void show(const progress *p, const bench_cell *cell, const char *subject, size_t round, size_t rounds) {
    if (!p->shown) return;
    fprintf(stderr, "\r\033[K%s, %u: round %zu of %zu, %s", cell->job.workload, cell->job.conns, round + 1, rounds,
            subject);
    if (p->runs_done > 0) {
        double took_s = (double)(bench_now_ns() - p->begun_ns) / 1e9 / (double)p->runs_done;
        unsigned left_s = (unsigned)(took_s * (double)(p->runs - p->runs_done) + 0.5);
        fprintf(stderr, "; %u:%02u left", left_s / 60, left_s % 60);
    }
}

static void hide(const progress *p) {
    if (p->shown) fputs("\r\033[K", stderr);
}

/* ---- a run --------------------------------------------------------------------------------------- */

/* @return NULL, or why it failed. */
static const char *run_once(const bench_workload *workload, const bench_job *job, const char *name,
                            bool count_syscalls, bench_sample *sample) {
    bench_process process;
    const bench_subject *subject = bench_subject_find(name);
    bench_process_kind kind = workload->has_threads ? BENCH_MORE_THREADS : BENCH_ONE_THREAD;
    if (workload->load != NULL && subject->echo_alone == NULL) kind = BENCH_SERVER;
    const char *failed = NULL;
    bench_sample_clear(sample);
    bench_process_start(&process, name, job, kind);
    if (kind == BENCH_SERVER)
        failed = workload->load(job, &process, count_syscalls, sample);
    else if (!bench_child_results(process.output, sample))
        failed = "ended without a result";
    char *said = bench_process_end(&process);
    if (said != NULL) failed = failed == NULL ? said : format("%s; it said: %s", failed, said);
    return failed;
}

static void run_round(const bench_plan *plan, const bench_workload *workload, bench_cell *cell, size_t round,
                      progress *p) {
    for (size_t i = 0; i < cell->series_count; i++) {
        bench_series *series = &cell->series[i];
        if (series->refused == NULL) {
            show(p, cell, series->subject, round, plan->rounds);
            series->refused = run_once(workload, &cell->job, series->subject, plan->count_syscalls,
                                       &series->rounds[round]);
            series->round_count = series->refused == NULL ? round + 1 : 0;
        }
        p->runs_done++;
    }
}

/* ---- cells --------------------------------------------------------------------------------------- */

/* Those that do such a thing, in the plan's order; NULL counts them only. */
static size_t suiting(const bench_plan *plan, const bench_workload *workload, bench_series *series) {
    size_t count = 0;
    for (size_t i = 0; i < plan->subject_count; i++) {
        const bench_subject *subject = bench_subject_find(plan->subjects[i]);
        if (!bench_workload_suits(workload, subject)) continue;
        if (series != NULL) {
            series[count].subject = plan->subjects[i];
            series[count].version = subject->version();
            series[count].rounds = allocate(plan->rounds, sizeof(bench_sample));
        }
        count++;
    }
    return count;
}

static const bench_numbers *or_default(const bench_numbers *given, uint32_t value, bench_numbers *standard) {
    *standard = (bench_numbers){ .value = { value }, .count = 1 };
    return given->count > 0 ? given : standard;
}

/* One cell for each combination of numbers; NULL counts them only. */
static size_t cells_of(const bench_plan *plan, const bench_workload *workload, bench_cell *cells) {
    bench_numbers standard[5];
    const bench_job *defaults = &workload->defaults;
    const bench_numbers *conns = or_default(&plan->conns, defaults->conns, &standard[0]);
    const bench_numbers *active = or_default(&plan->active, defaults->active, &standard[1]);
    const bench_numbers *size = or_default(&plan->size, defaults->size, &standard[2]);
    const bench_numbers *depth = or_default(&plan->depth, defaults->depth, &standard[3]);
    const bench_numbers *rate = or_default(&plan->rate, 0, &standard[4]);
    size_t count = conns->count * active->count * size->count * depth->count * rate->count;
    for (size_t i = 0; cells != NULL && i < count; i++) {
        size_t at = i;
        bench_job *job = &cells[i].job;
        *job = *defaults;
        job->workload = workload->name;
        job->rate = rate->value[at % rate->count], at /= rate->count;
        job->conns = conns->value[at % conns->count], at /= conns->count;
        job->active = active->value[at % active->count], at /= active->count;
        job->depth = depth->value[at % depth->count], at /= depth->count;
        job->size = size->value[at % size->count];
        if (plan->writes > 0) job->writes = plan->writes;
        if (job->active == 0 || job->active > job->conns) job->active = job->conns;
        job->seconds = plan->seconds;
        cells[i].unit = workload->unit;
        cells[i].series_count = suiting(plan, workload, NULL);
        cells[i].series = allocate(cells[i].series_count, sizeof(bench_series));
        suiting(plan, workload, cells[i].series);
    }
    return count;
}

/* ---- the head ------------------------------------------------------------------------------------ */

static const char *machine(int processors) {
    char line[256], model[128] = "unknown processor", count[16];
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "model name : %127[^\n]", model) == 1) break;
    }
    if (file != NULL) fclose(file);
    snprintf(count, sizeof count, "%d", processors);
    return format("%s, %s to use", model, count);
}

static const char *kernel(void) {
    struct utsname name;
    if (uname(&name) < 0) bench_fail("uname");
    return format("%s %s", name.sysname, name.release);
}

static const char *now_utc(void) {
    time_t now = time(NULL);
    struct tm parts;
    char *text = allocate(32, 1);
    strftime(text, 32, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &parts));
    return text;
}

static void note(bench_report *report, const char *text) {
    report->notes = realloc(report->notes, (report->note_count + 1) * sizeof *report->notes);
    if (report->notes == NULL) bench_fail("realloc");
    report->notes[report->note_count++] = text;
}

static void take_notes(bench_report *report, int processors) {
    if (processors < 2) note(report, "Load and server share one processor: rates and latencies say little.");
    if (bench_subject_find("libuv") == NULL) note(report, "libuv was not found when this was built.");
    if (bench_subject_find("libevent") == NULL) note(report, "libevent was not found when this was built.");
    if (bench_subject_find("libev") == NULL) note(report, "libev was not found when this was built.");
}

#ifdef __clang__
#define COMPILER "clang "
#else
#define COMPILER "gcc "
#endif

static bench_report *make_report(const bench_plan *plan, const char *command, int processors, progress *p) {
    bench_report *report = allocate(1, sizeof *report);
    *report = (bench_report){ .command = command, .started = now_utc(), .machine = machine(processors),
                              .kernel = kernel(), .compiler = COMPILER __VERSION__, .library = p2p_version() };
    take_notes(report, processors);
    for (size_t i = 0; i < plan->workload_count; i++) report->cell_count += cells_of(plan, plan->workloads[i], NULL);
    report->cells = allocate(report->cell_count, sizeof *report->cells);
    size_t at = 0;
    for (size_t i = 0; i < plan->workload_count; i++) at += cells_of(plan, plan->workloads[i], report->cells + at);
    for (size_t i = 0; i < report->cell_count; i++) p->runs += report->cells[i].series_count * plan->rounds;
    return report;
}

/* The child's limit too. */
static void raise_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) bench_fail("getrlimit");
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0) bench_fail("setrlimit");
}

const bench_report *bench_run(const bench_plan *plan, const char *command, void (*done)(const bench_cell *cell),
                              bool *failed) {
    raise_descriptor_limit();
    progress p = { .shown = isatty(STDERR_FILENO), .begun_ns = bench_now_ns() };
    bench_report *report = make_report(plan, command, bench_pin_load(), &p);
    for (size_t i = 0; i < report->cell_count; i++) {
        bench_cell *cell = &report->cells[i];
        const bench_workload *workload = bench_workload_find(cell->job.workload);
        for (size_t round = 0; round < plan->rounds; round++) run_round(plan, workload, cell, round, &p);
        hide(&p);
        done(cell);
        for (size_t k = 0; k < cell->series_count; k++) *failed = *failed || cell->series[k].refused != NULL;
    }
    return report;
}
