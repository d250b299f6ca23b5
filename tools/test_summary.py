#!/usr/bin/env python3
"""Adds up CTest's JUnit files: test_summary.py NAME=FILE...

A configuration without a file was not built or not run, which counts as one failure.
"""
import collections
import re
import sys
import xml.etree.ElementTree as xml


def read(path):
    """-> (number passed, names of the failed, reason -> names of the skipped)"""
    passed, failed, skipped = 0, [], collections.defaultdict(list)
    for case in xml.parse(path).getroot().iter("testcase"):
        name, status = case.get("name"), case.get("status")
        note = case.find("skipped")
        output = case.findtext("system-out") or ""
        if status == "run":
            passed += 1
        elif note is not None and note.get("message", "").startswith("SKIP_"):
            reason = re.search(r"SKIPPED: *(.+)", output)
            skipped[reason.group(1).strip() if reason else "no reason given"].append(name)
        else:
            failed.append(name)
    return passed, failed, skipped


def main():
    totals = [0, 0, 0]
    for argument in sys.argv[1:]:
        configuration, path = argument.split("=", 1)
        try:
            passed, failed, skipped = read(path)
        except (OSError, xml.ParseError):
            passed, failed, skipped = 0, ["did not build, or CTest did not run"], {}
        counts = passed, len(failed), sum(map(len, skipped.values()))
        totals = [total + count for total, count in zip(totals, counts)]
        print("{:<12} {:5} passed {:4} failed {:4} skipped".format(configuration, *counts))
        for name in failed:
            print(f"    FAILED   {name}")
        for reason, names in sorted(skipped.items()):
            others = f" and {len(names) - 1} more" if len(names) > 1 else ""
            print(f"    skipped  {names[0]}{others}: {reason}")
    print()
    print("{} passed, {} failed, {} skipped".format(*totals))
    return 1 if totals[1] or not totals[0] else 0


if __name__ == "__main__":
    sys.exit(main())
