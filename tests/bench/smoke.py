#!/usr/bin/env python3
"""Runs p2p-bench with tiny numbers: every workload on every subject, its files, and what it refuses.

  smoke.py P2P_BENCH CASE     a case's name, or a workload's
"""
import csv
import json
import os
import subprocess
import sys
import tempfile

NUMBERS = {
    "echo": ["--conns", "1,5", "--size", "1,70000", "--depth", "3"],
    "broadcast": ["--conns", "7", "--size", "8,3000"],
    "idle": ["--conns", "1001", "--active", "3"],
    "accept": ["--conns", "3"],
    "dispatch": ["--conns", "7", "--active", "3", "--writes", "20"],
    "timers": ["--conns", "500"],
    "post": ["--conns", "1000"],
    "wake": [],
}


def run(program, *words):
    return subprocess.run([program, *words], capture_output=True, text=True, timeout=110)


def expect(truth, what):
    if not truth:
        sys.exit(f"not so: {what}")


def workload(program, name):
    """Every subject does it, or says why it can't, and each has its line."""
    with tempfile.TemporaryDirectory() as folder:
        json_file, csv_file, html_file = (os.path.join(folder, f"report.{kind}") for kind in ("json", "csv", "html"))
        words = [name, "--peer", "all", "--seconds", "0.02", "--runs", "2", *NUMBERS[name]]
        result = run(program, *words, "--json", json_file, "--csv", csv_file, "--html", html_file)
        print(result.stdout, result.stderr)
        with open(json_file, encoding="utf-8") as file:
            report = json.load(file)
        with open(csv_file, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        expect(os.path.getsize(html_file) > 100000, "the page has its script in it")
    refused = {series["subject"]: series["refused"] for cell in report["cells"] for series in cell["series"]
               if series["refused"]}
    for subject, why in refused.items():
        expect(subject.startswith("io_uring") or subject == "raw-io_uring", f"{subject} runs: {why}")
        expect("io_uring" in why, f"{subject} says why: {why}")
    expect(result.returncode == (1 if refused else 0), f"exit status {result.returncode}")
    expect(result.stderr == "", "nothing on stderr, which is no terminal here")
    for cell in report["cells"]:
        for series in cell["series"]:
            expect(series["refused"] or len(series["rounds"]) == 2, f"{series['subject']} has two rounds")
            expect(series["subject"] in result.stdout, f"{series['subject']} is in the table")
    metric = "fire" if name == "timers" else "rate"
    values = [float(row["value"]) for row in rows if row["metric"] == metric]
    expect(values and min(values) > 0, f"each {metric} is more than nothing")
    if name == "idle":
        expect(any(row["metric"] == "bytes" for row in rows), "memory is weighed")


def system_calls(program):
    result = run(program, "echo", "--backend", "epoll", "--peer", "raw", "--conns", "3", "--seconds", "0.1", "--runs",
                 "1", "--syscalls")
    print(result.stdout, result.stderr)
    if "strace" in result.stdout:
        print("SKIPPED: strace is not there, or may not trace")
        sys.exit(77)
    expect(result.returncode == 0 and "syscalls" in result.stdout, "they are in the table")


def open_loop(program):
    result = run(program, "echo", "--backend", "epoll", "--conns", "3", "--rate", "200,400", "--seconds", "0.1",
                 "--runs", "1")
    print(result.stdout, result.stderr)
    expect(result.returncode == 0, "it runs")
    expect(result.stdout.count("echo:") == 2, "a cell a rate")


def refusals(program):
    for words, what in (
        (["nonsense"], "nonsense"),
        (["--backend", "epol"], "epol"),
        (["--peer", "libfoo"], "libfoo"),
        (["--base", "select", "--backend", "epoll"], "select"),
        (["--conns", "0"], "--conns"),
        (["--conns", "1,x"], "--conns"),
        (["--conns", "-1"], "--conns"),
        (["--size", "4294967297"], "--size"),
        (["--seconds", "0"], "--seconds"),
        (["--seconds", "nan"], "--seconds"),
        (["--runs", ""], "--runs"),
        (["--backend", "none"], "none"),
        (["--unknown"], "--unknown"),
    ):
        result = run(program, *words)
        expect(result.returncode == 2, f"{words}: exit status {result.returncode}")
        expect(what in result.stderr and result.stdout == "", f"{words}: {result.stderr}")
    result = run(program, "echo", "--backend", "epoll", "--conns", "1", "--seconds", "0.01", "--runs", "1", "--csv",
                 "/nonexistent/file")
    expect(result.returncode == 1 and "/nonexistent/file" in result.stderr, "a file that can't be written")


def help_and_list(program):
    result = run(program, "--help")
    expect(result.returncode == 0 and "--backend" in result.stdout, "help")
    result = run(program, "--list")
    expect(result.returncode == 0, "list")
    for name in NUMBERS:
        expect(f"  {name} " in result.stdout, f"{name} is listed")
    for name in ("epoll", "null", "raw"):
        expect(f" {name}" in result.stdout, f"{name} is listed")


def main():
    program, case = sys.argv[1:]
    if case in NUMBERS:
        workload(program, case)
    else:
        {"system_calls": system_calls, "open_loop": open_loop, "refusals": refusals,
         "help_and_list": help_and_list}[case](program)


main()
