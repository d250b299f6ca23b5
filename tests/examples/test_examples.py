#!/usr/bin/env python3
"""Smoke tests of the examples: runs the cases of one example.

  test_examples.py DIRECTORY NAME [--emulator WORD]... [--console-event PROGRAM] [-v]

Each program runs as its own process; the peers are plain Python sockets, which know the wire format
(4 bytes of big-endian length, then the payload) from its description only. No fixed ports, no sleeps:
every wait is for a condition, and ALARM_S only turns a hang into a failure.

With --emulator the programs are Windows programs, and the words are what runs them: Wine. Its sockets, pipes and
processes are the machine's, so the peers are the same. --console-event names the program of console_event.c.
"""
import argparse
import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import unittest

ALARM_S = 100
OPTIONS = argparse.Namespace()
LISTENING = re.compile(r"listening on 127\.0\.0\.1:(\d+)(?: \(backend (\w+)\))?\n")


def on_windows():
    return bool(OPTIONS.emulator)


def command(name, *arguments):
    path = os.path.join(OPTIONS.directory, name)
    if on_windows():
        path += ".exe"
    return [*OPTIONS.emulator, path, *map(str, arguments)]


def run(name, *arguments, **options):
    """Run to the end; gives what subprocess.run gives, as text (whose lines may end in CR LF)."""
    return subprocess.run(command(name, *arguments), capture_output=True, encoding="utf-8", check=False, **options)


def backends():
    return run("05_choose_backend", "--list").stdout.split()


@contextlib.contextmanager
def started(name, *arguments, **options):
    """A program that runs meanwhile, and never longer."""
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    with subprocess.Popen(command(name, *arguments), encoding="utf-8", **options) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until_it_listens(process):
    line = process.stdout.readline()
    match = LISTENING.fullmatch(line)
    if match is None:
        process.kill()
        raise AssertionError(f"printed {line!r}: {process.stderr.read()}")
    process.port, process.backend = int(match[1]), match[2]


@contextlib.contextmanager
def server(name, *arguments):
    """A server example on a free port: its process, with .port and .backend from the line it prints."""
    with started(name, "--port", 0, *arguments) as process:
        wait_until_it_listens(process)
        yield process


class Peer:
    """One end of a connection that speaks messages."""

    def __init__(self, connection):
        self.socket = connection
        self.input = connection.makefile("rb")

    def send(self, payload):
        self.socket.sendall(struct.pack(">I", len(payload)) + payload)

    def receive(self):
        """The next message; None at the end of the connection."""
        header = self.input.read(4)
        if not header:
            return None
        (length,) = struct.unpack(">I", header)
        payload = self.input.read(length)
        assert len(payload) == length, "the connection ended inside a message"
        return payload

    def close(self):
        self.input.close()
        self.socket.close()


def connect(port):
    return Peer(socket.create_connection(("127.0.0.1", port)))


@contextlib.contextmanager
def python_server(serve, connections=1):
    """Accepts so many connections and serves them one after the other in a thread. Gives the port."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        def loop():
            for _ in range(connections):
                peer = Peer(listener.accept()[0])
                # A client that leaves early is no failure here.
                with contextlib.suppress(OSError):
                    serve(peer)
                peer.close()

        thread = threading.Thread(target=loop, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


class Terminal:
    """The far side of a program's terminal."""

    def __init__(self, process, handle):
        self.process, self.handle = process, handle
        self.shown = b""  # since what was waited for last

    def type(self, keys):
        os.write(self.handle, keys)

    def wait_for(self, text):
        """Until that was shown, after what was waited for before."""
        while text not in self.shown:
            self.shown += os.read(self.handle, 4096)
        self.shown = self.shown.partition(text)[2]


class WineTerminal(Terminal):
    """A terminal on which Wine draws its console: character by character, and with much moving of the cursor."""
    MOVES = re.compile(rb"\x1b\[[?0-9;]*[A-Za-z]")
    SPACE = b"\x1b[1C"

    def __init__(self, process, handle):
        super().__init__(process, handle)
        self.drawn = b""

    def wait_for(self, text):
        while text not in self.shown:
            self.drawn += os.read(self.handle, 4096)
            # The begin of a sequence waits for its rest.
            complete, escape, rest = self.drawn.rpartition(b"\x1b")
            if self.MOVES.match(escape + rest) or not escape:
                complete, escape, rest = self.drawn, b"", b""
            self.shown += self.MOVES.sub(b"", complete.replace(self.SPACE, b" "))
            self.drawn = escape + rest
        self.shown = self.shown.partition(text)[2]


