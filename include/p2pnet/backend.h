/**
 * @file p2pnet/backend.h
 * @brief The contract between the core and one event backend; for backend authors and tests.
 *
 * A backend is a const table of functions over one instance. It returns events and calls nobody:
 * no user callback, no core function; only the allocator and the system table in its env.
 * Rules that a type can't express are B1 to B14 in docs/backend-authors.md.
 */
#ifndef P2PNET_BACKEND_H
#define P2PNET_BACKEND_H

#include <p2pnet/base.h>
#include <p2pnet/error.h>
#include <p2pnet/sys.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct p2p_backend p2p_backend;
typedef struct p2p_backend_ops p2p_backend_ops;
typedef struct p2p_backend_env p2p_backend_env;
typedef struct p2p_backend_event p2p_backend_event;
typedef struct p2p_io p2p_io;
typedef struct p2p_op p2p_op;
typedef struct p2p_buffer_pool p2p_buffer_pool;

#define P2P_BACKEND_ABI 1u

/** detach(): the kernel still refers to the socket; one P2P_EVENT_DETACHED will follow, by the next waits (B6). */
#define P2P_DEFERRED 1

/* Interest and readiness. HUP and ERR are reported whether asked for or not (B4). */
#define P2P_IN 0x1u
#define P2P_OUT 0x2u
#define P2P_HUP 0x4u
#define P2P_ERR 0x8u
/** On RECV and ACCEPT events: the request behind the event is still armed. */
#define P2P_MORE 0x100u
/** On a RECV event with result 0: no buffer was free. Not an end, not an error; the core arms again later. */
#define P2P_NO_BUFFERS 0x200u
/** On an ACCEPT event: the new handle is in non-blocking mode. */
#define P2P_NONBLOCKING 0x400u

/* Properties, to choose and to report. The core never branches on them (B12). */
#define P2P_CAP_SCALES 0x1u     /**< wait() costs O(ready), not O(registered) */
#define P2P_CAP_ANY_FD 0x2u     /**< waits for pipes and terminals, not only for sockets */
#define P2P_CAP_SUBMS_WAIT 0x4u /**< honours timeouts below a millisecond */
#define P2P_CAP_EARLY_HUP 0x8u  /**< can report a peer's close before the data is read */

enum p2p_event_kind {
    P2P_EVENT_READY = 1, /**< flags: P2P_IN, P2P_OUT, P2P_HUP, P2P_ERR */
    P2P_EVENT_RECV,      /**< result: bytes in u.buffer, 0 = end, or an error; flags: P2P_MORE */
    P2P_EVENT_ACCEPT,    /**< result: 0 and u.handle, or an error; flags: P2P_MORE */
    P2P_EVENT_OP_DONE,   /**< u.op; result: bytes, 0 for a connect, or an error */
    P2P_EVENT_DETACHED   /**< the last event of its token */
};

/** One thing that happened. */
struct p2p_backend_event {
    uint64_t token;  /**< of the p2p_io it is about */
    uint16_t kind;   /**< enum p2p_event_kind */
    uint16_t flags;
    int32_t result;  /**< bytes, or a negative operating system error */
    union {
        struct {
            uint32_t index, offset; /**< the bytes begin `offset` bytes into buffer `index` */
        } buffer;                   /**< valid for RECV with result > 0; lent until buf_recycle */
        p2p_op *op;
        p2p_handle_t handle; /**< a new connection, the core's to close */
    } u;
};

#define P2P_IO_DATAGRAM 0x1u    /**< keeps message boundaries */
#define P2P_IO_FOREIGN 0x2u     /**< a watch: never change its mode (B13) */
#define P2P_IO_NONBLOCKING 0x4u /**< its mode now; attach keeps this true when it changes the mode */

