/* The choice of a backend and the checking of its table (core/resolve.c). */
#include "mock_backend.h"

#include <stdio.h>
#include <stdlib.h>

#define REQUIRED_SIZE offsetof(p2p_backend_ops, attach)

/* ---- tables ---- */

static p2p_backend_ops whole(void) {
    return *mock_ops(MOCK_NATIVE);
}

static void a_whole_table_is_taken_as_it_is(void **state) {
    (void)state;
    p2p_backend_ops given = whole(), complete;
    assert_int_equal(p2pi_resolve_table(&given, &complete), 0);
    assert_ptr_equal(complete.send, given.send);
    assert_ptr_equal(complete.recv_start, given.recv_start);
    assert_ptr_equal(complete.attach, given.attach);
    assert_ptr_equal(complete.handle, p2pi_emulation.handle); /* the one slot the mock leaves empty */
    assert_int_equal(complete.io_state_size, given.io_state_size);
}

static void empty_slots_are_filled(void **state) {
    (void)state;
    p2p_backend_ops given = *mock_ops(0), complete;
    given.attach = NULL;
    given.bind_thread = NULL;
    assert_int_equal(p2pi_resolve_table(&given, &complete), 0);
    assert_true(complete.attach != NULL && complete.bind_thread != NULL && complete.handle != NULL);
    assert_true(complete.pool_bind != NULL && complete.buf_recycle != NULL);
    assert_true(complete.recv_start != NULL && complete.recv_stop != NULL);
    assert_true(complete.accept_start != NULL && complete.accept_stop != NULL);
    assert_true(complete.send != NULL && complete.connect != NULL && complete.cancel != NULL);
}

/* Compiled against an older header: what lies behind its table is somebody else's memory. */
static void a_short_table_is_taken_and_what_lies_behind_it_is_not(void **state) {
    (void)state;
    static const size_t sizes[] = { REQUIRED_SIZE, offsetof(p2p_backend_ops, pool_bind),
                                    offsetof(p2p_backend_ops, accept_start), offsetof(p2p_backend_ops, send),
                                    offsetof(p2p_backend_ops, handle) };
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        p2p_backend_ops model = whole(), complete, *given = malloc(sizes[i]); /* ASan guards its end */
        assert_non_null(given);
        memcpy(given, &model, sizes[i]);
        given->size = (uint32_t)sizes[i];
        assert_int_equal(p2pi_resolve_table(given, &complete), 0);
        free(given);
        assert_int_equal(complete.size, sizeof complete);
        assert_ptr_equal(complete.handle, p2pi_emulation.handle);
        bool has_requests = sizes[i] >= offsetof(p2p_backend_ops, handle);
        assert_ptr_equal(complete.send, has_requests ? model.send : p2pi_emulation.send);
        bool has_receive = sizes[i] >= offsetof(p2p_backend_ops, accept_start);
        assert_ptr_equal(complete.recv_start, has_receive ? model.recv_start : p2pi_emulation.recv_start);
        assert_ptr_equal(complete.attach, i == 0 ? p2pi_emulation.attach : model.attach);
    }
}

static void a_short_table_with_garbage_behind_it_works(void **state) {
    (void)state;
    struct {
        p2p_backend_ops ops;
        unsigned char garbage[64];
    } given;
    memset(&given, 0xA5, sizeof given);
    memcpy(&given.ops, mock_ops(0), REQUIRED_SIZE);
    given.ops.size = REQUIRED_SIZE;
    given.ops.name = "short";
    assert_int_equal(p2p_backend_register(&given.ops), 0);
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.backend = "short";
    p2p_event_loop_t *loop = p2p_event_loop_create_with(&options);
    assert_non_null(loop);
    assert_string_equal(p2p_event_loop_backend_name(loop), "short");
    mock_turn(loop);
    p2p_event_loop_free(loop);
}

static void a_longer_table_is_taken_as_far_as_it_is_known(void **state) {
    (void)state;
    struct {
        p2p_backend_ops ops;
        void *later;
    } given = { whole(), &given };
    p2p_backend_ops complete;
    given.ops.size = sizeof given;
    assert_int_equal(p2pi_resolve_table(&given.ops, &complete), 0);
    assert_int_equal(complete.size, sizeof complete);
}

static void expect_refused(const p2p_backend_ops *given) {
    p2p_backend_ops complete;
    assert_int_equal(p2pi_resolve_table(given, &complete), P2P_ERR_INVALID);
    assert_int_equal(p2p_backend_register(given), P2P_ERR_INVALID);
    assert_int_equal(p2p_last_error(), P2P_ERR_INVALID);
}

