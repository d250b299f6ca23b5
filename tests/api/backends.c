/* How a loop's backend is chosen, told and registered. */
#include "echo.h"

#include <stdio.h>

/* The automatic order, a backend of it, and one that is known but not for this system. */
#if defined(_WIN32)
#  define PRESENT "wsapoll"
#  define ABSENT "epoll"
static const char *const automatic[] = { "wsapoll", "select" };
#else
#  define PRESENT "poll"
#  define ABSENT "wsapoll"
#  if defined(__linux__)
static const char *const automatic[] = { "epoll", "poll", "select" };
#  else
static const char *const automatic[] = { "kqueue", "poll", "select" };
#  endif
#endif

/* A case may change the environment, which a run of all cases shares. */
static int setup(void **state) {
    os_set_environment("P2P_BACKEND", NULL);
    return fixture_setup(state);
}

static p2p_event_loop_t *create(const char *backend) {
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.backend = backend;
    return p2p_event_loop_create_with(&options);
}

static void expect_created(const char *backend, const char *name) {
    p2p_event_loop_t *loop = create(backend);
    if (loop == NULL) fail_msg("%s: %s", backend, p2p_error_message(p2p_last_error()));
    assert_string_equal(p2p_event_loop_backend_name(loop), name);
    p2p_event_loop_free(loop);
}

static void expect_failure(const char *backend, int error) {
    assert_null(create(backend));
    assert_string_equal(p2p_error_name(p2p_last_error()), p2p_error_name(error));
}

static void expect_report(size_t index, const char *name, p2p_backend_verdict_t verdict) {
    p2p_backend_report_t reports[P2P_BACKEND_CANDIDATES_MAX];
    size_t count = p2p_event_loop_backend_report(NULL, reports, COUNT_OF(reports));
    assert_in_range(count, index + 1, COUNT_OF(reports));
    assert_string_equal(reports[index].name, name);
    assert_string_equal(p2p_backend_verdict_name(reports[index].verdict), p2p_backend_verdict_name(verdict));
    bool has_reason = verdict != P2P_BACKEND_CHOSEN && verdict != P2P_BACKEND_NOT_TRIED;
    assert_int_equal(reports[index].reason[0] != '\0', has_reason);
}

/* ---- choosing ---- */

static void each_listed_backend_is_created_by_its_name(void **state) {
    (void)state;
    const char *names[P2P_BACKEND_CANDIDATES_MAX];
    size_t count = p2p_backend_list(names, COUNT_OF(names));
    assert_in_range(count, 1, COUNT_OF(names));
    assert_int_equal(p2p_backend_list(NULL, 0), count);
    for (size_t i = 0; i < count; i++) {
        p2p_event_loop_t *loop = create(names[i]);
        if (loop == NULL) {
            assert_int_equal(p2p_last_error(), P2P_ERR_NOT_SUPPORTED);
            expect_report(0, names[i], P2P_BACKEND_REFUSED);
        } else {
            assert_string_equal(p2p_event_loop_backend_name(loop), names[i]);
            p2p_event_loop_free(loop);
            expect_report(0, names[i], P2P_BACKEND_CHOSEN);
        }
        assert_string_equal(p2p_backend_find(names[i])->name, names[i]);
    }
}

static void the_automatic_choice_is_the_first_that_works(void **state) {
    (void)state;
    expect_created(NULL, automatic[0]);
    expect_report(0, automatic[0], P2P_BACKEND_CHOSEN);
    for (size_t i = 1; i < COUNT_OF(automatic); i++) expect_report(i, automatic[i], P2P_BACKEND_NOT_TRIED);
    p2p_event_loop_t *loop = p2p_event_loop_create();
    assert_string_equal(p2p_event_loop_backend_name(loop), automatic[0]);
    p2p_event_loop_free(loop);
}

static void an_unknown_name_alone_fails_and_says_so(void **state) {
    (void)state;
    expect_failure("nonsense", P2P_ERR_NOT_FOUND);
    expect_report(0, "nonsense", P2P_BACKEND_UNKNOWN);
}

static void a_backend_of_another_system_alone_fails_and_says_so(void **state) {
    (void)state;
    expect_failure(ABSENT, P2P_ERR_NOT_SUPPORTED);
    expect_report(0, ABSENT, P2P_BACKEND_NOT_BUILT);
}

static void a_list_takes_the_first_that_this_machine_has(void **state) {
    (void)state;
    expect_created(ABSENT "," PRESENT ",select", PRESENT);
    expect_report(0, ABSENT, P2P_BACKEND_NOT_BUILT);
    expect_report(1, PRESENT, P2P_BACKEND_CHOSEN);
    expect_report(2, "select", P2P_BACKEND_NOT_TRIED);
}

