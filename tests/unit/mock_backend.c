/* The scripted backend. */
#include "mock_backend.h"

mock_state mock;

#define IO_STATE_SIZE 40u
#define OP_STATE_SIZE 24u

static struct {
    unsigned countdown; /* 0: don't */
    int error;
} failures[MOCK_CALLS];

/* What the backend knows of each fake socket. */
static struct {
    uint64_t token;
    uint32_t held;
    bool attached;
    unsigned changes; /* since the last wait, the first registration left out */
} known[FAKE_SOCKETS_MAX];

static p2p_backend_event events[4097];
static int event_count;
static const p2p_buffer_pool *pool;
static bool lent[64];
static p2p_backend instance;

void mock_fail(mock_call call, unsigned nth, int error) {
    failures[call].countdown = nth;
    failures[call].error = error;
}

/* A result as the system gives it, where a case says -errno. */
static int result_of(int result) {
    return result < 0 ? -os_number(-result) : result;
}

/* 0, or the failure that was asked for. */
static int outcome(mock_call call) {
    if (failures[call].countdown == 0 || --failures[call].countdown > 0) return 0;
    return call == MOCK_CREATE ? failures[call].error : -os_number(failures[call].error);
}

/* ---- required ---- */

static int create(p2p_backend **out, const p2p_backend_env *env) {
    journal("create");
    int result = outcome(MOCK_CREATE);
    assert_int_equal(env->size, sizeof *env);
    assert_non_null(env->allocator);
    assert_ptr_equal(env->sys, p2pi_sys());
    if (result < 0) {
        strncpy(env->reason, "the case says so", env->reason_size - 1);
        return result;
    }
    instance.ops = mock.smaller;
    mock.instances++;
    *out = &instance;
    return 0;
}

static void destroy(p2p_backend *backend) {
    assert_ptr_equal(backend, &instance);
    journal("destroy");
    mock.instances--;
}

static int attach(p2p_backend *backend, p2p_io *io) {
    (void)backend;
    int name = journal_name(io->handle);
    journal("attach(%d)", name);
    int result = outcome(MOCK_ATTACH);
    if (result < 0) return result;
    assert_true(io->token != 0);
    assert_false(known[name].attached);
    const unsigned char *state = io->state;
    for (size_t i = 0; i < IO_STATE_SIZE; i++) assert_int_equal(state[i], 0);
    memset(io->state, 0xAA, IO_STATE_SIZE); /* the backend's: the core must not care */
    known[name].attached = true;
    known[name].token = io->token;
    known[name].held = 0;
    known[name].changes = 0;
    return 0;
}

/* The number of a socket that this backend has been told of. */
static int attached(const p2p_io *io) {
    int name = journal_name(io->handle);
    assert_in_range(name, 0, FAKE_SOCKETS_MAX - 1);
    assert_true(known[name].attached);
    assert_true(known[name].token == io->token);
    return name;
}

static int set_interest(p2p_backend *backend, p2p_io *io, uint32_t old_mask, uint32_t new_mask) {
    (void)backend;
    int name = attached(io);
    journal("interest(%d,%u>%u)", name, (unsigned)old_mask, (unsigned)new_mask);
    assert_int_equal(old_mask, known[name].held);
    assert_int_not_equal(old_mask, new_mask);
    assert_int_equal(new_mask & ~(P2P_IN | P2P_OUT), 0);
    int result = outcome(MOCK_SET_INTEREST);
    if (result < 0) return result;
    if (known[name].held != 0) assert_int_equal(known[name].changes++, 0);
    known[name].held = new_mask;
    return 0;
}

static int detach(p2p_backend *backend, p2p_io *io) {
    (void)backend;
    int name = attached(io);
    journal("detach(%d)", name);
    known[name].attached = false;
    if (mock.on_detach != NULL) mock.on_detach(io->token);
    return mock.defer_detach ? P2P_DEFERRED : 0;
}

static int mock_wait(p2p_backend *backend, p2p_backend_event *out, int capacity, int64_t timeout_ns) {
    (void)backend;
    journal("wait(%lld)", (long long)timeout_ns);
    mock.waits++;
    mock.capacity = capacity;
    mock.timeout_ns = timeout_ns;
    for (size_t i = 0; i < FAKE_SOCKETS_MAX; i++) known[i].changes = 0;
    if (mock.on_wait != NULL) mock.on_wait();
    int result = outcome(MOCK_WAIT);
    if (result < 0) return result;
    if (event_count == 0) {
        if (timeout_ns < 0 && mock.on_wait == NULL) fail_msg("waits for ever: %s", journal_take());
        if (timeout_ns > 0) fake_clock_ns += timeout_ns;
        if (timeout_ns > 0) mock.slept_ns += timeout_ns;
        return 0;
    }
    int count = event_count < capacity ? event_count : capacity;
    memcpy(out, events, (size_t)count * sizeof *out);
    event_count -= count;
    memmove(events, events + count, (size_t)event_count * sizeof *events);
    return count;
}

