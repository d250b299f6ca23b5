/* Reports as CSV, in long form: a line a value. Fields are quoted as RFC 4180 has it; lines end with LF alone. */
#include "report.h"

#include <errno.h>
#include <math.h>
#include <string.h>

int bench_written(FILE *file) {
    if (fflush(file) == 0 && !ferror(file)) return 0;
    if (errno == 0) errno = EIO;
    return -1;
}

static void write_field(FILE *file, const char *text) {
    if (text == NULL) text = "";
    bool quoted = strpbrk(text, ",\"\r\n") != NULL;
    if (quoted) fputc('"', file);
    for (; *text != '\0'; text++) {
        if (*text == '"') fputc('"', file);
        fputc(*text, file);
    }
    if (quoted) fputc('"', file);
    fputc(',', file);
}

static void write_job(FILE *file, const bench_job *job) {
    write_field(file, job->workload);
    fprintf(file, "%lu,%lu,%lu,%lu,%lu,%.7g,", (unsigned long)job->conns, (unsigned long)job->active,
            (unsigned long)job->size, (unsigned long)job->depth, (unsigned long)job->writes, job->rate);
}

static void write_round(FILE *file, const bench_job *job, const bench_series *series, size_t round) {
    for (bench_metric metric = 0; metric < BENCH_METRIC_COUNT; metric++) {
        double value = series->rounds[round].value[metric];
        if (!isfinite(value)) continue;
        write_job(file, job);
        write_field(file, series->subject);
        write_field(file, series->version);
        fprintf(file, "%lu,", (unsigned long)round + 1);
        write_field(file, bench_metrics[metric].name);
        write_field(file, bench_metrics[metric].unit);
        fprintf(file, "%.7g\n", value);
    }
}

int bench_write_csv(FILE *file, const bench_report *report) {
    errno = 0;
    fputs("workload,conns,active,size,depth,writes,rate_target,subject,version,round,metric,unit,value\n", file);
    for (size_t i = 0; i < report->cell_count; i++) {
        const bench_cell *cell = &report->cells[i];
        for (size_t k = 0; k < cell->series_count; k++)
            for (size_t round = 0; round < cell->series[k].round_count; round++)
                write_round(file, &cell->job, &cell->series[k], round);
    }
    return bench_written(file);
}