@contextlib.contextmanager
def terminal(name, *arguments):
    """A program in a terminal of its own."""
    def take_terminal():
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    near, far = pty.openpty()
    before = termios.tcgetattr(far)
    with started(name, *arguments, stdin=far, stdout=far, stderr=far, preexec_fn=take_terminal) as process:
        yield (WineTerminal if on_windows() else Terminal)(process, near)
        process.wait()
        if not on_windows():  # there it is Wine that takes the terminal and gives it back
            assert termios.tcgetattr(far) == before, "the terminal was not given back as it was"
    os.close(near)
    os.close(far)


def stop_signals():
    """Windows knows no SIGTERM; SIGINT becomes Ctrl-C."""
    return (signal.SIGINT,) if on_windows() else (signal.SIGINT, signal.SIGTERM)


class Case(unittest.TestCase):
    def stop(self, process, number=signal.SIGINT):
        """Ctrl-C or SIGTERM: a clean end. Gives what it printed last."""
        process.send_signal(number)
        output, errors = process.communicate()
        self.assertEqual(process.returncode, 0, errors)
        return output


class Test01TcpServer(Case):
    def test_replies_raw_bytes_and_closes_one_after_the_other(self):
        with server("01_tcp_server") as process:
            for data in (b"\x00\x01raw", b"again"):
                with socket.create_connection(("127.0.0.1", process.port)) as client:
                    client.sendall(data)
                    self.assertEqual(client.makefile("rb").read(), data)
            self.assertEqual(self.stop(process), "received 5 bytes\nreceived 5 bytes\n")

    def test_ends_while_a_silent_client_is_connected(self):
        for number in stop_signals():
            with server("01_tcp_server") as process:
                with socket.create_connection(("127.0.0.1", process.port)):
                    self.stop(process, number)


class Test02TcpClient(Case):
    def test_prints_the_reply(self):
        with server("01_tcp_server") as process:
            result = run("02_tcp_client", "--port", process.port, "some text")
            self.assertEqual((result.returncode, result.stdout), (0, "some text\n"))

    def test_reply_in_pieces(self):
        def serve(peer):
            peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer.socket.recv(100)
            for byte in b"in pieces":
                peer.socket.sendall(bytes([byte]))

        with python_server(serve) as port:
            self.assertEqual(run("02_tcp_client", "--port", port).stdout, "in pieces\n")

    def test_nobody_listens(self):
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            result = run("02_tcp_client", "--port", bound.getsockname()[1])
        self.assertEqual(result.returncode, 1)
        self.assertIn("P2P_ERR_REFUSED", result.stderr)


class Test03MessageServer(Case):
    def test_one_message_a_connection(self):
        with server("03_message_server") as process:
            for payload in (b"hello", b"", b"x" * 100000):
                peer = connect(process.port)
                peer.send(payload)
                self.assertEqual(peer.receive(), payload)
                self.assertIsNone(peer.receive())
                peer.close()
            self.assertIn("message of 5 bytes: hello\nmessage of 0 bytes: \n", self.stop(process))

    def test_goes_on_after_a_client_that_leaves(self):
        with server("03_message_server") as process:
            peer = connect(process.port)
            peer.socket.sendall(b"\x00\x00")
            peer.close()
            peer = connect(process.port)
            peer.send(b"next")
            self.assertEqual(peer.receive(), b"next")
            peer.close()
            self.stop(process)


