#!/usr/bin/env python3
"""python_peer.py PORT: frames by hand, sent byte by byte and in random pieces; every message must come back."""
import random
import socket
import struct
import sys
import threading

DEADLINE_S = 20


def connect(port):
    client = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def frame(payload):
    return struct.pack(">I", len(payload)) + payload


def receive(client, size):
    data = bytearray()
    while len(data) < size:
        piece = client.recv(size - len(data))
        assert piece, "the server closed the connection"
        data += piece
    return bytes(data)


def receive_message(client):
    return receive(client, struct.unpack(">I", receive(client, 4))[0])


def byte_by_byte(port):
    client = connect(port)
    for payload in (b"byte by byte", b"", b"x", bytes(300)):
        for byte in frame(payload):
            client.sendall(bytes([byte]))
        assert receive_message(client) == payload
    client.close()


def in_random_pieces(port, seed):
    source = random.Random(seed)
    messages = [source.randbytes(source.choice((0, 1, 100, 5000, 100000))) for _ in range(100)]
    stream = b"".join(frame(message) for message in messages)
    client = connect(port)

    def send():
        begin = 0
        while begin < len(stream):
            end = begin + source.choice((1, 3, 4, 5, 1000, 70000))
            client.sendall(stream[begin:end])
            begin = end
        client.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    for number, message in enumerate(messages):
        assert receive_message(client) == message, "seed %d: message %d differs" % (seed, number)
    assert client.recv(1) == b"", "seed %d: more than was sent" % seed
    sender.join()
    client.close()


def main():
    port = int(sys.argv[1])
    byte_by_byte(port)
    for seed in range(5):
        in_random_pieces(port, seed)
    leaver = connect(port)
    leaver.sendall(frame(b"in mid-message")[:9])
    leaver.close()
    byte_by_byte(port)
    print("all messages came back intact")


main()
