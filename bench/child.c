#include "child.h"

#include "plan.h"
#include "process.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

void bench_sample_clear(bench_sample *sample) {
    for (size_t i = 0; i < BENCH_METRIC_COUNT; i++) sample->value[i] = NAN;
}

static void print(const bench_sample *sample) {
    for (size_t i = 0; i < BENCH_METRIC_COUNT; i++) {
        if (!isnan(sample->value[i])) printf("%s %.9g\n", bench_metrics[i].name, sample->value[i]);
    }
}

bool bench_child_results(int output, bench_sample *sample) {
    char name[32];
    double value;
    bool any = false;
    int copy = dup(output);
    FILE *file = copy < 0 ? NULL : fdopen(copy, "r");
    if (file == NULL) bench_fail("dup");
    while (fscanf(file, "%31s %lf", name, &value) == 2) {
        for (size_t i = 0; i < BENCH_METRIC_COUNT; i++) {
            if (strcmp(bench_metrics[i].name, name) == 0) sample->value[i] = value;
        }
        any = true;
    }
    fclose(file);
    return any;
}

int bench_child(int argc, char **argv) {
    bench_job job;
    const bench_subject *subject = argc > 0 ? bench_subject_find(argv[0]) : NULL;
    const bench_workload *workload = argc > 1 ? bench_workload_find(argv[1]) : NULL;
    if (subject == NULL || workload == NULL || !bench_job_from_words(argv + 1, argc - 1, &job) ||
        !bench_workload_suits(workload, subject)) {
        fprintf(stderr, "p2p-bench %s: for its own use\n", BENCH_CHILD);
        return 2;
    }
    bench_sample sample;
    bench_sample_clear(&sample);
    if (workload->load == NULL) {
        workload->run(&job, subject->reactor, argv[0], &sample);
    } else if (subject->echo_alone != NULL) {
        subject->echo_alone(&job, &sample);
    } else {
        (workload->is_room ? subject->broadcast : subject->echo)(argv[0], BENCH_CHILD_LISTENER);
    }
    print(&sample);
    return 0;
}
