/* The command line of every test program: lists the cases, runs one or all, tells CTest what was skipped. */
#include "test_main.h"

#include "os.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *backend_name;
static const struct CMUnitTest *current;
static bool set_up;
static bool skipped;

const char *test_backend(void) {
    return backend_name;
}

void test_skip(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("SKIPPED: ", stdout);
    vprintf(format, arguments);
    putchar('\n');
    fflush(stdout);
    va_end(arguments);
    skipped = true;
    skip();
    abort(); /* not reached: skip() leaves by longjmp */
}

/* cmocka takes a skip in a setup function for a failure, so the setup runs as the first part of the test. */
static void run_case(void **state) {
    current = *state;
    *state = current->initial_state;
    set_up = false;
    const char *objection = test_objection(current->name);
    if (objection != NULL) test_skip("%s", objection);
    if (current->setup_func != NULL && current->setup_func(state) != 0) fail_msg("the setup failed");
    set_up = true;
    current->test_func(state);
}

static int tear_down(void **state) {
    return set_up && current->teardown_func != NULL ? current->teardown_func(state) : 0;
}

static int run_cases(const char *program, const struct CMUnitTest *cases, size_t count) {
    struct CMUnitTest *wrapped = calloc(count, sizeof *wrapped);
    if (wrapped == NULL) return EXIT_FAILURE;
    for (size_t i = 0; i < count; i++) {
        wrapped[i].name = cases[i].name;
        wrapped[i].test_func = run_case;
        wrapped[i].teardown_func = tear_down;
        wrapped[i].initial_state = (void *)(uintptr_t)&cases[i];
    }
    int failures = _cmocka_run_group_tests(program, wrapped, count, NULL, NULL);
    free(wrapped);
    if (failures != 0) return EXIT_FAILURE;
    return count == 1 && skipped ? TEST_EXIT_SKIPPED : EXIT_SUCCESS;
}

static const struct CMUnitTest *find_case(const struct CMUnitTest *cases, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++) {
        if (strcmp(cases[i].name, name) == 0) return &cases[i];
    }
    return NULL;
}

static int usage(const char *program) {
    fprintf(stderr, "usage: %s [--list | [--backend NAME] [--case NAME]]\n", program);
    return EXIT_FAILURE;
}

int p2p_test_main(int argc, char **argv, const struct CMUnitTest *cases, size_t count) {
    const char *program = argv[0];
    os_start();
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--list") == 0) {
            for (size_t k = 0; k < count; k++) puts(cases[k].name);
            return EXIT_SUCCESS;
        }
        if (i + 1 == argc) return usage(program);
        if (strcmp(argv[i], "--backend") == 0) {
            backend_name = argv[++i];
        } else if (strcmp(argv[i], "--case") == 0) {
            cases = find_case(cases, count, argv[++i]);
            count = 1;
            if (cases == NULL) {
                fprintf(stderr, "%s: no case named %s\n", program, argv[i]);
                return EXIT_FAILURE;
            }
        } else {
            return usage(program);
        }
    }
    return run_cases(program, cases, count);
}
