#!/usr/bin/env python3
"""Starts the echo server, runs a peer that talks to it, ends both. Fails unless both end well.

  run_peer.py [--backend NAME] [--emulator WORD]... [--other-build DIR] SERVER PEER [argument...]

{port} in the peer's arguments stands for the server's port. With --emulator the server is a Windows program, and the
words are what runs it. Exit status 77: skipped, with the reason: a peer that is not installed, or a program that is not
built in the other build tree.
"""
import argparse
import os
import re
import shutil
import signal
import subprocess
import sys

DEADLINE_S = 100


def skip(reason):
    print("SKIPPED:", reason)
    sys.exit(77)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--backend")
    parser.add_argument("--emulator", action="append", default=[])
    parser.add_argument("--other-build", default=os.devnull)
    parser.add_argument("server")
    parser.add_argument("peer", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    for program in [options.server, *options.peer]:
        if program.startswith(options.other_build + os.sep) and not os.path.exists(program):
            skip(program + " is not built")
    if shutil.which(options.peer[0]) is None:
        skip(options.peer[0] + " is not there")

    choice = ["--backend", options.backend] if options.backend else []
    server = subprocess.Popen([*options.emulator, options.server, *choice, "--address", "127.0.0.1", "--port", "0"],
                              stdout=subprocess.PIPE, text=True)
    try:
        line = server.stdout.readline()
        listening = re.fullmatch(r"listening on 127\.0\.0\.1:(\d+) \(backend (\w+)\)\n", line)
        assert listening, "the server said: %r" % line
        assert options.backend in (None, listening[2]), "the server runs on " + listening[2]
        peer = [word.replace("{port}", listening[1]) for word in options.peer]
        peer_status = subprocess.run(peer, timeout=DEADLINE_S).returncode
        # Windows has no SIGTERM; SIGINT becomes Ctrl-C.
        server.send_signal(signal.SIGINT if options.emulator else signal.SIGTERM)
        summary = server.communicate(timeout=DEADLINE_S)[0]
    finally:
        server.kill()
    print(summary, end="")
    assert peer_status == 0, "the peer failed"
    assert server.returncode == 0, "the server's exit status is %d" % server.returncode
    assert re.search(r"^[1-9]\d* connections, [1-9]\d* messages, \d+ bytes\n\Z", summary), "no summary at the end"


main()
