#include "span.h"

#include <sys/resource.h>

static double ns_of(struct timeval time) {
    return (double)time.tv_sec * 1e9 + (double)time.tv_usec * 1e3;
}

bench_span bench_span_begin(int whose) {
    struct rusage usage;
    if (getrusage(whose, &usage) < 0) bench_fail("getrusage");
    return (bench_span){ whose, bench_now_ns(), ns_of(usage.ru_utime), ns_of(usage.ru_stime) };
}

void bench_span_report(const bench_span *begin, double count, bench_sample *sample) {
    bench_span end = bench_span_begin(begin->whose);
    double elapsed_ns = (double)(end.at_ns - begin->at_ns);
    double user_ns = end.user_ns - begin->user_ns, system_ns = end.system_ns - begin->system_ns;
    sample->value[BENCH_RATE] = count * 1e9 / elapsed_ns;
    sample->value[BENCH_CPU] = (user_ns + system_ns) / count;
    sample->value[BENCH_CPU_USER] = user_ns / count;
    sample->value[BENCH_CPU_SYSTEM] = system_ns / count;
    sample->value[BENCH_BUSY] = (user_ns + system_ns) * 100 / elapsed_ns;
}
