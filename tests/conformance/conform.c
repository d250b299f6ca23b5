/*
 * p2pnet-conform: the conformance suite as a program for everybody's backends.
 *
 * Each case runs in a process of its own, which is this program again with --in-process: a case that crashes or hangs
 * has failed, and the next one begins. This process loads no plugin and makes no backend. Its standard output is TAP,
 * https://testanything.org/tap-version-13-specification.html.
 */
#include "cases.h"
#include "os_run.h"

#include <p2pnet/event_loop.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "usage: p2pnet-conform --backend NAME | --plugin FILE [--case NAME]... [--timeout SECONDS]\n"
    "       p2pnet-conform --backend NAME | --plugin FILE --in-process [--case NAME]\n"
    "       p2pnet-conform --list\n"
    "Runs the conformance suite on a backend and prints TAP version 13.\n"
    "\n"
    "  --backend NAME     one that is built in\n"
    "  --plugin FILE      a shared library that exports p2p_backend_plugin; a path with a slash in it\n"
    "  --case NAME        this case only; may be repeated\n"
    "  --timeout SECONDS  after how long a case hangs and is ended, 60 unless given\n"
    "  --in-process       run the one case in this process, for a debugger; status 77 is a skip.\n"
    "                     Without a case: only see whether the backend can be had\n"
    "  --list             print the names of the cases\n"
    "\n"
    "Exit status: 0 no case failed; 1 some case failed; 2 wrong usage, or the backend can't be had.\n";

enum { PASSED = 0, FAILED = 1, NOT_TO_BE_HAD = 2, CASES_MAX = 256 };

typedef struct options {
    const char *program, *backend, *plugin;
    bool in_process;
    unsigned timeout_s;
    const char *cases[CASES_MAX]; /* to run */
    size_t count;
} options;

static int complain(const char *what, const char *why) {
    fprintf(stderr, "p2pnet-conform: %s: %s\n", what, why);
    return NOT_TO_BE_HAD;
}

/* ---- one case, or none, in this process ---- */

static int register_plugin(options *o) {
    char reason[512];
    os_symbol symbol = os_load(o->plugin, "p2p_backend_plugin", reason, sizeof(reason));
    if (symbol == NULL) {
        return complain("no plugin", reason);
    }
    const p2p_backend_ops *ops = ((const p2p_backend_ops *(*)(void))symbol)();
    switch (p2p_backend_register(ops)) {
        case 0: o->backend = ops->name; return 0;
        case P2P_ERR_ALREADY: return complain(o->plugin, "its name is that of a built-in backend");
        default: return complain(o->plugin, "its table is missing or invalid: abi, size, name, the size of a state, a "
                                            "required function that is missing or half a group");
    }
}

/* @return 0; TEST_EXIT_SKIPPED: not on this machine; NOT_TO_BE_HAD. */
static int try_backend(const char *name) {
    p2p_event_loop_options_t loop_options = P2P_EVENT_LOOP_OPTIONS_INIT;
    loop_options.backend = name;
    p2p_event_loop_t *loop = p2p_event_loop_create_with(&loop_options);
    if (loop != NULL) {
        p2p_event_loop_free(loop);
        return 0;
    }
    int error = p2p_last_error();
    p2p_backend_report_t report;
    bool known = p2p_event_loop_backend_report(NULL, &report, 1) > 0;
    complain(name, known ? report.reason : p2p_error_message(error));
    return error == P2P_ERR_NOT_SUPPORTED ? TEST_EXIT_SKIPPED : NOT_TO_BE_HAD;
}

static int run_in_process(options *o) {
    int result = p2p_init();
    if (result != 0) {
        return complain("p2p_init", p2p_error_message(result));
    }
    result = o->plugin != NULL ? register_plugin(o) : 0;
    if (result != 0) {
        return result;
    }
    if (o->count == 0) {
        return try_backend(o->backend);
    }
    char *argv[] = { (char *)(uintptr_t)o->program, "--backend", (char *)(uintptr_t)o->backend, "--case",
                     (char *)(uintptr_t)o->cases[0], NULL };
    return conformance_main(5, argv);
}

/* ---- each case in a process of its own ---- */

static void run_child(const options *o, const char *name, os_ended *ended) {
    const char *argv[] = { o->program, o->plugin != NULL ? "--plugin" : "--backend",
                           o->plugin != NULL ? o->plugin : o->backend, "--in-process",
                           name != NULL ? "--case" : NULL, name, NULL };
    os_run(ended, argv, o->timeout_s);
}

/* Of what cmocka writes, what is about the run and not about the case. */
static bool is_framing(const char *line) {
    static const char *const prefixes[] = { "[====", "[ RUN ", "[  PASSED", "[  FAILED", " 1 FAILED TEST" };
    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
        if (strncmp(line, prefixes[i], strlen(prefixes[i])) == 0) {
            return true;
        }
    }
    return false;
}