class Test04MessageClient(Case):
    def test_pipe_and_file_on_every_backend(self):
        lines = "".join(f"line {n}\n" for n in range(5000)) + "\nlast, without an end"
        with server("06_async_server") as process:
            for name in backends():
                with self.subTest(name):
                    arguments = ("04_message_client", "--backend", name, "--port", process.port)
                    piped = run(*arguments, input=lines)
                    self.assertEqual((piped.returncode, piped.stdout), (0, lines + "\n"), piped.stderr)
                    with tempfile.TemporaryFile("w+") as file:
                        file.write(lines)
                        file.flush()
                        file.seek(0)
                        read = run(*arguments, stdin=file)
                    self.assertEqual((read.returncode, read.stdout), (0, lines + "\n"), read.stderr)
            self.stop(process)

    def test_more_input_than_the_queue_holds(self):
        # 4 MB: the client has to stop reading its input for a while.
        lines = "".join(f"{n:0100}\n" for n in range(40000))
        echoed = []

        def serve(peer):
            while (payload := peer.receive()) is not None:
                peer.send(payload)
                echoed.append(payload)

        with python_server(serve) as port:
            result = run("04_message_client", "--port", port, input=lines)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stdout, lines)
        self.assertEqual(len(echoed), 40000)

    def test_a_line_without_end_comes_in_pieces(self):
        with server("06_async_server") as process:
            result = run("04_message_client", "--port", process.port, input="x" * 200000 + "\nnext\n")
            self.assertEqual(result.returncode, 0, result.stderr)
            pieces = result.stdout.splitlines()
            self.assertEqual([len(piece) for piece in pieces], [65536, 65536, 65536, 200000 - 3 * 65536, 4])
            self.stop(process)

    def test_what_belongs_to_the_end_of_a_line(self):
        received = []

        def serve(peer):
            while (payload := peer.receive()) is not None:
                received.append(payload)
                peer.send(payload)

        with python_server(serve) as port:
            subprocess.run(command("04_message_client", "--port", port), input=b"dos\r\nunix\n\r\n\n", check=True,
                           capture_output=True)
        self.assertEqual(received, [b"dos", b"unix", b"", b""] if on_windows() else [b"dos\r", b"unix", b"\r", b""])

    def test_no_input(self):
        with server("06_async_server") as process:
            result = run("04_message_client", "--port", process.port, stdin=subprocess.DEVNULL)
            self.assertEqual((result.returncode, result.stdout), (0, ""))

    def test_failures_are_told(self):
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            result = run("04_message_client", "--port", bound.getsockname()[1], stdin=subprocess.DEVNULL)
        self.assertEqual((result.returncode, result.stderr), (1, "connect: connection refused\n"))
        with python_server(lambda peer: peer.receive()) as port:
            result = run("04_message_client", "--port", port, input="never answered\n")
        self.assertEqual(result.returncode, 1)
        self.assertIn("the server has closed the connection", result.stderr)

    def test_terminal(self):
        with server("06_async_server") as process, \
                terminal("04_message_client", "--port", process.port) as screen:
            screen.wait_for(b"connected")
            screen.type(b"typed\r")
            if on_windows():  # Wine's console draws what it likes in between
                screen.wait_for(b"typed\r")
                screen.wait_for(b"typed\r")
            else:
                screen.wait_for(b"typed\r\ntyped\r\n")
            screen.type("Grüße\r".encode())
            screen.wait_for("Grüße\r".encode())
            screen.wait_for("Grüße\r".encode())
            # Ctrl-D ends the input. Wine swallows the Ctrl-Z that would do so on Windows; Ctrl-C ends the program.
            screen.type(b"half\x03" if on_windows() else b"\x04")
            self.assertEqual(screen.process.wait(), 0)

    def test_interrupt(self):
        with server("06_async_server") as process, \
                started("04_message_client", "--port", process.port) as client:
            client.stderr.readline()
            self.stop(client)


class Test05ChooseBackend(Case):
    def test_tour(self):
        result = run("05_choose_backend")
        self.assertEqual(result.returncode, 0)
        for name in backends():
            self.assertIn(f"\n{name}:\n  the loop runs on {name}\n", result.stdout)
        self.assertIn("no-such-thing unknown", result.stdout)

    def test_a_name_never_falls_back_and_a_list_does(self):
        self.assertEqual(run("05_choose_backend", "--backend", "no-such-thing").returncode, 1)
        last = backends()[-1]
        result = run("05_choose_backend", "--backend", f"no-such-thing,{last}")
        self.assertIn(f"the loop runs on {last}", result.stdout)

    def test_environment_overrides_the_automatic_choice_only(self):
        environment = {**os.environ, "P2P_BACKEND": "select"}
        result = run("05_choose_backend", env=environment)
        self.assertIn("automatic:\n  the loop runs on select", result.stdout)
        best = backends()[0]
        result = run("05_choose_backend", "--backend", best, env=environment)
        self.assertIn(f"the loop runs on {best}", result.stdout)


