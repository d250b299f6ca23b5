/*
 * What common.c needs of the operating system, and what it gives to common_posix.c and common_win32.c.
 * The examples themselves don't include this.
 */
#ifndef EXAMPLES_COMMON_OS_H
#define EXAMPLES_COMMON_OS_H

#include "common.h"

/* At the begin of a program: arguments become UTF-8, and the terminal is told that this is what will be printed. */
void os_begin(int argc, char **argv);

/* ---- Ctrl-C ---- */

/* From the first call on, stop_now() is called when the program is to end: in a signal handler of the main thread
 * on POSIX, where little is allowed; in a thread of its own on Windows. */
void os_catch_stop(void);
void stop_now(void);

/* No stop_now() runs between these two, and stop_now() itself is called between them. */
void os_hold_stop(void);
void os_release_stop(void);

/* Make a blocking call on this handle return, or a later one fail. */
void os_unblock(p2p_handle_t handle);

/* ---- lines ---- */

/* At most so much is appended to the data at a time. */
#define LINE_PIECE_MAX 65536

/* There is one standard input, so there is one of these. It belongs to the loop's thread. */
struct lines {
    p2p_event_loop_t *loop; /* NULL: not reading */
    line_callback on_line;
    void *user_data;
    char data[LINE_SIZE_MAX + LINE_PIECE_MAX]; /* what was read and not yet passed on */
    size_t length;
    int paused; /* on_line said "not now" */
    int at_end; /* nothing more to read */
    int ended;  /* on_line was told so */
};
extern struct lines lines;

/* Whether lines end in CR LF: then the CR belongs to the end. */
extern const int os_lines_end_in_cr;

/* Begin to read, end it, read on or not meanwhile. What was read is appended to lines.data, which has room for a
 * piece whenever reading is wanted; then deliver_lines() is called. */
int os_start_reading(int chat);
void os_stop_reading(void);
void os_want_input(int wanted);
void deliver_lines(void);

#endif
