#!/usr/bin/env python3
"""Python's own sockets talk to p2pnet over UDP and unix-domain sockets.

  transports_peer.py BACKEND DATAGRAM_ECHO ASYNC_SERVER
"""
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile

DEADLINE_S = 20
NAMES = sys.platform == "linux"  # abstract ones


def start(program, backend, address):
    """-> the process, and where it listens"""
    server = subprocess.Popen([program, "--backend", backend, "--address", address], stdout=subprocess.PIPE, text=True)
    line = server.stdout.readline()
    place = line.removeprefix("listening on ").removesuffix(" (backend %s)\n" % backend)
    if line == "" and server.wait(DEADLINE_S) == 2:  # datagram_echo, which comes first, has no loop
        print("SKIPPED: no backend %s here" % backend)
        sys.exit(77)
    assert place in line and place != line, "the server said: %r" % line
    return server, place


def name_of(address):
    name = address.removeprefix("unix:")
    return "\0" + name[1:] if name.startswith("@") else name


def datagrams(client):
    client.settimeout(DEADLINE_S)
    for payload in (b"hello", b"", b"x" * 1400, os.urandom(60000)):
        client.send(payload)
        assert client.recv(70000) == payload, "%d bytes did not come back" % len(payload)
    client.send(b"bye")
    assert client.recv(8) == b"bye"


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False


def udp(backend, echo):
    for host in ["127.0.0.1"] + ["::"] * has_ipv6():  # to :: from IPv4, too
        server, place = start(echo, backend, host)
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.connect(("127.0.0.1", int(place.rsplit(":", 1)[1])))
        datagrams(client)
        assert server.wait(DEADLINE_S) == 0


def unix_datagrams(backend, echo, folder):
    names = [("unix:%s/echo" % folder, folder + "/client")]
    if NAMES:
        names.append(("unix:@p2pnet echo %d" % os.getpid(), "\0p2pnet client %d" % os.getpid()))
    for address, own in names:
        server, place = start(echo, backend, address)
        assert place == address, place
        client = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        client.bind(own)
        client.connect(name_of(address))
        datagrams(client)
        assert server.wait(DEADLINE_S) == 0


def unix_streams(backend, program, folder):
    for address in ["unix:%s/server" % folder] * 2 + ["unix:@p2pnet server %d" % os.getpid()] * NAMES:
        server, place = start(program, backend, address)  # the second time it replaces the file of the first
        assert place == address, place
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(DEADLINE_S)
        client.connect(name_of(address))
        stream = client.makefile("rb")
        for payload in (b"hello", b"", os.urandom(300000)):
            client.sendall(struct.pack(">I", len(payload)) + payload)
            assert struct.unpack(">I", stream.read(4))[0] == len(payload)
            assert stream.read(len(payload)) == payload
        client.shutdown(socket.SHUT_WR)
        assert stream.read() == b"", "no end"
        server.send_signal(signal.SIGTERM)
        assert "3 messages" in server.communicate(timeout=DEADLINE_S)[0]
        assert server.returncode == 0


def main():
    backend, echo, program = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        udp(backend, echo)
        unix_datagrams(backend, echo, folder)
        unix_streams(backend, program, folder)
    print("everything came back intact")


main()
