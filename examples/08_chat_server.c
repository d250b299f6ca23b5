/*
 * A chat room. A line of text is a message; what one member says is sent to all, the speaker included.
 *
 *   08_chat_server [--backend NAME] [--address A] [--port N]
 *
 * Lines that begin with a slash are commands: /nick NAME, /who, /quit.
 */
#include "common.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_SIZE 24
#define TEXT_MAX 2000 /* bytes of one line */

typedef struct member {
    struct room *room;
    p2p_socket_t *socket;
    char name[NAME_SIZE];
    unsigned long missed; /* lines since it was told of such */
    struct member *next;
} member_t;

typedef struct room {
    p2p_event_loop_t *loop;
    member_t *members;
    unsigned long guests; /* so far, to name the next one */
    unsigned long lines;
    unsigned long skipped; /* copies not sent, since the member reads too slowly */
} room_t;

/* ---- saying something --------------------------------------------------------------------- */

static p2p_message_t *make_line(const char *format, va_list arguments) {
    char line[TEXT_MAX + 2 * NAME_SIZE + 40];
    int length = vsnprintf(line, sizeof line, format, arguments);
    if (length < 0) return NULL;
    size_t size = (size_t)length < sizeof line ? (size_t)length : sizeof line - 1;
    return p2p_message_create(line, (uint32_t)size);
}

static void send_line(member_t *member, const p2p_message_t *message) {
    /* One who doesn't read misses lines; the others don't wait. A broken connection is told to on_error. */
    bool room_in_queue = member->missed == 0 && p2p_message_send(member->socket, message) != P2P_ERR_QUEUE_FULL;
    if (room_in_queue) return;
    member->missed++;
    member->room->skipped++;
}

#if defined(__GNUC__)
#  define PRINTF_LIKE __attribute__((format(printf, 2, 3)))
#else
#  define PRINTF_LIKE
#endif

PRINTF_LIKE static void tell_one(member_t *member, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    p2p_message_t *message = make_line(format, arguments);
    va_end(arguments);
    if (message != NULL) send_line(member, message);
    p2p_message_free(message);
}

/* One message for all: it may be sent any number of times, and freed at once. */
PRINTF_LIKE static void tell_all(room_t *room, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    p2p_message_t *message = make_line(format, arguments);
    va_end(arguments);
    if (message == NULL) return;
    for (member_t *member = room->members; member != NULL; member = member->next) send_line(member, message);
    p2p_message_free(message);
}

/* ---- coming, going, talking --------------------------------------------------------------- */

static void leave(member_t *member) {
    room_t *room = member->room;
    member_t **link = &room->members;
    while (*link != member) link = &(*link)->next;
    *link = member->next;
    /* What is still queued for it, the loop sends before it closes. No callback of it runs any more. */
    p2p_socket_close(member->socket);
    tell_all(room, "* %s left", member->name);
    free(member);
}

static member_t *find_member(const room_t *room, const char *name) {
    for (member_t *member = room->members; member != NULL; member = member->next) {
        if (strcmp(member->name, name) == 0) return member;
    }
    return NULL;
}

static void rename_member(member_t *member, const char *name) {
    size_t length = strlen(name);
    if (length == 0 || length >= NAME_SIZE || strchr(name, ' ') != NULL) {
        tell_one(member, "* a name has 1 to %d bytes and no spaces", NAME_SIZE - 1);
    } else if (find_member(member->room, name) != NULL) {
        tell_one(member, "* the name %s is taken", name);
    } else {
        tell_all(member->room, "* %s is now called %s", member->name, name);
        memcpy(member->name, name, length + 1);
    }
}

static void list_members(member_t *member) {
    for (const member_t *other = member->room->members; other != NULL; other = other->next) {
        tell_one(member, "* %s%s", other->name, other == member ? " (you)" : "");
    }
}

static void on_line(p2p_socket_t *socket, const void *data, uint32_t length, void *user_data) {
    (void)socket;
    member_t *member = user_data;
    char line[TEXT_MAX + 1];
    if (length > TEXT_MAX) {
        tell_one(member, "* not sent: a line has at most %d bytes", TEXT_MAX);
        return;
    }
    /* Control characters could play tricks on the others' terminals. */
    for (uint32_t i = 0; i < length; i++) {
        char byte = ((const char *)data)[i];
        line[i] = (unsigned char)byte < ' ' || byte == 127 ? ' ' : byte;
    }
    line[length] = '\0';

    if (strncmp(line, "/nick ", 6) == 0) {
        rename_member(member, line + 6);
    } else if (strcmp(line, "/who") == 0) {
        list_members(member);
    } else if (strcmp(line, "/quit") == 0) {
        leave(member);
    } else if (line[0] == '/') {
        tell_one(member, "* commands: /nick NAME, /who, /quit");
    } else if (length > 0) {
        member->room->lines++;
        tell_all(member->room, "<%s> %s", member->name, line);
    }
}

