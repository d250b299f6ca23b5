/*
 * A system table with a clock that only moves when told to, and sockets that are a few fields: a case sets what
 * the next calls find, and reads what was written. Handles that are not its own go to the real system. A case
 * names errors by errno numbers, and the table gives them as the numbers of the system that it stands for.
 *
 * The journal is one line of words, in the order in which things happened. Fake sockets, the mock backend and the
 * case's own callbacks write to it.
 */
#ifndef FAKE_SYS_H
#define FAKE_SYS_H

#include "fixture.h"

#include "os.h"

#include <p2pnet/sys.h>

#define FAKE_HANDLE_FIRST ((p2p_handle_t)1000000)
#define FAKE_SOCKETS_MAX 64
#define FAKE_BYTES_MAX 65536

typedef struct fake_socket {
    bool open, nonblocking, shut, reset;
    bool unconfirmed;    /* the system still holds bytes that were written */
    uint32_t facts;      /* for inspect */
    size_t input_length; /* written by the case with fake_input */
    size_t input_taken;
    bool input_end;      /* after the input: FIN */
    int input_error;     /* after the input: an errno number, as all errors here */
    size_t room;         /* bytes that may still be written before EAGAIN */
    int output_error;
    size_t output_length;
    int connect_error; /* of connect: EINPROGRESS unless the case says otherwise; 0 = connected at once */
    int connect_result;
    bool connected;
    int keepalive_s;   /* as set_option was told */
    int backlog[8]; /* for accept: 0 = a connection, or an error */
    unsigned backlog_length;
    unsigned modes_set; /* calls of set_nonblocking */
    char input[FAKE_BYTES_MAX], output[FAKE_BYTES_MAX];
} fake_socket;

/** The table; good for p2p_init_with after fake_sys_reset. */
const p2p_sys_ops *fake_sys(void);
void fake_sys_reset(void);

/* ---- the clock and the environment ---- */

extern int64_t fake_clock_ns;
extern const char *fake_environment; /* what P2P_BACKEND is; NULL = unset, or the process is setuid */

/* ---- sockets ---- */

/** A handle for which inspect gives these facts. */
p2p_handle_t fake_handle(uint32_t facts);
fake_socket *fake_at(p2p_handle_t handle);
void fake_input(p2p_handle_t handle, const void *data, size_t size);
/** One frame with this text. */
void fake_input_text(p2p_handle_t handle, const char *text);
unsigned fake_open_count(void);

/** Sockets of the library on fake handles; the handle is p2p_socket_handle. */
p2p_socket_t *fake_connection(void);
p2p_socket_t *fake_listener(void);

/* ---- the journal ---- */

#if defined(__GNUC__)
__attribute__((format(printf, 1, 2)))
#endif
void journal(const char *format, ...);
/** The words since the last call, with one blank between them. Good until the next call. */
const char *journal_take(void);
/** A number for a handle: 0 for the first fake socket of the case. */
int journal_name(p2p_handle_t handle);

#define EXPECT_JOURNAL(text) assert_string_equal(journal_take(), text)

#endif
