/*
 * What the examples need of Windows; see common.h and common_os.h.
 */
#include "common_os.h"

#include <winsock2.h>
#include <windows.h>

#include <fcntl.h>
#include <io.h>
#include <process.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- UTF-8 -------------------------------------------------------------------------------- */

/* Arguments come in the system's old code page. */
static char *utf8_of(char *text) {
    int wide_size = MultiByteToWideChar(CP_ACP, 0, text, -1, NULL, 0);
    wchar_t *wide = malloc((size_t)wide_size * sizeof *wide);
    char *utf8 = malloc((size_t)wide_size * 3); /* no UTF-16 unit takes more */
    if (wide == NULL || utf8 == NULL || MultiByteToWideChar(CP_ACP, 0, text, -1, wide, wide_size) == 0 ||
        WideCharToMultiByte(CP_UTF8, 0, wide, -1, utf8, wide_size * 3, NULL, NULL) == 0) {
        free(utf8);
        utf8 = text;
    }
    free(wide);
    return utf8;
}

static int is_console(HANDLE handle) {
    DWORD mode;
    return GetConsoleMode(handle, &mode) != 0;
}

/* The code page is the console's, which is there when the program has ended. */
static UINT code_page_before;

static void give_code_page_back(void) {
    fflush(stdout);
    SetConsoleOutputCP(code_page_before);
}

void os_begin(int argc, char **argv) {
    /* These few stay until the program ends. */
    for (int i = 1; i < argc; i++) argv[i] = utf8_of(argv[i]);
    if (!is_console(GetStdHandle(STD_OUTPUT_HANDLE))) return;
    /* As the bytes they are, and in one piece: a console takes "\n" for a new line all the same, and what it gets byte
     * by byte, each byte for a character. */
    _setmode(_fileno(stdout), _O_BINARY);
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    code_page_before = GetConsoleOutputCP();
    if (code_page_before != CP_UTF8 && SetConsoleOutputCP(CP_UTF8)) atexit(give_code_page_back);
}

/* ---- Ctrl-C, Ctrl-Break, closing the console ---------------------------------------------- */

static SRWLOCK stop_lock = SRWLOCK_INIT;

void os_hold_stop(void) {
    AcquireSRWLockExclusive(&stop_lock);
}

void os_release_stop(void) {
    ReleaseSRWLockExclusive(&stop_lock);
}

static BOOL WINAPI on_console_event(DWORD event) {
    os_hold_stop();
    stop_now();
    os_release_stop();
    if (event == CTRL_C_EVENT || event == CTRL_BREAK_EVENT) return TRUE;
    /*
     * The console was closed, or the user logs off. Windows ends the process when this returns, or after some
     * 5 s. So it doesn't return: the main thread cleans up, and this one ends with the process.
     */
    for (;;) Sleep(INFINITE);
}

void os_catch_stop(void) {
    static int caught;
    /* Once only: while a handler runs, this call may wait for it. */
    if (!caught) caught = SetConsoleCtrlHandler(on_console_event, TRUE);
}

/* Accept and receive return once the socket is closed under them; shutdown() would not do for accept. */
void os_unblock(p2p_handle_t handle) {
    closesocket((SOCKET)handle);
}

/* ---- lines -------------------------------------------------------------------------------- */

/*
 * Standard input can't be waited for together with sockets here: a thread reads it and posts what it got. The thread
 * may sit in its reading call when nobody wants a line any more; it is left there, and ends with the process.
 *
 * `piece` and what belongs to it is the thread's from the moment `go_on` is signalled until it has posted, and the
 * loop's otherwise; so no more than one piece is under way.
 */
const int os_lines_end_in_cr = 1;
const char end_of_input_keys[] = "Ctrl-Z and Enter";

#define CTRL_Z 26

static HANDLE go_on;
static char piece[LINE_PIECE_MAX];
static DWORD piece_length;

/* While the thread posts, the loop must not go: both sides use this pointer under the lock only. */
static SRWLOCK posting_lock = SRWLOCK_INIT;
static p2p_event_loop_t *loop_to_post_to;

