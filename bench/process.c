#include "process.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- processors ---------------------------------------------------------------------------------- */

static cpu_set_t all_cpus, server_cpu;

int bench_pin_load(void) {
    cpu_set_t last;
    if (sched_getaffinity(0, sizeof all_cpus, &all_cpus) < 0) bench_fail("sched_getaffinity");
    CPU_ZERO(&server_cpu);
    CPU_ZERO(&last);
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &all_cpus)) continue;
        if (CPU_COUNT(&server_cpu) == 0) CPU_SET(cpu, &server_cpu);
        CPU_ZERO(&last);
        CPU_SET(cpu, &last);
    }
    if (sched_setaffinity(0, sizeof last, &last) < 0) bench_fail("sched_setaffinity");
    return CPU_COUNT(&all_cpus);
}

/* ---- starting and ending ------------------------------------------------------------------------- */

static int listen_somewhere(uint16_t *port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t length = sizeof address;
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 4096) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &length) < 0)
        bench_fail("listen");
    *port = ntohs(address.sin_port);
    return fd;
}

/* In the child. What is 3 or more but the listener is closed by exec. */
static _Noreturn void become(const char *subject, const bench_job *job, int listener, const cpu_set_t *cpus,
                             const int out[2], const int errors[2]) {
    char words[7][32];
    snprintf(words[0], sizeof words[0], "%u", job->conns);
    snprintf(words[1], sizeof words[1], "%u", job->active);
    snprintf(words[2], sizeof words[2], "%u", job->size);
    snprintf(words[3], sizeof words[3], "%u", job->depth);
    snprintf(words[4], sizeof words[4], "%u", job->writes);
    snprintf(words[5], sizeof words[5], "%.9g", job->rate);
    snprintf(words[6], sizeof words[6], "%.9g", job->seconds);
    sched_setaffinity(0, sizeof *cpus, cpus);
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY); /* strace is not its parent */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (dup2(out[1], STDOUT_FILENO) < 0 || dup2(errors[1], STDERR_FILENO) < 0) _exit(1);
    if (listener == BENCH_CHILD_LISTENER) fcntl(listener, F_SETFD, 0);
    else if (listener >= 0 && dup2(listener, BENCH_CHILD_LISTENER) < 0) _exit(1);
    execl("/proc/self/exe", "p2p-bench", BENCH_CHILD, subject, job->workload, words[0], words[1], words[2], words[3],
          words[4], words[5], words[6], (char *)NULL);
    _exit(1);
}

void bench_process_start(bench_process *process, const char *subject, const bench_job *job, bench_process_kind kind) {
    int out[2], errors[2];
    process->port = 0;
    int listener = kind == BENCH_SERVER ? listen_somewhere(&process->port) : -1;
    const cpu_set_t *cpus = kind == BENCH_MORE_THREADS ? &all_cpus : &server_cpu;
    if (pipe2(out, O_CLOEXEC) < 0 || pipe2(errors, O_CLOEXEC) < 0) bench_fail("pipe2");
    process->pid = fork();
    if (process->pid < 0) bench_fail("fork");
    if (process->pid == 0) become(subject, job, listener, cpus, out, errors);
    close(out[1]);
    close(errors[1]);
    if (listener >= 0) close(listener);
    process->output = out[0];
    process->errors = errors[0];
}

char *bench_process_end(bench_process *process) {
    char said[512];
    kill(process->pid, SIGTERM);
    while (waitpid(process->pid, NULL, 0) < 0 && errno == EINTR) {
    }
    ssize_t length = read(process->errors, said, sizeof said - 1);
    close(process->errors);
    close(process->output);
    if (length <= 0) return NULL;
    said[length] = '\0';
    said[strcspn(said, "\n")] = '\0';
    char *copy = strdup(said);
    if (copy == NULL) bench_fail("strdup");
    return copy;
}

bool bench_job_from_words(char **words, int count, bench_job *job) {
    if (count != 8) return false;
    job->workload = words[0];
    uint32_t *numbers[] = { &job->conns, &job->active, &job->size, &job->depth, &job->writes };
    for (size_t i = 0; i < COUNT_OF(numbers); i++) *numbers[i] = (uint32_t)strtoul(words[i + 1], NULL, 10);
    job->rate = strtod(words[6], NULL);
    job->seconds = strtod(words[7], NULL);
    return true;
}

/* ---- what it uses -------------------------------------------------------------------------------- */

