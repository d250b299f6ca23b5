/*
 * What the two halves of the POSIX system table share: sys_posix.c holds the table and the calls,
 * sys_posix_address.c the addresses.
 */
#ifndef P2PI_SYS_POSIX_H
#define P2PI_SYS_POSIX_H

#include <p2pnet/sys.h>

int p2pi_posix_address_parse(p2p_address_t *out, const char *text, uint16_t port);
int p2pi_posix_address_format(const p2p_address_t *address, char *text, size_t size);
int p2pi_posix_address_port(const p2p_address_t *address);
int p2pi_posix_local_address(p2p_handle_t handle, p2p_address_t *out);
int p2pi_posix_peer_address(p2p_handle_t handle, p2p_address_t *out);

#endif
