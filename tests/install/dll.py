#!/usr/bin/env python3
"""Checks what a DLL needs and gives: dll.py OBJDUMP DLL.

It needs libraries that every Windows has, and exports p2p_* only.
"""
import re
import subprocess
import sys

objdump, dll = sys.argv[1:]
text = subprocess.run([objdump, "-p", dll], check=True, capture_output=True, text=True).stdout
needed = re.findall(r"DLL Name: (\S+)", text)
exported = re.findall(r"^\s*\[ *\d+\] (\w+)$", text.partition("[Ordinal/Name Pointer] Table")[2], re.M)
foreign = [name for name in needed if name.upper() not in ("KERNEL32.DLL", "WS2_32.DLL", "MSVCRT.DLL")]
foreign += [name for name in exported if not name.startswith("p2p_")]
for name in foreign:
    print(f"{dll}: {name}")
print(f"needs {', '.join(needed)}; exports {len(exported)} symbols")
sys.exit(1 if foreign or not needed or not exported else 0)