static void the_report_of_a_loop_stays_with_it(void **state) {
    (void)state;
    p2p_backend_report_t report = { 0 };
    p2p_event_loop_t *loop = create("select");
    expect_failure("nonsense", P2P_ERR_NOT_FOUND);
    assert_int_equal(p2p_event_loop_backend_report(loop, &report, 1), 1);
    assert_string_equal(report.name, "select");
    assert_int_equal(report.verdict, P2P_BACKEND_CHOSEN);
    assert_int_equal(p2p_event_loop_backend_report(loop, NULL, 0), 1);
    p2p_event_loop_free(loop);
}

static void the_environment_decides_an_automatic_choice_only(void **state) {
    (void)state;
    os_set_environment("P2P_BACKEND", "select");
    expect_created(NULL, "select");
    expect_created(PRESENT, PRESENT);
    os_set_environment("P2P_BACKEND", ABSENT "," PRESENT);
    expect_created(NULL, PRESENT);
    os_set_environment("P2P_BACKEND", "nonsense");
    expect_failure(NULL, P2P_ERR_NOT_FOUND);
    p2p_event_loop_options_t options = P2P_EVENT_LOOP_OPTIONS_INIT;
    options.ignore_environment = 1;
    p2p_event_loop_t *loop = p2p_event_loop_create_with(&options);
    assert_non_null(loop);
    p2p_event_loop_free(loop);
}

static void verdicts_have_names(void **state) {
    (void)state;
    assert_string_equal(p2p_backend_verdict_name(P2P_BACKEND_CHOSEN), "chosen");
    assert_string_equal(p2p_backend_verdict_name(P2P_BACKEND_REFUSED), "refused");
    assert_string_equal(p2p_backend_verdict_name(P2P_BACKEND_NOT_BUILT), "not built");
    assert_string_equal(p2p_backend_verdict_name(P2P_BACKEND_UNKNOWN), "unknown");
    assert_string_equal(p2p_backend_verdict_name(P2P_BACKEND_NOT_TRIED), "not tried");
}

/* ---- a backend of one's own ---- */

static p2p_backend_ops own;

/* A copy of the table of a backend under another name. */
static p2p_backend_ops *own_table(void) {
    const p2p_backend_ops *present = p2p_backend_find(PRESENT);
    if (present == NULL) test_skip("%s is not built", PRESENT);
    own = *present;
    own.name = "mine";
    return &own;
}

static void a_registered_backend_is_listed_last_and_chosen_by_name(void **state) {
    (void)state;
    const char *names[P2P_BACKEND_CANDIDATES_MAX];
    echo_server server;
    assert_null(p2p_backend_find("mine"));
    assert_int_equal(p2p_last_error(), P2P_ERR_NOT_FOUND);
    assert_int_equal(p2p_backend_register(own_table()), 0);
    assert_ptr_equal(p2p_backend_find("mine"), &own);
    size_t count = p2p_backend_list(names, COUNT_OF(names));
    assert_string_equal(names[count - 1], "mine");
    assert_int_equal(p2p_backend_register(&own), P2P_ERR_ALREADY);

    p2p_event_loop_t *loop = create("mine");
    assert_non_null(loop);
    assert_string_equal(p2p_event_loop_backend_name(loop), "mine");
    echo_start(&server, loop, false);
    p2p_handle_t fd = raw_connect(server.port);
    assert_true(raw_send_text(fd, "hello"));
    loop_expect_text(loop, fd, "hello");
    os_close(fd);
    echo_stop(&server);
    p2p_event_loop_free(loop);
    loop = create(NULL);
    assert_string_not_equal(p2p_event_loop_backend_name(loop), "mine");
    p2p_event_loop_free(loop);
}

static void a_name_that_is_built_in_is_ALREADY(void **state) {
    (void)state;
    own_table()->name = PRESENT;
    assert_int_equal(p2p_backend_register(&own), P2P_ERR_ALREADY);
}

static void an_incomplete_table_is_INVALID(void **state) {
    (void)state;
    assert_int_equal(p2p_backend_register(NULL), P2P_ERR_INVALID);
#define EXPECT_INVALID(change) \
    own_table();               \
    own.change;                \
    assert_int_equal(p2p_backend_register(&own), P2P_ERR_INVALID)
    EXPECT_INVALID(size = 8);
    EXPECT_INVALID(abi = P2P_BACKEND_ABI + 1);
    EXPECT_INVALID(name = NULL);
    EXPECT_INVALID(name = "");
    EXPECT_INVALID(create = NULL);
    EXPECT_INVALID(destroy = NULL);
    EXPECT_INVALID(set_interest = NULL);
    EXPECT_INVALID(detach = NULL);
    EXPECT_INVALID(wait = NULL);
    EXPECT_INVALID(wake = NULL);
    EXPECT_INVALID(io_state_size = 257);
    EXPECT_INVALID(op_state_size = 257);
#undef EXPECT_INVALID
}