static void a_table_that_is_cut_or_of_another_kind_is_refused(void **state) {
    (void)state;
    expect_refused(NULL);
    static const uint32_t sizes[] = { 0, 1, 8, offsetof(p2p_backend_ops, create), offsetof(p2p_backend_ops, wake),
                                      REQUIRED_SIZE - 1 };
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        p2p_backend_ops given = whole();
        given.size = sizes[i];
        expect_refused(&given);
    }
    static const uint32_t abis[] = { 0, P2P_BACKEND_ABI + 1, UINT32_MAX };
    for (size_t i = 0; i < COUNT_OF(abis); i++) {
        p2p_backend_ops given = whole();
        given.abi = abis[i];
        expect_refused(&given);
    }
}

static void a_table_without_a_required_part_is_refused(void **state) {
    (void)state;
    for (int i = 0; i < 10; i++) {
        p2p_backend_ops given = whole();
        switch (i) {
        case 0: given.create = NULL; break;
        case 1: given.destroy = NULL; break;
        case 2: given.set_interest = NULL; break;
        case 3: given.detach = NULL; break;
        case 4: given.wait = NULL; break;
        case 5: given.wake = NULL; break;
        case 6: given.name = NULL; break;
        case 7: given.name = ""; break;
        case 8: given.io_state_size = 257; break;
        case 9: given.op_state_size = 257; break;
        }
        expect_refused(&given);
    }
}

static void half_a_group_is_refused(void **state) {
    (void)state;
    for (int i = 0; i < 9; i++)
        for (int alone = 0; alone < 2; alone++) { /* one is missing, or only one is there */
            p2p_backend_ops all = whole(), given = alone ? *mock_ops(0) : all;
#define TAKE(slot) given.slot = alone ? all.slot : NULL
            switch (i) {
            case 0: TAKE(pool_bind); break;
            case 1: TAKE(buf_recycle); break;
            case 2: TAKE(recv_start); break;
            case 3: TAKE(recv_stop); break;
            case 4: TAKE(accept_start); break;
            case 5: TAKE(accept_stop); break;
            case 6: TAKE(send); break;
            case 7: TAKE(connect); break;
            case 8: TAKE(cancel); break;
            }
#undef TAKE
            expect_refused(&given);
        }
}

static void a_name_is_registered_once(void **state) {
    (void)state;
    assert_int_equal(p2p_backend_register(mock_ops(0)), 0);
    assert_int_equal(p2p_backend_register(mock_ops(0)), P2P_ERR_ALREADY);
    p2p_backend_ops given = whole();
    const char *names[32];
    size_t count = p2p_backend_list(names, COUNT_OF(names));
    for (size_t i = 0; i < count; i++) {
        given.name = names[i]; /* built in, or the mock's */
        assert_int_equal(p2p_backend_register(&given), P2P_ERR_ALREADY);
    }
    assert_ptr_equal(p2p_backend_find("mock"), mock_ops(0));
    assert_null(p2p_backend_find("nobody"));
    assert_int_equal(p2p_last_error(), P2P_ERR_NOT_FOUND);
    assert_string_equal(names[count - 1], "mock"); /* behind the built-in ones */
}

static void there_is_room_for_so_many_and_no_more(void **state) {
    (void)state;
    static p2p_backend_ops tables[P2P_BACKEND_CANDIDATES_MAX + 1];
    static char names[COUNT_OF(tables)][8];
    for (size_t i = 0; i < COUNT_OF(tables); i++) {
        snprintf(names[i], sizeof names[i], "m%u", (unsigned)(i % 100));
        tables[i] = *mock_ops(0);
        tables[i].name = names[i];
        int expected = i < P2P_BACKEND_CANDIDATES_MAX ? 0 : P2P_ERR_LIMIT;
        assert_int_equal(p2p_backend_register(&tables[i]), expected);
    }
}

static void the_table_of_the_instance_is_the_one_that_counts(void **state) {
    (void)state;
    static p2p_backend_ops smaller;
    smaller = *mock_ops(MOCK_RECEIVE);
    assert_int_equal(p2p_backend_register(mock_ops(MOCK_NATIVE)), 0);
    mock.smaller = &smaller;
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.backend = "mock";
    p2p_event_loop_t *loop = p2p_event_loop_create_with(&options);
    assert_non_null(loop);
    EXPECT_JOURNAL("create pool_bind");
    assert_ptr_equal(loop->ops.recv_start, smaller.recv_start);
    assert_ptr_equal(loop->ops.send, p2pi_emulation.send);
    p2p_event_loop_free(loop);
    smaller.wait = NULL;
    assert_null(p2p_event_loop_create_with(&options));
    assert_int_equal(p2p_last_error(), P2P_ERR_INVALID);
    EXPECT_JOURNAL("destroy create destroy");
}