/* Called by other threads too; the cases read the count when those are done. */
static int wake(p2p_backend *backend) {
    (void)backend;
    __atomic_fetch_add(&mock.wakes, 1, __ATOMIC_RELAXED);
    return mock.wake_fails ? -os_number(ENOBUFS) : 0;
}

/* ---- optional ---- */

static int bind_thread(p2p_backend *backend) {
    (void)backend;
    journal("bind_thread");
    return outcome(MOCK_BIND_THREAD);
}

static int pool_bind(p2p_backend *backend, const p2p_buffer_pool *given) {
    (void)backend;
    journal("pool_bind");
    assert_in_range(given->count, 1, sizeof lent);
    pool = given;
    return outcome(MOCK_POOL_BIND);
}

static void buf_recycle(p2p_backend *backend, uint32_t buffer_index) {
    (void)backend;
    assert_in_range(buffer_index, 0, pool->count - 1);
    assert_true(lent[buffer_index]);
    lent[buffer_index] = false;
    mock.lent--;
    memset(pool->slab + (size_t)buffer_index * pool->size, 0xDD, 64); /* nobody may look at it any more */
}

static int recv_start(p2p_backend *backend, p2p_io *io) {
    (void)backend;
    journal("recv_start(%d)", attached(io));
    return outcome(MOCK_RECV_START);
}

static int recv_stop(p2p_backend *backend, p2p_io *io) {
    (void)backend;
    journal("recv_stop(%d)", attached(io));
    return 0;
}

static int mock_submit(p2p_backend *backend) {
    (void)backend;
    mock.submits++;
    return outcome(MOCK_SUBMIT);
}

static int accept_start(p2p_backend *backend, p2p_io *io) {
    (void)backend;
    journal("accept_start(%d)", attached(io));
    return outcome(MOCK_ACCEPT_START);
}

static int accept_stop(p2p_backend *backend, p2p_io *io) {
    (void)backend;
    journal("accept_stop(%d)", attached(io));
    return 0;
}

static int submit(p2p_op *op, mock_call call) {
    int result = outcome(call);
    if (result < 0) return result;
    assert_in_range(mock.request_count, 0, MOCK_REQUESTS_MAX - 1);
    const unsigned char *state = op->state;
    for (size_t i = 0; i < OP_STATE_SIZE; i++) assert_int_equal(state[i], 0);
    memset(op->state, 0xBB, OP_STATE_SIZE);
    mock.requests[mock.request_count++] = (struct mock_request){ op, op->io->token };
    return 0;
}

static size_t op_size(const p2p_op *op) {
    size_t size = 0;
    for (uint32_t i = 0; i < op->iov_count; i++) size += op->iov[i].len;
    return size;
}

static int mock_send(p2p_backend *backend, p2p_op *op) {
    (void)backend;
    int name = attached(op->io);
    journal("send(%d,%u)", name, (unsigned)op_size(op));
    for (unsigned i = 0; i < mock.request_count; i++) /* one a stream (B10) */
        assert_true(mock.requests[i].token != op->io->token);
    return submit(op, MOCK_SEND);
}

static int mock_connect(p2p_backend *backend, p2p_op *op) {
    (void)backend;
    journal("connect(%d)", attached(op->io));
    assert_null(op->iov);
    return submit(op, MOCK_CONNECT);
}

static int cancel(p2p_backend *backend, p2p_op *op) {
    (void)backend;
    journal("cancel(%d)", attached(op->io));
    return 0;
}

p2p_backend_ops *mock_ops(uint32_t groups) {
    bool receive = (groups & MOCK_RECEIVE) != 0, accepts = (groups & MOCK_ACCEPT) != 0;
    bool request = (groups & MOCK_REQUEST) != 0;
    static p2p_backend_ops ops;
    ops = (p2p_backend_ops){
        .size = sizeof ops,
        .abi = P2P_BACKEND_ABI,
        .name = "mock",
        .caps = P2P_CAP_SUBMS_WAIT,
        .io_state_size = IO_STATE_SIZE,
        .op_state_size = OP_STATE_SIZE,
        .create = create,
        .destroy = destroy,
        .set_interest = set_interest,
        .detach = detach,
        .wait = mock_wait,
        .wake = wake,
        .attach = attach,
        .bind_thread = bind_thread,
        .pool_bind = receive ? pool_bind : NULL,
        .buf_recycle = receive ? buf_recycle : NULL,
        .recv_start = receive ? recv_start : NULL,
        .recv_stop = receive ? recv_stop : NULL,
        .accept_start = accepts ? accept_start : NULL,
        .accept_stop = accepts ? accept_stop : NULL,
        .send = request ? mock_send : NULL,
        .connect = request ? mock_connect : NULL,
        .cancel = request ? cancel : NULL,
        .submit = mock_submit,
    };
    return &ops;
}

