/*
 * Reports as text. A table has a line a subject; columns that don't fit a terminal's width go on in a second block,
 * where what belongs together stays together.
 */
#include "report.h"
#include "statistics.h"
#include "words.h"

#include <string.h>

enum { CELL_MAX = 64, MARGIN = 2, COLUMNS_MAX = BENCH_METRIC_COUNT + 2 };

typedef struct table_column {
    bench_metric metric;
    bool ratio; /* to the base */
    size_t width;
} table_column;

static bool has_values(const bench_cell *cell, bench_metric metric) {
    for (size_t i = 0; i < cell->series_count; i++)
        if (bench_values(&cell->series[i], metric).count > 0) return true;
    return false;
}

static bool has_ratios(const bench_cell *cell, bench_metric metric) {
    if (metric != BENCH_RATE && metric != BENCH_CPU) return false;
    for (size_t i = 1; i < cell->series_count; i++)
        if (bench_ratios(cell, &cell->series[i], metric).count > 0) return true;
    return false;
}

static void format_ratio(const bench_spread *ratios, char text[CELL_MAX]) {
    int digits = ratios->median < 0.1 ? 3 : 2;
    if (ratios->count == 1)
        snprintf(text, CELL_MAX, "%.*f (one round)", digits, ratios->median);
    else
        snprintf(text, CELL_MAX, "%.*f (%.*f to %.*f)", digits, ratios->median, digits, ratios->min, digits,
                 ratios->max);
}

static void text_of(const bench_cell *cell, const bench_series *series, const table_column *column,
                    char text[CELL_MAX]) {
    if (!column->ratio) {
        bench_format(bench_values(series, column->metric).median, bench_metrics[column->metric].unit, text, CELL_MAX);
        return;
    }
    bench_spread ratios = bench_ratios(cell, series, column->metric);
    bench_spread judged = bench_judged(cell, series, column->metric);
    snprintf(text, CELL_MAX, "-");
    if (ratios.count > 0 && series != &cell->series[0]) format_ratio(&ratios, text);
    if (ratios.count > 0 && series == &cell->series[0]) snprintf(text, CELL_MAX, "base");
    if (bench_is_wide(&judged)) snprintf(text + strlen(text), CELL_MAX - strlen(text), " wide");
}

static void heading_of(const bench_cell *cell, const table_column *column, char text[CELL_MAX]) {
    const char *name = bench_metrics[column->metric].name;
    if (column->ratio)
        snprintf(text, CELL_MAX, "%s / %s", name, cell->series[0].subject);
    else
        snprintf(text, CELL_MAX, "%s", name);
}

static void add_column(const bench_cell *cell, table_column *columns, size_t *count, bench_metric metric, bool ratio) {
    table_column *added = &columns[(*count)++];
    char text[CELL_MAX];
    *added = (table_column){ .metric = metric, .ratio = ratio };
    heading_of(cell, added, text);
    added->width = strlen(text);
    for (size_t i = 0; i < cell->series_count; i++) {
        if (cell->series[i].refused != NULL) continue;
        text_of(cell, &cell->series[i], added, text);
        if (strlen(text) > added->width) added->width = strlen(text);
    }
}

static size_t find_columns(const bench_cell *cell, table_column columns[COLUMNS_MAX]) {
    size_t count = 0;
    for (bench_metric metric = 0; metric < BENCH_METRIC_COUNT; metric++) {
        if (has_values(cell, metric)) add_column(cell, columns, &count, metric, false);
        if (has_ratios(cell, metric)) add_column(cell, columns, &count, metric, true);
    }
    return count;
}

/* Speed and processor; latencies; what a message or a connection takes; timers. */
static int group_of(const table_column *column) {
    return (column->metric >= BENCH_P50) + (column->metric >= BENCH_SYSCALLS) + (column->metric >= BENCH_ADD);
}