class Test06AsyncServer(Case):
    def test_echo_on_every_backend(self):
        payloads = [b"", b"a", bytes(range(256)) * 100, b"m" * (1 << 20)]
        for name in backends():
            with self.subTest(name), server("06_async_server", "--backend", name) as process:
                self.assertEqual(process.backend, name)
                peers = [connect(process.port) for _ in range(20)]
                for payload in payloads:
                    for peer in peers:
                        peer.send(payload)
                    for peer in peers:
                        self.assertEqual(peer.receive(), payload)
                for peer in peers[10:]:
                    peer.close()
                count, size = 20 * len(payloads), 20 * sum(map(len, payloads))
                # Ten are still connected.
                self.assertEqual(self.stop(process), f"20 connections, {count} messages, {size} bytes\n")
                for peer in peers[:10]:
                    self.assertIsNone(peer.receive())
                    peer.close()

    def test_signals_and_summary(self):
        for number in stop_signals():
            with self.subTest(number), server("06_async_server") as process:
                self.assertEqual(self.stop(process, number), "0 connections, 0 messages, 0 bytes\n")

    def test_console_events_and_summary(self):
        if not on_windows():
            self.skipTest("consoles are Windows'")
        # Drive Z is the machine's root.
        program = "Z:" + os.path.join(os.path.abspath(OPTIONS.directory), "06_async_server.exe")
        for backend in backends():
            for event in ("ctrl-c", "ctrl-break", "close", "ctrl-c\n" * 20):
                arguments = [*OPTIONS.emulator, OPTIONS.console_event, program, "--port", "0", "--backend", backend]
                with self.subTest(event, backend=backend), subprocess.Popen(
                        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                        encoding="utf-8") as process:
                    wait_until_it_listens(process)
                    peer = connect(process.port)
                    peer.send(b"still connected")
                    self.assertEqual(peer.receive(), b"still connected")
                    output, errors = process.communicate(event + "\n")
                    self.assertEqual((process.returncode, output),
                                     (0, "1 connections, 1 messages, 15 bytes\n"), errors)
                    peer.close()

    def test_ctrl_c_on_a_terminal(self):
        with terminal("06_async_server", "--port", 0) as screen:
            screen.wait_for(b"listening on 127.0.0.1:")
            screen.wait_for(b")")
            screen.type(b"\x03")
            screen.wait_for(b"0 connections, 0 messages, 0 bytes\r")
            self.assertEqual(screen.process.wait(), 0)

    def test_a_message_byte_by_byte(self):
        with server("06_async_server") as process:
            peer = connect(process.port)
            peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in struct.pack(">I", 3) + b"abc":
                peer.socket.sendall(bytes([byte]))
            self.assertEqual(peer.receive(), b"abc")
            peer.close()
            self.stop(process)

    def test_what_was_sent_before_the_end_is_answered(self):
        with server("06_async_server") as process:
            peer = connect(process.port)
            for n in range(1000):
                peer.send(b"%d" % n)
            peer.socket.shutdown(socket.SHUT_WR)
            for n in range(1000):
                self.assertEqual(peer.receive(), b"%d" % n)
            self.assertIsNone(peer.receive())
            peer.close()
            self.stop(process)

    def test_a_header_that_claims_too_much_ends_its_connection_only(self):
        with server("06_async_server") as process:
            good, bad = connect(process.port), connect(process.port)
            bad.socket.sendall(b"\xff\xff\xff\xff")
            with contextlib.suppress(ConnectionResetError):
                self.assertIsNone(bad.receive())
            good.send(b"still here")
            self.assertEqual(good.receive(), b"still here")
            good.close()
            bad.close()
            self.stop(process)

    def test_a_peer_that_reads_late_loses_nothing(self):
        with server("06_async_server") as process:
            peer = connect(process.port)
            payload = b"z" * 10000
            sender = threading.Thread(target=lambda: [peer.send(payload) for _ in range(2000)])
            sender.start()
            # The sender is stuck once all buffers between are full; then reading sets it free.
            while select.select([], [peer.socket], [], 0.1)[1]:
                if not sender.is_alive():
                    break
            for _ in range(2000):
                self.assertEqual(peer.receive(), payload)
            sender.join()
            peer.close()
            self.assertEqual(self.stop(process), "1 connections, 2000 messages, 20000000 bytes\n")

    def test_failures_are_told(self):
        with server("06_async_server") as process:
            result = run("06_async_server", "--port", process.port)
            self.assertEqual(result.returncode, 1)
            self.assertIn("P2P_ERR_ADDRESS_IN_USE", result.stderr)
        result = run("06_async_server", "--port", 0, "--backend", "no-such-thing")
        self.assertEqual(result.returncode, 1)
        self.assertIn("no-such-thing: unknown", result.stderr)

    def test_arguments(self):
        for wrong in (["--port", "many"], ["--port", "65536"], ["--port"], ["--no-such-option"], ["surplus"],
                      ["--portly", "80"], ["--help-me"]):
            with self.subTest(wrong):
                result = run("06_async_server", *wrong)
                self.assertEqual((result.returncode, result.stdout), (2, ""))
                self.assertNotEqual(result.stderr, "")
        result = run("06_async_server", "--help")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertRegex(result.stdout, r"^usage: .*06_async_server(\.exe)? \[--backend NAME\] .*\n$")
        with started("06_async_server", "--port=1", "--backend=" + backends()[-1], "--port=0", "--") as process:
            wait_until_it_listens(process)
            self.assertEqual(process.backend, backends()[-1])
            self.stop(process)