/* ---- the choice ---- */

static p2p_backend_report_t report[P2P_BACKEND_CANDIDATES_MAX];
static p2p_backend_ops second;

/* Makes a loop and frees it. Gives its name, or the error's, and the report, as text. */
static const char *choose(const char *names, int ignore_environment) {
    static char text[1024];
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.backend = names;
    options.ignore_environment = ignore_environment;
    p2p_event_loop_t *loop = p2p_event_loop_create_with(&options);
    int error = loop == NULL ? p2p_last_error() : 0;
    size_t count = p2p_event_loop_backend_report(NULL, report, COUNT_OF(report));
    if (loop != NULL) {
        assert_int_equal(p2p_event_loop_backend_report(loop, NULL, 0), count);
        p2p_event_loop_run_once(loop, 0);
    }
    const char *outcome = loop == NULL ? p2p_error_name(error) : p2p_event_loop_backend_name(loop);
    int length = snprintf(text, sizeof text, "%s:", outcome);
    for (size_t i = 0; i < count; i++) {
        length += snprintf(text + length, sizeof text - (size_t)length, " [%s %s]", report[i].name,
                           p2p_backend_verdict_name(report[i].verdict));
        bool worked = report[i].verdict == P2P_BACKEND_CHOSEN || report[i].verdict == P2P_BACKEND_NOT_TRIED;
        assert_int_equal(report[i].error != 0, !worked);
        assert_int_equal(report[i].reason[0] != '\0', !worked);
    }
    p2p_event_loop_free(loop);
    return text;
}

static void register_both(void) {
    assert_int_equal(p2p_backend_register(mock_ops(0)), 0);
    second = *mock_ops(0);
    second.name = "second";
    assert_int_equal(p2p_backend_register(&second), 0);
}

static void names_are_read_with_blanks_around_them(void **state) {
    (void)state;
    register_both();
    static const char *const lists[] = { "mock,second", " mock , second ", "mock  ,  second", ",mock,,second,",
                                         " , mock,second" };
    for (size_t i = 0; i < COUNT_OF(lists); i++)
        assert_string_equal(choose(lists[i], 0), "mock: [mock chosen] [second not tried]");
    assert_string_equal(choose("  mock  ", 0), "mock: [mock chosen]");
    assert_string_equal(choose(",", 0), "P2P_ERR_NOT_FOUND:");
    assert_string_equal(choose("mock second", 0), "P2P_ERR_NOT_FOUND: [mock second unknown]");
}

/* One that is known but not for this system. */
#if defined(_WIN32)
#  define ABSENT "epoll"
#else
#  define ABSENT "wsapoll"
#endif

static void an_unknown_name_alone_fails(void **state) {
    (void)state;
    register_both();
    assert_string_equal(choose("moc", 0), "P2P_ERR_NOT_FOUND: [moc unknown]");
    assert_string_equal(choose("MOCK", 0), "P2P_ERR_NOT_FOUND: [MOCK unknown]");
    char name[100];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    choose(name, 0);
    assert_int_equal(strlen(report[0].name), sizeof report[0].name - 1);
    assert_string_equal(choose(ABSENT, 0), "P2P_ERR_NOT_SUPPORTED: [" ABSENT " not built]");
}

static void a_name_alone_never_falls_back(void **state) {
    (void)state;
    register_both();
    static const int errors[] = { P2P_ERR_NOT_SUPPORTED, P2P_ERR_NO_MEMORY, P2P_ERR_TOO_MANY_FILES, P2P_ERR_SYSTEM };
    for (size_t i = 0; i < COUNT_OF(errors); i++) {
        char expected[100];
        mock_fail(MOCK_CREATE, 1, errors[i]);
        snprintf(expected, sizeof expected, "%s: [mock refused]", p2p_error_name(errors[i]));
        assert_string_equal(choose("mock", 0), expected);
        assert_int_equal(report[0].error, errors[i]);
        assert_string_equal(report[0].reason, "the case says so");
    }
}