void os_want_input(int wanted) {
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

/* From a console, as UTF-16, since ReadFile would give bytes of an old code page. Returns 0 at the end. */
static DWORD read_console(HANDLE console) {
    static wchar_t typed[4096];
    static DWORD kept; /* 1: typed[0] is half a character, whose rest comes next */
    static int inside_line;
    for (;;) {
        DWORD got;
        if (!ReadConsoleW(console, typed + kept, (DWORD)(sizeof typed / sizeof typed[0]) - kept, &got, NULL)) return 0;
        if (got == 0) continue; /* ended by Ctrl-C */
        if (!inside_line && typed[0] == CTRL_Z) return 0;
        DWORD length = kept + got;
        inside_line = typed[length - 1] != '\n';
        kept = IS_HIGH_SURROGATE(typed[length - 1]);
        length -= kept;
        int size = WideCharToMultiByte(CP_UTF8, 0, typed, (int)length, piece, sizeof piece, NULL, NULL);
        if (kept) typed[0] = typed[length];
        if (size > 0) return (DWORD)size;
    }
}

static DWORD read_file(HANDLE file) {
    DWORD got;
    return ReadFile(file, piece, sizeof piece, &got, NULL) ? got : 0;
}

static void read_input(void *unused) {
    (void)unused;
    HANDLE input = GetStdHandle(STD_INPUT_HANDLE);
    int from_console = is_console(input);
    int more = 1;
    while (more) {
        WaitForSingleObject(go_on, INFINITE);
        piece_length = from_console ? read_console(input) : read_file(input);
        more = piece_length > 0;
        AcquireSRWLockExclusive(&posting_lock);
        if (loop_to_post_to == NULL) {
            more = 0;
        } else if (p2p_event_loop_post(loop_to_post_to, on_piece, NULL) < 0) {
            exit(fail("standard input")); /* no memory */
        }
        ReleaseSRWLockExclusive(&posting_lock);
    }
}

int os_start_reading(int chat) {
    (void)chat;
    loop_to_post_to = lines.loop;
    go_on = CreateEventA(NULL, FALSE, TRUE, NULL);
    if (go_on == NULL || start_thread(read_input, NULL) == NULL) return P2P_ERR_NO_MEMORY;
    return 0;
}

void os_stop_reading(void) {
    AcquireSRWLockExclusive(&posting_lock);
    loop_to_post_to = NULL;
    ReleaseSRWLockExclusive(&posting_lock);
}

void print_line(const void *text, size_t length) {
    fwrite(text, 1, length, stdout);
    putchar('\n');
    fflush(stdout);
}

/* ---- a thread, and a lock with a condition ------------------------------------------------ */

struct thread {
    HANDLE system;
    void (*run)(void *user_data);
    void *user_data;
};

struct lock {
    SRWLOCK lock;
    CONDITION_VARIABLE condition;
};

static unsigned __stdcall run_thread(void *user_data) {
    thread_t *thread = user_data;
    thread->run(thread->user_data);
    return 0;
}

thread_t *start_thread(void (*run)(void *user_data), void *user_data) {
    thread_t *thread = malloc(sizeof *thread);
    if (thread == NULL) return NULL;
    thread->run = run;
    thread->user_data = user_data;
    thread->system = (HANDLE)_beginthreadex(NULL, 0, run_thread, thread, 0, NULL);
    if (thread->system != NULL) return thread;
    free(thread);
    return NULL;
}

void join_thread(thread_t *thread) {
    WaitForSingleObject(thread->system, INFINITE);
    CloseHandle(thread->system);
    free(thread);
}

lock_t *create_lock(void) {
    lock_t *lock = malloc(sizeof *lock);
    if (lock == NULL) return NULL;
    InitializeSRWLock(&lock->lock);
    InitializeConditionVariable(&lock->condition);
    return lock;
}

void enter_lock(lock_t *lock) {
    AcquireSRWLockExclusive(&lock->lock);
}

void leave_lock(lock_t *lock) {
    ReleaseSRWLockExclusive(&lock->lock);
}

void wait_in_lock(lock_t *lock) {
    SleepConditionVariableSRW(&lock->condition, &lock->lock, INFINITE, 0);
}

void signal_lock(lock_t *lock) {
    WakeConditionVariable(&lock->condition);
}

void free_lock(lock_t *lock) {
    free(lock);
}

/* ---- the machine -------------------------------------------------------------------------- */

void wait_readable(p2p_handle_t handle, int timeout_ms) {
    if (handle == P2P_INVALID_HANDLE) {
        Sleep((DWORD)timeout_ms); /* WSAPoll refuses to wait for nothing */
        return;
    }
    WSAPOLLFD ready = { .fd = (SOCKET)handle, .events = POLLRDNORM };
    WSAPoll(&ready, 1, timeout_ms);
}

void raise_socket_limit(void) {
    /* There is none. */
}

int64_t now_ns(void) {
    LARGE_INTEGER ticks, ticks_per_second;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&ticks_per_second);
    int64_t seconds = ticks.QuadPart / ticks_per_second.QuadPart;
    int64_t rest = ticks.QuadPart % ticks_per_second.QuadPart;
    return seconds * 1000000000 + rest * 1000000000 / ticks_per_second.QuadPart;
}

int64_t cpu_time_ns(long process_id) {
    HANDLE process = GetCurrentProcess();
    if (process_id != 0) process = OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, FALSE, (DWORD)process_id);
    if (process == NULL) return -1;
    FILETIME created, ended, kernel, user;
    BOOL known = GetProcessTimes(process, &created, &ended, &kernel, &user);
    if (process_id != 0) CloseHandle(process);
    if (!known) return -1;
    uint64_t kernel_time = (uint64_t)kernel.dwHighDateTime << 32 | kernel.dwLowDateTime;
    uint64_t user_time = (uint64_t)user.dwHighDateTime << 32 | user.dwLowDateTime;
    return (int64_t)((kernel_time + user_time) * 100);
}
