/*
 * Addresses: text to struct sockaddr and back, and the two ends of a socket. POSIX and Winsock name these things
 * alike, but for unix-domain addresses. Nothing here asks a name service.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* what arpa/inet.h declares */
#endif

#include "sys_sockets.h"

#include <p2pnet/error.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOST_SIZE 64 /* INET6_ADDRSTRLEN, '%', an interface name, and some */

static void store(p2p_address_t *out, const void *address, size_t size) {
    memset(out, 0, sizeof(*out));
    memcpy(out->storage.bytes, address, size);
    out->length = (uint32_t)size;
}

/* 0: there is no such scope. A number needs no interface of that number on this machine. */
static uint32_t scope_of(const char *text) {
    size_t digits = strspn(text, "0123456789");
    if (digits > 0 && text[digits] == '\0') {
        unsigned long long number = strtoull(text, NULL, 10);
        return number <= UINT32_MAX ? (uint32_t)number : 0;
    }
    return p2pi_sys_scope(text);
}

static int parse_ipv4(p2p_address_t *out, const char *host, uint16_t port) {
    struct sockaddr_in address;
    memset(&address, 0, sizeof(address));
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) {
        return P2P_ERR_BAD_ADDRESS;
    }
    store(out, &address, sizeof(address));
    return 0;
}

/* Cuts its copy of the text up: "[fe80::1%eth0]" -> "fe80::1" and "eth0". */
static int parse_ipv6(p2p_address_t *out, char *host, uint16_t port) {
    struct sockaddr_in6 address;
    memset(&address, 0, sizeof(address));
    address.sin6_family = AF_INET6;
    address.sin6_port = htons(port);
    if (host[0] == '[') {
        size_t last = strlen(host) - 1;
        if (host[last] != ']') {
            return P2P_ERR_BAD_ADDRESS;
        }
        host[last] = '\0';
        host++;
    }
    char *percent = strchr(host, '%');
    if (percent != NULL) {
        *percent = '\0';
        address.sin6_scope_id = scope_of(percent + 1);
        if (address.sin6_scope_id == 0) {
            return P2P_ERR_BAD_ADDRESS;
        }
    }
    if (inet_pton(AF_INET6, host, &address.sin6_addr) != 1) {
        return P2P_ERR_BAD_ADDRESS;
    }
    store(out, &address, sizeof(address));
    return 0;
}

int p2pi_address_parse(p2p_address_t *out, const char *text, uint16_t port) {
    if (text == NULL) {
        return parse_ipv4(out, "0.0.0.0", port);
    }
    if (strcmp(text, "localhost") == 0) {
        return parse_ipv4(out, "127.0.0.1", port);
    }
    if (strncmp(text, "unix:", 5) == 0) {
        return p2pi_unix_parse(out, text + 5);
    }
    char host[HOST_SIZE];
    size_t length = strlen(text);
    if (length >= sizeof(host)) {
        return P2P_ERR_BAD_ADDRESS;
    }
    memcpy(host, text, length + 1);
    return strchr(host, ':') != NULL ? parse_ipv6(out, host, port) : parse_ipv4(out, host, port);
}

static int format(const p2p_address_t *address, char *text, size_t size) {
    char host[INET6_ADDRSTRLEN];
    if (p2pi_is_unix(address)) {
        return p2pi_unix_format(address, text, size);
    }
    int port = p2pi_address_port(address);
    if (port < 0) {
        return -1;
    }
    if (address->length == sizeof(struct sockaddr_in)) {
        struct sockaddr_in ipv4;
        memcpy(&ipv4, address->storage.bytes, sizeof(ipv4));
        inet_ntop(AF_INET, &ipv4.sin_addr, host, sizeof(host));
        return snprintf(text, size, "%s:%d", host, port);
    }
    struct sockaddr_in6 ipv6;
    memcpy(&ipv6, address->storage.bytes, sizeof(ipv6));
    inet_ntop(AF_INET6, &ipv6.sin6_addr, host, sizeof(host));
    if (ipv6.sin6_scope_id != 0) {
        return snprintf(text, size, "[%s%%%u]:%d", host, (unsigned)ipv6.sin6_scope_id, port);
    }
    return snprintf(text, size, "[%s]:%d", host, port);
}

int p2pi_address_format(const p2p_address_t *address, char *text, size_t size) {
    int length = format(address, text, size);
    if (length < 0 || (size_t)length >= size) {
        if (size > 0) {
            text[0] = '\0';
        }
        return P2P_ERR_INVALID;
    }
    return length;
}

