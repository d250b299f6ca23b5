/*
 * What the examples need of a POSIX system; see common.h and common_os.h.
 */
#include "common_os.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

void os_begin(int argc, char **argv) {
    (void)argc, (void)argv; /* UTF-8 already */
}

/* ---- Ctrl-C ------------------------------------------------------------------------------- */

static int shows_ctrl_c; /* 1: the terminal shows ^C, and what we print next shall begin a new line */

static void on_signal(int number) {
    int saved = errno;
    if (number == SIGINT && shows_ctrl_c && write(STDERR_FILENO, "\n", 1) < 0) shows_ctrl_c = 0;
    stop_now();
    errno = saved;
}

void os_catch_stop(void) {
    static int caught;
    if (caught) return;
    caught = 1;
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    sigaddset(&action.sa_mask, SIGINT);
    sigaddset(&action.sa_mask, SIGTERM);
    shows_ctrl_c = isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static void mask_stop(int how) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(how, &set, NULL);
}

void os_hold_stop(void) {
    mask_stop(SIG_BLOCK);
}

void os_release_stop(void) {
    mask_stop(SIG_UNBLOCK);
}

/* On Linux this ends a blocking accept, too. Where it doesn't, there is no clean way out: leave at once. */
void os_unblock(p2p_handle_t handle) {
    if (shutdown(handle, SHUT_RDWR) != 0) _exit(EXIT_SUCCESS);
}

/* ---- lines -------------------------------------------------------------------------------- */

const int os_lines_end_in_cr = 0;
const char end_of_input_keys[] = "Ctrl-D";

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
    ssize_t got =
        editing ? read(STDIN_FILENO, keys, sizeof keys) : read(STDIN_FILENO, lines.data + lines.length, LINE_PIECE_MAX);
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

void os_want_input(int wanted) {
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

int os_start_reading(int chat) {
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

void os_stop_reading(void) {
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

/* ---- a thread, and a lock with a condition ------------------------------------------------ */

struct thread {
    pthread_t system;
    void (*run)(void *user_data);
    void *user_data;
};

struct lock {
    pthread_mutex_t mutex;
    pthread_cond_t condition;
};

static void *run_thread(void *user_data) {
    thread_t *thread = user_data;
    thread->run(thread->user_data);
    return NULL;
}

thread_t *start_thread(void (*run)(void *user_data), void *user_data) {
    thread_t *thread = malloc(sizeof *thread);
    if (thread == NULL) return NULL;
    thread->run = run;
    thread->user_data = user_data;
    os_hold_stop(); /* and the new thread does so for ever: a signal is the main thread's */
    int error = pthread_create(&thread->system, NULL, run_thread, thread);
    os_release_stop();
    if (error == 0) return thread;
    free(thread);
    return NULL;
}

void join_thread(thread_t *thread) {
    pthread_join(thread->system, NULL);
    free(thread);
}

lock_t *create_lock(void) {
    lock_t *lock = malloc(sizeof *lock);
    if (lock == NULL) return NULL;
    pthread_mutex_init(&lock->mutex, NULL);
    pthread_cond_init(&lock->condition, NULL);
    return lock;
}

void enter_lock(lock_t *lock) {
    pthread_mutex_lock(&lock->mutex);
}

void leave_lock(lock_t *lock) {
    pthread_mutex_unlock(&lock->mutex);
}

void wait_in_lock(lock_t *lock) {
    pthread_cond_wait(&lock->condition, &lock->mutex);
}

void signal_lock(lock_t *lock) {
    pthread_cond_signal(&lock->condition);
}

void free_lock(lock_t *lock) {
    if (lock == NULL) return;
    pthread_cond_destroy(&lock->condition);
    pthread_mutex_destroy(&lock->mutex);
    free(lock);
}

/* ---- the machine -------------------------------------------------------------------------- */

void wait_readable(p2p_handle_t handle, int timeout_ms) {
    /* A negative descriptor is ignored. A signal may end the sleep, which does no harm. */
    struct pollfd ready = { .fd = handle, .events = POLLIN };
    poll(&ready, 1, timeout_ms);
}

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
#if defined(__APPLE__) /* has no clock for another process */
    return process_id == 0 ? read_clock_ns(CLOCK_PROCESS_CPUTIME_ID) : -1;
#else
    clockid_t clock;
    if (clock_getcpuclockid((pid_t)process_id, &clock) != 0) return -1;
    return read_clock_ns(clock);
#endif
}
