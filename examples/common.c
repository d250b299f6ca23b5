/*
 * What the examples share; see common.h.
 */
#include "common_os.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- arguments and errors ----------------------------------------------------------------- */

static void print_usage(FILE *out, char **argv, const char *usage) {
    fprintf(out, "usage: %s %s\n", argv[0], usage);
}

/* If argv[*next] is this option, take it and what belongs to it. */
static int take_option(char **argv, int *next, const option_t *option) {
    char *text = argv[*next];
    size_t length = strlen(option->name);
    if (strncmp(text, option->name, length) != 0) return 0;
    if (option->is_flag) {
        if (text[length] != '\0') return 0;
        *option->value = text;
    } else if (text[length] == '=') {
        *option->value = text + length + 1;
    } else if (text[length] == '\0' && argv[*next + 1] != NULL) {
        *option->value = argv[++*next];
    } else {
        return 0;
    }
    ++*next;
    return 1;
}

int read_options(int argc, char **argv, const option_t *known, int rest_max, const char *usage) {
    os_begin(argc, argv);
    int next = 1;
    while (next < argc && strncmp(argv[next], "--", 2) == 0) {
        if (strcmp(argv[next], "--") == 0) {
            next++;
            break;
        }
        if (strcmp(argv[next], "--help") == 0) {
            print_usage(stdout, argv, usage);
            exit(EXIT_SUCCESS);
        }
        const option_t *option = known;
        while (option->name != NULL && !take_option(argv, &next, option)) option++;
        if (option->name == NULL) {
            fprintf(stderr, "%s: no such option, or without its value\n", argv[next]);
            print_usage(stderr, argv, usage);
            exit(2);
        }
    }
    if (argc - next > rest_max) {
        fprintf(stderr, "%s: not expected\n", argv[next + rest_max]);
        print_usage(stderr, argv, usage);
        exit(2);
    }
    return next;
}

int parse_options(int argc, char **argv, options_t *options, const char *extra) {
    char *backend = NULL, *address = NULL, *port = NULL;
    const option_t known[] = {
        { "--backend", &backend, 0 },
        { "--address", &address, 0 },
        { "--port", &port, 0 },
        { NULL, NULL, 0 },
    };
    char usage[100];
    snprintf(usage, sizeof usage, "[--backend NAME] [--address A] [--port N]%s", extra);
    int next = read_options(argc, argv, known, extra[0] != '\0', usage);
    if (backend != NULL) options->backend = backend;
    if (address != NULL) options->address = address;
    if (port != NULL) options->port = (uint16_t)parse_number("--port", port, 0, 65535);
    return next;
}

long parse_number(const char *name, const char *text, long min, long max) {
    char *end;
    errno = 0;
    long number = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || number < min || number > max) {
        fprintf(stderr, "%s: \"%s\" is not a number from %ld to %ld\n", name, text, min, max);
        exit(2);
    }
    return number;
}

void parse_endpoint(char *text, const char **address, uint16_t *port) {
    char *colon = strrchr(text, ':');
    if (colon == NULL) {
        fprintf(stderr, "\"%s\" is not ADDRESS:PORT\n", text);
        exit(2);
    }
    *port = (uint16_t)parse_number("port", colon + 1, 1, 65535);
    *colon = '\0';
    if (text[0] == '[' && colon[-1] == ']') {
        colon[-1] = '\0';
        text++;
    }
    *address = text;
}

int fail(const char *what) {
    int error = p2p_last_error();
    fprintf(stderr, "%s: %s (%s)\n", what, p2p_error_message(error), p2p_error_name(error));
    return EXIT_FAILURE;
}

int fail_loop(void) {
    fail("event loop");
    p2p_backend_report_t report[P2P_BACKEND_CANDIDATES_MAX];
    size_t count = p2p_event_loop_backend_report(NULL, report, P2P_BACKEND_CANDIDATES_MAX);
    for (size_t i = 0; i < count; i++) {
        fprintf(stderr, "  %s: %s%s%s\n", report[i].name, p2p_backend_verdict_name(report[i].verdict),
                report[i].reason[0] != '\0' ? ": " : "", report[i].reason);
    }
    return EXIT_FAILURE;
}

/* ---- Ctrl-C ------------------------------------------------------------------------------- */

/* Volatile for the signal handler. Where stop_now() runs in another thread, os_hold_stop() keeps it off. */
static volatile sig_atomic_t stop_came;
static p2p_event_loop_t *volatile loop_to_stop;
static volatile p2p_handle_t handle_to_unblock = P2P_INVALID_HANDLE;

/* Once is enough: on Windows it closes the handle. */
static void unblock_handle(void) {
    p2p_handle_t handle = handle_to_unblock;
    handle_to_unblock = P2P_INVALID_HANDLE;
    if (handle != P2P_INVALID_HANDLE) os_unblock(handle);
}

/* p2p_event_loop_stop is among the few functions that a signal handler may call. */
void stop_now(void) {
    stop_came = 1;
    if (loop_to_stop != NULL) p2p_event_loop_stop(loop_to_stop);
    unblock_handle();
}

void stop_on_ctrl_c(p2p_event_loop_t *loop) {
    os_hold_stop();
    loop_to_stop = loop;
    os_release_stop();
    os_catch_stop();
}

void unblock_on_ctrl_c(p2p_socket_t *socket) {
    os_hold_stop();
    handle_to_unblock = socket != NULL ? p2p_socket_handle(socket) : P2P_INVALID_HANDLE;
    if (stop_came) unblock_handle();
    os_release_stop();
    os_catch_stop();
}

int stop_requested(void) {
    os_hold_stop();
    int requested = stop_came;
    os_release_stop();
    return requested;
}

/* ---- lines -------------------------------------------------------------------------------- */

struct lines lines;

/* Pass on what is complete. */
void deliver_lines(void) {
    size_t begin = 0;
    while (!lines.paused && begin < lines.length) {
        const char *text = lines.data + begin;
        size_t rest = lines.length - begin;
        const char *newline = memchr(text, '\n', rest);
        /* A line without its end waits for more, unless there is no more or it is long enough. */
        if (newline == NULL && !lines.at_end && rest < LINE_SIZE_MAX) break;
        size_t length = newline != NULL ? (size_t)(newline - text) : rest;
        size_t end_length = newline != NULL;
        if (newline != NULL && os_lines_end_in_cr && length > 0 && newline[-1] == '\r') {
            length--;
            end_length++;
        }
        if (length > LINE_SIZE_MAX) {
            length = LINE_SIZE_MAX;
            end_length = 0;
        }
        if (lines.on_line(text, length, lines.user_data)) {
            begin += length + end_length;
        } else {
            lines.paused = 1;
        }
    }
    lines.length -= begin;
    memmove(lines.data, lines.data + begin, lines.length);
    if (lines.at_end && !lines.paused && !lines.ended) {
        lines.ended = lines.on_line(NULL, 0, lines.user_data);
        lines.paused = !lines.ended;
    }
    os_want_input(!lines.paused && !lines.at_end);
}

void resume_lines(void) {
    if (lines.loop == NULL || !lines.paused) return;
    lines.paused = 0;
    deliver_lines();
}

int read_lines(p2p_event_loop_t *loop, int chat, line_callback on_line, void *user_data) {
    lines.loop = loop;
    lines.on_line = on_line;
    lines.user_data = user_data;
    return os_start_reading(chat);
}

void stop_lines(void) {
    if (lines.loop == NULL) return;
    lines.loop = NULL;
    os_stop_reading();
}