static void a_list_falls_back_only_from_what_is_not_on_this_machine(void **state) {
    (void)state;
    register_both();
    mock_fail(MOCK_CREATE, 1, P2P_ERR_NOT_SUPPORTED);
    assert_string_equal(choose("mock,second", 0), "second: [mock refused] [second chosen]");
    static const int errors[] = { P2P_ERR_NO_MEMORY, P2P_ERR_TOO_MANY_FILES, P2P_ERR_SYSTEM };
    for (size_t i = 0; i < COUNT_OF(errors); i++) {
        char expected[100];
        mock_fail(MOCK_CREATE, 1, errors[i]);
        snprintf(expected, sizeof expected, "%s: [mock refused] [second not tried]", p2p_error_name(errors[i]));
        assert_string_equal(choose("mock,second", 0), expected);
    }
    assert_string_equal(choose(ABSENT ",second", 0), "second: [" ABSENT " not built] [second chosen]");
    mock_fail(MOCK_CREATE, 1, P2P_ERR_NOT_SUPPORTED);
    assert_string_equal(choose("mock," ABSENT, 0), "P2P_ERR_NOT_SUPPORTED: [mock refused] [" ABSENT " not built]");
}

static void the_environment_overrides_an_automatic_choice_only(void **state) {
    (void)state;
    register_both();
    fake_environment = " second, mock";
    assert_string_equal(choose(NULL, 0), "second: [second chosen] [mock not tried]");
    assert_string_equal(choose("mock", 0), "mock: [mock chosen]");
    fake_environment = "nobody";
    assert_string_equal(choose(NULL, 0), "P2P_ERR_NOT_FOUND: [nobody unknown]");
    assert_string_equal(choose("mock", 0), "mock: [mock chosen]");
}

static void the_environment_can_be_ignored(void **state) {
    (void)state;
    register_both();
    const char *automatic = choose(NULL, 0);
    assert_non_null(strstr(automatic, "chosen]"));
    char expected[1024];
    snprintf(expected, sizeof expected, "%s", automatic);
    fake_environment = "second";
    assert_string_equal(choose(NULL, 1), expected);
    fake_environment = ""; /* as good as unset */
    assert_string_equal(choose(NULL, 0), expected);
    fake_environment = NULL; /* unset, or the process is setuid: the system table gives NULL for both */
    assert_string_equal(choose(NULL, 0), expected);
}

static void more_names_than_a_report_holds_do_no_harm(void **state) {
    (void)state;
    char names[400] = "";
    for (int i = 0; i < 40; i++) strcat(names, "nobody,");
    strcat(names, "select");
    choose(names, 0);
    assert_int_equal(p2p_event_loop_backend_report(NULL, NULL, 0), P2P_BACKEND_CANDIDATES_MAX);
}

static void a_creation_that_fails_later_leaves_nothing(void **state) {
    (void)state;
    assert_int_equal(p2p_backend_register(mock_ops(MOCK_NATIVE)), 0);
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.backend = "mock";
    mock_fail(MOCK_POOL_BIND, 1, ENOMEM);
    assert_null(p2p_event_loop_create_with(&options));
    assert_int_equal(p2p_last_error(), P2P_ERR_NO_MEMORY);
    EXPECT_JOURNAL("create pool_bind destroy");
    for (uint64_t nth = 1;; nth++) {
        memory_fail(nth, false);
        p2p_event_loop_t *loop = p2p_event_loop_create_with(&options);
        if (loop != NULL) assert_int_equal(memory_failures(), 0);
        p2p_event_loop_free(loop);
        if (loop != NULL) break;
        assert_int_equal(p2p_last_error(), P2P_ERR_NO_MEMORY);
        assert_int_equal(mock.instances, 0);
        assert_int_equal(memory_in_use(), 0);
    }
}

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        MOCK_CASE(a_whole_table_is_taken_as_it_is),
        MOCK_CASE(empty_slots_are_filled),
        MOCK_CASE(a_short_table_is_taken_and_what_lies_behind_it_is_not),
        MOCK_CASE(a_short_table_with_garbage_behind_it_works),
        MOCK_CASE(a_longer_table_is_taken_as_far_as_it_is_known),
        MOCK_CASE(a_table_that_is_cut_or_of_another_kind_is_refused),
        MOCK_CASE(a_table_without_a_required_part_is_refused),
        MOCK_CASE(half_a_group_is_refused),
        MOCK_CASE(a_name_is_registered_once),
        MOCK_CASE(there_is_room_for_so_many_and_no_more),
        MOCK_CASE(the_table_of_the_instance_is_the_one_that_counts),
        MOCK_CASE(names_are_read_with_blanks_around_them),
        MOCK_CASE(an_unknown_name_alone_fails),
        MOCK_CASE(a_name_alone_never_falls_back),
        MOCK_CASE(a_list_falls_back_only_from_what_is_not_on_this_machine),
        MOCK_CASE(the_environment_overrides_an_automatic_choice_only),
        MOCK_CASE(the_environment_can_be_ignored),
        MOCK_CASE(more_names_than_a_report_holds_do_no_harm),
        MOCK_CASE(a_creation_that_fails_later_leaves_nothing),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
