#!/usr/bin/env python3
"""Checks that a document quotes its sources as they are: quotes.py ROOT DOCUMENT...

A block fenced by ```c FILE is a piece of that file, a path below ROOT. All of a file's pieces, in their order, must be
the whole file; empty lines between them don't count.
"""
import collections
import pathlib
import re
import sys

BLOCK = re.compile(r"^```c (\S+/\S+)\n(.*?)^```", re.M | re.S)


def lines_of(text):
    return [line for line in text.splitlines() if line.strip()]


def check(document, root):
    """-> how many files it quotes, how many of them wrongly"""
    quoted, bad = collections.defaultdict(list), 0
    for name, text in BLOCK.findall(document.read_text(encoding="utf-8")):
        quoted[name] += lines_of(text)
    for name, lines in quoted.items():
        source = lines_of((root / name).read_text(encoding="utf-8"))
        if lines != source:
            bad += 1
            differing = next((pair for pair in zip(lines, source) if pair[0] != pair[1]), ("its end", "its end"))
            print(f"{document}: not {name} as it is; the first line that differs:", *differing, sep="\n  ")
    return len(quoted), bad


def main():
    root, documents = pathlib.Path(sys.argv[1]), map(pathlib.Path, sys.argv[2:])
    results = [check(document, root) for document in documents]
    print("files quoted, and wrongly:", *results)
    return 1 if any(bad or not count for count, bad in results) else 0


sys.exit(main())
