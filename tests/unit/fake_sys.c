/* The fake clock, environment and sockets. */
#include "fake_sys.h"

#include <stdio.h>

int64_t fake_clock_ns;
const char *fake_environment;

static fake_socket sockets[FAKE_SOCKETS_MAX];
static int socket_count;
static char journal_text[65536], journal_taken[65536];
static size_t journal_length;

/* ---- the journal ---- */

void journal(const char *format, ...) {
    size_t left = sizeof journal_text - journal_length;
    va_list arguments;
    va_start(arguments, format);
    if (journal_length > 0 && left > 1) {
        journal_text[journal_length++] = ' ';
        left--;
    }
    int length = vsnprintf(journal_text + journal_length, left, format, arguments);
    va_end(arguments);
    journal_length += (size_t)length < left ? (size_t)length : left - 1;
}

const char *journal_take(void) {
    memcpy(journal_taken, journal_text, journal_length);
    journal_taken[journal_length] = '\0';
    journal_length = 0;
    return journal_taken;
}

int journal_name(p2p_handle_t handle) {
    return (int)(handle - FAKE_HANDLE_FIRST);
}

/* ---- sockets ---- */

static bool is_fake(p2p_handle_t handle) {
    return handle >= FAKE_HANDLE_FIRST && handle < FAKE_HANDLE_FIRST + (p2p_handle_t)socket_count;
}

fake_socket *fake_at(p2p_handle_t handle) {
    assert_true(is_fake(handle));
    return &sockets[journal_name(handle)];
}

/* Every call on a handle that is closed is an error of the core. */
static fake_socket *usable(p2p_handle_t handle) {
    fake_socket *s = fake_at(handle);
    if (!s->open) fail_msg("socket %d is used after it was closed", journal_name(handle));
    return s;
}

p2p_handle_t fake_handle(uint32_t facts) {
    assert_in_range(socket_count, 0, FAKE_SOCKETS_MAX - 1);
    fake_socket *s = &sockets[socket_count];
    memset(s, 0, offsetof(fake_socket, input));
    s->open = true;
    s->facts = facts;
    s->connected = (facts & P2P_SYS_CONNECTED) != 0;
    s->room = sizeof s->output;
    s->connect_error = EINPROGRESS;
    return FAKE_HANDLE_FIRST + (p2p_handle_t)socket_count++;
}

void fake_input(p2p_handle_t handle, const void *data, size_t size) {
    fake_socket *s = fake_at(handle);
    assert_in_range(size, 0, sizeof s->input - s->input_length);
    memcpy(s->input + s->input_length, data, size);
    s->input_length += size;
}

void fake_input_text(p2p_handle_t handle, const char *text) {
    uint8_t frame[256];
    fake_input(handle, frame, raw_frame(frame, text, (uint32_t)strlen(text)));
}

unsigned fake_open_count(void) {
    unsigned count = 0;
    for (int i = 0; i < socket_count; i++) count += sockets[i].open;
    return count;
}

static p2p_socket_t *adopt(uint32_t facts) {
    p2p_socket_t *sock = p2p_socket_adopt(fake_handle(facts), P2P_TCP);
    assert_non_null(sock);
    return sock;
}

p2p_socket_t *fake_connection(void) {
    return adopt(P2P_SYS_STREAM | P2P_SYS_BOUND | P2P_SYS_CONNECTED);
}

p2p_socket_t *fake_listener(void) {
    return adopt(P2P_SYS_STREAM | P2P_SYS_BOUND | P2P_SYS_LISTENING);
}

/* ---- the table ---- */

/* What a call gives that fails with this errno number; 0 for 0. */
static int failure(int error) {
    return error == 0 ? 0 : -os_number(error);
}

static int64_t now(void) {
    return fake_clock_ns;
}

static const char *environment(const char *name) {
    return strcmp(name, "P2P_BACKEND") == 0 ? fake_environment : NULL;
}

static int fake_open(p2p_handle_t *out, const p2p_address_t *family_of, p2p_socket_type_t type) {
    (void)family_of;
    *out = fake_handle(type == P2P_TCP ? P2P_SYS_STREAM : P2P_SYS_DATAGRAM);
    return 0;
}

static int fake_close(p2p_handle_t handle) {
    if (!is_fake(handle)) return p2p_sys_default()->close(handle);
    usable(handle)->open = false;
    journal("close(%d)", journal_name(handle));
    return 0;
}

static int inspect(p2p_handle_t handle) {
    if (!is_fake(handle)) return p2p_sys_default()->inspect(handle);
    return (int)usable(handle)->facts;
}

