/* What a report looks like as text, CSV and JSON (bench/table.c, csv.c, json.c, words.c). */
#include "test_main.h"

#include "made_up.h"
#include "report.h"
#include "words.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static char *written;
static size_t written_size;

static FILE *begin(void) {
    FILE *file = open_memstream(&written, &written_size);
    assert_non_null(file);
    return file;
}

static void end(FILE *file) {
    assert_int_equal(fclose(file), 0);
}

static int teardown(void **state) {
    (void)state;
    free(written);
    written = NULL;
    return 0;
}

static void expect_format(double value, const char *unit, const char *expected) {
    char text[32];
    bench_format(value, unit, text, sizeof text);
    assert_string_equal(text, expected);
}

static void values_have_three_digits_and_a_unit_that_fits(void **state) {
    (void)state;
    expect_format(1234567, "1/s", "1.23 M/s");
    expect_format(812, "ns", "812 ns");
    expect_format(45.12, "us", "45.1 us");
    expect_format(999.4, "ns", "999 ns");
    expect_format(999.6, "ns", "1.00 us");
    expect_format(9.996, "us", "10.0 us");
    expect_format(1000, "B", "1000 B");
    expect_format(10240, "B", "10.0 KiB");
    expect_format(99.97, "%", "100 %");
    expect_format(2, "calls", "2.00");
    expect_format(5e12, "us", "5000000 s");
    expect_format(0, "1/s", "0.00 /s");
    expect_format(NAN, "1/s", "-");
}

static void expect_title(bench_job job, size_t rounds, const char *expected) {
    char text[256];
    bench_series series = { "a", "1", NULL, rounds, NULL };
    bench_cell cell = { job, "message", &series, 1 };
    bench_cell_title(&cell, text, sizeof text);
    assert_string_equal(text, expected);
}

static void a_title_names_the_numbers_that_are_used(void **state) {
    (void)state;
    bench_job all_active = { .workload = "echo", .conns = 100, .active = 100, .size = 64, .depth = 1, .seconds = 1 };
    expect_title(all_active, 15, "echo: 100 connections, 64 B, 1 in flight, 15 rounds of 1 s");
    expect_title((bench_job){ .workload = "echo", .conns = 1, .size = 16384, .rate = 2e4, .seconds = 0.5 }, 1,
                 "echo: 1 connection, 16 KiB, 20.0 k/s intended, 1 round of 0.5 s");
    expect_title((bench_job){ .workload = "dispatch", .conns = 9000, .active = 100, .writes = 10000, .seconds = 1 }, 2,
                 "dispatch: 9,000 pairs, 100 active, 10,000 writes, 2 rounds of 1 s");
    expect_title((bench_job){ .workload = "timers", .conns = 1000000, .seconds = 2 }, 2,
                 "timers: 1,000,000 timers, 2 rounds of 2 s");
}

static void a_table_has_a_line_a_subject_in_blocks_that_fit(void **state) {
    (void)state;
    FILE *file = begin();
    bench_print_cell(file, made_up_cell());
    end(file);
    static const char expected[] =
        "echo: 10,000 connections, 64 B, 1 in flight, 3 rounds of 1 s\n"
        "subject              rate  rate / raw                    cpu  cpu / raw            cpu_user  cpu_system\n"
        "raw              1.02 M/s  base                      1.00 us  base                   250 ns      750 ns\n"
        "epoll            1.27 M/s  1.25 (1.25 to 1.25)        800 ns  0.80 (0.80 to 0.80)    200 ns      600 ns\n"
        "libevent+gather   200 k/s  0.20 (0.10 to 0.29) wide  2.02 us  2.01 (2.01 to 2.02)    502 ns     1.51 us\n"
        "subject              p50      p99      max  syscalls\n"
        "raw              9.00 us  18.0 us   270 us      2.00\n"
        "epoll            7.50 us  15.0 us   225 us      1.50\n"
        "libevent+gather  1.00 ms  2.00 ms  30.0 ms      3.25\n"
        "io_uring         refused: disabled by kernel.io_uring_disabled\n"
        "\n";
    assert_string_equal(written, expected);
}

