#!/usr/bin/env python3
"""lines_peer.py CLIENT [argument...]: gives lines to 04_message_client; an echo server must answer each.

Exit status 1 if the lines that come back are not the ones that went out.
"""
import subprocess
import sys

LINES = [f"line {n}" for n in range(2000)] + ["", "Grüße", "l" * 65536, "the last"]


def main():
    # A Windows program has CR LF at the end of its lines.
    given = "\n".join(LINES) + "\n"
    result = subprocess.run(sys.argv[1:], input=given.encode(), stdout=subprocess.PIPE, check=True)
    received = result.stdout.decode().replace("\r\n", "\n")
    assert received == given, "other lines came back: %d bytes instead of %d" % (len(received), len(given))
    print(len(LINES), "lines came back intact")


main()
