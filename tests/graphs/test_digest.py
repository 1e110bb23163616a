"""Test runs as they are read: every recorded output, odd words, hidden statuses, hostile reports.

`runner_outputs/` holds what real programs printed (`made: recorded`) or would print by their documented
format (`made: written`), with what each run really was. A row's `unnamed` is the verdict where the command is
not known to start that one runner, when it differs; `whole`: the output is one document, of no use when cut.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from graphs import digest, observation
from graphs.runners.command import started

OUTPUTS = Path(__file__).parent / "runner_outputs"
ROWS = json.loads((OUTPUTS / "index.json").read_text())


def output(row) -> str:
    return (OUTPUTS / row["file"]).read_bytes().decode("utf-8", "replace")


def verdict(report: digest.Report) -> str:
    assert not (report.passed and not report.ran)
    return "passed" if report.passed else "failed" if report.ran else "not-run"


# ---- the table of runners --------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["file"].removesuffix(".txt"))
def test_a_recorded_run_is_read_right(row):
    report = digest.read(output(row), row["exit"], command=row["command"])
    expected = row["expected"]
    seen = {"verdict": verdict(report), "counts": report.counts, "missing": report.missing}
    assert seen == expected, report.reason
    assert report.passed or report.digest
    assert (report.reason is not None) or report.ran
    assert "\x1b" not in report.digest
    assert len(report.digest.splitlines()) <= digest.MAX_LINES


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["file"].removesuffix(".txt"))
def test_a_run_is_read_right_when_the_command_does_not_name_the_runner(row):
    for command in ("", "make test", "./check.sh --all"):
        report = digest.read(output(row), row["exit"], command=command)
        assert verdict(report) == row.get("unnamed", row["expected"]["verdict"]), report.reason


def test_the_table_is_as_large_and_as_wide_as_promised():
    assert len(ROWS) >= 60
    assert sum(row["made"] == "recorded" for row in ROWS) >= 60
    assert {row["file"] for row in ROWS} == {path.name for path in OUTPUTS.glob("*.txt")}
    runners = {row["runner"] for row in ROWS}
    asked = (
        "pytest, unittest, tox, nox, node --test, mocha, jest, vitest, ava, go test, cargo test, "
        "cargo nextest, ctest, prove, rspec, minitest, PHPUnit, maven surefire, gradle, dotnet test, "
        "mix test, swift test, bats"
    )
    assert set(asked.split(", ")) <= runners
    for name in asked.split(", "):
        verdicts = {row["expected"]["verdict"] for row in ROWS if row["runner"] == name}
        assert verdicts == {"passed", "failed", "not-run"}, name


BAD = [row for row in ROWS if row["expected"]["verdict"] != "passed"]
NOISE = (
    "npm warn deprecated x@1.0.0: 3 errors handled ok",
    "test_5_failed_logins PASSED",
    "OK",
    "all good",
    "5 passed",
    "BUILD SUCCESSFUL in 2s",
    "Tests: 4 passed",
    "[INFO] BUILD SUCCESS",
    "[ 12%] Building C object",
    "",
    "======= 7 passed in 0.10s =======",
)


OTHER_RUNNERS = {
    "go": "ok  \tdemo\t0.1s",
    "pytest": ". [100%]\n3 passed in 0.1s",
    "mocha": "  2 passing (3ms)",
}


def coloured(text: str, colour: int) -> str:
    return "\n".join(f"\x1b[{colour};1m{line}\x1b[0m" if line else line for line in text.split("\n"))


def crlf(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\n", "\r\n")


def cut_by_the_tester(text: str, at: int) -> str:
    """Long noise in the middle, of which the tester sees the head and the tail only; the end stays whole."""
    lines = text.split("\n")
    at = at % max(1, len(lines) - 30)
    noise = [f"step {number} of the build" for number in range(60)]
    long = "\n".join([*lines[:at], *noise, *lines[at:]])
    head, tail = len("\n".join(lines[:at])) + 300, len("\n".join(lines[at:])) + 300
    return observation.join(long[:head], long[-tail:], len(long) - head - tail, "characters", "output:x")


QUICK = settings(max_examples=6, deadline=None, phases=[Phase.explicit, Phase.generate])


@QUICK
@given(
    colour=st.sampled_from([None, 31, 32, 90]),
    ends=st.booleans(),
    before=st.lists(st.sampled_from(NOISE), max_size=6),
    another=st.sampled_from(sorted(OTHER_RUNNERS)),
    cut=st.none() | st.integers(0, 200),
)
@pytest.mark.parametrize("row", BAD, ids=lambda row: row["file"].removesuffix(".txt"))
def test_no_dress_turns_a_bad_run_into_a_passed_one(row, colour, ends, before, another, cut):
    families = started(row["command"]).families
    if families and another not in families:  # where no runner is named it is a suite of its own, and counts
        before = [*before, OTHER_RUNNERS[another]]
    text = "\n".join([*before, output(row)])
    if cut is not None and "whole" not in row:
        text = cut_by_the_tester(text, cut)
    if colour:
        text = coloured(text, colour)
    if ends:
        text = crlf(text)
    report = digest.read(text, row["exit"], command=row["command"])
    assert not report.passed
    if not before and (cut is None or "whole" in row):
        assert verdict(report) == row["expected"]["verdict"]
        assert report.counts == row["expected"]["counts"]


@QUICK
@given(colour=st.sampled_from([31, 32]), ends=st.booleans(), data=st.data())
@pytest.mark.parametrize(
    "row", [row for row in ROWS if row["exit"] != 0], ids=lambda row: row["file"].removesuffix(".txt")
)
def test_another_status_than_0_never_passes_however_it_is_cut(row, colour, ends, data):
    text = output(row)
    limit = data.draw(st.integers(1, max(2, len(text))))
    report = digest.read(observation.cut_middle(coloured(text, colour), limit), row["exit"])
    assert not report.passed


# ---- single lines ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "code", "ran", "passed", "counts"),
    [
        ("..\n2 passed in 0.01s", 0, True, True, {"passed": 2}),
        (
            "FAILED t.py::a\n=== 1 failed, 3 passed, 1 skipped in 0.1s ===",
            1,
            True,
            False,
            {"passed": 3, "failed": 1, "skipped": 1},
        ),
        ("no tests ran in 0.00s", 5, False, False, {}),
        ("Ran 3 tests in 0.001s\n\nOK", 0, True, True, {"passed": 3}),
        (
            "Ran 5 tests in 0.001s\n\nFAILED (failures=1, errors=2, skipped=1)",
            1,
            True,
            False,
            {"passed": 1, "failed": 1, "errors": 2, "skipped": 1},
        ),
        ("Ran 0 tests in 0.000s\n\nOK", 0, False, False, {}),
        ("Ran 0 tests in 0.000s\n\nNO TESTS RAN", 5, False, False, {}),
        ("Ran 0 tests in 0.000s\n\nOK", 1, True, False, {}),
        ("\n  3 passing (20ms)\n  1 failing\n", 1, True, False, {"passed": 3, "failed": 1}),
        ("# pass 4\n# fail 0\n", 0, True, True, {"passed": 4}),
        (
            "--- FAIL: TestA (0.00s)\nFAIL\nFAIL\tx\t0.1s",
            1,
            True,
            False,
            {"failed": 1},
        ),
        ("?   \tx\t[no test files]", 0, False, False, {}),
        (
            "running 3 tests\ntest result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n"
            "running 3 tests\ntest result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
            0,
            True,
            True,
            {"passed": 5, "skipped": 1},
        ),
        ("sh: pytest: not found", 127, False, False, {}),
        ("whatever", 0, True, True, {}),
        ("", 0, True, True, {}),
        ("one.txt", 0, True, True, {}),
        ("ls: Zugriff auf 'x' nicht möglich: Datei oder Verzeichnis nicht gefunden", 2, True, False, {}),
        ("ls: cannot access 'one.txt': No such file or directory", 2, True, False, {}),
        ("\x1b[31mE   boom\x1b[0m", 2, True, False, {}),
        ("3 errors handled ok\ntest_5_failed_logins PASSED", 0, True, True, {}),
        ("1 passing", 0, True, True, {"passed": 1}),
        ("1 passing", 1, True, False, {"passed": 1}),
        ("PASS: 3\nFAIL: 1", 0, True, False, {"passed": 3, "failed": 1}),
        ("# TOTAL: 3\n# PASS:  2\n# SKIP:  0\n# XFAIL: 0\n# FAIL:  1\n# XPASS: 0\n# ERROR: 0", 0, True, False,
         {"passed": 2, "failed": 1}),
        ("All 5 tests passed!", 0, True, True, {"passed": 5}),
        ("2/3 tests passed", 0, True, False, {"passed": 2, "failed": 1}),
        ("2 bestanden, 1 fehlgeschlagen", 0, True, False, {"passed": 2, "failed": 1}),
        ("Summary: 4 passed, 0 failed, 1 skipped in 3.2s", 0, True, True, {"passed": 4, "skipped": 1}),
        ("0 passed, 0 failed", 0, False, False, {}),
        ("No tests found.", 0, False, False, {}),
        ("No tests were executed", 1, True, False, {}),
        ("Keine Tests gefunden", 0, False, False, {}),
        ("12 problems (0 errors, 12 warnings)", 0, True, True, {}),
    ],
)  # fmt: skip
def test_digest(output, code, ran, passed, counts):
    report = digest.read(output, code)
    assert (report.ran, report.passed, report.counts) == (ran, passed, counts)
    assert "\x1b" not in report.digest


@pytest.mark.parametrize(
    ("output", "code", "command", "missing"),
    [
        ("sh: 1: pytest: not found", 127, "pytest -q", "pytest"),
        ("bash: line 3: frobnicate: command not found", 127, "./run.sh", "frobnicate"),
        ("./run.sh: Zeile 2: pytest: Kommando nicht gefunden.", 127, "./run.sh", "pytest"),
        ("./run.sh: ligne 2: pytest : commande introuvable", 127, "pytest", "pytest"),
        ("zsh: command not found: jest", 127, "jest", "jest"),
        ("env: ‘python2’: No such file or directory", 127, "./t.py", "python2"),
        ("bash: ./check.sh: No such file or directory", 127, "./check.sh", "./check.sh"),
        ("", 127, "frobnicate --all", "frobnicate"),
        ("bash: ./check.sh: Permission denied", 126, "./check.sh", None),
        ("bash: ./t.py: /usr/bin/python9: bad interpreter: No such file or directory", 126, "./t.py",
         "/usr/bin/python9"),
        ("./app: error while loading shared libraries: libx.so.1: cannot open shared object",
         127, "./app", "libx.so.1"),
        ("/usr/bin/python3: No module named pytest", 1, "python3 -m pytest -q", "pytest"),
        (".venv/bin/python: No module named nose2", 1, "make test", "nose2"),
        ("/usr/bin/python3: No module named pytest", 0, "python3 -m pytest | tee log", "pytest"),
        ("sh: 1: jest: not found", 0, "jest | tee log", "jest"),
        ('npm ERR! Missing script: "test"\nnpm ERR! \nnpm ERR! To', 1, "npm test", 'npm script "test"'),
        ('yarn run v1.22\nerror Command "test" not found.\ninfo Visit', 1, "yarn test", 'npm script "test"'),
        (" ERR_PNPM_NO_SCRIPT  Missing script: test", 1, "pnpm test", 'npm script "test"'),
        ("make: *** No rule to make target 'test'.  Stop.", 2, "make test", 'make target "test"'),
        ("make: *** Keine Regel, um „test“ zu erstellen.  Schluss.", 2, "make test", 'make target "test"'),
        ("pytest -q\nmake: pytest: No such file or directory\nmake: *** [Makefile:2: test] Error 127", 2,
         "make test", "pytest"),
        ("$ jest\n/bin/sh: jest: command not found\nerror Command failed with exit code 127.", 1, "yarn test",
         "jest"),
        ("error: no such command: `nextest`", 101, "cargo nextest run", "cargo-nextest"),
        ("Traceback (most recent call last):\n  File \"run.py\", line 1\n"
         "ModuleNotFoundError: No module named 'pytest'", 1, "python run.py", "pytest"),
        ("Error: Cannot find module '/w/node_modules/mocha/bin/mocha.js'\n  code: 'MODULE_NOT_FOUND',\n"
         "  requireStack: []\n}", 1, "npm test", "mocha"),
        ("bundler: command not found: rspec\nInstall missing gem executables with `bundle install`", 127,
         "bundle exec rspec", "rspec"),
        ("Could not find gem 'rspec' in locally installed gems.\nRun", 7, "bundle exec rspec",
         "rspec"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_and_is_not_a_failure(output, code, command, missing):
    report = digest.read(output, code, command=command)
    assert (verdict(report), report.missing) == ("not-run", missing)
    assert report.reason is not None
    assert report.reason.startswith("cannot run: ")


@pytest.mark.parametrize(
    ("output", "code"),
    [
        ("E   ModuleNotFoundError: No module named 'requests'\n=== 1 error in 0.1s ===", 2),
        ("Traceback (most recent call last):\nModuleNotFoundError: No module named 'requests'", 1),
        ("FAIL a.test.js\n    Cannot find module './gone' from 'a.test.js'\nTests:       0 total", 1),
        (
            "Error: Cannot find module 'lodash'\nRequire stack:\n- /w/a.js\n- /w/node_modules/mocha/a.js",
            1,
        ),
        ("setup: frob: command not found\n" + "step\n" * 40 + "the check failed", 1),
        ("make: *** No rule to make target 'lib.c', needed by 'lib.o'.  Stop.", 2),
        ("make: *** [Makefile:3: test] Error 1", 2),
    ],
)
def test_what_a_test_lacks_is_a_failure(output, code):
    report = digest.read(output, code)
    assert (verdict(report), report.missing) == ("failed", None)


@pytest.mark.parametrize(
    ("output", "code", "words"),
    [
        (
            "F\n=== short test summary info ===\n1 failed in 0.1s",
            0,
            "the exit status is 0 but the runner's summary says 1 failed",
        ),
        ("sss [100%]\n3 skipped in 0.01s", 0, "every test was skipped (3)"),
        ("collected 2 items\n=== 2 deselected in 0.03s ===", 5, "every test was deselected"),
        ("no tests ran in 0.00s", 5, "no test was found"),
        (". [100%]\n1 passed in 0.01s", 3, "the exit status is 3, though the runner's summary says 1 passed"),
        ("sh: 1: mini-runner: not found", 127, "cannot run: mini-runner is missing"),
        ("No tests found, exiting with code 1", 1, "the exit status is 1; no test was found"),
    ],
)  # fmt: skip
def test_the_reason_is_said(output, code, words):
    report = digest.read(output, code)
    assert report.reason == words
    assert words[1:] in report.digest


def test_a_passed_run_needs_no_reason():
    assert digest.read(". [100%]\n1 passed in 0.01s", 0).reason is None


# ---- several runs in one output, and other runs inside ---------------------------------------------

PYTEST = ". [100%]\n1 passed in 0.01s\n"
PYTEST_BAD = "F [100%]\n1 failed in 0.01s\n"
UNITTEST = ".\n" + "-" * 70 + "\nRan 1 test in 0.001s\n\nOK\n"
JEST = "Test Suites: 1 passed, 1 total\nTests:       2 passed, 2 total\nRan all test suites.\n"
CARGO = "running 1 test\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n"
NONE = "\n" + "-" * 70 + "\nRan 0 tests in 0.000s\n\nOK\n"
GO_BAD = "--- FAIL: TestA (0.00s)\nFAIL\nFAIL\tdemo\t0.1s\nFAIL\n"


@pytest.mark.parametrize(
    ("parts", "words", "counts"),
    [
        ([PYTEST, JEST], "passed", {"passed": 3}),
        ([PYTEST, UNITTEST, CARGO], "passed", {"passed": 3}),
        ([PYTEST_BAD, JEST], "failed", {"passed": 2, "failed": 1}),
        ([JEST, PYTEST_BAD], "failed", {"passed": 2, "failed": 1}),
        ([PYTEST_BAD, PYTEST], "failed", {"passed": 1, "failed": 1}),
        ([GO_BAD, PYTEST], "failed", {"passed": 1, "failed": 1}),
        ([NONE, PYTEST], "passed", {"passed": 1}),
        ([PYTEST, NONE], "passed", {"passed": 1}),
        ([NONE, NONE], "not-run", {}),
    ],
)
def test_several_runs_in_one_output_are_summed(parts, words, counts):
    report = digest.read("".join(parts), 0, command="make test")
    assert (verdict(report), report.counts) == (words, counts)


@pytest.mark.parametrize("inner", [PYTEST_BAD, JEST.replace("2 passed", "2 failed"), GO_BAD, CARGO, NONE])
def test_a_runner_started_by_name_is_the_only_one_whose_words_count(inner):
    report = digest.read(inner + UNITTEST, 0, command="python3 -m unittest discover -v")
    assert (verdict(report), report.counts) == ("passed", {"passed": 1})


@pytest.mark.parametrize(
    ("output", "command", "words", "counts"),
    [
        (  # unittest speaks on the unbuffered stream: what a test prints may come after it
            UNITTEST.replace("1 test in 0.001s", "2 tests in 0.050s") + UNITTEST,
            "python3 -m unittest",
            "passed",
            {"passed": 2},
        ),
        (
            "=== RUN   TestA\n--- PASS: TestOther (0.00s)\n--- PASS: TestA (0.00s)\nPASS\nok  \tdemo\t0.1s\n",
            "go test -v",
            "passed",
            {"passed": 1},
        ),
        ("1..2\nok 1 - a\nnot ok\nok 2 - b\n", "bats t", "passed", {"passed": 2}),
        ("5 passed\nnox > Session tests skipped: not today.\n", "nox", "not-run", {}),
        ("5 passed\n" + NONE, "./check.sh", "not-run", {}),
    ],
)
def test_what_a_test_prints_is_not_counted(output, command, words, counts):
    report = digest.read(output, 0, command=command)
    assert (verdict(report), report.counts) == (words, counts)


@pytest.mark.parametrize(
    "command",
    [
        "python3 -m unittest",
        "cd x && python -m unittest discover -v",
        "PYTHONPATH=. .venv/bin/python3.11 -W error -m unittest t",
        "set -o pipefail; python3 -m unittest 2>&1 | tee log",
        "timeout 60 uv run python -m unittest",
        "env A=1 python -m unittest > log 2>&1; cat log",
    ],
)
def test_a_runner_is_seen_through_what_leads_to_it(command):
    assert started(command).families == ("unittest",)


@pytest.mark.parametrize(
    "command", ["make test", "python3 -m unittest; pytest", "npm test", "a 'b", "", "./t.sh"]
)
def test_what_may_start_anything_names_no_runner(command):
    assert started(command).families == ()


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("pytest -q", True),
        ("pytest -q | tee log", False),
        ("set -o pipefail; pytest -q | tee log", True),
        ("pytest -q || true", False),
        ("cd a && pytest -q 2>&1", True),
    ],
)
def test_a_status_behind_a_pipe_is_not_the_runners(command, status):
    assert started(command).status is status


def test_a_huge_line_and_odd_bytes_change_nothing():
    text = "x" * 3_000_000 + "\n" + "\ufffd\x00\x07\n" + PYTEST_BAD
    assert digest.read(text, 0).counts == {"failed": 1}


def test_a_progress_bar_is_not_one_line():
    assert digest.read("10%\r50%\r100%\r. [100%]\r\n1 passed in 0.01s\r\n", 0).counts == {"passed": 1}


# ---- runners nobody listed, and odd words -----------------------------------------------------------

RULE = "-" * 70


@pytest.mark.parametrize(
    ("output", "code", "command", "words"),
    [
        (
            "============================= test session starts ==============================\n"
            "collected 2 items\n\nt.py::a ==== 1 failed, 3 passed in 0.01s ====\n"
            "=========== 1 failed, 3 passed in 0.01s ===========\nPASSED [ 50%]\nt.py::b PASSED [100%]\n\n"
            "====== 2 passed in 0.05s ======\n",
            0,
            "make test",
            "passed",
        ),
        ("..\n{rule}\nRan 2 tests in 0.1s\n\nOK\n1 failed, 2 passed in 0.01s\n", 0, "make test", "passed"),
        ("..\n{rule}\nRan 2 tests in 0.1s\n\nOK\n2 failed\n", 0, "make test", "passed"),
        ("Tests run: 0\n", 0, "./t.sh", "not-run"),
        ("Total tests: 5, Passed: 5, Failed: 0\n", 0, "./t.sh", "passed"),
        ("0 failures, 0 errors.\n", 0, "lein test", "passed"),
        ("Ran 2 tests containing 2 assertions.\n1 failures, 0 errors.\n", 0, "lein test | cat", "failed"),
        ("[info] Passed: Total 3, Failed 0, Errors 0, Passed 3\n", 0, "sbt test", "passed"),
        ("[error] Failed: Total 3, Failed 1, Errors 0, Passed 2\n", 0, "sbt test | cat", "failed"),
        (
            "[info] Tests: succeeded 2, failed 1, canceled 0, ignored 0, pending 0\n",
            0,
            "sbt test | cat",
            "failed",
        ),
        ("00:01 +2 -1: Some tests failed.\n", 0, "dart test | cat", "failed"),
        ("[ FAIL 1 | WARN 0 | SKIP 0 | PASS 3 ]\n", 0, "Rscript t.R | cat", "failed"),
        (
            "HeadlessChrome 120 (Linux): Executed 5 of 5 (1 FAILED) (0.1 secs / 0.05 secs)\n",
            0,
            "karma start | cat",
            "failed",
        ),
        ("Running tests...\nTest 1: ok\nTest 2: ok\n", 0, "./t.sh", "passed"),
        ("Test 1: passed\nTest 2: failed\n", 1, "./t.sh", "failed"),
        ("no tests ran in 0.01s\n", 1, "make test", "failed"),
        ("Ran 0 tests in 0.000s\n\nOK\n", 2, "python3 -m unittest", "failed"),
        ("sss [100%]\n3 skipped in 0.1s\n", 1, "pytest", "failed"),
        ("Error: no test specified\n", 1, "npm test", "failed"),
        ("Error: no test specified\n", 0, "npm test", "not-run"),
        ("pytest: command not found\n", 127, "", "not-run"),
        ('test "$x" failed\n', 0, "./t.sh", "passed"),
        ("2 tests failed to fail as expected\n", 0, "./t.sh", "passed"),
        ("✓ 5 tests passed\n✗ 1 test failed\n", 0, "./t.sh", "failed"),
        ("Tests:  3 passed | 1 failed\n", 0, "./t.sh", "failed"),
        ("Failures: 2\n", 0, "./t.sh", "failed"),
        ("3 Tests 0 Failures 0 Ignored \nOK\n", 0, "./unity", "passed"),
        ("3 Tests 1 Failures 0 Ignored \nFAIL\n", 0, "./unity | cat", "failed"),
        ("100%: Checks: 3, Failures: 0, Errors: 0\n", 0, "./check", "passed"),
        ("66%: Checks: 3, Failures: 1, Errors: 0\n", 0, "./check|cat", "failed"),
        ('*** 1 failure is detected in the test module "x"\n', 0, "./boost|cat", "failed"),
        (
            "Executed 1 out of 2 tests: 1 test passes and 1 fails locally.\n",
            0,
            "bazel test ... | cat",
            "failed",
        ),
        ("  All 2 tests passed.\n", 0, "rebar3 eunit", "passed"),
        ("Failed: 1.  Skipped: 0.  Passed: 1.\n", 0, "rebar3 eunit|cat", "failed"),
        ("5 examples, 0 failures\n", 0, "./t", "passed"),
        ("> Task :test FAILED\n\nBUILD FAILED in 2s\n", 0, "make test", "failed"),
        ("ok 1 - a\nnot ok 2 - b\n", 0, "./t|cat", "failed"),
        ("not ok 2 - b\n1..2\n", 0, "./t|cat", "failed"),
        ("TAP version 13\nok 1\nBail out! no db\n", 0, "./t|cat", "failed"),
        ("1..3\nok 1\nok 2\n", 0, "./t|cat", "failed"),
    ],
)
def test_odd_words(output, code, command, words):
    report = digest.read(output.replace("{rule}", RULE), code, command=command)
    assert verdict(report) == words, (report.counts, report.reason)


# ---- the digest ------------------------------------------------------------------------------------


def test_a_digest_is_short_and_keeps_causes_and_the_end():
    noise = [f"collecting {n}" for n in range(5000)]
    text = "\n".join([*noise, "E   assert 1 == 2", *noise, "FAILED t.py::a", "1 failed, 9 passed in 3s"])
    report = digest.read(text, 1)
    assert len(report.digest.splitlines()) <= digest.MAX_LINES
    assert "assert 1 == 2" in report.digest
    assert report.digest.endswith("1 failed, 9 passed in 3s")


def test_a_hang_is_told_as_one():
    report = digest.read("begun\n", None, timeout_s=5)
    assert (report.hung, report.passed) == (True, False)
    assert "within 5 s" in report.digest
    assert "within 5 s" in (report.reason or "")


def test_a_run_that_never_ended_for_another_reason_did_not_run():
    report = digest.read("begun\n", None, reason="lost")
    assert (report.ran, report.passed, report.hung, report.reason) == (False, False, False, "lost")


def test_what_goes_into_an_event():
    report = digest.read("t.py::test_a PASSED [100%]\n1 passed in 0.1s", 0)
    assert report.cases == {"t.py::test_a": "passed"}
    assert report.to_json().keys() == {"ran", "passed", "counts", "digest", "hung", "reason", "missing"}


def rep(passed=False, ran=True, hung=False, **counts):
    return {"passed": passed, "ran": ran, "hung": hung, "counts": counts}


@pytest.mark.parametrize(
    ("after", "before", "expected"),
    [
        (rep(True), rep(), False),
        (rep(), rep(True), True),
        (rep(failed=2), rep(failed=1), True),
        (rep(failed=1), rep(failed=1), False),
        (rep(errors=1, failed=1), rep(failed=1), True),
        (rep(ran=False), rep(failed=1), True),
        (rep(hung=True), rep(failed=1), True),
        (rep(failed=9), None, False),
    ],
)
def test_worse(after, before, expected):
    assert digest.worse(after, before) is expected
