/*
 * What sys_address.c, the part of the system table that POSIX and Windows share, gives to their tables and needs
 * of them.
 */
#ifndef P2PI_SYS_SOCKETS_H
#define P2PI_SYS_SOCKETS_H

#include <p2pnet/sys.h>

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

#endif
