/* Programs and plugins on POSIX systems. */
#include "os_run.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* A group of its own, so that nothing it leaves behind outlives it. The alarm stays over exec. */
static void become(const char *const *argv, int output, unsigned timeout_s) {
    setpgid(0, 0);
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);
    alarm(timeout_s);
    execvp(argv[0], (char **)(uintptr_t)argv);
    dprintf(STDERR_FILENO, "%s: %s\n", argv[0], strerror(errno));
    _exit(OS_RUN_NOT_STARTED);
}

/* All that is in the file, and "" for what can't be had. */
static char *read_all(FILE *file) {
    long size = fseek(file, 0, SEEK_END) == 0 ? ftell(file) : 0;
    char *text = calloc(1, (size_t)size + 1);
    rewind(file);
    if (text != NULL && fread(text, 1, (size_t)size, file) < (size_t)size) text[0] = '\0';
    return text;
}

static void tell(os_ended *ended, int status, unsigned timeout_s) {
    ended->status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    if (WIFEXITED(status)) return;
    int number = WTERMSIG(status);
    if (number == SIGALRM) snprintf(ended->how, sizeof ended->how, "still running after %u s", timeout_s);
    else snprintf(ended->how, sizeof ended->how, "killed by signal %d (%s)", number, strsignal(number));
}

/* The output goes to a file and not to a pipe: who writes it needs nobody who reads, and may leave it open. */
void os_run(os_ended *ended, const char *const *argv, unsigned timeout_s) {
    *ended = (os_ended){ .status = OS_RUN_NOT_STARTED };
    FILE *output = tmpfile();
    if (output == NULL) return;
    fcntl(fileno(output), F_SETFD, FD_CLOEXEC);
    pid_t child = fork();
    if (child == 0) become(argv, fileno(output), timeout_s);
    if (child > 0) {
        int status;
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
        }
        kill(-child, SIGKILL);
        tell(ended, status, timeout_s);
    }
    ended->output = read_all(output);
    fclose(output);
}

os_symbol os_load(const char *path, const char *symbol, char *reason, size_t size) {
    os_symbol found = NULL;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    void *address = library != NULL ? dlsym(library, symbol) : NULL;
    if (address == NULL) snprintf(reason, size, "%s", dlerror());
    memcpy(&found, &address, sizeof found); /* C has no cast for it */
    return found;
}