/** A registered socket as a backend sees it. Stays where it is until detach returned 0 or DETACHED came. */
struct p2p_io {
    p2p_handle_t handle;
    uint32_t flags; /**< P2P_IO_* */
    uint64_t token; /**< generation in the high half, slot in the low; never 0 */
    void *state;    /**< the backend's, io_state_size bytes, zeroed before attach */
};

/** On a send: nothing waits for its success. If all is sent, OP_DONE may come late, with what ends the wait next. */
#define P2P_OP_QUIET 0x1u

/** One request in flight. Stays where it is, iov and what it points to included, until its OP_DONE. */
struct p2p_op {
    p2p_io *io;
    const p2p_iov *iov; /**< send: what to write, in order */
    uint32_t iov_count;
    uint32_t flags; /**< P2P_OP_* */
    const p2p_address_t *address; /**< connect: where to, or NULL when the attempt has begun already; else NULL */
    void *state;                  /**< the backend's, op_state_size bytes, zeroed before the request */
};

/** Equal-sized receive buffers in one slab; buffer i begins at slab + i * size. All are the backend's from
 *  pool_bind on. A RECV lends a piece of one to the core until buf_recycle (B9); a backend may lend several pieces
 *  of one buffer, one behind the other. */
struct p2p_buffer_pool {
    uint8_t *slab;
    uint32_t count; /**< a power of two */
    uint32_t size;  /**< bytes of one */
};

/** What create() gets. Valid during create, but allocator and sys stay valid for the instance's life. */
struct p2p_backend_env {
    uint32_t size; /**< sizeof(p2p_backend_env) */
    uint32_t max_events;
    const p2p_allocator *allocator;
    const p2p_sys_ops *sys;
    char *reason; /**< on failure: why, in words, zero-terminated */
    size_t reason_size;
    uint32_t receive_buffers; /**< how many pool_bind will bring; 0: not known yet */
    uint32_t reserved;
};

/**
 * The table. Static and const in a backend. It grows at its end only: the core copies the part
 * that both sides know, checks it once, and fills each optional slot left NULL with its own version built
 * on readiness, so no other line of the core tests a slot.
 *
 * Functions that return int give 0 or a negative operating system error, unless said otherwise.
 * All but wake are called in the loop's thread.
 */
struct p2p_backend_ops {
    uint32_t size; /**< sizeof(p2p_backend_ops): the version */
    uint32_t abi;  /**< P2P_BACKEND_ABI; changes when a slot changes its meaning */
    const char *name;
    uint32_t caps;          /**< P2P_CAP_* */
    uint32_t io_state_size; /**< bytes the core sets aside in each p2p_io.state; 0 to 256 */
    uint32_t op_state_size; /**< bytes in each p2p_op.state; 0 to 256 */
    uint32_t reserved;

    /* ---- required ---- */

    /** Make an instance. It may set (*out)->ops to a smaller table of its own when the kernel lacks features.
     *  @return 0; P2P_ERR_NOT_SUPPORTED: not on this machine, a list goes on to the next; any other
     *  P2P_ERR_* (NO_MEMORY, TOO_MANY_FILES, …): a failure that ends the choice. Leaves nothing behind. */
    int (*create)(p2p_backend **out, const p2p_backend_env *env);

    /** Free the instance. Sockets may still be attached; their state is not touched any more. Must leave
     *  kernel objects shared with a forked process alone. */
    void (*destroy)(p2p_backend *backend);

    /** Change level-triggered interest (P2P_IN | P2P_OUT) from old_mask, which this backend last accepted, to
     *  new_mask. 0 -> x adds, x -> 0 takes out: no event, no wake-up any more. On failure nothing changed. */
    int (*set_interest)(p2p_backend *backend, p2p_io *io, uint32_t old_mask, uint32_t new_mask);

    /** Forget the socket, before the core closes it. @return 0: forgotten; P2P_DEFERRED: RECV and OP_DONE events of
     *  the token may still come, with all that was received and sent, and then DETACHED. */
    int (*detach)(p2p_backend *backend, p2p_io *io);

