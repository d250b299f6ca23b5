/*
 * Choosing a backend: by name, by a list with fallback, or automatically; and asking why.
 *
 *   05_choose_backend                       all three, on this machine
 *   05_choose_backend --backend NAME[,NAME] try that choice only
 *   05_choose_backend --list                the names that work here, one a line, for scripts
 */
#include "common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAMES_MAX 32

/* Create a loop with this choice and print what became of each candidate. */
static int try_choice(const char *choice) {
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.backend = choice;
    p2p_event_loop_t *loop = p2p_event_loop_create_with(&options);

    printf("%s:\n", choice != NULL ? choice : "automatic");
    if (loop != NULL) {
        printf("  the loop runs on %s\n", p2p_event_loop_backend_name(loop));
    } else {
        printf("  no loop: %s\n", p2p_error_message(p2p_last_error()));
    }

    /* NULL asks for this thread's last creation, which is the only way after a failure. */
    p2p_backend_report_t report[P2P_BACKEND_CANDIDATES_MAX];
    size_t count = p2p_event_loop_backend_report(NULL, report, P2P_BACKEND_CANDIDATES_MAX);
    for (size_t i = 0; i < count; i++) {
        printf("  %-10s %s%s%s\n", report[i].name, p2p_backend_verdict_name(report[i].verdict),
               report[i].reason[0] != '\0' ? ": " : "", report[i].reason);
    }
    p2p_event_loop_free(loop);
    return loop != NULL ? EXIT_SUCCESS : EXIT_FAILURE;
}

static void list_usable(const char **names, size_t count) {
    for (size_t i = 0; i < count; i++) {
        p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
        options.backend = names[i];
        p2p_event_loop_t *loop = p2p_event_loop_create_with(&options);
        if (loop != NULL) printf("%s\n", names[i]);
        p2p_event_loop_free(loop);
    }
}

static int tour(const char **names, size_t count) {
    printf("in this build, best first:");
    for (size_t i = 0; i < count; i++) printf(" %s", names[i]);
    printf("\n\n");

    printf("--- by name: that one, or a failure with its reason\n");
    for (size_t i = 0; i < count; i++) try_choice(names[i]);
    try_choice("no-such-thing");

    printf("\n--- by list: the first that this machine has\n");
    try_choice("io_uring,kqueue,epoll,wsapoll,poll,select");

    printf("\n--- automatic (set P2P_BACKEND=poll to override it)\n");
    return try_choice(NULL);
}

int main(int argc, char **argv) {
    const char *names[NAMES_MAX];
    if (p2p_init() < 0) return fail("p2pnet");
    size_t count = p2p_backend_list(names, NAMES_MAX);
    if (count > NAMES_MAX) count = NAMES_MAX;

    int status = EXIT_SUCCESS;
    if (argc == 1) {
        status = tour(names, count);
    } else if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        list_usable(names, count);
    } else if (argc == 3 && strcmp(argv[1], "--backend") == 0) {
        status = try_choice(argv[2]);
    } else {
        fprintf(stderr, "usage: %s [--backend NAME[,NAME] | --list]\n", argv[0]);
        status = 2;
    }
    p2p_cleanup();
    return status;
}
