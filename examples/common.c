/*
 * What the examples share; see common.h. The only file of the examples with operating system conditionals.
 */
#include "common.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(_WIN32)
#  include <winsock2.h>
#  include <windows.h>
#else
#  include <sys/ioctl.h>
#  include <sys/resource.h>
#  include <sys/socket.h>
#  include <sys/stat.h>
#  include <termios.h>
#  include <time.h>
#  include <unistd.h>
#endif

/* ---- arguments and errors ----------------------------------------------------------------- */

int parse_options(int argc, char **argv, options_t *options, const char *extra) {
    static const struct option known[] = {
        { "backend", required_argument, NULL, 'b' },
        { "address", required_argument, NULL, 'a' },
        { "port", required_argument, NULL, 'p' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    int letter;
    while ((letter = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (letter) {
        case 'b': options->backend = optarg; break;
        case 'a': options->address = optarg; break;
        case 'p': options->port = (uint16_t)parse_number("--port", optarg, 0, 65535); break;
        default:
            fprintf(letter == 'h' ? stdout : stderr, "usage: %s [--backend NAME] [--address A] [--port N]%s\n", argv[0],
                    extra);
            exit(letter == 'h' ? EXIT_SUCCESS : 2);
        }
    }
    return optind;
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

/* ---- Ctrl-C and SIGTERM ------------------------------------------------------------------- */

static volatile sig_atomic_t stop_came;
static p2p_event_loop_t *volatile loop_to_stop;
static volatile p2p_handle_t handle_to_unblock = P2P_INVALID_HANDLE;

#if defined(_WIN32)

/* Accept and receive return once the socket is closed under them. */
static void unblock(p2p_handle_t handle) {
    closesocket((SOCKET)handle);
}

#else

/* On Linux this ends a blocking accept, too. Where it doesn't, there is no clean way out: leave at once. */
static void unblock(p2p_handle_t handle) {
    if (shutdown(handle, SHUT_RDWR) != 0) _exit(EXIT_SUCCESS);
}

#endif

/* Runs in a signal handler: p2p_event_loop_stop and shutdown are among the few calls allowed there. */
static void stop_now(void) {
    stop_came = 1;
    if (loop_to_stop != NULL) p2p_event_loop_stop(loop_to_stop);
    if (handle_to_unblock != P2P_INVALID_HANDLE) unblock(handle_to_unblock);
}

#if defined(_WIN32)

static BOOL WINAPI on_console_event(DWORD event) {
    (void)event;
    stop_now();
    return TRUE;
}

static void catch_signals(void) {
    SetConsoleCtrlHandler(on_console_event, TRUE);
}

#else

static int shows_ctrl_c; /* 1: the terminal shows ^C, and what we print next shall begin a new line */

static void on_signal(int number) {
    int saved = errno;
    if (number == SIGINT && shows_ctrl_c && write(STDERR_FILENO, "\n", 1) < 0) shows_ctrl_c = 0;
    stop_now();
    errno = saved;
}

static void catch_signals(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    shows_ctrl_c = isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

#endif

void stop_on_ctrl_c(p2p_event_loop_t *loop) {
    loop_to_stop = loop;
    catch_signals();
}

void unblock_on_ctrl_c(p2p_socket_t *socket) {
    handle_to_unblock = socket != NULL ? p2p_socket_handle(socket) : P2P_INVALID_HANDLE;
    catch_signals();
    /* The signal may have come just before the handle was noted. */
    if (stop_came && handle_to_unblock != P2P_INVALID_HANDLE) unblock(handle_to_unblock);
}

int stop_requested(void) {
    return stop_came;
}

/* ---- lines -------------------------------------------------------------------------------- */

/* There is one standard input, so there is one of these. */
static struct lines {
    p2p_event_loop_t *loop; /* NULL: not reading */
    line_callback on_line;
    void *user_data;
    char data[LINE_SIZE_MAX]; /* what was read and not yet passed on */
    size_t length;
    int paused; /* on_line said "not now" */
    int at_end; /* nothing more to read */
    int ended;  /* on_line was told so */
} lines;

/* Start or stop reading; defined for each system below. */
static void want_input(int wanted);

/* Pass on what is complete. */
static void deliver_lines(void) {
    size_t begin = 0;
    while (!lines.paused && begin < lines.length) {
        const char *text = lines.data + begin;
        size_t rest = lines.length - begin;
        const char *newline = memchr(text, '\n', rest);
        /* A line without its end waits for more, unless there is no more or no room. */
        if (newline == NULL && !lines.at_end && rest < sizeof lines.data) break;
        size_t length = newline != NULL ? (size_t)(newline - text) : rest;
        if (lines.on_line(text, length, lines.user_data)) {
            begin += length + (newline != NULL);
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
    want_input(!lines.paused && !lines.at_end);
}

void resume_lines(void) {
    if (lines.loop == NULL || !lines.paused) return;
    lines.paused = 0;
    deliver_lines();
}

#if defined(_WIN32)

/* Standard input can't be waited for together with sockets here: a thread reads it and posts. */
static HANDLE reader;
static HANDLE go_on; /* signalled when the thread may read the next piece */
static char piece[4096];
static DWORD piece_length;

static void want_input(int wanted) {
    if (wanted) SetEvent(go_on);
}

static void on_piece(void *unused) {
    (void)unused;
    if (lines.loop == NULL) return;
    memcpy(lines.data + lines.length, piece, piece_length);
    lines.length += piece_length;
    lines.at_end = piece_length == 0;
    deliver_lines();
}

static DWORD WINAPI read_input(LPVOID unused) {
    (void)unused;
    do {
        WaitForSingleObject(go_on, INFINITE);
        DWORD room = (DWORD)(sizeof lines.data - lines.length);
        DWORD size = room < sizeof piece ? room : (DWORD)sizeof piece;
        if (!ReadFile(GetStdHandle(STD_INPUT_HANDLE), piece, size, &piece_length, NULL)) piece_length = 0;
    } while (p2p_event_loop_post(lines.loop, on_piece, NULL) == 0 && piece_length > 0);
    return 0;
}

static int start_reading(int chat) {
    (void)chat;
    go_on = CreateEventA(NULL, FALSE, TRUE, NULL);
    reader = go_on != NULL ? CreateThread(NULL, 0, read_input, NULL, 0, NULL) : NULL;
    return reader != NULL ? 0 : P2P_ERR_SYSTEM;
}

/* The thread may sit in ReadFile for ever; it ends with the process. */
static void stop_reading(void) {
    CloseHandle(reader);
}

void print_line(const void *text, size_t length) {
    fwrite(text, 1, length, stdout);
    putchar('\n');
    fflush(stdout);
}

#else

static p2p_watch_t *input_watch; /* a terminal, pipe or socket */
static p2p_timer_t *input_timer; /* a file, which is always ready: read a piece a turn */

/*
 * A tiny line editor, only for the chat on a terminal. Without it, a message that arrives would be printed
 * in the middle of what is being typed.
 */
static struct termios terminal_before;
static int editing;
static char typed[1000];
static size_t typed_length;
static int in_escape; /* inside the sequence of a cursor or function key, which is ignored */

/* Bytes 10xxxxxx of UTF-8 take no column of their own. */
static int takes_column(char byte) {
    return ((unsigned char)byte & 0xC0) != 0x80;
}

/* Show the end of what is typed: as much as fits in one row, so that one row can be erased again. */
static void show_typed(void) {
    struct winsize window;
    size_t columns = ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 4 ? window.ws_col : 80;
    size_t begin = typed_length;
    for (size_t used = 3; begin > 0; begin--) {
        used += (size_t)takes_column(typed[begin - 1]);
        if (used > columns) break;
    }
    while (begin < typed_length && !takes_column(typed[begin])) begin++;
    printf("\r\033[K> %.*s", (int)(typed_length - begin), typed + begin);
    fflush(stdout);
}

static void on_key(char key) {
    if (in_escape) {
        /* "ESC [ … letter" or "ESC O letter" */
        if (key != '[' && key != 'O' && key >= '@') in_escape = 0;
    } else if (key == '\033') {
        in_escape = 1;
    } else if (key == '\n') {
        memcpy(lines.data + lines.length, typed, typed_length);
        lines.data[lines.length + typed_length] = '\n';
        lines.length += typed_length + 1;
        typed_length = 0;
    } else if (key == terminal_before.c_cc[VEOF]) {
        lines.at_end = typed_length == 0;
    } else if (key == terminal_before.c_cc[VERASE] || key == '\b') {
        while (typed_length > 0 && !takes_column(typed[typed_length - 1])) typed_length--;
        if (typed_length > 0) typed_length--;
    } else if (key == terminal_before.c_cc[VKILL]) {
        typed_length = 0;
    } else if ((unsigned char)key >= ' ' && typed_length < sizeof typed) {
        typed[typed_length++] = key;
    }
}

static void on_input_ready(void) {
    char keys[16];
    ssize_t got = editing ? read(STDIN_FILENO, keys, sizeof keys)
                          : read(STDIN_FILENO, lines.data + lines.length, sizeof lines.data - lines.length);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (got <= 0) {
        lines.at_end = 1;
    } else if (!editing) {
        lines.length += (size_t)got;
    } else {
        for (ssize_t i = 0; i < got; i++) on_key(keys[i]);
        show_typed();
    }
    deliver_lines();
}

static void on_input_watch(p2p_watch_t *watch, uint32_t ready, void *unused) {
    (void)watch, (void)ready, (void)unused;
    on_input_ready();
}

static void on_input_timer(p2p_timer_t *timer, void *unused) {
    (void)timer, (void)unused;
    on_input_ready();
}

static void want_input(int wanted) {
    if (input_watch != NULL) {
        p2p_watch_set(input_watch, wanted ? P2P_READABLE : 0);
    } else if (wanted) {
        p2p_timer_start(input_timer, 0, 0);
    } else {
        p2p_timer_stop(input_timer);
    }
}

static void give_terminal_back(void) {
    if (!editing) return;
    editing = 0;
    tcsetattr(STDIN_FILENO, TCSADRAIN, &terminal_before);
    printf("\r\033[K");
    fflush(stdout);
}

/* Keys one by one and not shown by the system; Ctrl-C and Ctrl-Z still make signals. */
static void take_terminal(void) {
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) return;
    if (tcgetattr(STDIN_FILENO, &terminal_before) != 0) return;
    struct termios keys = terminal_before;
    keys.c_lflag &= (tcflag_t) ~(ICANON | ECHO);
    keys.c_cc[VMIN] = 1;
    keys.c_cc[VTIME] = 0;
    if (tcsetattr(STDIN_FILENO, TCSADRAIN, &keys) != 0) return;
    editing = 1;
    shows_ctrl_c = 0;
    atexit(give_terminal_back);
    show_typed();
}

static int start_reading(int chat) {
    struct stat status;
    int terminal = isatty(STDIN_FILENO);
    int always_ready =
        fstat(STDIN_FILENO, &status) != 0 || S_ISREG(status.st_mode) || (S_ISCHR(status.st_mode) && !terminal);
    if (always_ready) {
        input_timer = p2p_timer_create(lines.loop, on_input_timer, NULL);
        if (input_timer == NULL) return p2p_last_error();
        return p2p_timer_start(input_timer, 0, 0);
    }
    input_watch = p2p_event_loop_watch(lines.loop, STDIN_FILENO, P2P_READABLE, on_input_watch, NULL);
    if (input_watch == NULL) return p2p_last_error();
    if (chat) take_terminal();
    return 0;
}

static void stop_reading(void) {
    p2p_watch_free(input_watch);
    p2p_timer_free(input_timer);
    input_watch = NULL;
    input_timer = NULL;
    give_terminal_back();
}

void print_line(const void *text, size_t length) {
    if (editing) printf("\r\033[K");
    fwrite(text, 1, length, stdout);
    putchar('\n');
    if (editing) show_typed();
    fflush(stdout);
}

#endif

int read_lines(p2p_event_loop_t *loop, int chat, line_callback on_line, void *user_data) {
    lines.loop = loop;
    lines.on_line = on_line;
    lines.user_data = user_data;
    return start_reading(chat);
}

void stop_lines(void) {
    if (lines.loop == NULL) return;
    lines.loop = NULL;
    stop_reading();
}

/* ---- the machine -------------------------------------------------------------------------- */

#if defined(_WIN32)

void raise_socket_limit(void) {
    /* There is none. */
}

int64_t now_ns(void) {
    LARGE_INTEGER ticks, ticks_per_second;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&ticks_per_second);
    return (int64_t)((double)ticks.QuadPart * 1e9 / (double)ticks_per_second.QuadPart);
}

int64_t cpu_time_ns(long process_id) {
    FILETIME created, ended, kernel, user;
    if (process_id != 0 || !GetProcessTimes(GetCurrentProcess(), &created, &ended, &kernel, &user)) return -1;
    uint64_t kernel_time = (uint64_t)kernel.dwHighDateTime << 32 | kernel.dwLowDateTime;
    uint64_t user_time = (uint64_t)user.dwHighDateTime << 32 | user.dwLowDateTime;
    return (int64_t)((kernel_time + user_time) * 100);
}

#else

void raise_socket_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static int64_t read_clock_ns(clockid_t clock) {
    struct timespec time;
    if (clock_gettime(clock, &time) != 0) return -1;
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

int64_t now_ns(void) {
    return read_clock_ns(CLOCK_MONOTONIC);
}

int64_t cpu_time_ns(long process_id) {
    clockid_t clock;
    if (clock_getcpuclockid((pid_t)process_id, &clock) != 0) return -1;
    return read_clock_ns(clock);
}

#endif
