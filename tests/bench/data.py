#!/usr/bin/env python3
"""The JSON and the CSV of a made-up report: data.py PROGRAM, which writes them.

Both are read by Python's own readers, hold the same values, and what the JSON says of them together is computed here
again. The JSON is as bench/report.schema.json says, if this Python has jsonschema.
"""
import collections
import csv
import itertools
import json
import math
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]


def equal(value, other):
    return math.isclose(value, other, rel_tol=2e-5)  # six digits, and what is computed from such


def check_spread(what, spread, values, wide_above):
    assert spread["count"] == len(values), what
    for name, expected in (("median", statistics.median(values)), ("min", min(values)), ("max", max(values))):
        assert equal(spread[name], expected), (what, name, spread, values)
    wide = len(values) > 1 and max(values) - min(values) > wide_above * statistics.median(values)
    assert spread["wide"] == wide, (what, spread)


def check_series(report, cell, series):
    what, base = (cell["title"], series["subject"]), cell["series"][0]
    assert (series["refused"] is not None) == (series["rounds"] == []), what
    assert series["round_count"] == len(series["rounds"]), what
    values, ratios = collections.defaultdict(list), collections.defaultdict(list)
    for own, other in itertools.zip_longest(series["rounds"], base["rounds"][:series["round_count"]], fillvalue={}):
        for name, value in own.items():
            values[name].append(value)
            if other.get(name):  # it is there, and not 0
                ratios[name].append(value / other[name])
    assert set(values) == set(series["values"]) and set(ratios) == set(series["ratios"]), what
    for name in values:
        check_spread((what, name), series["values"][name], values[name], report["wide_above"])
    for name in ratios:
        check_spread((what, name, "ratio"), series["ratios"][name], ratios[name], report["wide_above"])


def check_csv(path, report):
    with open(path, newline="", encoding="latin-1") as file:
        found = [(line["workload"], line["subject"].split("\n")[0], int(line["round"]), line["metric"], line["unit"],
                  float(line["value"])) for line in csv.DictReader(file, strict=True)]
    units = {metric["name"]: metric["unit"] for metric in report["metrics"]}
    expected = [(cell["job"]["workload"], series["subject"].split("\n")[0], number, name, units[name], value)
                for cell in report["cells"] for series in cell["series"]
                for number, values in enumerate(series["rounds"], 1) for name, value in values.items()]
    assert found == expected, next(pair for pair in zip(found, expected) if pair[0] != pair[1])
    print(len(found), "values are the same in both files")


def check_schema(report, embedded):
    schema = json.loads((ROOT / "bench/report.schema.json").read_text(encoding="utf-8"))
    try:
        import jsonschema
    except ImportError:
        print("this Python has no jsonschema: only names are checked")
        for cell in report["cells"]:
            assert set(cell) == set(schema["$defs"]["cell"]["required"])
        assert set(report) == set(schema["required"])
        return
    jsonschema.Draft202012Validator.check_schema(schema)
    for document in (report, embedded):
        jsonschema.validate(document, schema)
    print("as the schema says")


def check_json(path):
    """-> the report"""
    report = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    page = path.with_suffix(".html").read_text(encoding="utf-8")
    assert len(page.encode()) < 1_000_000, len(page.encode())
    embedded = json.loads(re.search(r'<script type="application/json" id="report">(.*?)</script>', page, re.S)[1])
    check_schema(report, embedded)
    for cell in report["cells"]:
        for series in cell["series"]:
            check_series(report, cell, series)
    rounds = [series.pop("rounds") for cell in report["cells"] for series in cell["series"]]
    assert embedded == report
    for cell in reversed(report["cells"]):
        for series in reversed(cell["series"]):
            series["rounds"] = rounds.pop()
    return report


def main():
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run([sys.argv[1], directory], check=True, stdout=subprocess.DEVNULL)
        path = pathlib.Path(directory)
        check_json(path / "corners")
        check_csv(path / "report.csv", check_json(path / "report"))


main()
