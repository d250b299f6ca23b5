/* Numbers in words, for tables, headings and axes. */
#ifndef P2P_BENCH_WORDS_H
#define P2P_BENCH_WORDS_H

#include "bench.h"

/* One of the numbers that describe a job. */
typedef struct bench_number {
    const char *name;  /* as in bench_job */
    const char *label; /* of an axis: "connections" */
    double value;
    char text[48]; /* "100 connections" */
} bench_number;

#define BENCH_NUMBERS_MAX 6

/* @return how many of them the job uses: those that are not 0, and `active` only if it is not all of them. */
size_t bench_job_numbers(const bench_job *job, bench_number numbers[BENCH_NUMBERS_MAX]);

/* "echo: 100 connections, 64 B, 1 in flight, 15 rounds of 1 s" */
void bench_cell_title(const bench_cell *cell, char *text, size_t size);

/* Three digits and a unit that fits: 1.23 M/s, 812 ns, 45.1 us. "-" if the value is not finite. */
void bench_format(double value, const char *unit, char *text, size_t size);

#endif
