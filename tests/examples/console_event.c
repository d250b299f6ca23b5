/*
 * Sends a console event to a program, the way Windows does: a thread is started in the program's process, in the
 * system's function that calls the handlers.
 *
 *   console_event PROGRAM [argument...]
 *
 * Runs the program with its own standard output and error and no input. Each line on its own standard input, the word
 * ctrl-c, ctrl-break or close, is an event; after "close" the program is ended, as Windows does it, once its handlers
 * have returned, or after 5 s. The exit status is the program's.
 *
 * Wine itself can only do Ctrl-C: it has no console that could be closed without a desktop, and there
 * GenerateConsoleCtrlEvent of CTRL_BREAK_EVENT ends one of the program's threads.
 */
#include <windows.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLOSE_PATIENCE_MS 5000
#define ENDED_BY_CLOSE 0xC000013Au /* STATUS_CONTROL_C_EXIT */
#define HANDLER_RETURNED 1u        /* what CtrlRoutine gives then under Wine; Windows ends the process itself */
#define HELPER_FAILED 99           /* no exit status of the examples */

static void end(const char *what) {
    fprintf(stderr, "console_event: %s: error %lu\n", what, GetLastError());
    exit(HELPER_FAILED);
}

static HANDLE start(int argc, char **argv) {
    char command[4096] = "";
    for (int i = 1; i < argc; i++) {
        size_t length = strlen(command);
        snprintf(command + length, sizeof command - length, "%s\"%s\"", i > 1 ? " " : "", argv[i]);
    }
    SECURITY_ATTRIBUTES inherited = { sizeof inherited, NULL, TRUE };
    STARTUPINFOA startup = { .cb = sizeof startup, .dwFlags = STARTF_USESTDHANDLES };
    DWORD shared = FILE_SHARE_READ | FILE_SHARE_WRITE;
    startup.hStdInput = CreateFileA("NUL", GENERIC_READ, shared, &inherited, OPEN_EXISTING, 0, NULL);
    startup.hStdOutput = GetStdHandle(STD_OUTPUT_HANDLE);
    startup.hStdError = GetStdHandle(STD_ERROR_HANDLE);
    PROCESS_INFORMATION program;
    if (!CreateProcessA(NULL, command, NULL, NULL, TRUE, 0, NULL, NULL, &startup, &program)) end(command);
    CloseHandle(program.hThread);
    return program.hProcess;
}

static void deliver(HANDLE process, DWORD event) {
    /* The system's libraries are at the same place in every process. */
    FARPROC found = GetProcAddress(GetModuleHandleA("kernelbase.dll"), "CtrlRoutine");
    LPTHREAD_START_ROUTINE routine;
    memcpy(&routine, &found, sizeof routine);
    if (routine == NULL) end("CtrlRoutine");
    HANDLE thread = CreateRemoteThread(process, NULL, 0, routine, (void *)(ULONG_PTR)event, 0, NULL);
    if (thread == NULL) return; /* the program has ended */
    if (event == CTRL_CLOSE_EVENT) {
        /* A program that ends gives its exit status to the thread, too. */
        DWORD status = HANDLER_RETURNED;
        if (WaitForSingleObject(thread, CLOSE_PATIENCE_MS) == WAIT_OBJECT_0) GetExitCodeThread(thread, &status);
        if (status == HANDLER_RETURNED) TerminateProcess(process, ENDED_BY_CLOSE);
    }
    CloseHandle(thread);
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        DWORD event;
    } events[] = {
        { "ctrl-c", CTRL_C_EVENT },
        { "ctrl-break", CTRL_BREAK_EVENT },
        { "close", CTRL_CLOSE_EVENT },
    };
    if (argc < 2) return HELPER_FAILED;
    HANDLE process = start(argc, argv);
    char line[32];
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\r\n")] = '\0';
        for (size_t i = 0; i < sizeof events / sizeof events[0]; i++) {
            if (strcmp(line, events[i].name) == 0) deliver(process, events[i].event);
        }
    }
    WaitForSingleObject(process, INFINITE);
    DWORD status;
    if (!GetExitCodeProcess(process, &status)) end("exit status");
    return (int)status;
}