/* Also the check that the bytes are an address of a family that has ports. */
int p2pi_address_port(const p2p_address_t *address) {
    struct sockaddr_storage any;
    memcpy(&any, address->storage.bytes, sizeof(any));
    if (any.ss_family == AF_INET && address->length == sizeof(struct sockaddr_in)) {
        struct sockaddr_in ipv4;
        memcpy(&ipv4, &any, sizeof(ipv4));
        return ntohs(ipv4.sin_port);
    }
    if (any.ss_family == AF_INET6 && address->length == sizeof(struct sockaddr_in6)) {
        struct sockaddr_in6 ipv6;
        memcpy(&ipv6, &any, sizeof(ipv6));
        return ntohs(ipv6.sin6_port);
    }
    return P2P_ERR_INVALID;
}

/* Why there is no address. Windows has some of these numbers twice, and no EAI_SYSTEM. */
static int lookup_error(int error) {
    if (error == EAI_MEMORY) return P2P_ERR_NO_MEMORY;
#if defined(EAI_SYSTEM)
    if (error == EAI_SYSTEM) return p2p_sys_default()->translate_error(-p2pi_sys_failure());
#endif
    bool absent = error == EAI_NONAME || error == EAI_AGAIN || error == EAI_FAIL;
#if defined(EAI_NODATA)
    absent = absent || error == EAI_NODATA;
#endif
    return absent ? P2P_ERR_NAME_NOT_FOUND : P2P_ERR_SYSTEM;
}

int p2pi_resolve(const char *name, uint16_t port, p2p_socket_type_t type, p2p_address_t *out, uint32_t capacity) {
    struct addrinfo hints, *found = NULL;
    char service[8];
    memset(&hints, 0, sizeof(hints));
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = type == P2P_UDP ? SOCK_DGRAM : SOCK_STREAM;
    hints.ai_flags = AI_NUMERICSERV;
    snprintf(service, sizeof(service), "%u", (unsigned)port);
    int error = getaddrinfo(name, service, &hints, &found);
    if (error != 0) return lookup_error(error);
    uint32_t count = 0;
    for (const struct addrinfo *each = found; each != NULL && count < capacity; each = each->ai_next) {
        if (each->ai_addrlen > sizeof(struct sockaddr_storage)) continue;
        store(&out[count], each->ai_addr, (size_t)each->ai_addrlen);
        if (p2pi_address_port(&out[count]) >= 0) count++;
    }
    freeaddrinfo(found);
    return count == 0 ? P2P_ERR_NAME_NOT_FOUND : (int)count;
}

/* An IPv6 host has 2^64 addresses for the asking: its network is what counts. */
int p2pi_address_key(const p2p_address_t *address, uint8_t key[P2P_ADDRESS_KEY_SIZE]) {
    struct sockaddr_storage any;
    memcpy(&any, address->storage.bytes, sizeof(any));
    if (any.ss_family == AF_INET && address->length == sizeof(struct sockaddr_in)) {
        struct sockaddr_in ipv4;
        memcpy(&ipv4, &any, sizeof(ipv4));
        memcpy(key, &ipv4.sin_addr, 4);
        return 4;
    }
    if (any.ss_family == AF_INET6 && address->length == sizeof(struct sockaddr_in6)) {
        struct sockaddr_in6 ipv6;
        memcpy(&ipv6, &any, sizeof(ipv6));
        bool mapped = IN6_IS_ADDR_V4MAPPED(&ipv6.sin6_addr);
        memcpy(key, ipv6.sin6_addr.s6_addr + (mapped ? 12 : 0), mapped ? 4 : 8);
        return mapped ? 4 : 8;
    }
    return 0;
}

static int name_of(p2p_handle_t handle, int peer, p2p_address_t *out) {
    struct sockaddr_storage address;
    socklen_t length = sizeof(address);
    memset(&address, 0, sizeof(address));
    int result = peer ? getpeername(handle, (struct sockaddr *)&address, &length)
                      : getsockname(handle, (struct sockaddr *)&address, &length);
    if (result < 0) {
        return p2pi_sys_failure();
    }
    store(out, &address, (size_t)length < sizeof(address) ? (size_t)length : sizeof(address));
    return 0;
}

int p2pi_local_address(p2p_handle_t handle, p2p_address_t *out) {
    return name_of(handle, 0, out);
}

int p2pi_peer_address(p2p_handle_t handle, p2p_address_t *out) {
    return name_of(handle, 1, out);
}

bool p2pi_option_means_nothing(p2p_handle_t handle, p2p_sys_option option) {
    p2p_address_t local;
    struct sockaddr_storage any;
    if (p2pi_local_address(handle, &local) < 0) {
        return false;
    }
    memcpy(&any, local.storage.bytes, sizeof(any));
    if (option == P2P_SYS_DUAL_STACK) {
        return any.ss_family != AF_INET6;
    }
    bool is_ip = any.ss_family == AF_INET || any.ss_family == AF_INET6;
    return !is_ip && (option == P2P_SYS_NODELAY || option == P2P_SYS_KEEPALIVE);
}