/* @return how many of the columns go into one block: at least one, and whole groups if they fit by themselves. */
static size_t block_of(const table_column *columns, size_t count, size_t width) {
    size_t fitting = 0;
    while (fitting < count && width + MARGIN + columns[fitting].width <= BENCH_COLUMNS)
        width += MARGIN + columns[fitting++].width;
    if (fitting == count) return count;
    size_t whole = fitting;
    while (whole > 0 && group_of(&columns[whole - 1]) == group_of(&columns[fitting])) whole--;
    return whole > 0 ? whole : fitting > 0 ? fitting : 1;
}

/* Numbers end below each other, and ratios begin below each other. Nothing is at the end of a line but its text. */
static void print_aligned(FILE *file, const char *text, const table_column *column, bool last) {
    int width = (int)column->width;
    if (!column->ratio)
        fprintf(file, "%*s%*s", MARGIN, "", width, text);
    else
        fprintf(file, "%*s%-*s", MARGIN, "", last ? 0 : width, text);
}

static void print_block(FILE *file, const bench_cell *cell, const table_column *columns, size_t count, int width) {
    char text[CELL_MAX];
    fprintf(file, "%-*s", width, "subject");
    for (size_t i = 0; i < count; i++) {
        heading_of(cell, &columns[i], text);
        print_aligned(file, text, &columns[i], i + 1 == count);
    }
    fputc('\n', file);
    for (size_t k = 0; k < cell->series_count; k++) {
        if (cell->series[k].refused != NULL) continue;
        fprintf(file, "%-*s", width, cell->series[k].subject);
        for (size_t i = 0; i < count; i++) {
            text_of(cell, &cell->series[k], &columns[i], text);
            print_aligned(file, text, &columns[i], i + 1 == count);
        }
        fputc('\n', file);
    }
}

void bench_print_cell(FILE *file, const bench_cell *cell) {
    table_column columns[COLUMNS_MAX];
    size_t count = find_columns(cell, columns), width = strlen("subject");
    char title[256];
    bench_cell_title(cell, title, sizeof title);
    fprintf(file, "%s\n", title);
    for (size_t i = 0; i < cell->series_count; i++)
        if (strlen(cell->series[i].subject) > width) width = strlen(cell->series[i].subject);
    for (size_t done = 0, block; done < count; done += block) {
        block = block_of(columns + done, count - done, width);
        print_block(file, cell, columns + done, block, (int)width);
    }
    for (size_t i = 0; i < cell->series_count; i++) {
        const bench_series *series = &cell->series[i];
        if (series->refused != NULL) fprintf(file, "%-*s  refused: %s\n", (int)width, series->subject, series->refused);
    }
    fputc('\n', file);
}

static bool seen_before(const bench_report *report, size_t cell, const char *subject) {
    for (size_t i = 0; i < cell; i++)
        for (size_t k = 0; k < report->cells[i].series_count; k++)
            if (strcmp(report->cells[i].series[k].subject, subject) == 0) return true;
    return false;
}

/* The subjects with their versions, each once, in lines that fit. */
static void print_versions(FILE *file, const bench_report *report) {
    char text[128];
    size_t column = 0;
    for (size_t i = 0; i < report->cell_count; i++) {
        for (size_t k = 0; k < report->cells[i].series_count; k++) {
            const bench_series *series = &report->cells[i].series[k];
            if (series->version == NULL || seen_before(report, i, series->subject)) continue;
            snprintf(text, sizeof text, "%s %s", series->subject, series->version);
            bool fits = column + 2 + strlen(text) <= BENCH_COLUMNS;
            fputs(column == 0 ? "subjects  " : fits ? ", " : ",\n          ", file);
            column = (column == 0 || !fits ? strlen("subjects  ") : column + 2) + strlen(text);
            fputs(text, file);
        }
    }
    if (column > 0) fputc('\n', file);
}

void bench_print_head(FILE *file, const bench_report *report) {
    fprintf(file, "command   %s\nstarted   %s\nmachine   %s\nkernel    %s\ncompiler  %s\nlibrary   %s\n",
            report->command, report->started, report->machine, report->kernel, report->compiler, report->library);
    print_versions(file, report);
    for (size_t i = 0; i < report->note_count; i++) fprintf(file, "note      %s\n", report->notes[i]);
    fputc('\n', file);
}
