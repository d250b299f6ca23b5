/*
 * Reports as JSON; report.schema.json and README.md say what is where. Text is UTF-8: a byte that is not becomes
 * U+FFFD. A "<" is written as \u003c, so that the same text may stand in a page, within <script>.
 */
#include "report.h"
#include "statistics.h"
#include "words.h"

#include <errno.h>
#include <math.h>
#include <string.h>

/* @return how many bytes at `text` are one character; 0 if they are none: cut off, too long a form, surrogate. */
static size_t character(const unsigned char *text) {
    static const unsigned char first[] = { 0x00, 0xc2, 0xe0, 0xf0 }, last[] = { 0x7f, 0xdf, 0xef, 0xf4 };
    size_t length = 0;
    while (length < 4 && !(text[0] >= first[length] && text[0] <= last[length])) length++;
    if (length++ == 4) return 0;
    for (size_t i = 1; i < length; i++)
        if ((text[i] & 0xc0) != 0x80) return 0;
    bool too_long = (text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xf0 && text[1] < 0x90);
    bool no_character = (text[0] == 0xed && text[1] > 0x9f) || (text[0] == 0xf4 && text[1] > 0x8f);
    return too_long || no_character ? 0 : length;
}

static void write_string(FILE *file, const char *string) {
    const unsigned char *text = (const unsigned char *)string;
    fputc('"', file);
    while (*text != '\0') {
        size_t length = character(text);
        if (length == 0) {
            fputs("\\ufffd", file);
            length = 1;
        } else if (*text < 0x20 || *text == 0x7f || *text == '<') {
            fprintf(file, "\\u%04x", (unsigned)*text);
        } else {
            if (*text == '"' || *text == '\\') fputc('\\', file);
            fwrite(text, 1, length, file);
        }
        text += length;
    }
    fputc('"', file);
}

/* A member that is text; null if there is none. Not the last one. */
static void write_text(FILE *file, const char *name, const char *text) {
    fprintf(file, "\"%s\": ", name);
    if (text == NULL)
        fputs("null", file);
    else
        write_string(file, text);
    fputs(", ", file);
}

static const char *yes_or_no(bool yes) {
    return yes ? "true" : "false";
}

static void write_head(FILE *file, const bench_report *report) {
    fprintf(file, "\"format\": 1,\n\"wide_above\": %g,\n", BENCH_WIDE);
    write_text(file, "command", report->command);
    write_text(file, "started", report->started);
    write_text(file, "machine", report->machine);
    write_text(file, "kernel", report->kernel);
    write_text(file, "compiler", report->compiler);
    write_text(file, "library", report->library);
    fputs("\n\"notes\": [", file);
    for (size_t i = 0; i < report->note_count; i++) {
        if (i > 0) fputs(", ", file);
        write_string(file, report->notes[i]);
    }
    fputs("],\n\"metrics\": [", file);
    for (bench_metric metric = 0; metric < BENCH_METRIC_COUNT; metric++) {
        const bench_metric_info *info = &bench_metrics[metric];
        fputs(metric > 0 ? ",\n  {" : "\n  {", file);
        write_text(file, "name", info->name);
        write_text(file, "unit", info->unit);
        write_text(file, "text", info->text);
        fprintf(file, "\"more_is_better\": %s}", yes_or_no(info->more_is_better));
    }
    fputs("],\n", file);
}

static void write_round(FILE *file, const bench_sample *sample) {
    const char *separator = "";
    fputc('{', file);
    for (bench_metric metric = 0; metric < BENCH_METRIC_COUNT; metric++) {
        if (!isfinite(sample->value[metric])) continue;
        fprintf(file, "%s\"%s\": %.7g", separator, bench_metrics[metric].name, sample->value[metric]);
        separator = ", ";
    }
    fputc('}', file);
}

