/* Of what the tests need from the operating system, what is the same on all of them. */
#include "os.h"

#include <string.h>

struct sockaddr_in os_loopback(uint16_t port) {
    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

int os_local_port(p2p_handle_t handle) {
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    return getsockname(handle, (struct sockaddr *)&address, &size) == 0 ? ntohs(address.sin_port) : os_failure();
}

int os_peer_port(p2p_handle_t handle) {
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    return getpeername(handle, (struct sockaddr *)&address, &size) == 0 ? ntohs(address.sin_port) : os_failure();
}

int os_bind_loopback(p2p_handle_t handle, uint16_t *port) {
    struct sockaddr_in address = os_loopback(0);
    if (bind(handle, (struct sockaddr *)&address, sizeof address) != 0) return os_failure();
    int result = os_local_port(handle);
    *port = result < 0 ? 0 : (uint16_t)result;
    return result < 0 ? result : 0;
}

int os_listen(p2p_handle_t handle, int backlog) {
    return listen(handle, backlog) == 0 ? 0 : os_failure();
}