class Test07AsyncStressTest(Case):
    COLUMNS = "backend clients messages lost wrong p50 p99 max messages/s idle"

    def table(self, result):
        header, row = result.stdout.splitlines()
        self.assertEqual(re.sub(r" us| CPU %", "", header).split(), self.COLUMNS.split())
        return dict(zip(self.COLUMNS.split(), row.split()))

    def test_every_backend(self):
        for name in backends():
            for arguments in (["--messages", 100, "--depth", 10], ["--clients", 3, "--size", 300000]):
                with self.subTest(name, arguments=arguments):
                    result = run("07_async_stress_test", "--backend", name, *arguments)
                    self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
                    row = self.table(result)
                    self.assertEqual((row["backend"], row["lost"], row["wrong"]), (name, "0", "0"))

    def against(self, answer):
        """One client, ten messages, against a server that gives answer(list of messages) all at the end."""
        def serve(peer):
            for payload in answer([peer.receive() for _ in range(10)]):
                peer.send(payload)
            peer.socket.shutdown(socket.SHUT_WR)
            peer.receive()

        with python_server(serve) as port:
            result = run("07_async_stress_test", "--connect", f"127.0.0.1:{port}", "--clients", 1,
                         "--depth", 10)
        return result, self.table(result)

    def test_reordered_messages_are_found(self):
        result, row = self.against(lambda messages: messages[1:2] + messages[:1] + messages[2:])
        self.assertEqual((result.returncode, row["lost"], row["wrong"]), (1, "0", "2"))

    def test_a_flipped_bit_is_found(self):
        def flip(messages):
            messages[4] = messages[4][:-1] + bytes([messages[4][-1] ^ 1])
            return messages
        result, row = self.against(flip)
        self.assertEqual((result.returncode, row["lost"], row["wrong"]), (1, "0", "1"))

    def test_a_message_too_many_is_found(self):
        result, row = self.against(lambda messages: messages + messages[:1])
        self.assertEqual((result.returncode, row["wrong"]), (1, "1"))

    def test_lost_messages_are_counted(self):
        result, row = self.against(lambda messages: messages[:7])
        self.assertEqual((result.returncode, row["lost"], row["wrong"]), (1, "3", "0"))

    def test_a_server_of_its_own(self):
        with server("06_async_server") as process:
            # Wine's processes have numbers of their own.
            server_pid = [] if on_windows() else ["--server-pid", process.pid]
            result = run("07_async_stress_test", "--connect", f"127.0.0.1:{process.port}", *server_pid)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertGreaterEqual(float(self.table(result)["idle"]), 0)
            self.assertEqual(self.stop(process), "100 connections, 1000 messages, 64000 bytes\n")

    def test_interrupt(self):
        # The client waits for an answer when the signal comes.
        asked = threading.Event()
        done = threading.Event()

        def serve(peer):
            peer.receive()
            asked.set()
            done.wait()

        with python_server(serve) as port:
            with started("07_async_stress_test", "--connect", f"127.0.0.1:{port}", "--clients", 1) as process:
                asked.wait()
                self.assertEqual(self.stop(process), "")
            done.set()


