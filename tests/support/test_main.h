/*
 * The command line of every test program, so that CTest can run each case in a process of its own:
 *
 *     program                        runs all cases
 *     program --list                 prints their names
 *     program --case NAME            runs one; exit status 77 means that it was skipped
 *     program --backend NAME [...]   what test_backend() gives
 *
 * Includes cmocka with all that cmocka wants included before it.
 */
#ifndef TEST_MAIN_H
#define TEST_MAIN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/** The exit status that CTest counts as "skipped". */
#define TEST_EXIT_SKIPPED 77

/** To be returned from main. @return 0, 77 (the only selected case was skipped), or 1 for any failure. */
int p2p_test_main(int argc, char **argv, const struct CMUnitTest *cases, size_t count);

/** @return the name after --backend; NULL when the program was started without. */
const char *test_backend(void);

/** The system table that cases start from; to be asked for before p2p_init. p2p_sys_default(), but where the backend
 *  under test runs on a stand-in for its system. */
const struct p2p_sys_ops *test_system(void);

/** @return why this case says nothing on that system, and is skipped; NULL when it does. */
const char *test_objection(const char *test_case);

/** Print "SKIPPED: " and the reason, and end the running case (or its setup) as skipped. Does not return. */
#if defined(__GNUC__)
__attribute__((format(printf, 1, 2), noreturn))
#endif
void test_skip(const char *format, ...);

#endif
