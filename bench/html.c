/* Reports as one page that needs nothing else: page/page.html with the other parts and the report's JSON put in. */
#include "page/parts.h"
#include "report.h"

#include <errno.h>
#include <string.h>

/* {{NAME}} in page.html is the file of that name, or the report. */
static const struct {
    const char *mark;
    const unsigned char *text;
    const size_t *size;
} parts[] = {
    { "{{page.css}}", bench_page_css, &bench_page_css_size },
    { "{{d3}}", bench_page_d3, &bench_page_d3_size },
    { "{{d3.LICENSE}}", bench_page_d3_licence, &bench_page_d3_licence_size },
    { "{{plot}}", bench_page_plot, &bench_page_plot_size },
    { "{{plot.LICENSE}}", bench_page_plot_licence, &bench_page_plot_licence_size },
    { "{{report.js}}", bench_page_report_js, &bench_page_report_js_size },
    { "{{plots.js}}", bench_page_plots_js, &bench_page_plots_js_size },
    { "{{table.js}}", bench_page_table_js, &bench_page_table_js_size },
    { "{{page.js}}", bench_page_js, &bench_page_js_size },
    { "{{report}}", NULL, NULL },
};

/* @return how long the mark at `text` is; 0 if there is none, and nothing was written. */
static size_t write_part(FILE *file, const bench_report *report, const char *text, size_t size) {
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        size_t length = strlen(parts[i].mark);
        if (length > size || memcmp(text, parts[i].mark, length) != 0) continue;
        if (parts[i].text != NULL)
            fwrite(parts[i].text, 1, *parts[i].size, file);
        else
            bench_write_object(file, report, false);
        return length;
    }
    return 0;
}

int bench_write_html(FILE *file, const bench_report *report) {
    const char *text = (const char *)bench_page_html, *end = text + bench_page_html_size;
    errno = 0;
    while (text < end) {
        size_t length = *text == '{' ? write_part(file, report, text, (size_t)(end - text)) : 0;
        if (length == 0) fputc(*text, file);
        text += length == 0 ? 1 : length;
    }
    return bench_written(file);
}
