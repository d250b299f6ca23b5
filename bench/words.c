/* How a job is called, and how a value is written. */
#include "words.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* What a job's `conns` are, where they are not connections. */
static const char *counted(const char *workload) {
    static const struct {
        const char *workload, *what;
    } known[] = { { "broadcast", "members" }, { "accept", "at a time" }, { "dispatch", "pairs" },
                  { "timers", "timers" },     { "post", "tasks" },       { "wake", "tasks" } };
    for (size_t i = 0; i < COUNT_OF(known); i++)
        if (strcmp(known[i].workload, workload) == 0) return known[i].what;
    return "connections";
}

/* 10000 as 10,000 */
static void format_count(uint32_t count, char text[16]) {
    char digits[16];
    size_t length = (size_t)snprintf(digits, sizeof digits, "%lu", (unsigned long)count), out = 0;
    for (size_t i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0) text[out++] = ',';
        text[out++] = digits[i];
    }
    text[out] = '\0';
}

static void add(bench_number *numbers, size_t *count, const char *name, const char *label, uint32_t value,
                const char *what) {
    char text[16];
    if (value == 0) return;
    bench_number *number = &numbers[(*count)++];
    *number = (bench_number){ .name = name, .label = label, .value = value };
    format_count(value, text);
    int length = (int)strlen(what) - (value == 1 && what[strlen(what) - 1] == 's'); /* 1 connection */
    snprintf(number->text, sizeof number->text, "%s %.*s", text, length, what);
}

size_t bench_job_numbers(const bench_job *job, bench_number numbers[BENCH_NUMBERS_MAX]) {
    size_t count = 0;
    const char *what = counted(job->workload);
    add(numbers, &count, "conns", what, job->conns, what);
    if (job->active != job->conns) add(numbers, &count, "active", "active", job->active, "active");
    bool whole = job->size >= 1024 && job->size % 1024 == 0;
    add(numbers, &count, "size", "bytes of payload", job->size, "B");
    if (whole) snprintf(numbers[count - 1].text, sizeof numbers->text, "%lu KiB", (unsigned long)job->size / 1024);
    add(numbers, &count, "depth", "in flight", job->depth, "in flight");
    add(numbers, &count, "writes", "writes", job->writes, "writes");
    if (job->rate > 0) {
        char rate[24];
        bench_number *number = &numbers[count++];
        *number = (bench_number){ .name = "rate_target", .label = "intended a second", .value = job->rate };
        bench_format(job->rate, "1/s", rate, sizeof rate);
        snprintf(number->text, sizeof number->text, "%s intended", rate);
    }
    return count;
}

/* Series that were refused have no rounds, and one that failed may have fewer. */
static size_t most_rounds(const bench_cell *cell) {
    size_t most = 0;
    for (size_t i = 0; i < cell->series_count; i++)
        if (cell->series[i].round_count > most) most = cell->series[i].round_count;
    return most;
}

void bench_cell_title(const bench_cell *cell, char *text, size_t size) {
    bench_number numbers[BENCH_NUMBERS_MAX];
    size_t count = bench_job_numbers(&cell->job, numbers), rounds = most_rounds(cell);
    int used = snprintf(text, size, "%s: ", cell->job.workload);
    for (size_t i = 0; i < count && (size_t)used < size; i++)
        used += snprintf(text + used, size - (size_t)used, "%s, ", numbers[i].text);
    if ((size_t)used >= size) return;
    snprintf(text + used, size - (size_t)used, "%lu round%s of %g s", (unsigned long)rounds, rounds == 1 ? "" : "s",
             cell->job.seconds);
}

typedef struct scale {
    const char *unit;
    double step;          /* from one name to the next */
    const char *names[6]; /* ends with NULL; the last one is for all that is larger */
} scale;

static const scale scales[] = {
    { "1/s", 1000, { "/s", "k/s", "M/s", "G/s" } },
    { "ns", 1000, { "ns", "us", "ms", "s" } },
    { "us", 1000, { "us", "ms", "s" } },
    { "B", 1024, { "B", "KiB", "MiB", "GiB" } },
    { "%", 1000, { "%" } },
    { "calls", 1000, { "" } },
};

static int decimals(double value) {
    return value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
}

void bench_format(double value, const char *unit, char *text, size_t size) {
    const char *const *name = (const char *const[]){ unit, NULL };
    double step = 1000;
    if (!isfinite(value)) {
        snprintf(text, size, "-");
        return;
    }
    for (size_t i = 0; i < COUNT_OF(scales); i++) {
        if (strcmp(scales[i].unit, unit) != 0) continue;
        name = scales[i].names;
        step = scales[i].step;
    }
    for (; value >= step - 0.5 && name[1] != NULL; name++) value /= step;
    snprintf(text, size, "%.*f%s%s", decimals(value), value, name[0][0] == '\0' ? "" : " ", name[0]);
}
