/*
 * What the examples share and what is not about p2pnet: arguments, Ctrl-C, lines typed by the user, a thread.
 * What operating systems have in common about it is in common.c, the rest in common_posix.c and common_win32.c.
 */
#ifndef EXAMPLES_COMMON_H
#define EXAMPLES_COMMON_H

#include <p2pnet/p2pnet.h>

/* ---- arguments and errors ----------------------------------------------------------------- */

typedef struct option {
    const char *name; /* "--port"; NULL ends a list of options */
    char **value;     /* is set to what follows: "--port 80", "--port=80"; the last one counts */
    int is_flag;      /* nothing follows: *value is set to the name */
} option_t;

/*
 * Read the options at the front of argv. Ends the program on --help, and when an option is not among the known
 * ones or more than `rest_max` arguments follow. `usage` says what may come after the program's name.
 * Returns the index of the first argument that is no option. Texts are UTF-8.
 */
int read_options(int argc, char **argv, const option_t *known, int rest_max, const char *usage);

typedef struct options {
    const char *backend; /* NULL: automatic */
    const char *address;
    uint16_t port;
} options_t;

/* Read --backend, --address and --port over the defaults in *options. `extra` names the one argument that may
 * follow; "": none. Otherwise as read_options. */
int parse_options(int argc, char **argv, options_t *options, const char *extra);

/* The number `text` stands for; ends the program if it is none, or not within min..max. */
long parse_number(const char *name, const char *text, long min, long max);

/* Split "127.0.0.1:8080" or "[::1]:8080"; ends the program if it is neither. Changes `text`. */
void parse_endpoint(char *text, const char **address, uint16_t *port);

/* Print "what: the last error in words" to stderr. Returns EXIT_FAILURE. */
int fail(const char *what);

/* The same after p2p_event_loop_create_with: with the reason of each backend that was tried. */
int fail_loop(void);

/* ---- Ctrl-C, and what else asks a program to end: SIGTERM; Ctrl-Break or a closed console on Windows ---- */

/* From now on they stop this loop; NULL: no loop any more. */
void stop_on_ctrl_c(p2p_event_loop_t *loop);

/* From now on they end a blocking call on this socket; NULL: no socket any more. */
void unblock_on_ctrl_c(p2p_socket_t *socket);

/* 1 once one of them came. */
int stop_requested(void);

/* ---- lines typed by the user, or from a pipe or file -------------------------------------- */

/*
 * One line, without its end; NULL when there will be no more. Runs in the loop's thread.
 * Return 1 when done with it. Return 0 to get it again after resume_lines(), and no other before.
 */
typedef int (*line_callback)(const char *line, size_t length, void *user_data);

/* Longer lines are passed on in pieces of this size. */
#define LINE_SIZE_MAX 65536

/*
 * Start reading standard input. With `chat` set and on a POSIX terminal, what is being typed stays
 * below what print_line() prints, and disappears when it is sent.
 * Returns 0, or a negative P2P_ERR_*.
 */
int read_lines(p2p_event_loop_t *loop, int chat, line_callback on_line, void *user_data);
void resume_lines(void);

/* Give the terminal back as it was. Call it before the loop is freed. */
void stop_lines(void);

/* What ends the input at a terminal. */
extern const char end_of_input_keys[];

/* Print a line to standard output, at once. */
void print_line(const void *text, size_t length);

/* ---- a thread, and a lock with a condition ------------------------------------------------ */

typedef struct thread thread_t;
typedef struct lock lock_t;

/* NULL: there can be no more of them. */
thread_t *start_thread(void (*run)(void *user_data), void *user_data);
lock_t *create_lock(void);

/* Wait for the thread's end. */
void join_thread(thread_t *thread);

void enter_lock(lock_t *lock);
void leave_lock(lock_t *lock);

/* Inside: let others in until one of them has called signal_lock(), or for no reason. */
void wait_in_lock(lock_t *lock);
void signal_lock(lock_t *lock);

/* NULL is ignored. */
void free_lock(lock_t *lock);

/* ---- the machine -------------------------------------------------------------------------- */

/* Sleep until the handle can be read from, but no longer than that. P2P_INVALID_HANDLE: just sleep. */
void wait_readable(p2p_handle_t handle, int timeout_ms);

/* Allow as many open sockets as the system lets this process have. */
void raise_socket_limit(void);

/* Monotonic clock. */
int64_t now_ns(void);

/* CPU time used so far by a process, 0 = this one; -1 if that can't be known. */
int64_t cpu_time_ns(long process_id);

#endif
