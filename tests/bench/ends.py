#!/usr/bin/env python3
"""What an echo server of p2p-bench does when connections end: ends.py PROGRAM SUBJECT

A peer that has ended its side still gets all back, and then the end. Peers that vanish with much on its way don't
disturb others. A peer that reads late gets all. In the end the server has no more descriptors than in the beginning.
"""
import os
import socket
import struct
import subprocess
import sys
import threading
import time

CHILD_LISTENER = 3
LIMIT_S = 30


def frame(size):
    return struct.pack(">I", size) + os.urandom(size)


def receive(peer, size):
    got = bytearray()
    while len(got) < size and (data := peer.recv(1 << 20)):
        got += data
    return bytes(got)


class Server:
    def __init__(self, program, subject):
        with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
            listener.setblocking(False)
            self.address = listener.getsockname()
            command = [program, "--child", subject, "echo", *"10 10 64 1 1 0 1".split()]
            at_its_place = f'exec "$@" {CHILD_LISTENER}<&{listener.fileno()}'
            self.process = subprocess.Popen(["sh", "-c", at_its_place, "sh", *command], pass_fds=[listener.fileno()])

    def connect(self):
        return socket.create_connection(self.address, timeout=LIMIT_S)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def check_serves(self):
        with self.connect() as peer:
            message = frame(64)
            peer.sendall(message)
            assert receive(peer, len(message)) == message


def half_close(server):
    for size in (0, 1000, 100000, 900000):
        with server.connect() as peer:
            message = frame(size)
            sender = threading.Thread(target=lambda: (peer.sendall(message), peer.shutdown(socket.SHUT_WR)))
            sender.start()
            got = receive(peer, len(message) + 1)
            sender.join()
            assert got == message, (size, len(got))


def reset(peer):
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def fill(peer):
    peer.settimeout(0.1)
    try:
        while True:
            peer.sendall(frame(200000))
    except OSError:
        pass


def vanish(server):
    peers = [server.connect() for _ in range(8)]
    for peer in peers:
        fill(peer)
    for peer in peers:
        reset(peer)
    server.check_serves()


def read_late(server):
    messages = [b"".join(frame(500000) for _ in range(4)) for _ in range(8)]
    peers = [server.connect() for _ in messages]
    senders = [threading.Thread(target=peer.sendall, args=(message,)) for peer, message in zip(peers, messages)]
    for sender in senders:
        sender.start()
    time.sleep(0.3)
    got = [None] * len(peers)

    def read(index):
        got[index] = receive(peers[index], len(messages[index]))

    readers = [threading.Thread(target=read, args=(i,)) for i in range(len(peers))]
    for thread in readers:
        thread.start()
    for thread in readers + senders:
        thread.join()
    assert got == messages, [len(part) for part in got]
    for peer in peers:
        peer.close()


def main():
    server = Server(sys.argv[1], sys.argv[2])
    try:
        try:
            server.check_serves()
        except OSError:
            print("SKIPPED: it does not run here")
            return 77 if server.process.wait(LIMIT_S) in (1, 2) else 1  # said why
        before = server.descriptors()
        for case in (half_close, vanish, read_late):
            case(server)
            server.check_serves()
        limit = time.monotonic() + LIMIT_S
        while server.descriptors() > before and time.monotonic() < limit:
            time.sleep(0.01)
        assert server.descriptors() <= before, "connections were left open"
        assert server.process.poll() is None, "the server ended"
    finally:
        server.process.kill()
        server.process.wait()
    return 0


sys.exit(main())
