#!/usr/bin/env python3
"""Runs p2pnet-conform and checks its verdict: conform.py [option...] PROGRAM argument...

Its standard output must be TAP version 13, with one line for each case asked for; the cases that failed must be the
--guilty ones; and its exit status must fit.
"""
import argparse
import os
import re
import subprocess
import sys

RESULT = re.compile(r"(ok|not ok) (\d+) - (\w+)(?: # SKIP (\S.*))?")


def parse(text):
    """TAP -> (planned, [(result, name, reason of a skip)], comments below the result of that number)"""
    lines = text.splitlines()
    assert lines[0] == "TAP version 13", lines[0]
    plan = re.fullmatch(r"1\.\.(\d+)(?: # SKIP (\S.*))?", lines[1])
    assert plan, "no plan: " + lines[1]
    results, comments = [], {}
    for line in lines[2:]:
        result = RESULT.fullmatch(line)
        if result:
            results.append((result[1], result[3], result[4]))
            assert int(result[2]) == len(results), "out of order: " + line
        else:
            assert re.match(r"# .*\S", line), "not TAP: " + line
            comments.setdefault(len(results), []).append(line)
    return int(plan[1]), results, comments


def check(text, asked, guilty):
    planned, results, comments = parse(text)
    assert planned == len(results), f"{planned} planned, {len(results)} came"
    assert [name for _, name, _ in results] == asked, "other cases than asked for"
    failed = [name for result, name, _ in results if result == "not ok"]
    for number, (result, name, _) in enumerate(results, 1):
        assert result == "ok" or number in comments, name + " does not say why"
    assert failed == [name for name in asked if name in guilty or guilty == ["all"]], f"failed: {failed}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--emulator", action="append", default=[], help="a word of what runs the program")
    parser.add_argument("--fault", help="what the plugin is to do wrong")
    parser.add_argument("--status", type=int, default=0)
    parser.add_argument("--guilty", action="append", default=[], help="a case that must fail, or: all")
    parser.add_argument("--says", default="", help="must be in what it prints, standard error included")
    parser.add_argument("program")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args()

    command = [*options.emulator, options.program]
    everything = subprocess.run([*command, "--list"], check=True, capture_output=True, text=True).stdout.split()
    asked = [word for before, word in zip(options.arguments, options.arguments[1:]) if before == "--case"]
    environment = dict(os.environ, FAULT=options.fault or "")
    run = subprocess.run([*command, *options.arguments], capture_output=True, text=True, env=environment)
    print(run.stdout, run.stderr, sep="")
    assert run.returncode == options.status, f"exit status {run.returncode}"
    said = run.stdout + run.stderr
    assert options.says in said, "does not say: " + options.says
    if options.status == 2:
        assert "p2pnet-conform: " in said, "says nothing"
        # tools/wine.sh may make one of standard output and error
        assert options.emulator or run.stdout == "" or parse(run.stdout)[:2] == (0, []), "goes on"
    else:
        check(run.stdout, asked or everything, options.guilty)


main()
