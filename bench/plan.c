#include "plan.h"

#include "subjects.h"
#include "workloads.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const bench_workload bench_workloads[] = {
    { "echo", "message", "each message goes back to its sender; --depth of them in flight, or --rate a second",
      { .conns = 100, .size = 64, .depth = 1 }, .load = bench_load_echo },
    { "broadcast", "delivery", "a room of --conns members: each message goes to all of them",
      { .conns = 100, .size = 64, .depth = 1 }, .load = bench_load_broadcast, .is_room = true },
    { "idle", "message", "as echo, but only --active of --conns connections talk; bytes of memory a connection",
      { .conns = 10000, .active = 100, .size = 64, .depth = 1 }, .load = bench_load_echo },
    { "accept", "connection", "connections come, carry one message and are reset, --conns at a time",
      { .conns = 64, .size = 64, .depth = 1 }, .load = bench_load_accept },
    { "dispatch", "event", "of --conns pairs of sockets, --active get a byte, which is passed on --writes times",
      { .conns = 100, .active = 1, .writes = 100 }, .run = bench_run_dispatch },
    { "timers", "timer", "--conns timers are started, restarted, stopped; then fired",
      { .conns = 1000000 }, .run = bench_run_timers },
    { "post", "task", "--conns tasks handed over by another thread as fast as it can",
      { .conns = 1000000 }, .run = bench_run_post, .has_threads = true },
    { "wake", "task", "one task at a time from another thread to a loop that sleeps, and back",
      { .conns = 1 }, .run = bench_run_wake, .has_threads = true },
};
const size_t bench_workload_count = COUNT_OF(bench_workloads);

const bench_workload *bench_workload_find(const char *name) {
    for (size_t i = 0; i < bench_workload_count; i++) {
        if (strcmp(bench_workloads[i].name, name) == 0) return &bench_workloads[i];
    }
    return NULL;
}

bool bench_workload_suits(const bench_workload *workload, const bench_subject *subject) {
    const bench_reactor *reactor = subject->reactor;
    if (workload->load == bench_load_echo && subject->echo_alone != NULL) return true;
    if (workload->load != NULL) return (workload->is_room ? subject->broadcast : subject->echo) != NULL;
    if (reactor == NULL) return false;
    if (workload->run == bench_run_timers) return reactor->timer != NULL;
    return workload->run == bench_run_dispatch || reactor->post != NULL;
}

/* ---- the command line ---------------------------------------------------------------------------- */

static const char usage[] =
    "p2p-bench [WORKLOAD...] [option...]\n"
    "\n"
    "  --backend NAME,NAME|all|none  the library on these backends (all)\n"
    "  --peer NAME,NAME|all|none     and these others (none)\n"
    "  --base NAME           what the ratios refer to (raw, or the first)\n"
    "  --conns N,N           how many: connections, members, pairs, timers, tasks\n"
    "  --active N,N          of these, how many have something to do (all)\n"
    "  --size N,N            bytes of a message (64)\n"
    "  --depth N,N           messages in flight a connection (1)\n"
    "  --rate N,N            open loop: messages a second of all together\n"
    "  --writes N            dispatch: how often a byte is passed on (100)\n"
    "  --seconds S           how long a run is measured (1)\n"
    "  --runs N              rounds, in each of which all take their turn (5)\n"
    "  --syscalls            count system calls, too, by strace, in a further part of each run\n"
    "  --csv FILE, --json FILE, --html FILE\n"
    "  --list                workloads and subjects of this build\n"
    "\n"
    "Lists of numbers: each combination is measured. bench/README.md says how to read the results.\n";

static _Noreturn void refuse(const char *what, const char *word) {
    fprintf(stderr, "p2p-bench: %s: %s (--help lists all)\n", what, word);
    exit(2);
}

static uint32_t read_number(const char *word, const char *option) {
    char *end;
    errno = 0;
    unsigned long value = strtoul(word, &end, 10);
    if (word[0] < '0' || word[0] > '9' || *end != '\0' || errno != 0 || value == 0 || value > 1000000000)
        refuse(option, "a number from 1 to 1000000000 is needed");
    return (uint32_t)value;
}

static void read_numbers(bench_numbers *numbers, char *words, const char *option) {
    numbers->count = 0;
    for (char *word = strtok(words, ","); word != NULL; word = strtok(NULL, ",")) {
        if (numbers->count == BENCH_LIST_MAX) refuse(option, "too many numbers");
        numbers->value[numbers->count++] = read_number(word, option);
    }
    if (numbers->count == 0) refuse(option, "a number is needed");
}

static void add_subject(bench_plan *plan, const char *name) {
    for (size_t i = 0; i < plan->subject_count; i++) {
        if (strcmp(plan->subjects[i], name) == 0) return;
    }
    if (plan->subject_count == BENCH_LIST_MAX) refuse("subjects", "too many");
    plan->subjects[plan->subject_count++] = name;
}

typedef size_t names_function(const char **names, size_t capacity);

