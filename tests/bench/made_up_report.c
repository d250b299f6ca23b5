/*
 * made_up_report DIRECTORY: writes report.csv, report.json and report.html, and corners.json and corners.html of a
 * report that has little of everything; prints what a terminal would get of both.
 */
#include "made_up.h"
#include "report.h"

#include <stdlib.h>

typedef int write_format(FILE *file, const bench_report *report);

static void write_to(const char *directory, const char *name, const bench_report *report, write_format *write_it) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "wb");
    if (file == NULL || write_it(file, report) != 0 || fclose(file) != 0) {
        perror(path);
        exit(EXIT_FAILURE);
    }
}

static void print(const bench_report *report) {
    bench_print_head(stdout, report);
    for (size_t i = 0; i < report->cell_count; i++) bench_print_cell(stdout, &report->cells[i]);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
        return EXIT_FAILURE;
    }
    const bench_report *report = made_up_report(), *corners = made_up_corners();
    write_to(argv[1], "report.csv", report, bench_write_csv);
    write_to(argv[1], "report.json", report, bench_write_json);
    write_to(argv[1], "report.html", report, bench_write_html);
    write_to(argv[1], "corners.json", corners, bench_write_json);
    write_to(argv[1], "corners.html", corners, bench_write_html);
    print(report);
    print(corners);
    return EXIT_SUCCESS;
}