class Test08Chat(Case):
    def join(self, room, name, others):
        peer = connect(room.port)
        self.assertRegex(peer.receive(), rb"^\* welcome, guest\d+;")
        self.assertRegex(peer.receive(), rb"^\* guest\d+ joined$")
        peer.send(b"/nick " + name)
        self.assertRegex(peer.receive(), rb"^\* guest\d+ is now called " + name + b"$")
        for other in others:
            self.assertRegex(other.receive(), rb"^\* guest\d+ joined$")
            self.assertRegex(other.receive(), rb"^\* guest\d+ is now called " + name + b"$")
        return peer

    def test_three_members(self):
        for name in backends():
            with self.subTest(name), server("08_chat_server", "--backend", name) as room:
                anna = self.join(room, b"anna", [])
                ben = self.join(room, b"ben", [anna])
                carl = self.join(room, b"carl", [anna, ben])
                everyone = [anna, ben, carl]

                ben.send("hällo".encode())
                for peer in everyone:
                    self.assertEqual(peer.receive(), "<ben> hällo".encode())
                ben.send(b"tricky \x1b[2J\n")
                for peer in everyone:
                    self.assertEqual(peer.receive(), b"<ben> tricky  [2J ")

                # These concern the one who asks only.
                carl.send(b"/nick anna")
                self.assertEqual(carl.receive(), b"* the name anna is taken")
                carl.send(b"/nick two words")
                self.assertRegex(carl.receive(), rb"^\* a name has")
                carl.send(b"/what")
                self.assertRegex(carl.receive(), rb"^\* commands:")
                carl.send(b"x" * 5000)
                self.assertRegex(carl.receive(), rb"^\* not sent")
                carl.send(b"/who")
                self.assertEqual({carl.receive() for _ in everyone}, {b"* anna", b"* ben", b"* carl (you)"})

                ben.send(b"/quit")
                self.assertIsNone(ben.receive())
                self.assertEqual(anna.receive(), b"* ben left")
                carl.close()
                self.assertEqual(anna.receive(), b"* carl left")
                self.assertEqual(self.stop(room), "3 guests, 2 lines, 0 copies skipped\n")
                self.assertEqual(anna.receive(), b"* the server is closing")
                self.assertIsNone(anna.receive())
                anna.close()
                ben.close()

    def test_a_deaf_member_holds_up_nobody(self):
        line = b"l" * 2000
        with server("08_chat_server") as room:
            deaf = socket.socket()
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", room.port))
            speaker = connect(room.port)
            self.assertRegex(speaker.receive(), rb"^\* welcome")
            self.assertRegex(speaker.receive(), rb"joined$")
            for _ in range(60):
                for _ in range(100):
                    speaker.send(line)
                for _ in range(100):
                    self.assertTrue(speaker.receive().endswith(line))
            match = re.fullmatch(r"2 guests, 6000 lines, (\d+) copies skipped\n", self.stop(room))
            self.assertGreater(int(match[1]), 0)
            speaker.close()
            deaf.close()

    def test_client_from_a_pipe(self):
        with server("08_chat_server") as room:
            anna = self.join(room, b"anna", [])
            result = run("08_chat_client", "--port", room.port, "ben", input="one\n\ntwo\n/who\n")
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertIn("<ben> one\n<ben> two\n* ben (you)\n* anna\n", result.stdout)
            heard = [anna.receive() for _ in range(5)]
            self.assertEqual(heard[2:], [b"<ben> one", b"<ben> two", b"* ben left"])
            anna.close()
            self.stop(room)

    def test_client_with_more_input_than_its_queue_holds(self):
        with server("08_chat_server") as room:
            result = run("08_chat_client", "--port", room.port, input="".join(f"{n:0100}\n" for n in range(40000)))
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual(self.stop(room), "1 guests, 40000 lines, 0 copies skipped\n")

    def test_client_on_a_terminal(self):
        if on_windows():
            self.skipTest("the line editor is for POSIX terminals; test_client_on_a_console is for Windows")
        with server("08_chat_server") as room:
            anna = self.join(room, b"anna", [])
            with terminal("08_chat_client", "--port", room.port, "ben") as screen:
                screen.wait_for(b"is now called ben")
                self.assertRegex(anna.receive(), rb"joined$")
                self.assertRegex(anna.receive(), rb"is now called ben$")
                # What is being typed is shown again below what comes in.
                screen.type(b"hallo\x7f\x1b[D")
                screen.wait_for(b"\r\x1b[K> hall")
                anna.send(b"am I disturbing?")
                screen.wait_for(b"\r\x1b[K<anna> am I disturbing?\r\n\r\x1b[K> hall")
                screen.type("ö!\n".encode())
                screen.wait_for("<ben> hallö!\r\n".encode())
                self.assertEqual(anna.receive(), b"<anna> am I disturbing?")
                self.assertEqual(anna.receive(), "<ben> hallö!".encode())
                screen.type(b"\x04")
                self.assertEqual(screen.process.wait(), 0)
            self.assertEqual(anna.receive(), b"* ben left")
            with terminal("08_chat_client", "--port", room.port) as screen:
                screen.wait_for(b"joined")
                screen.type(b"half a line\x03")
                self.assertEqual(screen.process.wait(), 0)
            anna.close()
            self.stop(room)

    def test_client_on_a_console(self):
        if not on_windows():
            self.skipTest("consoles are Windows'")
        with server("08_chat_server") as room:
            anna = self.join(room, b"anna", [])
            with terminal("08_chat_client", "--port", room.port, "ben") as screen:
                screen.wait_for(b"is now called ben")
                self.assertRegex(anna.receive(), rb"joined$")
                self.assertRegex(anna.receive(), rb"is now called ben$")
                screen.type("hallö!\r".encode())
                screen.wait_for("<ben> hallö!\r".encode())
                self.assertEqual(anna.receive(), "<ben> hallö!".encode())
                anna.send("schöne Grüße".encode())
                screen.wait_for("<anna> schöne Grüße\r".encode())
                self.assertEqual(anna.receive(), "<anna> schöne Grüße".encode())
                screen.type(b"/quit\r")
                self.assertEqual(screen.process.wait(), 0)
            self.assertEqual(anna.receive(), b"* ben left")
            with terminal("08_chat_client", "--port", room.port) as screen:
                screen.wait_for(b"joined")
                screen.type(b"half a line\x03")
                self.assertEqual(screen.process.wait(), 0)
            anna.close()
            self.stop(room)

    def test_client_tells_that_the_server_has_gone(self):
        with server("08_chat_server") as room, started("08_chat_client", "--port", room.port) as client:
            client.stdout.readline()
            self.stop(room)
            self.assertTrue(client.stdout.read().endswith("* the server is closing\n"))
            self.assertEqual(client.wait(), 1)
            self.assertEqual(client.stderr.read(), "the server has closed the connection\n")


