/*
 * p2p-bench: the library's backends against each other, and against others. See bench/README.md.
 */
#include "child.h"
#include "plan.h"
#include "process.h"
#include "report.h"
#include "run.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *join(int argc, char **argv) {
    size_t size = 1;
    for (int i = 0; i < argc; i++) size += strlen(argv[i]) + 1;
    char *line = calloc(size, 1);
    if (line == NULL) bench_fail("calloc");
    for (int i = 0; i < argc; i++) {
        if (i > 0) strcat(line, " ");
        strcat(line, argv[i]);
    }
    return line;
}

static void print_cell(const bench_cell *cell) {
    bench_print_cell(stdout, cell);
    fflush(stdout);
}

/* @return 0; 1 if it could not be written. NULL: not asked for. */
static int write_file(const char *name, int (*write)(FILE *file, const bench_report *report),
                      const bench_report *report) {
    if (name == NULL) return 0;
    FILE *file = fopen(name, "w");
    int result = file != NULL ? write(file, report) : -1;
    if (file != NULL && fclose(file) != 0) result = -1;
    if (result != 0) fprintf(stderr, "p2p-bench: %s: %s\n", name, strerror(errno));
    return result != 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], BENCH_CHILD) == 0) {
        int status = bench_child(argc - 2, argv + 2);
        fflush(stdout);
        _exit(status); /* subjects have no way to end, and leave what they have to the system */
    }
    static const bench_report *report; /* static: kept to the end, and no leak */
    static char *command;
    bench_plan plan;
    bool failed = false;
    command = join(argc, argv);
    bench_plan_read(&plan, argc, argv);
    report = bench_run(&plan, command, print_cell, &failed);
    bench_print_head(stdout, report);
    int unwritten = write_file(plan.csv, bench_write_csv, report) + write_file(plan.json, bench_write_json, report) +
                    write_file(plan.html, bench_write_html, report);
    return failed || unwritten > 0;
}
