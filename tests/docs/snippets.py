#!/usr/bin/env python3
"""Compiles the programs in documents: snippets.py WORK_DIRECTORY DOCUMENT... -- COMPILER ARGUMENT...

A program is a block fenced by ```c in which main( stands. Each is compiled and linked with the arguments; one fenced
by ```c run ends by itself, and must do so with status 0.
"""
import pathlib
import re
import subprocess
import sys

BLOCK = re.compile(r"^```c([^\n]*)\n(.*?)^```", re.M | re.S)
RUN_LIMIT_S = 60


def programs(document):
    """-> (line of its first line, whether it is run, text) of each program"""
    text = document.read_text(encoding="utf-8")
    for block in BLOCK.finditer(text):
        if "main(" in block[2]:
            yield text.count("\n", 0, block.start(2)) + 1, block[1].strip() == "run", block[2]


def check(document, line, is_run, text, work, compiler):
    """-> whether the program is fine. Messages name the line in the document."""
    stem = work / f"{document.stem}_{line}"
    source = stem.with_suffix(".c")
    source.write_text(f'#line {line} "{document}"\n{text}', encoding="utf-8")
    if subprocess.run([compiler[0], "-o", stem, source, *compiler[1:]]).returncode != 0:
        print(f"{document}:{line}: does not compile")
        return False
    if is_run:
        status = subprocess.run([stem], stdin=subprocess.DEVNULL, timeout=RUN_LIMIT_S).returncode
        if status != 0:
            print(f"{document}:{line}: status {status}")
            return False
    return True


def main():
    split = sys.argv.index("--")
    work, documents, compiler = pathlib.Path(sys.argv[1]), sys.argv[2:split], sys.argv[split + 1:]
    work.mkdir(parents=True, exist_ok=True)
    bad = 0
    for document in map(pathlib.Path, documents):
        results = [check(document, *program, work, compiler) for program in programs(document)]
        print(f"{document}: {len(results)} programs, {results.count(False)} bad")
        bad += results.count(False) if results else 1
    return 1 if bad else 0


sys.exit(main())
