#!/usr/bin/env python3
"""Checks the names that a library defines: symbols.py NM LIBRARY.

A shared library exports p2p_* only; in a static one the files also see each other's p2pi_*.
"""
import re
import subprocess
import sys

nm, library = sys.argv[1:]
shared = ".so" in library
flags = ["--defined-only", "--extern-only"] + (["--dynamic"] if shared else [])
lines = subprocess.run([nm, *flags, library], check=True, capture_output=True, text=True).stdout.splitlines()
names = [line.split()[-1] for line in lines if re.match(r"[0-9a-f]+ \w ", line)]
foreign = [name for name in names if not re.match(r"p2p_" if shared else r"p2pi?_", name)]
for name in foreign:
    print(f"{library}: {name}")
print(f"{len(names)} symbols")
sys.exit(1 if foreign or not names else 0)
