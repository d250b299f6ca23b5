/*
 * The choice of a backend, and the completion of its table: checked once, and every optional slot left empty
 * filled with the emulation's, so that no other file asks what a backend can do.
 */
#include "internal.h"

#include "../backends/list.h"

#include <string.h>

#define STATE_SIZE_MAX 256u
#define NAME_SIZE sizeof(((p2p_backend_report_t *)0)->name)
#define REQUIRED_SIZE offsetof(p2p_backend_ops, attach)

static bool all_or_none(size_t present, size_t of) {
    return present == 0 || present == of;
}

static bool groups_whole(const p2p_backend_ops *ops) {
    size_t receive = (ops->pool_bind != NULL) + (size_t)(ops->buf_recycle != NULL) + (ops->recv_start != NULL) +
                     (ops->recv_stop != NULL);
    size_t accept = (ops->accept_start != NULL) + (size_t)(ops->accept_stop != NULL);
    size_t request = (ops->send != NULL) + (size_t)(ops->connect != NULL) + (ops->cancel != NULL);
    return all_or_none(receive, 4) && all_or_none(accept, 2) && all_or_none(request, 3);
}

static void fill(p2p_backend_ops *ops) {
    const p2p_backend_ops *with = &p2pi_emulation;
    if (ops->attach == NULL) ops->attach = with->attach;
    if (ops->bind_thread == NULL) ops->bind_thread = with->bind_thread;
    if (ops->handle == NULL) ops->handle = with->handle;
    if (ops->submit == NULL) ops->submit = with->submit;
    if (ops->pool_bind == NULL) {
        ops->pool_bind = with->pool_bind;
        ops->buf_recycle = with->buf_recycle;
        ops->recv_start = with->recv_start;
        ops->recv_stop = with->recv_stop;
    }
    if (ops->accept_start == NULL) {
        ops->accept_start = with->accept_start;
        ops->accept_stop = with->accept_stop;
    }
    if (ops->send == NULL) {
        ops->send = with->send;
        ops->connect = with->connect;
        ops->cancel = with->cancel;
    }
}

/* Copy the part of a table that both sides know into a whole one. */
int p2pi_resolve_table(const p2p_backend_ops *given, p2p_backend_ops *complete) {
    if (given == NULL || given->abi != P2P_BACKEND_ABI || given->size < REQUIRED_SIZE) return P2P_ERR_INVALID;
    size_t size = given->size < sizeof *complete ? given->size : sizeof *complete;
    size -= (size - REQUIRED_SIZE) % sizeof given->attach; /* whole slots only */
    memset(complete, 0, sizeof *complete);
    memcpy(complete, given, size);
    complete->size = sizeof *complete;
    bool named = complete->name != NULL && complete->name[0] != '\0' && strlen(complete->name) < NAME_SIZE;
    bool whole = named && complete->create != NULL &&
                 complete->destroy != NULL && complete->set_interest != NULL && complete->detach != NULL &&
                 complete->wait != NULL && complete->wake != NULL && complete->io_state_size <= STATE_SIZE_MAX &&
                 complete->op_state_size <= STATE_SIZE_MAX && groups_whole(complete);
    if (!whole) return P2P_ERR_INVALID;
    fill(complete);
    return P2P_OK;
}

/* ---- what there is --------------------------------------------------------------------------------------- */

static const p2pi_backend_known *known(const char *name) {
    for (size_t i = 0; i < p2pi_backends_known_count; i++)
        if (strcmp(p2pi_backends_known[i].name, name) == 0) return &p2pi_backends_known[i];
    return NULL;
}

const p2p_backend_ops *p2p_backend_find(const char *name) {
    const p2pi_backend_known *built_in = name == NULL ? NULL : known(name);
    if (built_in != NULL && built_in->ops != NULL) return built_in->ops;
    for (size_t i = 0; name != NULL && i < p2pi_registered_count(); i++)
        if (strcmp(p2pi_registered_at(i)->name, name) == 0) return p2pi_registered_at(i);
    p2pi_fail(name == NULL ? P2P_ERR_INVALID : P2P_ERR_NOT_FOUND);
    return NULL;
}

size_t p2p_backend_list(const char **names, size_t capacity) {
    size_t count = 0;
    for (size_t i = 0; i < p2pi_backends_known_count; i++) {
        if (p2pi_backends_known[i].ops == NULL) continue;
        if (count < capacity) names[count] = p2pi_backends_known[i].name;
        count++;
    }
    for (size_t i = 0; i < p2pi_registered_count(); i++, count++)
        if (count < capacity) names[count] = p2pi_registered_at(i)->name;
    return count;
}

/* ---- the report ------------------------------------------------------------------------------------------- */

/* This thread's last creation: a failed one leaves no loop to ask. */
static _Thread_local struct {
    p2p_backend_report_t records[P2P_BACKEND_CANDIDATES_MAX];
    size_t count;
} last_report;