static void on_end(p2p_socket_t *socket, void *user_data) {
    (void)socket;
    leave(user_data);
}

static void on_error(p2p_socket_t *socket, int error, void *user_data) {
    (void)socket, (void)error;
    leave(user_data);
}

/* It reads again: from the next line on it gets all, and shall know how many it did not. */
static void on_drained(p2p_socket_t *socket, void *user_data) {
    (void)socket;
    member_t *member = user_data;
    unsigned long missed = member->missed;
    member->missed = 0;
    if (missed > 0) tell_one(member, "* you missed %lu lines", missed);
}

static const p2p_socket_callbacks_t member_callbacks = {
    .size = sizeof(p2p_socket_callbacks_t),
    .on_read = on_end,
    .on_message = on_line,
    .on_write = on_drained,
    .on_error = on_error,
};

static void on_connection(p2p_socket_t *listener, void *user_data) {
    room_t *room = user_data;
    p2p_socket_t *socket = p2p_socket_accept(listener);
    if (socket == NULL) return;
    member_t *member = calloc(1, sizeof *member);
    if (member == NULL || p2p_event_loop_add_socket_with(room->loop, socket, &member_callbacks, member) < 0) {
        free(member);
        p2p_socket_close(socket);
        return;
    }
    member->room = room;
    member->socket = socket;
    do {
        snprintf(member->name, sizeof member->name, "guest%lu", ++room->guests);
    } while (find_member(room, member->name) != NULL);
    member->next = room->members;
    room->members = member;
    tell_one(member, "* welcome, %s; commands: /nick NAME, /who, /quit", member->name);
    tell_all(room, "* %s joined", member->name);
}

static void on_accept_error(p2p_socket_t *listener, int error, void *user_data) {
    (void)listener, (void)user_data;
    fprintf(stderr, "accept: %s\n", p2p_error_message(error));
}

static const p2p_socket_callbacks_t listener_callbacks = {
    .size = sizeof(p2p_socket_callbacks_t),
    .on_read = on_connection,
    .on_error = on_accept_error,
};

/* ---- setting up --------------------------------------------------------------------------- */

static int serve(room_t *room, p2p_socket_t *listener, const options_t *options) {
    p2p_address_t address;
    char text[P2P_ADDRESS_TEXT_SIZE];
    if (p2p_socket_bind(listener, options->address, options->port) < 0) return fail("bind");
    if (p2p_socket_listen(listener, 128) < 0) return fail("listen");
    if (p2p_event_loop_add_socket_with(room->loop, listener, &listener_callbacks, room) < 0) return fail("add");
    if (p2p_socket_local_address(listener, &address) < 0) return fail("local address");
    p2p_address_format(&address, text, sizeof text);
    printf("listening on %s (backend %s)\n", text, p2p_event_loop_backend_name(room->loop));
    fflush(stdout);

    p2p_event_loop_run(room->loop);
    if (p2p_last_error() != 0) return fail("run");
    printf("%lu guests, %lu lines, %lu copies skipped\n", room->guests, room->lines, room->skipped);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv) {
    options_t options = { NULL, "127.0.0.1", 8080 };
    parse_options(argc, argv, &options, "");

    if (p2p_init() < 0) return fail("p2pnet");
    p2p_event_loop_options_t loop_options = P2P_EVENT_LOOP_OPTIONS_INIT;
    loop_options.backend = options.backend;
    room_t room = { .loop = p2p_event_loop_create_with(&loop_options) };
    p2p_socket_t *listener = p2p_socket_create(P2P_TCP);
    int status = EXIT_FAILURE;
    if (room.loop == NULL) {
        fail_loop();
    } else if (listener == NULL) {
        fail("socket");
    } else {
        stop_on_ctrl_c(room.loop);
        status = serve(&room, listener, &options);
    }

    stop_on_ctrl_c(NULL);
    tell_all(&room, "* the server is closing");
    for (member_t *member = room.members, *next; member != NULL; member = next) {
        next = member->next;
        p2p_socket_close(member->socket);
        free(member);
    }
    p2p_event_loop_free(room.loop);
    p2p_socket_close(listener);
    p2p_cleanup();
    return status;
}