/* ---- events ---- */

uint64_t mock_token(p2p_handle_t handle) {
    return known[journal_name(handle)].token;
}

void mock_event(p2p_backend_event event) {
    assert_in_range(event_count, 0, COUNT_OF(events) - 1);
    events[event_count++] = event;
}

void mock_ready(p2p_handle_t handle, uint32_t flags) {
    mock_event((p2p_backend_event){ .token = mock_token(handle), .kind = P2P_EVENT_READY, .flags = (uint16_t)flags });
}

void mock_receive(uint64_t token, const void *data, size_t size, uint32_t flags) {
    uint32_t index = 0;
    while (index < pool->count && lent[index]) index++;
    assert_in_range(index, 0, pool->count - 1);
    assert_in_range(size, 1, pool->size);
    memcpy(pool->slab + (size_t)index * pool->size, data, size);
    lent[index] = true;
    mock.lent++;
    p2p_backend_event event = { .token = token, .kind = P2P_EVENT_RECV, .flags = (uint16_t)flags };
    event.result = (int32_t)size;
    event.u.buffer.index = index;
    event.u.buffer.offset = 0;
    mock_event(event);
}

void mock_receive_text(uint64_t token, const char *text, uint32_t flags) {
    uint8_t frame[1024];
    mock_receive(token, frame, raw_frame(frame, text, (uint32_t)strlen(text)), flags);
}

void mock_receive_result(uint64_t token, int result, uint32_t flags) {
    mock_event((p2p_backend_event){
        .token = token, .kind = P2P_EVENT_RECV, .flags = (uint16_t)flags, .result = result_of(result) });
}

p2p_handle_t mock_accept(uint64_t token, uint32_t flags) {
    p2p_backend_event event = { .token = token, .kind = P2P_EVENT_ACCEPT, .flags = (uint16_t)flags };
    event.u.handle = fake_handle(P2P_SYS_STREAM | P2P_SYS_BOUND | P2P_SYS_CONNECTED);
    mock_event(event);
    return event.u.handle;
}

void mock_accept_error(uint64_t token, int error, uint32_t flags) {
    mock_event((p2p_backend_event){
        .token = token, .kind = P2P_EVENT_ACCEPT, .flags = (uint16_t)flags, .result = result_of(-error) });
}

void mock_complete(int result) {
    assert_in_range(mock.request_count, 1, MOCK_REQUESTS_MAX);
    struct mock_request request = mock.requests[0];
    mock.request_count--;
    memmove(mock.requests, mock.requests + 1, mock.request_count * sizeof *mock.requests);
    size_t left = result > 0 ? (size_t)result : 0;
    for (uint32_t i = 0; i < request.op->iov_count && left > 0; i++) {
        size_t part = request.op->iov[i].len < left ? request.op->iov[i].len : left;
        bool fits = part <= sizeof mock.sent - mock.sent_length;
        memcpy(mock.sent + (fits ? mock.sent_length : 0), request.op->iov[i].base, part); /* read it in any case */
        mock.sent_length = fits ? mock.sent_length + part : sizeof mock.sent;
        left -= part;
    }
    p2p_backend_event event = { .token = request.token, .kind = P2P_EVENT_OP_DONE, .result = result_of(result) };
    event.u.op = request.op;
    mock_event(event);
}

void mock_detached(uint64_t token) {
    mock_event((p2p_backend_event){ .token = token, .kind = P2P_EVENT_DETACHED });
}

/* ---- around a case ---- */

int mock_setup(void **state) {
    (void)state;
    memset(&mock, 0, offsetof(mock_state, sent));
    memset(failures, 0, sizeof failures);
    memset(known, 0, sizeof known);
    memset(lent, 0, sizeof lent);
    event_count = 0;
    fake_sys_reset();
    return fixture_start(fake_sys(), NULL);
}

int mock_teardown(void **state) {
    assert_int_equal(mock.instances, 0);
    assert_int_equal(mock.lent, 0);
    assert_int_equal(fake_open_count(), 0);
    return fixture_teardown(state);
}

p2p_event_loop_t *mock_loop(uint32_t groups, const p2p_event_loop_options_t *options) {
    p2p_event_loop_options_t chosen = P2P_EVENT_LOOP_OPTIONS_INIT;
    if (options != NULL) chosen = *options;
    chosen.backend = "mock";
    assert_int_equal(p2p_backend_register(mock_ops(groups)), 0);
    p2p_event_loop_t *loop = loop_create(&chosen);
    journal_take();
    return loop;
}

int mock_turn(p2p_event_loop_t *loop) {
    int result = p2p_event_loop_run_once(loop, 0);
    assert_true(result >= 0);
    return result;
}