/* Up to `size` - 1 bytes of /proc/PID/name. */
static void read_proc(pid_t pid, const char *name, char *text, size_t size) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, text, size - 1);
    if (fd >= 0) close(fd);
    text[length < 0 ? 0 : length] = '\0';
}

bench_usage bench_process_usage(const bench_process *process) {
    bench_usage usage = { .at_ns = bench_now_ns() };
    clockid_t clock;
    struct timespec used;
    if (clock_getcpuclockid(process->pid, &clock) == 0 && clock_gettime(clock, &used) == 0)
        usage.cpu_ns = (uint64_t)used.tv_sec * 1000000000 + (uint64_t)used.tv_nsec;
    char text[1024];
    read_proc(process->pid, "stat", text, sizeof text);
    /* proc_pid_stat(5): the name ends with the last parenthesis; utime and stime are fields 14 and 15. */
    const char *fields = strrchr(text, ')');
    unsigned long long user, system;
    if (fields != NULL &&
        sscanf(fields, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system) == 2) {
        usage.user_ticks = user;
        usage.system_ticks = system;
    }
    return usage;
}

void bench_usage_report(const bench_usage *begin, const bench_usage *end, uint64_t count, bench_sample *sample) {
    if (count == 0 || end->at_ns <= begin->at_ns) return;
    double cpu_ns = (double)(end->cpu_ns - begin->cpu_ns), wall_ns = (double)(end->at_ns - begin->at_ns);
    double user = (double)(end->user_ticks - begin->user_ticks);
    double system = (double)(end->system_ticks - begin->system_ticks);
    sample->value[BENCH_RATE] = (double)count * 1e9 / wall_ns;
    sample->value[BENCH_CPU] = cpu_ns / (double)count;
    sample->value[BENCH_BUSY] = cpu_ns / wall_ns * 100;
    if (user + system == 0) return;
    sample->value[BENCH_CPU_USER] = sample->value[BENCH_CPU] * user / (user + system);
    sample->value[BENCH_CPU_SYSTEM] = sample->value[BENCH_CPU] * system / (user + system);
}

uint64_t bench_process_private_bytes(const bench_process *process) {
    char text[4096];
    uint64_t total = 0;
    read_proc(process->pid, "smaps_rollup", text, sizeof text);
    for (const char *at = text; (at = strstr(at, "\nPrivate_")) != NULL; at++) {
        const char *colon = strchr(at, ':');
        if (colon != NULL) total += strtoull(colon + 1, NULL, 10) * 1024;
    }
    return total;
}

/* ---- system calls -------------------------------------------------------------------------------- */

static bool is_traced(pid_t pid) {
    char text[2048];
    read_proc(pid, "status", text, sizeof text);
    const char *tracer = strstr(text, "TracerPid:");
    return tracer != NULL && strtol(tracer + strlen("TracerPid:"), NULL, 10) != 0;
}

const char *bench_strace_begin(bench_strace *strace, const bench_process *process) {
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)process->pid);
    strcpy(strace->file, "/tmp/p2p-bench-XXXXXX");
    int fd = mkstemp(strace->file);
    if (fd < 0) return "no temporary file for strace";
    close(fd);
    strace->pid = fork();
    if (strace->pid < 0) bench_fail("fork");
    if (strace->pid == 0) {
        int null = open("/dev/null", O_WRONLY);
        if (null >= 0) dup2(null, STDERR_FILENO);
        execlp("strace", "strace", "-f", "-c", "-o", strace->file, "-p", pid, (char *)NULL);
        _exit(127);
    }
    while (!is_traced(process->pid)) {
        if (waitpid(strace->pid, NULL, WNOHANG) == 0) {
            nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
            continue;
        }
        unlink(strace->file);
        return "strace is not there, or may not trace";
    }
    return NULL;
}

uint64_t bench_strace_end(bench_strace *strace) {
    kill(strace->pid, SIGINT);
    waitpid(strace->pid, NULL, 0);
    uint64_t calls = 0;
    char line[256];
    FILE *file = fopen(strace->file, "r");
    /* "% time  seconds  usecs/call  calls  errors  syscall", of which the last line is the sum. */
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        unsigned long long count;
        if (strstr(line, " total") != NULL && sscanf(line, "%*s %*s %*s %llu", &count) == 1) calls = count;
    }
    if (file != NULL) fclose(file);
    unlink(strace->file);
    return calls;
}