/* `words`: "all", "none" or names out of those. */
static void add_subjects(bench_plan *plan, char *words, names_function *those, const char *option) {
    const char *known[BENCH_LIST_MAX];
    size_t count = those(known, BENCH_LIST_MAX);
    if (strcmp(words, "none") == 0) return;
    bool all = strcmp(words, "all") == 0;
    for (size_t i = 0; all && i < count; i++) add_subject(plan, known[i]);
    for (char *word = all ? NULL : strtok(words, ","); word != NULL; word = strtok(NULL, ",")) {
        bool found = false;
        for (size_t i = 0; i < count; i++) found = found || strcmp(known[i], word) == 0;
        if (!found) refuse(option, word);
        add_subject(plan, word);
    }
}

static void set_base(bench_plan *plan, const char *name) {
    for (size_t i = 0; i < plan->subject_count; i++) {
        if (strcmp(plan->subjects[i], name) != 0) continue;
        memmove(&plan->subjects[1], &plan->subjects[0], i * sizeof plan->subjects[0]);
        plan->subjects[0] = name;
        return;
    }
    if (strcmp(name, "raw") != 0) refuse("--base", name);
}

static void list_all(void) {
    const char *names[BENCH_LIST_MAX];
    printf("workloads\n");
    for (size_t i = 0; i < bench_workload_count; i++) {
        printf("  %-10s %s\n", bench_workloads[i].name, bench_workloads[i].text);
    }
    printf("backends\n ");
    size_t count = bench_backend_names(names, BENCH_LIST_MAX);
    for (size_t i = 0; i < count; i++) printf(" %s", names[i]);
    printf("\npeers\n ");
    count = bench_peer_names(names, BENCH_LIST_MAX);
    for (size_t i = 0; i < count; i++) printf(" %s", names[i]);
    printf("\n");
}

enum { BACKEND = 256, PEER, BASE, CONNS, ACTIVE, SIZE, DEPTH, RATE, WRITES, SECONDS, RUNS, SYSCALLS, CSV, JSON, HTML,
       LIST };

static const struct option options[] = {
    { "backend", required_argument, NULL, BACKEND }, { "peer", required_argument, NULL, PEER },
    { "base", required_argument, NULL, BASE },       { "conns", required_argument, NULL, CONNS },
    { "active", required_argument, NULL, ACTIVE },   { "size", required_argument, NULL, SIZE },
    { "depth", required_argument, NULL, DEPTH },     { "rate", required_argument, NULL, RATE },
    { "writes", required_argument, NULL, WRITES },   { "seconds", required_argument, NULL, SECONDS },
    { "runs", required_argument, NULL, RUNS },       { "syscalls", no_argument, NULL, SYSCALLS },
    { "csv", required_argument, NULL, CSV },         { "json", required_argument, NULL, JSON },
    { "html", required_argument, NULL, HTML },       { "list", no_argument, NULL, LIST },
    { "help", no_argument, NULL, 'h' },              { 0 },
};

static double read_seconds(const char *word) {
    char *end;
    double seconds = strtod(word, &end);
    if (end == word || *end != '\0' || !(seconds >= 0.001 && seconds <= 3600))
        refuse("--seconds", "a number from 0.001 to 3600 is needed");
    return seconds;
}

typedef struct choice {
    char *backends, *peers;
    const char *base;
} choice;

static void read_option(bench_plan *plan, choice *chosen, int option) {
    switch (option) {
    case BACKEND: chosen->backends = optarg; break;
    case PEER: chosen->peers = optarg; break;
    case BASE: chosen->base = optarg; break;
    case CONNS: read_numbers(&plan->conns, optarg, "--conns"); break;
    case ACTIVE: read_numbers(&plan->active, optarg, "--active"); break;
    case SIZE: read_numbers(&plan->size, optarg, "--size"); break;
    case DEPTH: read_numbers(&plan->depth, optarg, "--depth"); break;
    case RATE: read_numbers(&plan->rate, optarg, "--rate"); break;
    case WRITES: plan->writes = read_number(optarg, "--writes"); break;
    case SECONDS: plan->seconds = read_seconds(optarg); break;
    case RUNS: plan->rounds = read_number(optarg, "--runs"); break;
    case SYSCALLS: plan->count_syscalls = true; break;
    case CSV: plan->csv = optarg; break;
    case JSON: plan->json = optarg; break;
    case HTML: plan->html = optarg; break;
    case LIST: list_all(); exit(0);
    case 'h': fputs(usage, stdout); exit(0);
    default: fputs(usage, stderr); exit(2);
    }
}

void bench_plan_read(bench_plan *plan, int argc, char **argv) {
    static char all[] = "all", none[] = "none";
    choice chosen = { .backends = all, .peers = none, .base = "raw" };
    *plan = (bench_plan){ .seconds = 1, .rounds = 5 };
    for (int option; (option = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        read_option(plan, &chosen, option);
    }
    add_subjects(plan, chosen.backends, bench_backend_names, "--backend");
    add_subjects(plan, chosen.peers, bench_peer_names, "--peer");
    if (plan->subject_count == 0) refuse("--backend, --peer", "none");
    set_base(plan, chosen.base);
    for (int i = optind; i < argc; i++) {
        const bench_workload *workload = bench_workload_find(argv[i]);
        if (workload == NULL) refuse("unknown workload", argv[i]);
        if (plan->workload_count == BENCH_LIST_MAX) refuse("workloads", "too many");
        plan->workloads[plan->workload_count++] = workload;
    }
    if (plan->workload_count == 0) plan->workloads[plan->workload_count++] = bench_workload_find("echo");
}
