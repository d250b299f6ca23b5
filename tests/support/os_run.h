/*
 * Programs and plugins, told in one way for all systems; os_run_posix.c and os_run_win32.c hold what differs.
 */
#ifndef OS_RUN_H
#define OS_RUN_H

#include <stddef.h>

#define OS_RUN_NOT_STARTED 127 /* as a shell has it */

/** How a program ended. */
typedef struct os_ended {
    int status;   /**< what it exited with; OS_RUN_NOT_STARTED; -1: it was ended, see `how` */
    char how[80]; /**< in words; empty when it exited */
    char *output; /**< what it wrote to standard output and error, zero-terminated; free() it */
} os_ended;

/** Run a program until it ends, or end it after that many seconds. `argv` ends with NULL; on Windows no argument may
 *  hold a quotation mark or end with a backslash. */
void os_run(os_ended *ended, const char *const *argv, unsigned timeout_s);

typedef void (*os_symbol)(void);

/** Load a shared library for good. @return its symbol; NULL, and `reason` says why. */
os_symbol os_load(const char *path, const char *symbol, char *reason, size_t size);

#endif