static int set_nonblocking(p2p_handle_t handle, int enabled) {
    if (!is_fake(handle)) return p2p_sys_default()->set_nonblocking(handle, enabled);
    usable(handle)->nonblocking = enabled != 0;
    fake_at(handle)->modes_set++;
    return 0;
}

static int set_option(p2p_handle_t handle, p2p_sys_option option, int value) {
    if (option == P2P_SYS_RESET_ON_CLOSE) usable(handle)->reset = value != 0;
    if (option == P2P_SYS_KEEPALIVE) usable(handle)->keepalive_s = value;
    return 0;
}

static int fake_accept(p2p_handle_t listener, p2p_handle_t *out, int nonblocking) {
    fake_socket *s = usable(listener);
    if (s->backlog_length == 0) return failure(EAGAIN);
    int error = s->backlog[0];
    s->backlog_length--;
    memmove(s->backlog, s->backlog + 1, s->backlog_length * sizeof *s->backlog);
    if (error != 0) return failure(error);
    *out = fake_handle(P2P_SYS_STREAM | P2P_SYS_BOUND | P2P_SYS_CONNECTED);
    fake_at(*out)->nonblocking = nonblocking != 0;
    return 0;
}

static int fake_connect(p2p_handle_t handle, const p2p_address_t *address) {
    (void)address;
    fake_socket *s = usable(handle);
    s->connected = s->connect_error == 0;
    return failure(s->connect_error);
}

static int connect_result(p2p_handle_t handle) {
    return failure(usable(handle)->connect_result);
}

static int shutdown_send(p2p_handle_t handle) {
    usable(handle)->shut = true;
    journal("shutdown(%d)", journal_name(handle));
    return 0;
}

static int unsent(p2p_handle_t handle) {
    return usable(handle)->unconfirmed;
}

static int peer_address(p2p_handle_t handle, p2p_address_t *out) {
    memset(out, 0, sizeof *out);
    return usable(handle)->connected ? 0 : failure(ENOTCONN);
}

static int64_t fake_recv(p2p_handle_t handle, void *buffer, size_t size, int dontwait) {
    fake_socket *s = usable(handle);
    assert_true(dontwait); /* in a loop nothing blocks */
    size_t left = s->input_length - s->input_taken;
    if (left == 0) return failure(s->input_error != 0 ? s->input_error : s->input_end ? 0 : EAGAIN);
    if (size > left) size = left;
    memcpy(buffer, s->input + s->input_taken, size);
    s->input_taken += size;
    return (int64_t)size;
}

static int64_t fake_sendv(p2p_handle_t handle, const p2p_iov *iov, uint32_t count, int dontwait) {
    fake_socket *s = usable(handle);
    assert_true(dontwait);
    if (s->output_error != 0) return failure(s->output_error);
    if (s->room == 0) return failure(EAGAIN);
    size_t written = 0;
    for (uint32_t i = 0; i < count && s->room > 0; i++) {
        size_t part = iov[i].len < s->room ? iov[i].len : s->room;
        memcpy(s->output + s->output_length, iov[i].base, part);
        s->output_length += part;
        s->room -= part;
        written += part;
    }
    journal("write(%d,%u)", journal_name(handle), (unsigned)written);
    return (int64_t)written;
}

static int64_t fake_send(p2p_handle_t handle, const void *data, size_t size, int dontwait) {
    uint32_t length = size < FAKE_BYTES_MAX ? (uint32_t)size : FAKE_BYTES_MAX; /* there is never more room */
    p2p_iov piece = { .base = (char *)(uintptr_t)data, .len = length };
    return fake_sendv(handle, &piece, 1, dontwait);
}

const p2p_sys_ops *fake_sys(void) {
    static p2p_sys_ops table;
    table = *p2p_sys_default();
    table.now_ns = now;
    table.environment = environment;
    table.open = fake_open;
    table.close = fake_close;
    table.inspect = inspect;
    table.set_nonblocking = set_nonblocking;
    table.set_option = set_option;
    table.accept = fake_accept;
    table.connect = fake_connect;
    table.connect_result = connect_result;
    table.shutdown_send = shutdown_send;
    table.unsent = unsent;
    table.peer_address = peer_address;
    table.recv = fake_recv;
    table.send = fake_send;
    table.sendv = fake_sendv;
    return &table;
}

void fake_sys_reset(void) {
    fake_clock_ns = 1000 * (int64_t)P2P_NS_PER_SECOND;
    fake_environment = NULL;
    socket_count = 0;
    journal_length = 0;
}
