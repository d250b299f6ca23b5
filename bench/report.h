/*
 * What a report becomes: text on a terminal, CSV, JSON, and a page for a browser. All of it is described in README.md.
 * These functions only read the report, and allocate nothing.
 *
 * A number of a job that its workload does not use is 0. What is not finite counts as not measured.
 */
#ifndef P2P_BENCH_REPORT_H
#define P2P_BENCH_REPORT_H

#include "bench.h"

#include <stdio.h>

/* Machine, versions, command, and the notes that there are by now. Versions of subjects: those of the cells. */
void bench_print_head(FILE *file, const bench_report *report);

/* A table of at most BENCH_COLUMNS columns, to be printed when a cell is done. */
#define BENCH_COLUMNS 120
void bench_print_cell(FILE *file, const bench_cell *cell);

/* @return 0; -1 with errno when not all of it could be written. The file is flushed. */
int bench_write_csv(FILE *file, const bench_report *report);
int bench_write_json(FILE *file, const bench_report *report);
int bench_write_html(FILE *file, const bench_report *report);

/* What they share: the result, and the report as a JSON object, which a page has without the single rounds. */
int bench_written(FILE *file);
void bench_write_object(FILE *file, const bench_report *report, bool with_rounds);

#endif
