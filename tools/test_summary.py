#!/usr/bin/env python3
"""Adds up CTest's JUnit files: test_summary.py NAME=FILE...

A configuration without a file was not built or not run, which counts as one failure. NAME=built and NAME=failed are
configurations without tests.
"""
import collections
import re
import sys
import xml.etree.ElementTree as xml


BACKENDS = "epoll poll select io_uring io_uring_poll kqueue kqueue_emulated wsapoll afd".split()


def read(path):
    """-> (names of the passed, names of the failed, reason -> names of the skipped)"""
    passed, failed, skipped = [], [], collections.defaultdict(list)
    for case in xml.parse(path).getroot().iter("testcase"):
        name, status = case.get("name"), case.get("status")
        note = case.find("skipped")
        output = case.findtext("system-out") or ""
        if status == "run":
            passed.append(name)
        elif note is not None and note.get("message", "").startswith("SKIP_"):
            reason = re.search(r"SKIPPED: *(.+)", output)
            skipped[reason.group(1).strip() if reason else "no reason given"].append(name)
        else:
            failed.append(name)
    return passed, failed, skipped


def backend_of(name):
    """A case that runs on each backend has the backend's name between two dots of its own."""
    return next((part for part in name.split(".") if part in BACKENDS), None)


def print_backends(passed, failed, skipped):
    names = {"passed": passed, "failed": failed, "skipped": [name for some in skipped.values() for name in some]}
    counts = collections.Counter((backend_of(name), kind) for kind in names for name in names[kind])
    for backend in BACKENDS:
        of = {kind: counts[backend, kind] for kind in names}
        if sum(of.values()):
            print(f"    {backend:<15} {sum(of.values()):5} run   "
                  + "".join(f"{of[kind]:5} {kind}" for kind in names))


def main():
    totals, built = [0, 0, 0], 0
    for argument in sys.argv[1:]:
        configuration, path = argument.split("=", 1)
        if path == "built":
            built += 1
            print(f"{configuration:<14} compiled and linked")
            continue
        try:
            passed, failed, skipped = read(path)
        except (OSError, xml.ParseError):
            passed, failed, skipped = [], ["did not build, or CTest did not run"], {}
        counts = len(passed), len(failed), sum(map(len, skipped.values()))
        totals = [total + count for total, count in zip(totals, counts)]
        print("{:<14} {:5} passed {:4} failed {:4} skipped".format(configuration, *counts))
        print_backends(passed, failed, skipped)
        for name in failed:
            print(f"    FAILED   {name}")
        for reason, names in sorted(skipped.items()):
            others = f" and {len(names) - 1} more" if len(names) > 1 else ""
            print(f"    skipped  {names[0]}{others}: {reason}")
    print()
    print("{} passed, {} failed, {} skipped".format(*totals))
    return 1 if totals[1] or not totals[0] + built else 0


if __name__ == "__main__":
    sys.exit(main())
