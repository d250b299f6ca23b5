/*
 * What sys_address.c, the part of the system table that POSIX and Windows share, gives to their tables and needs
 * of them.
 */
#ifndef P2PI_SYS_SOCKETS_H
#define P2PI_SYS_SOCKETS_H

#include <p2pnet/sys.h>

#include <stdbool.h>

#if defined(_WIN32)
#  include <winsock2.h>
#  include <ws2tcpip.h>
#else
#  include <arpa/inet.h>
#  include <netdb.h>
#  include <netinet/in.h>
#  include <sys/socket.h>
#endif

int p2pi_address_parse(p2p_address_t *out, const char *text, uint16_t port);
int p2pi_address_format(const p2p_address_t *address, char *text, size_t size);
int p2pi_address_port(const p2p_address_t *address);
int p2pi_resolve(const char *name, uint16_t port, p2p_socket_type_t type, p2p_address_t *out, uint32_t capacity);
int p2pi_address_key(const p2p_address_t *address, uint8_t key[P2P_ADDRESS_KEY_SIZE]);
int p2pi_local_address(p2p_handle_t handle, p2p_address_t *out);
int p2pi_peer_address(p2p_handle_t handle, p2p_address_t *out);

/* From the system's own file: the negative error of the call that just failed, and the number of a scope like
 * "eth0", 0 when there is none of that name. */
int p2pi_sys_failure(void);
uint32_t p2pi_sys_scope(const char *name);

/* Unix-domain addresses, from there too: the text behind "unix:", and back with it; a bind that replaces what a program
 * left that is gone. `address` is one; in has_name it may be any, or that of a socket nobody has bound. */
int p2pi_unix_parse(p2p_address_t *out, const char *path);
int p2pi_unix_format(const p2p_address_t *address, char *text, size_t size);
int p2pi_unix_bind(p2p_handle_t handle, const p2p_address_t *address);
bool p2pi_is_unix(const p2p_address_t *address);
bool p2pi_unix_has_name(const p2p_address_t *address);

/* An option that failed, but says nothing about a socket of this family: Nagle's algorithm is TCP's, two stacks are
 * IPv6's. */
bool p2pi_option_means_nothing(p2p_handle_t handle, p2p_sys_option option);

/* Windows sends ten probes, whatever one asks for; so do the others. They take about as long as the first wait. */
#define P2PI_KEEPALIVE_COUNT 10
static inline int p2pi_keepalive_interval_s(int idle_s) {
    int interval_s = idle_s / P2PI_KEEPALIVE_COUNT;
    return interval_s < 1 ? 1 : interval_s > 75 ? 75 : interval_s;
}

#endif
