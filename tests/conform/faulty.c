/*
 * A plugin that passes each call on to a built-in backend and breaks one rule, named by the environment variable
 * FAULT: what p2pnet-conform has to notice. Without it, it breaks none.
 */
#include <p2pnet/backend.h>

#include <stdlib.h>
#include <string.h>

typedef struct faulty {
    p2p_backend head;
    p2p_backend *inner;
    const p2p_allocator *allocator;
    uint64_t detached; /* the token of the last one */
    void *nowhere;
} faulty;

static const p2p_backend_ops *inner_ops;

static int has(const char *fault) {
    const char *chosen = getenv("FAULT");
    return chosen != NULL && strcmp(chosen, fault) == 0;
}

static int create(p2p_backend **out, const p2p_backend_env *env) {
    if (has("create_is_not_supported") || has("create_fails")) {
        strcpy(env->reason, "frob_open: no frobs here");
        return has("create_fails") ? P2P_ERR_SYSTEM : P2P_ERR_NOT_SUPPORTED;
    }
    faulty *self = env->allocator->alloc(sizeof *self, env->allocator->user);
    if (self == NULL) {
        strcpy(env->reason, "no memory");
        return P2P_ERR_NO_MEMORY;
    }
    *self = (faulty){ .allocator = env->allocator };
    int result = inner_ops->create(&self->inner, env);
    if (result < 0) env->allocator->free(self, env->allocator->user);
    else *out = &self->head;
    return result;
}

static void destroy(p2p_backend *head) {
    faulty *self = (faulty *)head;
    inner_ops->destroy(self->inner);
    self->allocator->free(self, self->allocator->user);
}

static int set_interest(p2p_backend *head, p2p_io *io, uint32_t old_mask, uint32_t new_mask) {
    return inner_ops->set_interest(((faulty *)head)->inner, io, old_mask, new_mask);
}

static int detach(p2p_backend *head, p2p_io *io) {
    faulty *self = (faulty *)head;
    self->detached = io->token;
    return inner_ops->detach(self->inner, io);
}

/* @return how many are left without the flag, and without those that had no other. */
static int drop(p2p_backend_event *events, int count, unsigned flag) {
    int left = count < 0 ? count : 0;
    for (int i = 0; i < count; i++) {
        events[i].flags = (uint16_t)(events[i].flags & ~flag);
        if (events[i].flags != 0) events[left++] = events[i];
    }
    return left;
}

static int wait(p2p_backend *head, p2p_backend_event *out, int capacity, int64_t timeout_ns) {
    faulty *self = (faulty *)head;
    if (has("allocates_in_wait"))
        self->allocator->free(self->allocator->alloc(1, self->allocator->user), self->allocator->user);
    if (has("crashes_in_wait")) *(volatile int *)self->nowhere = 1;
    if (has("aborts_in_wait")) abort();
    while (has("hangs_in_wait")) continue;
    int count = inner_ops->wait(self->inner, out, capacity, timeout_ns);
    if (has("forgets_hangups")) count = drop(out, count, P2P_HUP);
    if (has("events_after_detach") && self->detached != 0 && count >= 0 && count < capacity) {
        out[count++] = (p2p_backend_event){ .token = self->detached, .kind = P2P_EVENT_READY, .flags = P2P_IN };
        self->detached = 0;
    }
    return count;
}

static int wake(p2p_backend *head) {
    return has("loses_wakes") ? 0 : inner_ops->wake(((faulty *)head)->inner);
}

static p2p_backend_ops faulty_ops = {
    .size = sizeof(p2p_backend_ops),
    .abi = P2P_BACKEND_ABI,
    .name = "faulty",
    .create = create,
    .destroy = destroy,
    .set_interest = set_interest,
    .detach = detach,
    .wait = wait,
    .wake = wake,
};

const p2p_backend_ops *p2p_backend_plugin(void) {
    inner_ops = p2p_backend_find("poll");
    if (inner_ops == NULL) inner_ops = p2p_backend_find("wsapoll");
    faulty_ops.caps = inner_ops->caps;
    faulty_ops.io_state_size = inner_ops->io_state_size;
    if (has("bears_the_name_of_another")) faulty_ops.name = inner_ops->name;
    if (has("lacks_a_function")) faulty_ops.wake = NULL;
    return has("has_no_table") ? NULL : &faulty_ops;
}
