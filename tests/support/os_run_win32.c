/* Programs and plugins on Windows. */
#include "os_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>

/* The C library's tmpfile() would want to write to the root of the drive. */
static HANDLE temporary_file(void) {
    char directory[MAX_PATH + 1], name[MAX_PATH + 1];
    SECURITY_ATTRIBUTES inherited = { sizeof inherited, NULL, TRUE };
    if (GetTempPathA(sizeof directory, directory) == 0) return INVALID_HANDLE_VALUE;
    if (GetTempFileNameA(directory, "p2p", 0, name) == 0) return INVALID_HANDLE_VALUE;
    return CreateFileA(name, GENERIC_READ | GENERIC_WRITE, 0, &inherited, CREATE_ALWAYS,
                       FILE_ATTRIBUTE_TEMPORARY | FILE_FLAG_DELETE_ON_CLOSE, NULL);
}

static char *read_all(HANDLE file) {
    DWORD size = GetFileSize(file, NULL), got = 0;
    char *text = calloc(1, (size_t)size + 1);
    SetFilePointer(file, 0, NULL, FILE_BEGIN);
    if (text != NULL) ReadFile(file, text, size, &got, NULL);
    return text;
}

/* @return whether it fits. */
static int join(const char *const *argv, char *line, size_t size) {
    size_t length = 0;
    for (; *argv != NULL && length < size; argv++)
        length += (size_t)snprintf(line + length, size - length, "\"%s\" ", *argv);
    return length < size;
}

static void await(os_ended *ended, HANDLE process, unsigned timeout_s) {
    DWORD status = 0;
    int in_time = WaitForSingleObject(process, timeout_s * 1000) == WAIT_OBJECT_0;
    if (!in_time) {
        TerminateProcess(process, 1);
        WaitForSingleObject(process, INFINITE);
        snprintf(ended->how, sizeof ended->how, "still running after %u s", timeout_s);
    } else if (GetExitCodeProcess(process, &status) && status > 255) { /* an exception that nobody caught */
        snprintf(ended->how, sizeof ended->how, "ended with status 0x%lx", (unsigned long)status);
    }
    ended->status = ended->how[0] != '\0' ? -1 : (int)status;
}

void os_run(os_ended *ended, const char *const *argv, unsigned timeout_s) {
    char line[4096];
    *ended = (os_ended){ .status = OS_RUN_NOT_STARTED };
    HANDLE output = temporary_file();
    STARTUPINFOA start = {
        .cb = sizeof start, .dwFlags = STARTF_USESTDHANDLES, .hStdInput = GetStdHandle(STD_INPUT_HANDLE),
        .hStdOutput = output, .hStdError = output,
    };
    PROCESS_INFORMATION process;
    if (output == INVALID_HANDLE_VALUE) return;
    SetErrorMode(SEM_FAILCRITICALERRORS | SEM_NOGPFAULTERRORBOX); /* a crash shows no box; children inherit it */
    if (join(argv, line, sizeof line) &&
        CreateProcessA(NULL, line, NULL, NULL, TRUE, 0, NULL, NULL, &start, &process)) {
        await(ended, process.hProcess, timeout_s);
        CloseHandle(process.hThread);
        CloseHandle(process.hProcess);
    }
    ended->output = read_all(output);
    CloseHandle(output);
}

os_symbol os_load(const char *path, const char *symbol, char *reason, size_t size) {
    HMODULE library = LoadLibraryA(path);
    os_symbol found = library != NULL ? (os_symbol)GetProcAddress(library, symbol) : NULL;
    if (found == NULL) {
        char text[160] = "";
        DWORD error = GetLastError();
        FormatMessageA(FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS | FORMAT_MESSAGE_MAX_WIDTH_MASK, NULL,
                       error, 0, text, sizeof text, NULL);
        snprintf(reason, size, "%s: %s: error %lu: %s", path, library != NULL ? symbol : "can't be loaded",
                 (unsigned long)error, text);
    }
    return found;
}