static void write_rounds(FILE *file, const bench_series *series) {
    fputs("\"rounds\": [", file);
    for (size_t i = 0; i < series->round_count; i++) {
        fputs(i > 0 ? ",\n      " : "\n      ", file);
        write_round(file, &series->rounds[i]);
    }
    fputs("],\n    ", file);
}

/* The values of a series, or with a cell its ratios to the base. */
static void write_spreads(FILE *file, const char *name, const bench_cell *cell, const bench_series *series) {
    const char *separator = "";
    fprintf(file, "\"%s\": {", name);
    for (bench_metric metric = 0; metric < BENCH_METRIC_COUNT; metric++) {
        bench_spread spread = cell == NULL ? bench_values(series, metric) : bench_ratios(cell, series, metric);
        if (spread.count == 0) continue;
        fprintf(file, "%s\n      \"%s\": {\"count\": %lu, ", separator, bench_metrics[metric].name,
                (unsigned long)spread.count);
        fprintf(file, "\"median\": %.7g, \"min\": %.7g, \"max\": %.7g, \"wide\": %s}", spread.median, spread.min,
                spread.max, yes_or_no(bench_is_wide(&spread)));
        separator = ",";
    }
    fputc('}', file);
}

static void write_series(FILE *file, const bench_cell *cell, const bench_series *series, bool with_rounds) {
    fputs("\n    {", file);
    write_text(file, "subject", series->subject);
    write_text(file, "version", series->version);
    write_text(file, "refused", series->refused);
    fprintf(file, "\"round_count\": %lu,\n    ", (unsigned long)series->round_count);
    if (with_rounds) write_rounds(file, series);
    write_spreads(file, "values", NULL, series);
    fputs(",\n    ", file);
    write_spreads(file, "ratios", cell, series);
    fputc('}', file);
}

static void write_job(FILE *file, const bench_job *job) {
    bench_number numbers[BENCH_NUMBERS_MAX];
    size_t count = bench_job_numbers(job, numbers);
    fputs("\n  \"job\": {", file);
    write_text(file, "workload", job->workload);
    fprintf(file, "\"conns\": %lu, \"active\": %lu, \"size\": %lu, \"depth\": %lu, \"writes\": %lu, ",
            (unsigned long)job->conns, (unsigned long)job->active, (unsigned long)job->size, (unsigned long)job->depth,
            (unsigned long)job->writes);
    fprintf(file, "\"rate_target\": %.7g, \"seconds\": %.7g},\n  \"numbers\": [", job->rate, job->seconds);
    for (size_t i = 0; i < count; i++) {
        fputs(i > 0 ? ", {" : "{", file);
        write_text(file, "name", numbers[i].name);
        write_text(file, "label", numbers[i].label);
        write_text(file, "text", numbers[i].text);
        fprintf(file, "\"value\": %.7g}", numbers[i].value);
    }
    fputs("],", file);
}

static void write_cell(FILE *file, const bench_cell *cell, bool with_rounds) {
    char title[256];
    bench_cell_title(cell, title, sizeof title);
    fputs("\n {", file);
    write_text(file, "title", title);
    write_text(file, "unit", cell->unit);
    write_job(file, &cell->job);
    fputs("\n  \"series\": [", file);
    for (size_t i = 0; i < cell->series_count; i++) {
        if (i > 0) fputc(',', file);
        write_series(file, cell, &cell->series[i], with_rounds);
    }
    fputs("]}", file);
}

void bench_write_object(FILE *file, const bench_report *report, bool with_rounds) {
    fputs("{\n", file);
    write_head(file, report);
    fputs("\"cells\": [", file);
    for (size_t i = 0; i < report->cell_count; i++) {
        if (i > 0) fputc(',', file);
        write_cell(file, &report->cells[i], with_rounds);
    }
    fputs("]\n}\n", file);
}

int bench_write_json(FILE *file, const bench_report *report) {
    errno = 0;
    bench_write_object(file, report, true);
    return bench_written(file);
}