    /** Wait for events. The only call that blocks; allocates nothing. timeout_ns < 0 waits for ever; round up.
     *  @return how many were stored, 0 at any time for any reason; negative: fatal to the loop. */
    int (*wait)(p2p_backend *backend, p2p_backend_event *out, int capacity, int64_t timeout_ns);

    /** Make a wait under way, or the next one, return. Any thread, async-signal-safe where the OS allows. */
    int (*wake)(p2p_backend *backend);

    /* ---- optional, each by itself ---- */

    /** A socket is registered: set its blocking mode as this backend wants it (B13). Default: non-blocking. */
    int (*attach)(p2p_backend *backend, p2p_io *io);

    /** Before the first wait, in the thread that will wait. Default: nothing. */
    int (*bind_thread)(p2p_backend *backend);

    /* ---- optional group: receive into loop-owned buffers; all or none ---- */

    int (*pool_bind)(p2p_backend *backend, const p2p_buffer_pool *pool);
    void (*buf_recycle)(p2p_backend *backend, uint32_t buffer_index); /**< once for each RECV with a piece of it */
    int (*recv_start)(p2p_backend *backend, p2p_io *io); /**< armed until a RECV without P2P_MORE */
    int (*recv_stop)(p2p_backend *backend, p2p_io *io);  /**< makes no event; RECV events under way may still come */

    /* ---- optional group: accept; all or none ---- */

    int (*accept_start)(p2p_backend *backend, p2p_io *io);
    int (*accept_stop)(p2p_backend *backend, p2p_io *io);

    /* ---- optional group: requests, which complete by OP_DONE only, never inside the call; all or none ---- */

    int (*send)(p2p_backend *backend, p2p_op *op);
    int (*connect)(p2p_backend *backend, p2p_op *op);
    int (*cancel)(p2p_backend *backend, p2p_op *op); /**< its OP_DONE still follows */

    /* ---- optional, by itself ---- */

    /** A handle that is readable while wait() would return events. Default: P2P_INVALID_HANDLE. */
    p2p_handle_t (*handle)(p2p_backend *backend);

    /* ---- optional, by itself ---- */

    /** Hand to the system what was asked for since the last wait, and don't wait: somebody else's code is to run.
     *  For backends that gather calls until wait. Default: nothing. @return 0; negative: fatal. */
    int (*submit)(p2p_backend *backend);
};

/** The head of every instance; backends put it first in their own struct. */
struct p2p_backend {
    const p2p_backend_ops *ops;
};

/**
 * Make a backend known by its name. It is listed after the built-in ones and chosen by name only.
 *
 * @param ops  stays in use until p2p_cleanup; usually static const.
 * @return 0; P2P_ERR_INVALID (a required slot or half a group is missing, wrong abi or size), ALREADY (the
 *         name is taken), LIMIT (too many).
 * Thread: any, but not at the same time as another registration or a loop's creation.
 */
P2P_API int p2p_backend_register(const p2p_backend_ops *ops);

/**
 * Find a table by name, among those built in and registered: to wrap it.
 * @return the table; NULL with P2P_ERR_NOT_FOUND. Thread: any.
 */
P2P_API const p2p_backend_ops *p2p_backend_find(const char *name);

/**
 * What a backend that is a plugin (a shared library, a DLL) defines and exports, and its only symbol:
 *
 *     const p2p_backend_ops *p2p_backend_plugin(void) { return &my_backend; }
 *
 * p2pnet has no such function and loads no plugin. p2pnet-conform does, and so may a program: it looks the symbol up
 * and gives the table to p2p_backend_register. The declaration exports the symbol, with -fvisibility=hidden too.
 * A plugin need not be linked with p2pnet, since a backend calls nothing but what is in its env.
 *
 * @return the table; it stays as it is until p2p_cleanup. Thread: any.
 */
P2P_EXPORT const p2p_backend_ops *p2p_backend_plugin(void);

#ifdef __cplusplus
}
#endif
#endif
