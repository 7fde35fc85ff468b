"""Counts the tests of a ctest run, those inside GoogleTest programs one by one.

    scripts/count_tests.py CTEST_LOG FOLDER_OF_GTEST_JSON

Names what failed, with the beginning of why. Last line: "N tests passed, M failed". A program that crashed, and so left no report, is one failed
test.
"""
import json
import re
import sys
from pathlib import Path

LINE = re.compile(r"^\s*\d+/\d+ Test\s+#\d+: (\S+) \.*\s*(?:\*\*\*)?(Passed|Skipped|\S+)", re.MULTILINE)


def failures(report):
    """Of a GoogleTest report: name and message of every failed test."""
    for suite in report.get("testsuites", []):
        for test in suite.get("testsuite", []):
            if test.get("failures"):
                yield f"{suite['name']}.{test['name']}", test["failures"][0]["failure"]


def main(log, folder):
    passed = failed = 0
    for name, outcome in LINE.findall(Path(log).read_text()):
        report = Path(folder) / f"{name}.json"
        good = outcome in ("Passed", "Skipped")
        if not good:
            print(f"failed: {name} ({outcome})")
        if not report.exists():
            passed, failed = passed + good, failed + (not good)
            continue
        found = json.loads(report.read_text())
        bad = found["failures"] + found.get("errors", 0)
        for test, message in failures(found):
            print(f"failed: {name}: {test}\n    " + "\n    ".join(message.splitlines()[:6])[:600])
        passed += found["tests"] - bad
        failed += bad if good or bad else 1
    print(f"{passed} tests passed, {failed} failed")


main(*sys.argv[1:])
