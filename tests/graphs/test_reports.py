"""Machine-readable reports: those of real runners, hostile ones, and how they count beside words and status.

All files in `runner_outputs/reports/` were written by the real runner, `trx.xml` excepted, which follows the
documented format.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs import digest, reports

FILES = Path(__file__).parent / "runner_outputs" / "reports"

EXPECTED = {
    "bats.xml": {"passed": 2, "failed": 1, "skipped": 1},
    "bun.xml": {"passed": 2, "failed": 1, "skipped": 1},
    "ctest.xml": {"passed": 1, "failed": 1, "skipped": 3},
    "deno.xml": {"passed": 2, "failed": 1, "skipped": 1},
    "go.json": {"passed": 6, "failed": 1, "skipped": 1},
    "gotestsum.xml": {"passed": 8, "failed": 1, "skipped": 1},
    "gradle.xml": {"passed": 2, "failed": 2, "skipped": 1},
    "jest-suite-fails.json": {"passed": 1, "errors": 1},
    "jest.json": {"passed": 2, "failed": 1, "skipped": 2},
    "mocha.json": {"passed": 2, "failed": 1, "skipped": 1},
    "mocha.xml": {"passed": 2, "failed": 1, "skipped": 1},
    "nextest.xml": {"passed": 2, "failed": 1},
    "node.tap": {"passed": 2, "failed": 1, "skipped": 2},
    "node.xml": {"passed": 2, "failed": 1, "skipped": 2},
    "phpunit.xml": {"passed": 3, "failed": 1, "errors": 1, "skipped": 2},
    "playwright.json": {"passed": 2, "failed": 1, "skipped": 1},
    "playwright.xml": {"passed": 2, "failed": 1, "skipped": 1},
    "pytest-collection-error.xml": {"errors": 1},
    "pytest-skipped.xml": {"skipped": 3},
    "pytest.xml": {"passed": 2, "failed": 1, "errors": 1, "skipped": 2},
    "rspec.json": {"passed": 2, "failed": 1, "skipped": 1},
    "surefire.xml": {"passed": 2, "failed": 1, "errors": 1, "skipped": 1},
    "trx.xml": {"passed": 1, "failed": 1, "skipped": 1},
    "vitest.json": {"passed": 2, "failed": 1, "skipped": 2},
    "vitest.xml": {"passed": 2, "failed": 1, "skipped": 2},
}
KINDS = {"passed": "passed", "failed": "failed", "error": "errors", "skipped": "skipped"}


def test_every_report_is_expected():
    assert {path.name for path in FILES.iterdir()} == EXPECTED.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_a_real_report_is_read(name):
    tally = reports.read((FILES / name).read_bytes())
    assert tally is not None
    assert tally.counts == EXPECTED[name]
    results = list(tally.cases.values())
    for word, kind in KINDS.items():
        assert results.count(word) <= tally.counts.get(kind, 0)
    assert results.count("passed") == tally.counts.get("passed", 0)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_report_counts_more_than_words_and_never_more_than_a_bad_status(name):
    data = (FILES / name).read_bytes()
    hidden = digest.read(". [100%]\n9 passed in 0.1s", 0, command="make test", reports=[data])
    assert not hidden.passed
    assert hidden.counts == EXPECTED[name]
    assert hidden.cases
    assert "cases" not in hidden.to_json()


def test_skipped_only_is_not_run_by_the_report_too():
    report = digest.read("fine", 0, reports=[(FILES / "pytest-skipped.xml").read_bytes()])
    assert (report.ran, report.passed, report.reason) == (False, False, "every test was skipped (3)")


GOOD = (
    b'<testsuite tests="2"><testcase classname="a" name="x"/><testcase classname="a" name="y"/></testsuite>'
)


def test_a_good_report_outranks_what_tests_print():
    words = "running 1 test\ntest result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n"
    report = digest.read(words, 0, command="python3 -m pytest", reports=[GOOD])
    assert (report.passed, report.counts) == (True, {"passed": 2})
    assert report.cases == {"a::x": "passed", "a::y": "passed"}
    assert not digest.read(words, 1, command="python3 -m pytest", reports=[GOOD]).passed


def test_another_suite_than_the_reports_still_fails():
    words = ".. [100%]\n2 passed in 0.1s\nTest Suites: 1 failed, 1 total\nTests:       3 failed, 3 total\n"
    report = digest.read(words, 0, command="make test", reports=[GOOD])
    assert (report.passed, report.counts) == (False, {"passed": 2, "failed": 3})


def test_an_empty_report_beside_words_of_tests_does_not_undo_them():
    empty = b'<testsuites><testsuite name="pytest" tests="0"/></testsuites>'
    assert digest.read(". [100%]\n1 passed in 0.1s", 0, reports=[empty]).passed
    nothing = digest.read("fine", 0, reports=[empty])
    assert (nothing.ran, nothing.reason) == (False, "no test was found")


def test_what_a_suite_announces_and_no_test_tells_is_an_error():
    data = b'<testsuite tests="1" errors="1" failures="0"><testcase name="x"/></testsuite>'
    tally = reports.read(data)
    assert tally is not None
    assert tally.counts == {"passed": 1, "errors": 1}


LAUGHS = b"""<?xml version="1.0"?><!DOCTYPE t [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<testsuite><testcase name="&b;"/></testsuite>"""
OUTSIDE = b"""<!DOCTYPE t [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<testsuite><testcase name="x">&x;</testcase></testsuite>"""
JEST = b'"numTotalTests": 1, "testResults": [{"assertionResults": [{"status": "passed"}]}]'


@pytest.mark.parametrize(
    "data",
    [
        LAUGHS,
        OUTSIDE,
        LAUGHS.decode().encode("utf-16"),
        b'<!DOCTYPE testsuite SYSTEM "http://localhost:1/x.dtd"><testsuite/>',
        GOOD[:-20],
        GOOD + b"<more/>",
        b"<a>" * 100_000,
        b"<testsuite>" + b"<testsuite>" * 500 + b"</testsuite>" * 501,
        b"<html><testcase name='x'/></html>",
        b'<?xml version="1.0" encoding="no-such"?><testsuite/>',
        b"",
        b"\x00\xff",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"numTotalTests": 1}',
        b'{"a":' * 50_000,
        b"null",
        b"just words",
    ],
)
def test_what_is_no_report_is_left_out(data):
    assert reports.read(data) is None
    assert digest.read("1 passed", 0, reports=[data]).counts == {"passed": 1}


@pytest.mark.parametrize(
    "data",
    [
        b'<testsuite failures="-5" errors="1e9"><testcase name="x"/></testsuite>',
        b'<testsuite failures="99999999999999999999"><testcase name="x"/></testsuite>',
        b'{"numFailedTests": -3, ' + JEST + b"}",
        b'{"numFailedTests": true, ' + JEST + b"}",
        b'{"stats": {"failures": 0.5}, "tests": [{"fullTitle": "x"}]}',
    ],
)
def test_odd_numbers_are_not_there(data):
    tally = reports.read(data)
    assert tally is not None
    assert tally.counts == {"passed": 1}


@given(st.binary(max_size=400) | st.sampled_from(sorted(EXPECTED)).flatmap(
    lambda name: st.integers(0, 3000).map(lambda at: (FILES / name).read_bytes()[:at])
))  # fmt: skip
def test_no_bytes_break_the_reader_and_counts_are_never_negative(data):
    tally = reports.read(data)
    assert tally is None or all(number > 0 for number in tally.counts.values())