static void no_table_is_wider_than_a_terminal(void **state) {
    (void)state;
    FILE *file = begin();
    const bench_report *report = made_up_report();
    bench_print_head(file, report);
    for (size_t i = 0; i < report->cell_count; i++)
        if (i != 7) bench_print_cell(file, &report->cells[i]); /* which has a name with a line's end */
    end(file);
    for (char *line = strtok(written, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        assert_true(strlen(line) <= BENCH_COLUMNS);
        assert_true(line[strlen(line) - 1] != ' ');
    }
}

static void the_head_names_each_version_once(void **state) {
    (void)state;
    FILE *file = begin();
    bench_print_head(file, made_up_report());
    end(file);
    assert_non_null(strstr(written, "machine   a machine that does not exist, 2 processors\n"));
    assert_non_null(strstr(written, "note      libfoo: not found when this was built\n"));
    const char *first = strstr(written, ", libevent 2.1.12,");
    assert_non_null(first);
    assert_null(strstr(first + 1, ", libevent 2.1.12,"));
}

static void csv_has_a_line_a_value(void **state) {
    (void)state;
    FILE *file = begin();
    bench_report report = { .cells = made_up_cell(), .cell_count = 1 };
    assert_int_equal(bench_write_csv(file, &report), 0);
    end(file);
    assert_non_null(strstr(written, "workload,conns,active,size,depth,writes,rate_target,subject,version,round,metric,"
                                    "unit,value\necho,10000,0,64,1,0,0,raw,Linux,1,rate,1/s,1000000\n"));
    size_t lines = 0;
    for (const char *at = written; (at = strchr(at, '\n')) != NULL; at++) lines++;
    assert_int_equal(lines, 1 + 9 * 8 - 1); /* the heading; nine rounds of eight metrics, of which one is missing */
}

static void csv_quotes_what_has_commas_quotes_or_lines(void **state) {
    (void)state;
    FILE *file = begin();
    bench_sample sample = made_up_sample(BENCH_RATE, 1.5, BENCH_METRIC_COUNT);
    bench_series series[] = { { "a \"b\"", "1,2", &sample, 1, NULL }, { "c\nd", NULL, &sample, 1, NULL } };
    bench_cell cell = { { .workload = "echo" }, "message", series, 2 };
    bench_report report = { .cells = &cell, .cell_count = 1 };
    assert_int_equal(bench_write_csv(file, &report), 0);
    end(file);
    assert_non_null(strstr(written, ",\"a \"\"b\"\"\",\"1,2\",1,rate,1/s,1.5\n"));
    assert_non_null(strstr(written, ",\"c\nd\",,1,rate,1/s,1.5\n"));
}

static void expect_escaped(const char *text, const char *expected) {
    const char *notes[] = { text };
    bench_report report = { .notes = notes, .note_count = 1 };
    FILE *file = begin();
    assert_int_equal(bench_write_json(file, &report), 0);
    end(file);
    char member[128];
    snprintf(member, sizeof member, "\"notes\": [\"%s\"]", expected);
    assert_non_null(strstr(written, member));
    free(written);
    written = NULL;
}

static void json_escapes_what_must_not_be_in_a_string_or_a_page(void **state) {
    (void)state;
    expect_escaped("a\"b\\c", "a\\\"b\\\\c");
    expect_escaped("\x01\n\x7f", "\\u0001\\u000a\\u007f");
    expect_escaped("</script><!--", "\\u003c/script>\\u003c!--");
    expect_escaped("\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
    expect_escaped("\xe9t\xe9", "\\ufffdt\\ufffd"); /* Latin-1 */
    expect_escaped("\xc0\xaf", "\\ufffd\\ufffd");   /* too long a form */
    expect_escaped("\xe0\x80\xaf", "\\ufffd\\ufffd\\ufffd");
    expect_escaped("\xed\xa0\x80", "\\ufffd\\ufffd\\ufffd"); /* surrogate */
    expect_escaped("\xf4\x90\x80\x80", "\\ufffd\\ufffd\\ufffd\\ufffd");
    expect_escaped("\xe2\x82", "\\ufffd\\ufffd"); /* cut off */
}

static void what_cannot_be_written_is_told(void **state) {
    (void)state;
    static int (*const writers[])(FILE *, const bench_report *) = { bench_write_csv, bench_write_json,
                                                                    bench_write_html };
    for (size_t i = 0; i < COUNT_OF(writers); i++) {
        FILE *file = fopen("/dev/full", "w");
        if (file == NULL) test_skip("there is no /dev/full");
        errno = 0;
        assert_int_equal(writers[i](file, made_up_report()), -1);
        assert_int_equal(errno, ENOSPC);
        fclose(file);
    }
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        cmocka_unit_test(values_have_three_digits_and_a_unit_that_fits),
        cmocka_unit_test(a_title_names_the_numbers_that_are_used),
        cmocka_unit_test_teardown(a_table_has_a_line_a_subject_in_blocks_that_fit, teardown),
        cmocka_unit_test_teardown(no_table_is_wider_than_a_terminal, teardown),
        cmocka_unit_test_teardown(the_head_names_each_version_once, teardown),
        cmocka_unit_test_teardown(csv_has_a_line_a_value, teardown),
        cmocka_unit_test_teardown(csv_quotes_what_has_commas_quotes_or_lines, teardown),
        cmocka_unit_test_teardown(json_escapes_what_must_not_be_in_a_string_or_a_page, teardown),
        cmocka_unit_test(what_cannot_be_written_is_told),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
