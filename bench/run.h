/* Runs what is planned, round by round, and collects it in a report. */
#ifndef P2P_BENCH_RUN_H
#define P2P_BENCH_RUN_H

#include "bench.h"
#include "plan.h"

/*
 * `done` is called when a cell is complete. @return the report; all in it is kept to the program's end. `failed` is set
 * when a run failed.
 */
const bench_report *bench_run(const bench_plan *plan, const char *command, void (*done)(const bench_cell *cell),
                              bool *failed);

#endif