size_t p2p_event_loop_backend_report(const p2p_event_loop_t *loop, p2p_backend_report_t *out, size_t capacity) {
    const p2p_backend_report_t *records = loop != NULL ? loop->report : last_report.records;
    size_t count = loop != NULL ? loop->report_count : last_report.count;
    for (size_t i = 0; i < count && i < capacity; i++) out[i] = records[i];
    return count;
}

const char *p2p_backend_verdict_name(p2p_backend_verdict_t verdict) {
    switch (verdict) {
        case P2P_BACKEND_CHOSEN: return "chosen";
        case P2P_BACKEND_REFUSED: return "refused";
        case P2P_BACKEND_NOT_BUILT: return "not built";
        case P2P_BACKEND_UNKNOWN: return "unknown";
        case P2P_BACKEND_NOT_TRIED: return "not tried";
        default: return "?";
    }
}

static void say(p2p_backend_report_t *record, p2p_backend_verdict_t verdict, int error, const char *reason) {
    record->verdict = verdict;
    record->error = error;
    if (reason != NULL) {
        size_t length = strlen(reason);
        if (length >= sizeof record->reason) length = sizeof record->reason - 1;
        memcpy(record->reason, reason, length);
        record->reason[length] = '\0';
    }
}

/* ---- the choice --------------------------------------------------------------------------------------------- */

/* The next name of a comma list; blanks around it don't count. */
static bool next_name(const char **list, char *name, size_t size) {
    while (**list == ',' || **list == ' ') ++*list;
    size_t length = 0;
    while (**list != '\0' && **list != ',') {
        if (length + 1 < size) name[length++] = **list;
        ++*list;
    }
    while (length > 0 && name[length - 1] == ' ') length--;
    name[length] = '\0';
    return length > 0;
}

static void read_candidates(p2p_event_loop_t *loop) {
    const char *list = loop->options.backend;
    if (list == NULL && !loop->options.ignore_environment) list = loop->sys->environment("P2P_BACKEND");
    if (list == NULL || list[0] == '\0') list = p2pi_backends_automatic;
    p2p_backend_report_t *records = loop->report;
    while (loop->report_count < P2P_BACKEND_CANDIDATES_MAX &&
           next_name(&list, records[loop->report_count].name, sizeof records->name))
        say(&records[loop->report_count++], P2P_BACKEND_NOT_TRIED, 0, NULL);
}

static int instantiate(p2p_event_loop_t *loop, const p2p_backend_ops *ops, p2p_backend_report_t *record) {
    char reason[sizeof record->reason] = "";
    p2p_backend_env env = {
        .size = sizeof env,
        .max_events = loop->options.max_events,
        .allocator = p2pi_allocator(),
        .sys = loop->sys,
        .reason = reason,
        .reason_size = sizeof reason,
        .receive_buffers = loop->options.receive_buffers,
    };
    p2p_backend *backend = NULL;
    p2pi_clear_error();
    int result = ops->create(&backend, &env);
    if (result < 0) {
        say(record, P2P_BACKEND_REFUSED, result, reason[0] != '\0' ? reason : p2p_error_message(result));
        return result;
    }
    /* The instance may have brought a smaller table. */
    result = p2pi_resolve_table(backend->ops != NULL ? backend->ops : ops, &loop->ops);
    if (result < 0) {
        ops->destroy(backend);
        say(record, P2P_BACKEND_REFUSED, result, "its instance has an invalid table");
        return result;
    }
    loop->backend = backend;
    loop->stage.capacity = loop->ops.send == p2pi_emulation.send ? P2PI_STAGE_SIZE : 0;
    say(record, P2P_BACKEND_CHOSEN, 0, NULL);
    return P2P_OK;
}

static int try_candidate(p2p_event_loop_t *loop, p2p_backend_report_t *record) {
    const p2p_backend_ops *ops = p2p_backend_find(record->name);
    int result = P2P_OK;
    if (ops != NULL) {
        result = instantiate(loop, ops, record);
    } else if (known(record->name) != NULL) {
        result = P2P_ERR_NOT_SUPPORTED;
        say(record, P2P_BACKEND_NOT_BUILT, result, "not part of this build");
    } else {
        result = P2P_ERR_NOT_FOUND;
        say(record, P2P_BACKEND_UNKNOWN, result, "no backend has this name");
    }
    p2pi_log(result < 0 ? P2P_LOG_WARNING : P2P_LOG_DEBUG, "backend %s: %s%s%s", record->name,
             p2p_backend_verdict_name(record->verdict), record->reason[0] != '\0' ? ": " : "", record->reason);
    return result;
}

/* Only "not on this machine" leads on to the next; a lack of memory or descriptors would follow along. */
int p2pi_resolve_backend(p2p_event_loop_t *loop) {
    read_candidates(loop);
    int result = P2P_ERR_NOT_FOUND;
    for (size_t i = 0; i < loop->report_count; i++) {
        result = try_candidate(loop, &loop->report[i]);
        if (result != P2P_ERR_NOT_SUPPORTED && result != P2P_ERR_NOT_FOUND) break;
    }
    memcpy(last_report.records, loop->report, sizeof last_report.records);
    last_report.count = loop->report_count;
    return result < 0 ? p2pi_fail(result) : P2P_OK;
}
