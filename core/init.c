/*
 * The state of the process, all of it: the count of p2p_init, the allocator, system table and log hook given
 * to p2p_init_with, and the backends that were registered. Nothing else in the library is global.
 */
#include "internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static struct {
    int starts;
    p2p_allocator allocator;
    p2p_sys_ops sys;
    bool own_allocator, own_sys;
    p2p_log_callback log;
    void *log_user_data;
    const p2p_backend_ops *backends[P2P_BACKEND_CANDIDATES_MAX];
    size_t backend_count;
} process;

const p2p_allocator *p2pi_allocator(void) {
    return process.own_allocator ? &process.allocator : &p2pi_default_allocator;
}

const p2p_sys_ops *p2pi_sys(void) {
    return process.own_sys ? &process.sys : p2p_sys_default();
}

void p2pi_log(p2p_log_level_t level, const char *format, ...) {
    if (process.log == NULL) return;
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    process.log(level, text, process.log_user_data);
}

/* All entries but the mechanisms of backends, which a platform may lack. */
static bool table_complete(const p2p_sys_ops *sys) {
    typedef void (*entry)(void);
    for (size_t at = offsetof(p2p_sys_ops, start); at <= offsetof(p2p_sys_ops, wake_close); at += sizeof(entry)) {
        entry e;
        memcpy(&e, (const char *)sys + at, sizeof e);
        if (e == NULL) return false;
    }
    return true;
}

static bool options_valid(const p2p_init_options_t *options) {
    if (options->size < sizeof(p2p_init_options_t)) return false;
    const p2p_allocator *allocator = options->allocator;
    if (allocator != NULL && (allocator->alloc == NULL || allocator->realloc == NULL || allocator->free == NULL))
        return false;
    if (options->system == NULL) return true;
    return options->system->size == sizeof(p2p_sys_ops) && table_complete(options->system);
}

static void forget(void) {
    memset(&process, 0, sizeof process);
}

int p2p_init_with(const p2p_init_options_t *options) {
    if (options == NULL) return p2p_init();
    if (!options_valid(options)) return p2pi_fail(P2P_ERR_INVALID);
    if (process.starts > 0) return p2pi_fail(P2P_ERR_ALREADY);
    if (options->allocator != NULL) {
        process.allocator = *options->allocator;
        process.own_allocator = true;
    }
    if (options->system != NULL) {
        process.sys = *options->system;
        process.own_sys = true;
    }
    process.log = options->log;
    process.log_user_data = options->log_user_data;
    int result = p2p_init();
    if (result < 0) forget();
    return result;
}

int p2p_init(void) {
    if (process.starts == 0) {
        int result = p2pi_sys()->start();
        if (result < 0) return p2pi_fail_os(p2pi_sys(), result);
    }
    process.starts++;
    return P2P_OK;
}

void p2p_cleanup(void) {
    if (process.starts == 0 || --process.starts > 0) return;
    p2pi_sys()->stop();
    forget();
}

#define P2PI_TEXT_OF(x) #x
#define P2PI_VERSION_TEXT(major, minor, patch) P2PI_TEXT_OF(major) "." P2PI_TEXT_OF(minor) "." P2PI_TEXT_OF(patch)

const char *p2p_version(void) {
    return P2PI_VERSION_TEXT(P2P_VERSION_MAJOR, P2P_VERSION_MINOR, P2P_VERSION_PATCH);
}

size_t p2pi_registered_count(void) {
    return process.backend_count;
}

const p2p_backend_ops *p2pi_registered_at(size_t index) {
    return process.backends[index];
}

int p2p_backend_register(const p2p_backend_ops *ops) {
    p2p_backend_ops complete;
    int result = p2pi_resolve_table(ops, &complete);
    if (result < 0) return p2pi_fail(result);
    if (p2p_backend_find(complete.name) != NULL) return p2pi_fail(P2P_ERR_ALREADY);
    if (process.backend_count == P2P_BACKEND_CANDIDATES_MAX) return p2pi_fail(P2P_ERR_LIMIT);
    process.backends[process.backend_count++] = ops;
    return P2P_OK;
}
