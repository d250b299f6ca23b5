/*
 * Unix-domain addresses: "unix:/path", and on Linux "unix:@name", a name that is no file. No other file knows of them.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* strnlen */
#endif

#include "sys_posix.h"
#include "sys_sockets.h"

#include <p2pnet/error.h>

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PATH_AT offsetof(struct sockaddr_un, sun_path)

_Static_assert(sizeof("unix:") + sizeof(((struct sockaddr_un *)0)->sun_path) <= P2P_ADDRESS_TEXT_SIZE,
               "the longest path");

#if defined(__linux__)
#define HAVE_ABSTRACT_NAMES 1
#else
#define HAVE_ABSTRACT_NAMES 0
#endif

int p2pi_unix_parse(p2p_address_t *out, const char *path) {
    struct sockaddr_un address;
    size_t length = strlen(path);
    bool is_name = path[0] == '@';
    if (length == 0 || length >= sizeof(address.sun_path) || (is_name && length == 1)) return P2P_ERR_BAD_ADDRESS;
    if (is_name && !HAVE_ABSTRACT_NAMES) return P2P_ERR_NOT_SUPPORTED;
    memset(&address, 0, sizeof(address));
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path, path, length);
    if (is_name) address.sun_path[0] = '\0';
    memset(out, 0, sizeof(*out));
    memcpy(out->storage.bytes, &address, sizeof(address));
    out->length = (uint32_t)(PATH_AT + length + !is_name); /* a path ends with a zero, a name by the length */
    return 0;
}

bool p2pi_is_unix(const p2p_address_t *address) {
    struct sockaddr any;
    memcpy(&any, address->storage.bytes, sizeof(any));
    return any.sa_family == AF_UNIX && address->length >= PATH_AT && address->length <= sizeof(struct sockaddr_un);
}

/* How many bytes its path or name has; 0 for a socket that was not bound. */
static size_t name_length(const p2p_address_t *address) {
    const char *path = (const char *)address->storage.bytes + PATH_AT;
    size_t length = address->length - PATH_AT;
    return length == 0 || (path[0] == '\0' && HAVE_ABSTRACT_NAMES) ? length : strnlen(path, length);
}

bool p2pi_unix_has_name(const p2p_address_t *address) {
    return p2pi_is_unix(address) && name_length(address) > 0;
}

/* Names of other programs may hold any byte: a zero is written as @, as elsewhere; and none breaks a line. */
int p2pi_unix_format(const p2p_address_t *address, char *text, size_t size) {
    char name[sizeof(struct sockaddr_un)];
    size_t length = name_length(address);
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = address->storage.bytes[PATH_AT + i];
        name[i] = (char)(byte == '\0' ? '@' : byte < ' ' || byte == 0x7F ? '?' : byte);
    }
    return snprintf(text, size, "unix:%.*s", (int)length, name);
}

/* Whether a path is that of a socket whose program is gone. Asked with a datagram socket, no listener notices: one that
 * is there has another type (EPROTOTYPE), or takes it. */
static bool is_stale(const struct sockaddr_un *name, socklen_t length) {
    struct stat status;
    p2p_handle_t probe;
    p2p_address_t family_of = { .length = length };
    if (name->sun_path[0] == '\0' || lstat(name->sun_path, &status) < 0 || !S_ISSOCK(status.st_mode)) return false;
    memcpy(family_of.storage.bytes, name, sizeof(*name));
    if (p2p_sys_default()->open(&probe, &family_of, P2P_UDP) < 0) return false;
    bool refused = connect(probe, (const struct sockaddr *)name, length) < 0 && errno == ECONNREFUSED;
    close(probe);
    return refused;
}

int p2pi_unix_bind(p2p_handle_t handle, const p2p_address_t *address) {
    struct sockaddr_un name;
    socklen_t length = (socklen_t)address->length;
    memcpy(&name, address->storage.bytes, sizeof(name));
    if (bind(handle, (const struct sockaddr *)&name, length) == 0) return 0;
    int result = p2pi_posix_failure();
    if (result != -EADDRINUSE || !is_stale(&name, length)) return result;
    if (unlink(name.sun_path) < 0 && errno != ENOENT) return -EADDRINUSE;
    return p2pi_posix_result(bind(handle, (const struct sockaddr *)&name, length));
}
