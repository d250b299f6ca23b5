/* The files that a page is made of, as embed.cmake puts them into the program. */
#ifndef P2P_BENCH_PAGE_PARTS_H
#define P2P_BENCH_PAGE_PARTS_H

#include <stddef.h>

extern const unsigned char bench_page_html[], bench_page_css[], bench_page_js[], bench_page_report_js[],
    bench_page_plots_js[], bench_page_table_js[], bench_page_d3[], bench_page_d3_licence[], bench_page_plot[],
    bench_page_plot_licence[];
extern const size_t bench_page_html_size, bench_page_css_size, bench_page_js_size, bench_page_report_js_size,
    bench_page_plots_js_size, bench_page_table_js_size, bench_page_d3_size, bench_page_d3_licence_size,
    bench_page_plot_size, bench_page_plot_licence_size;

#endif