static int detach_nothing(p2p_backend *backend, p2p_io *io) {
    (void)backend;
    (void)io;
    return 0;
}

static void half_a_group_is_INVALID(void **state) {
    (void)state;
    own_table()->accept_start = detach_nothing;
    assert_int_equal(p2p_backend_register(&own), P2P_ERR_INVALID);
    own_table()->recv_stop = detach_nothing;
    assert_int_equal(p2p_backend_register(&own), P2P_ERR_INVALID);
}

static int create_error;

static int create_that_fails(p2p_backend **out, const p2p_backend_env *env) {
    (void)out;
    snprintf(env->reason, env->reason_size, "because the test says so");
    return create_error;
}

static void a_refusal_carries_the_backends_reason(void **state) {
    (void)state;
    p2p_backend_report_t report = { 0 };
    own_table()->create = create_that_fails;
    create_error = P2P_ERR_NOT_SUPPORTED;
    assert_int_equal(p2p_backend_register(&own), 0);
    expect_failure("mine", P2P_ERR_NOT_SUPPORTED);
    assert_int_equal(p2p_event_loop_backend_report(NULL, &report, 1), 1);
    assert_int_equal(report.verdict, P2P_BACKEND_REFUSED);
    assert_int_equal(report.error, P2P_ERR_NOT_SUPPORTED);
    assert_string_equal(report.reason, "because the test says so");
    expect_created("mine,select", "select");
    expect_report(0, "mine", P2P_BACKEND_REFUSED);
    expect_report(1, "select", P2P_BACKEND_CHOSEN);
}

static void a_list_does_not_go_on_when_memory_or_descriptors_have_run_out(void **state) {
    (void)state;
    own_table()->create = create_that_fails;
    assert_int_equal(p2p_backend_register(&own), 0);
    create_error = P2P_ERR_TOO_MANY_FILES;
    expect_failure("mine,select", P2P_ERR_TOO_MANY_FILES);
    expect_report(0, "mine", P2P_BACKEND_REFUSED);
    expect_report(1, "select", P2P_BACKEND_NOT_TRIED);
    create_error = P2P_ERR_NO_MEMORY;
    expect_failure("mine,select", P2P_ERR_NO_MEMORY);
}

static void more_registrations_than_fit_are_LIMIT(void **state) {
    (void)state;
    static p2p_backend_ops tables[1000];
    static char names[COUNT_OF(tables)][16];
    int result = 0;
    for (size_t i = 0; i < COUNT_OF(tables) && result == 0; i++) {
        tables[i] = *own_table();
        snprintf(names[i], sizeof names[i], "mine%zu", i);
        tables[i].name = names[i];
        result = p2p_backend_register(&tables[i]);
    }
    assert_int_equal(result, P2P_ERR_LIMIT);
}

static void cleanup_forgets_registered_backends(void **state) {
    assert_int_equal(p2p_backend_register(own_table()), 0);
    p2p_cleanup();
    assert_int_equal(fixture_start(NULL, NULL), 0);
    assert_null(p2p_backend_find("mine"));
    (void)state;
}

#define CHOICE_CASE(function) cmocka_unit_test_setup_teardown(function, setup, fixture_teardown)

int main(int argc, char **argv) {
    static const struct CMUnitTest cases[] = {
        CHOICE_CASE(each_listed_backend_is_created_by_its_name),
        CHOICE_CASE(the_automatic_choice_is_the_first_that_works),
        CHOICE_CASE(an_unknown_name_alone_fails_and_says_so),
        CHOICE_CASE(a_backend_of_another_system_alone_fails_and_says_so),
        CHOICE_CASE(a_list_takes_the_first_that_this_machine_has),
        CHOICE_CASE(the_report_of_a_loop_stays_with_it),
        CHOICE_CASE(the_environment_decides_an_automatic_choice_only),
        CHOICE_CASE(verdicts_have_names),
        CHOICE_CASE(a_registered_backend_is_listed_last_and_chosen_by_name),
        CHOICE_CASE(a_name_that_is_built_in_is_ALREADY),
        CHOICE_CASE(an_incomplete_table_is_INVALID),
        CHOICE_CASE(half_a_group_is_INVALID),
        CHOICE_CASE(a_refusal_carries_the_backends_reason),
        CHOICE_CASE(a_list_does_not_go_on_when_memory_or_descriptors_have_run_out),
        CHOICE_CASE(more_registrations_than_fit_are_LIMIT),
        CHOICE_CASE(cleanup_forgets_registered_backends),
    };
    return p2p_test_main(argc, argv, cases, COUNT_OF(cases));
}
