#!/usr/bin/env python3
"""run_peer.py SERVER BACKEND PEER...: start the echo server, run the peer with its port as last argument, end both.

Exit status 77: skipped, with the reason.
"""
import re
import shutil
import signal
import subprocess
import sys

DEADLINE_S = 60


def skip(reason):
    print("SKIPPED:", reason)
    sys.exit(77)


def main():
    program, backend, peer = sys.argv[1], sys.argv[2], sys.argv[3:]
    if shutil.which(peer[0]) is None:
        skip(peer[0] + " is not installed")
    server = subprocess.Popen([program, "--backend", backend, "--address", "127.0.0.1", "--port", "0"],
                              stdout=subprocess.PIPE, text=True)
    try:
        line = server.stdout.readline()
        listening = re.fullmatch(r"listening on 127\.0\.0\.1:(\d+) \(backend (\w+)\)\n", line)
        assert listening, "the server said: %r" % line
        assert listening[2] == backend, "the server runs on " + listening[2]
        peer_status = subprocess.run(peer + [listening[1]], timeout=DEADLINE_S).returncode
        server.send_signal(signal.SIGTERM)
        summary = server.communicate(timeout=DEADLINE_S)[0]
    finally:
        server.kill()
    print(summary, end="")
    assert peer_status == 0, "the peer failed"
    assert server.returncode == 0, "the server's exit status is %d" % server.returncode
    assert summary.count("\n") == 1, "no summary line at the end"


main()