static void print_comments(const char *output) {
    output += strspn(output, "\r\n");
    for (size_t length; *output != '\0'; output += length + strspn(output + length, "\r\n")) {
        length = strcspn(output, "\r\n");
        if (!is_framing(output)) {
            printf("# %.*s\n", (int)length, output);
        }
    }
}

static bool print_result(size_t number, const char *name, const os_ended *ended) {
    static const char mark[] = "SKIPPED: "; /* test_skip's */
    const char *output = ended->output != NULL ? ended->output : "";
    bool passed = ended->status == 0 || ended->status == TEST_EXIT_SKIPPED;
    printf("%s %u - %s", passed ? "ok" : "not ok", (unsigned)number, name);
    if (ended->status == TEST_EXIT_SKIPPED) {
        const char *reason = strstr(output, mark);
        reason = reason != NULL ? reason + strlen(mark) : "";
        printf(" # SKIP %.*s", (int)strcspn(reason, "\r\n"), reason);
    }
    putchar('\n');
    if (!passed) {
        print_comments(output);
        if (ended->how[0] != '\0') {
            printf("# %s\n", ended->how);
        } else if (ended->status != EXIT_FAILURE) { /* which is cmocka's, with words */
            printf("# exit status %d\n", ended->status);
        }
    }
    fflush(stdout); /* whoever waits sees how far it is */
    return passed;
}

/* A crash or a hang is no refusal: then the cases show it. @return 0 or what to exit with. */
static int see_whether_to_be_had(const options *o) {
    os_ended ended;
    run_child(o, NULL, &ended);
    bool refused = ended.status == NOT_TO_BE_HAD || ended.status == TEST_EXIT_SKIPPED ||
                   ended.status == OS_RUN_NOT_STARTED;
    const char *why = ended.output != NULL ? ended.output : "p2pnet-conform: no process can be started\n";
    if (refused) {
        fputs(why, stderr);
    }
    if (ended.status == TEST_EXIT_SKIPPED) {
        printf("TAP version 13\n1..0 # SKIP %.*s\n", (int)strcspn(why, "\r\n"), why);
    }
    free(ended.output);
    return refused ? NOT_TO_BE_HAD : 0;
}

static int run_all(const options *o) {
    int result = see_whether_to_be_had(o);
    if (result != 0) {
        return result;
    }
    printf("TAP version 13\n1..%u\n# p2pnet %s, %s\n", (unsigned)o->count, p2p_version(),
           o->plugin != NULL ? o->plugin : o->backend);
    for (size_t i = 0; i < o->count; i++) {
        os_ended ended;
        run_child(o, o->cases[i], &ended);
        if (!print_result(i + 1, o->cases[i], &ended)) {
            result = FAILED;
        }
        free(ended.output);
    }
    return result;
}

/* ---- the command line ---- */

static bool take_case(options *o, const char *name) {
    size_t count, i = 0;
    const struct CMUnitTest *cases = conformance_cases(&count);
    while (i < count && strcmp(cases[i].name, name) != 0) {
        i++;
    }
    if (i == count || o->count == CASES_MAX) {
        return false;
    }
    o->cases[o->count++] = cases[i].name;
    return true;
}

static bool take_timeout(options *o, const char *text) {
    char *end;
    unsigned long seconds = strtoul(text, &end, 10);
    o->timeout_s = (unsigned)seconds;
    return *end == '\0' && seconds >= 1 && seconds <= 86400;
}

/* An option and its argument. @return whether they make sense. */
static bool take(options *o, const char *name, const char *argument) {
    if (strcmp(name, "--backend") == 0) {
        o->backend = argument;
        return true;
    }
    if (strcmp(name, "--plugin") == 0) {
        o->plugin = argument;
        return true;
    }
    return (strcmp(name, "--case") == 0 && take_case(o, argument)) ||
           (strcmp(name, "--timeout") == 0 && take_timeout(o, argument));
}

static void take_all_cases(options *o) {
    const struct CMUnitTest *cases = conformance_cases(&o->count);
    for (size_t i = 0; i < o->count; i++) {
        o->cases[i] = cases[i].name;
    }
}

int main(int argc, char **argv) {
    options o = { .program = argv[0], .timeout_s = 60 };
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            fputs(help, stdout);
            return PASSED;
        }
        if (strcmp(argv[i], "--list") == 0) {
            take_all_cases(&o);
            for (size_t k = 0; k < o.count; k++) {
                puts(o.cases[k]);
            }
            return PASSED;
        }
        if (strcmp(argv[i], "--in-process") == 0) {
            o.in_process = true;
        } else if (i + 1 == argc || !take(&o, argv[i], argv[i + 1])) {
            return complain(argv[i], "not understood; see --help, and --list for the cases");
        } else {
            i++;
        }
    }
    if ((o.backend != NULL) == (o.plugin != NULL) || (o.in_process && o.count > 1)) {
        return complain("wrong usage", "one of --backend and --plugin, and at most one --case for --in-process");
    }
    if (o.in_process) {
        return run_in_process(&o);
    }
    if (o.count == 0) {
        take_all_cases(&o);
    }
    return run_all(&o);
}
