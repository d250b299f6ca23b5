/* Looking inside: counters, and a description of what is registered. */
#include "internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static uint64_t output_queued(const p2p_event_loop_t *loop) {
    uint64_t queued = 0;
    for (size_t slot = 0; slot < loop->registry.size; slot++) {
        const p2pi_entry *entry = p2pi_registry_at(&loop->registry, slot);
        bool sends = entry->kind == P2PI_CONNECTION || entry->kind == P2PI_FRESH; /* connecting by name: fresh */
        if (sends) queued += ((const p2p_socket_t *)entry->owner)->out.queued;
    }
    return queued;
}

int p2p_event_loop_stats(const p2p_event_loop_t *loop, p2p_event_loop_stats_t *out) {
    if (loop == NULL || out == NULL || out->size < sizeof out->size) return p2pi_fail(P2P_ERR_INVALID);
    p2p_event_loop_stats_t stats = loop->stats;
    size_t size = out->size < sizeof stats ? out->size : sizeof stats;
    stats.size = size;
    stats.output_queued = output_queued(loop);
    stats.timers_active = loop->timers.active;
    stats.watches = loop->watch_count;
    stats.remainders = loop->remainder_count;
    stats.lookups = atomic_load_explicit(&loop->lookups.threads, memory_order_relaxed);
    stats.connections = loop->limits.connections;
    stats.half_open = loop->limits.half_open_count;
    memcpy(out, &stats, size);
    return P2P_OK;
}

typedef struct dump_sink {
    p2p_dump_callback callback;
    void *user_data;
    int lines;
} dump_sink;

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static void line(dump_sink *sink, const char *format, ...) {
    char text[320];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    sink->callback(text, sink->user_data);
    sink->lines++;
}

static const char *interest_text(uint32_t mask) {
    static const char *const texts[] = { "nothing", "input", "output", "input and output" };
    return texts[mask & (P2P_IN | P2P_OUT)];
}

static const char *state_text(const p2p_socket_t *sock) {
    static const char *const texts[] = { "fresh", "bound", "listening", "connecting", "connected", "closed" };
    if (sock->remainder) return "closed, still writing";
    return sock->end != 0 ? "ended" : texts[sock->state];
}

static void dump_socket(dump_sink *sink, const p2pi_entry *entry) {
    const p2p_socket_t *sock = entry->owner;
    p2p_address_t local;
    char text[P2P_ADDRESS_TEXT_SIZE] = "no address";
    if (p2p_socket_local_address(sock, &local) == P2P_OK) p2p_address_format(&local, text, sizeof text);
    size_t received = entry->kind == P2PI_CONNECTION && !sock->remainder ? p2pi_inbox_length(sock) : 0;
    line(sink, "socket %lld %s %s %s, waits for %s, %llu bytes received, %llu queued", (long long)sock->handle,
         sock->type == P2P_TCP ? "tcp" : "udp", text, state_text(sock), interest_text(entry->wanted),
         (unsigned long long)received, (unsigned long long)sock->out.queued);
}

int p2p_event_loop_dump(const p2p_event_loop_t *loop, p2p_dump_callback callback, void *user_data) {
    if (loop == NULL || callback == NULL) return p2pi_fail(P2P_ERR_INVALID);
    dump_sink sink = { callback, user_data, 0 };
    line(&sink, "loop on %s: %u sockets, %u watches, %u timers active, %u remainders", loop->ops.name,
         (unsigned)loop->socket_count, (unsigned)loop->watch_count, (unsigned)loop->timers.active,
         (unsigned)loop->remainder_count);
    for (size_t slot = 0; slot < loop->registry.size; slot++) {
        const p2pi_entry *entry = p2pi_registry_at(&loop->registry, slot);
        if (entry->kind == P2PI_FREE || entry->kind == P2PI_GONE) continue;
        if (entry->kind == P2PI_WATCH)
            line(&sink, "watch %lld, waits for %s", (long long)entry->io.handle, interest_text(entry->wanted));
        else
            dump_socket(&sink, entry);
    }
    int64_t left_ns = p2pi_timers_next(&loop->timers) - loop->sys->now_ns();
    if (loop->timers.active > 0) line(&sink, "next timer in %lld us", (long long)(left_ns / 1000));
    return sink.lines;
}
