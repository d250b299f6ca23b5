#!/usr/bin/env python3
"""Runs the seed program under Valgrind on the backend named by P2P_BACKEND, and talks to it.

Its port is part of its text, so it gets a network namespace of its own. Exit status 77: skipped, with the reason.
"""
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


def connect():
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            return socket.create_connection(("127.0.0.1", PORT), timeout=DEADLINE_S)
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


def talk():
    first = connect()
    check_echo(first, b"hello")
    check_echo(first, b"")
    check_echo(first, bytes(range(256)) * 512)

    many = [connect() for _ in range(10)]
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


def main():
    enter_namespace()
    valgrind = ["valgrind", "--quiet", "--error-exitcode=9", "--leak-check=full", "--show-leak-kinds=all",
                "--errors-for-leak-kinds=all", "--track-fds=yes"]
    seed = subprocess.Popen(valgrind + sys.argv[1:], stderr=subprocess.PIPE, text=True)
    try:
        clients = talk()
        seed.send_signal(signal.SIGTERM)
        said = seed.communicate(timeout=DEADLINE_S)[1]
    finally:
        seed.kill()
    for client in clients:
        assert client.recv(1) == b"", "the seed must close its connections"
    print(said)
    assert seed.returncode == 0, "exit status %d" % seed.returncode
    assert not left_open(said), "descriptors left open"


main()
