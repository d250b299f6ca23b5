#!/usr/bin/env python3
"""The chat room example under pressure: 200 members, of whom 50 never read.

  chat_room.py SERVER BACKEND [--members N] [--silent N] [--lines N] [--sanitized]

Those who read must get every line, in order; those who don't cost the server no more than their queues, and learn how
many lines they missed once they read. Prints one line, GOAL chat …, and exits 1 if the goal is missed; 77: not here.
"""
import argparse
import re
import resource
import selectors
import socket
import struct
import subprocess
import sys

LINE = 2000  # bytes of what is said
BURST = 10   # lines a speaker says at once
HIGH_WATER, MESSAGE_MAX = 256 * 1024, 1024 * 1024  # the defaults
DEADLINE_S = 100


class Member:
    def __init__(self, port, small):
        self.socket = socket.socket()
        if small:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        self.socket.settimeout(DEADLINE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect(("127.0.0.1", port))
        self.buffer = bytearray()

    def say(self, text):
        self.socket.sendall(struct.pack(">I", len(text)) + text)

    def lines(self):
        """What has come whole, and is taken out."""
        found, at = [], 0
        while len(self.buffer) - at >= 4:
            (length,) = struct.unpack_from(">I", self.buffer, at)
            if len(self.buffer) - at - 4 < length:
                break
            found.append(bytes(self.buffer[at + 4:at + 4 + length]))
            at += 4 + length
        del self.buffer[:at]
        return found

    def receive(self):
        got = self.socket.recv(1 << 18)
        if not got:
            raise EOFError("the server has closed a connection")
        self.buffer += got
        return self.lines()


def resident(process):
    """The most bytes of memory the server has had so far."""
    with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
        return int(re.search(r"VmHWM:\s+(\d+) kB", file.read())[1]) * 1024


def wait_for(members, last, took):
    """Receive for all of these until each has had the line `last`."""
    with selectors.DefaultSelector() as selector:
        waiting = 0
        for member in members:
            selector.register(member.socket, selectors.EVENT_READ, member)
            waiting += 1
        while waiting:
            ready = selector.select(DEADLINE_S)
            if not ready:
                raise TimeoutError("the server has stopped")
            for key, _ in ready:
                for line in key.data.receive():
                    took(key.data, line)
                    if line == last:
                        selector.unregister(key.data.socket)
                        waiting -= 1


def enter(port, readers, silent):
    """All join; those who read have seen everybody come."""
    names = {}
    for count in range(1, readers + silent + 1):
        member = Member(port, count > readers)
        names[member] = f"guest{count}"
        wait_for([other for other in names if int(names[other][5:]) <= readers or other is member],
                 b"* guest%d joined" % count, lambda member, line: None)
    return names


def talk(readers, names, lines):
    """Each reader in turn says some lines and waits for them; gives how many of all copies came right."""
    heard = {member: [] for member in readers}
    spoken = []
    for start in range(0, lines, BURST):
        speaker = readers[start // BURST % len(readers)]
        said = [(b"%06d " % number).ljust(LINE, b"x") for number in range(start, min(start + BURST, lines))]
        speaker.socket.sendall(b"".join(struct.pack(">I", len(text)) + text for text in said))
        spoken += [b"<%s> %s" % (names[speaker].encode(), text) for text in said]
        wait_for(readers, spoken[-1], lambda member, line: line.startswith(b"<") and heard[member].append(line))
    return sum(heard[member] == spoken for member in readers) * lines


def catch_up(member, lines):
    """One who did not read does so now: what it got, and what it was told it missed; None when the server has dropped
    it, as the deadline for writing passed."""
    got, missed = 0, 0
    try:
        while got + missed < lines:
            for line in member.receive():
                got += line.startswith(b"<")
                told = re.fullmatch(rb"\* you missed (\d+) lines", line)
                missed += int(told[1]) if told else 0
    except (EOFError, ConnectionError):
        return None
    return got, missed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("server")
    parser.add_argument("backend")
    parser.add_argument("--members", type=int, default=200)
    parser.add_argument("--silent", type=int, default=50)
    parser.add_argument("--lines", type=int, default=3000)
    parser.add_argument("--sanitized", action="store_true", help="the server's memory tells nothing")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    with subprocess.Popen([options.server, "--backend", options.backend, "--port", "0"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, encoding="utf-8") as process:
        try:
            line = process.stdout.readline()
            match = re.match(r"listening on 127\.0\.0\.1:(\d+) ", line)
            if match is None:
                print("SKIPPED:", process.stderr.read().strip())
                return 77
            names = enter(int(match[1]), options.members - options.silent, options.silent)
            everybody = list(names)
            readers, silent = everybody[:-options.silent], everybody[-options.silent:]
            before = resident(process)
            right = talk(readers, names, options.lines)
            more = resident(process) - before
            bound = options.silent * (HIGH_WATER + MESSAGE_MAX)
            caught_up = [catch_up(member, options.lines) for member in silent]
        finally:
            process.terminate()
            process.wait(DEADLINE_S)
    wanted = len(readers) * options.lines
    dropped = caught_up.count(None)
    # Each is exact, unless some left meanwhile: of that lines tell, too.
    exact = dropped > 0 or all(got + missed == options.lines for got, missed in caught_up)
    met = right == wanted and exact and (options.sanitized or more <= bound)
    missed = sum(counts[1] for counts in caught_up if counts is not None)
    print(f"GOAL chat room: {options.members} members, {options.silent} never read; the others got {right} of {wanted} "
          f"lines, memory +{more // 1024} KiB (at most {bound // 1024}), {options.silent - dropped} of the "
          f"{options.silent} were told of {missed} missed, {dropped} were dropped", "PASS" if met else "FAIL")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
