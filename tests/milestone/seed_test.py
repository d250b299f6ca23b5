#!/usr/bin/env python3
"""Runs the seed program on the backend named by P2P_BACKEND, and talks to it:

    seed_test.py --under valgrind PROGRAM            natively; it must leak nothing
    seed_test.py --under wine EMULATOR PROGRAM.exe   built for Windows

Its port is part of its text, so natively it gets a network namespace of its own; the one for Windows takes any port
and says which. Exit status 77: skipped, with the reason.
"""
import argparse
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

PORT = 8080
DEADLINE_S = 60


def skip(reason):
    print("SKIPPED:", reason)
    sys.exit(77)


def enter_namespace():
    """Start this script again in a network of its own; as an ordinary user that takes a user namespace too."""
    if os.environ.get("SEED_TEST_INSIDE"):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return
    for program in ("unshare", "ip", "valgrind"):
        if shutil.which(program) is None:
            skip(program + " is not installed")
    unshare = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-r", "-n"]
    tried = subprocess.run(unshare + ["true"], stderr=subprocess.PIPE, text=True)
    if tried.returncode != 0:
        skip("no network namespace: " + tried.stderr.strip())
    os.environ["SEED_TEST_INSIDE"] = "1"
    os.execvp("unshare", unshare + [sys.executable] + sys.argv)


def connect(port):
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise


def frame(payload):
    return struct.pack(">I", len(payload)) + payload


def receive(client, size):
    data = b""
    while len(data) < size:
        piece = client.recv(size - len(data))
        assert piece, "the seed closed the connection"
        data += piece
    return data


def check_echo(client, payload):
    client.sendall(frame(payload))
    assert receive(client, 4 + len(payload)) == frame(payload), "the echo differs"


def talk(port):
    first = connect(port)
    check_echo(first, b"hello")
    check_echo(first, b"")
    check_echo(first, bytes(range(256)) * 512)

    many = [connect(port) for _ in range(10)]
    for number, client in enumerate(many):
        check_echo(client, b"client %d" % number)
    many[0].close()  # comes and goes
    many[1].sendall(struct.pack(">I", 100) + b"only a part")
    many[1].close()  # vanishes in mid-message
    many[2].sendall(b"\0\0")
    many[2].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    many[2].close()  # the same by RST, inside a header
    many[3].sendall(struct.pack(">I", 0xFFFFFFFF))
    assert many[3].recv(1) == b"", "a header of 4 GiB must end the connection"
    many[4].shutdown(socket.SHUT_WR)
    assert many[4].recv(1) == b"", "the seed must close after the end"
    for client in many[5:]:
        check_echo(client, b"still there")
    check_echo(first, b"and so am I")
    return [first] + many[5:]  # stay connected while the seed ends


def left_open(said):
    """Valgrind lists what is open at the end; what the seed has opened has a stack below it, not this remark."""
    lines = said.splitlines()
    return [line for line, below in zip(lines, lines[1:]) if " Open " in line and "<inherited" not in below]


def run_under_valgrind(program):
    enter_namespace()
    valgrind = ["valgrind", "--quiet", "--error-exitcode=9", "--leak-check=full", "--show-leak-kinds=all",
                "--errors-for-leak-kinds=all", "--track-fds=yes"]
    seed = subprocess.Popen(valgrind + program, stderr=subprocess.PIPE, text=True)
    try:
        clients = talk(PORT)
        seed.send_signal(signal.SIGTERM)
        said = seed.communicate(timeout=DEADLINE_S)[1]
    finally:
        seed.kill()
    print(said)
    assert not left_open(said), "descriptors left open"
    return clients, seed.returncode


def run_under_wine(program):
    seed = subprocess.Popen(program, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        line = seed.stdout.readline()
        assert line.startswith("port "), "the seed could not bind: " + line
        clients = talk(int(line.split()[1]))
        seed.send_signal(signal.SIGINT)  # Wine runs the console's handler of Ctrl-C
        seed.wait(timeout=DEADLINE_S)
    finally:
        seed.kill()
    return clients, seed.returncode


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--under", choices=["valgrind", "wine"], required=True)
    parser.add_argument("program", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    run = run_under_wine if options.under == "wine" else run_under_valgrind
    clients, status = run(options.program)
    for client in clients:
        assert client.recv(1) == b"", "the seed must close its connections"
    assert status == 0, "exit status %d" % status


main()