class Test09CustomBackend(Case):
    def test_counts_on_every_backend(self):
        for name in backends():
            with self.subTest(name):
                result = run("09_custom_backend", "--backend", name)
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertIn(f"backend counting, in front of {name}: 5 rounds\n", result.stdout)
                counts = dict(re.findall(r"(\w+) (\d+)", result.stdout.splitlines()[1]))
                self.assertGreater(int(counts["wait"]), 0)
                # The listener and both ends of the connection.
                self.assertGreaterEqual(int(counts["set_interest"]), 3)
                self.assertGreaterEqual(int(counts["detach"]), 3)

    def test_unknown_name(self):
        self.assertEqual(run("09_custom_backend", "--backend", "no-such-thing").returncode, 1)


class Test10ForeignLoop(Case):
    def test_answers_on_every_backend(self):
        for name in backends():
            with self.subTest(name), server("10_foreign_loop", "--backend", name) as process:
                peer, other = connect(process.port), connect(process.port)
                for number, primes in ((10, 4), (100, 25), (100000, 9592)):
                    peer.send(b"%d" % number)
                    other.send(b"%d" % number)
                    answer = f"{primes} primes up to {number}".encode()
                    self.assertEqual((peer.receive(), other.receive()), (answer, answer))
                peer.send(b"99999999999999999999")
                self.assertEqual(peer.receive(), b"too large")
                # One leaves and one is cut off while its work is under way.
                other.send(b"10000000")
                other.close()
                peer.send(b"10000000")
                self.assertRegex(self.stop(process), r"\d+ frames, \d+ answers\n$")
                peer.close()


def on_alarm(*_):
    raise TimeoutError(f"not done after {ALARM_S} s")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("name")
    parser.add_argument("--emulator", action="append", default=[])
    parser.add_argument("--console-event")
    _, rest = parser.parse_known_args(namespace=OPTIONS)
    signal.signal(signal.SIGALRM, on_alarm)
    signal.alarm(ALARM_S)
    case = "Test" + "".join(part.capitalize() for part in OPTIONS.name.split("_"))
    unittest.main(argv=[sys.argv[0], case, *rest])


if __name__ == "__main__":
    main()
