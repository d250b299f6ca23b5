#!/usr/bin/env python3
"""Processor time that the echo server takes for a message, backend against backend.

  bench/server_cpu.py [--conns 1,100] [--sizes 64,1024] [--depth 1] [--rounds 7] [--build build/release] [BACKEND...]

The first backend is the base (default: epoll io_uring). examples/06_async_server and bench/echo_load run on a processor
each; what the server's process took between "all connected" and the end is divided by the messages. Backends take turns
within a round. A line a cell: the median of each, and for the others the median of the rounds' ratios to the base, with
the least and the greatest.
"""
import argparse
import os
import re
import statistics
import subprocess
import sys


def numbers(text):
    return [int(word) for word in text.split(",")]


def processor_ns(process):
    with open(f"/proc/{process.pid}/schedstat", encoding="ascii") as file:
        return int(file.read().split()[0])


def on_processor(number):
    return lambda: os.sched_setaffinity(0, {number})


def messages_a_connection(connections, size):
    """About a second's worth, and at least a few."""
    total = {64: 60000, 1024: 50000, 16384: 20000, 262144: 3000}.get(size, 20000)
    return max(total // connections, 2)


def measure(options, processors, backend, connections, size):
    """@return microseconds a message."""
    count = messages_a_connection(connections, size)
    command = [f"{options.build}/examples/06_async_server", "--backend", backend, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=on_processor(processors[0])) as server:
        try:
            port = re.search(r":(\d+) \(", server.stdout.readline())[1]
            words = [port, connections, options.depth, size, count, "wait"]
            with subprocess.Popen([f"{options.build}/bench/echo_load", *map(str, words)], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True, preexec_fn=on_processor(processors[-1])) as load:
                if load.stdout.readline() != "connected\n":
                    sys.exit("the load did not connect")
                begin = processor_ns(server)
                load.communicate()
                end = processor_ns(server)
            if load.returncode != 0:
                sys.exit("the load failed")
        finally:
            server.terminate()
    return (end - begin) / 1000 / (count * connections)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conns", type=numbers, default=[1, 100])
    parser.add_argument("--sizes", type=numbers, default=[64, 1024])
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--build", default="build/release")
    parser.add_argument("backends", nargs="*", default=["epoll", "io_uring"])
    options = parser.parse_args()
    processors = sorted(os.sched_getaffinity(0))
    base, *others = options.backends
    print(f"| connections | bytes | {base} µs | " + " | ".join(f"{name} µs | ratio" for name in others) + " |")
    print("|---:|---:|---:|" + "---:|---:|" * len(others))
    for connections in options.conns:
        for size in options.sizes:
            took = {name: [] for name in options.backends}
            for _ in range(options.rounds):
                for name in options.backends:
                    took[name].append(measure(options, processors, name, connections, size))
            cells = [f"{connections}", f"{size}", f"{statistics.median(took[base]):.2f}"]
            for name in others:
                ratios = [a / b for a, b in zip(took[name], took[base])]
                cells += [f"{statistics.median(took[name]):.2f}",
                          f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"]
            print("| " + " | ".join(cells) + " |", flush=True)


main()
