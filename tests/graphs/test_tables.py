"""The pure parts as tables: limits, circles, detection, digests, routing, plans."""

from __future__ import annotations

import pytest

from graphs import (
    detection,
    digest,
    limits,
    prompting,
    routing,
    structured,
    stuck,
)
from graphs.detection import Found
from graphs.limits import Limits, Spent
from runtime.settings import Settings
from terminalpp.types.errors import InvalidInput

# ---- limits ------------------------------------------------------------------------------------


def test_limits_come_from_the_settings_and_a_conversation_overrides_them(tmp_path):
    made = Limits.of(
        Settings(home=tmp_path, turn_max_steps=7), {"max_usd": 1, "turn_max_seconds": 9, "max_tokens": None}
    )
    assert (made.max_steps, made.max_usd, made.max_seconds, made.max_tokens) == (7, 1.0, 9.0, 2_000_000)
    assert Limits.from_json(made.to_json()) == made


@pytest.mark.parametrize(
    "bad",
    [
        {"max_steps": 0},
        {"max_usd": -1},
        {"max_steps": "9"},
        {"steps": 3},
        {"max_usd": float("nan")},
        {"max_tokens": True},
    ],
)
def test_bad_limits_are_refused_by_name(bad):
    with pytest.raises(InvalidInput, match=next(iter(bad))):
        limits.checked(bad)


def test_an_unknown_price_is_not_zero():
    spent = Spent().plus({"usage": {"input_tokens": 5}, "cost_usd": None})
    assert (spent.cost_usd, spent.steps) == (None, 1)
    assert limits.check(Limits(max_usd=0.01), spent, 0) is None
    assert spent.plus({"usage": {}, "cost_usd": 0.5}).cost_usd == 0.5


# ---- circles -----------------------------------------------------------------------------------


def deed(action: str, result: str = "r", ok: bool = True) -> stuck.Deed:
    return stuck.Deed(action, result, ok)


@pytest.mark.parametrize(
    ("deeds", "found"),
    [
        ([deed("a")] * 3, False),
        ([deed("a")] * 4, True),
        ([deed("a", str(n)) for n in range(9)], False),
        ([deed("a", str(n), False) for n in range(3)], True),
        ([deed("a"), deed("b")] * 3, True),
        ([deed("a"), deed("b")] * 2 + [deed("a"), deed("b", "other")], False),
        ([deed("b"), *[deed("a")] * 4], True),
    ],
)
def test_circles(deeds, found):
    assert bool(stuck.circling(deeds)) is found


# ---- detection ---------------------------------------------------------------------------------


def found(
    tools_: str, files: str, contents: dict[str, str] | None = None, uses_pytest: bool = False
) -> Found:
    return Found(frozenset(tools_.split()), frozenset(files.split()), contents or {}, uses_pytest)


@pytest.mark.parametrize(
    ("seen", "command"),
    [
        (found("python3 python-pytest", "tests/test_a.py"), "python3 -m pytest -q"),
        (found("python3 python-pytest venv", "pytest.ini"), ".venv/bin/python -m pytest -q"),
        (
            found("python3", "tests/test_a.py tests/__init__.py"),
            "python3 -m unittest discover -v -s tests -t .",
        ),
        (found("python3", "tests/test_a.py"), "python3 -m unittest discover -v -s tests"),
        (found("python", "test_a.py"), "python -m unittest discover -v"),
        (found("python3", "tests/test_a.py", uses_pytest=True), None),
        (found("python3", "setup.py"), None),
        (
            found("npm node", "package.json", {"package.json": '{"scripts": {"test": "jest"}}'}),
            "CI=1 npm test --silent",
        ),
        (
            found("npm yarn", "package.json yarn.lock", {"package.json": '{"scripts": {"test": "jest"}}'}),
            "CI=1 yarn test",
        ),
        (
            found("npm", "package.json", {"package.json": '{"scripts": {"test": "echo no test specified"}}'}),
            None,
        ),
        (found("npm", "package.json", {"package.json": "{broken"}), None),
        (found("go", "go.mod a_test.go"), "go test ./..."),
        (found("", "go.mod"), None),
        (found("cargo", "Cargo.toml"), "cargo test --quiet"),
        (found("make", "Makefile", {"Makefile": "all:\n\ntest: all\n\tx"}), "make test"),
        (found("make", "Makefile", {"Makefile": "check:\n\tx"}), "make check"),
        (found("make", "Makefile", {"Makefile": "test := 3\n"}), None),
        (found("", ""), None),
    ],
)
def test_detection(seen, command):
    assert detection.detect(seen) == command


def test_the_probe_is_read_back():
    seen = detection.parse_probe(
        "tool make\nfile Makefile\nuses-pytest x\ncontent Makefile\ntest:\n\tx\nend Makefile\ntool go\n"
    )
    assert seen == Found(frozenset({"make", "go"}), frozenset({"Makefile"}), {"Makefile": "test:\n\tx"}, True)


# ---- digests -----------------------------------------------------------------------------------


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
        ("Ran 0 tests in 0.000s\n\nOK", 0, False, False, {"passed": 0}),
        ("\n  3 passing (20ms)\n  1 failing\n", 1, True, False, {"passed": 3, "failed": 1}),
        ("# pass 4\n# fail 0\n", 0, True, True, {"passed": 4, "failed": 0}),
        (
            "--- FAIL: TestA (0.00s)\n--- PASS: TestB (0.00s)\nFAIL\nFAIL\tx\t0.1s",
            1,
            True,
            False,
            {"failed": 1, "passed": 1},
        ),
        ("?   \tx\t[no test files]", 0, False, False, {}),
        (
            "test result: ok. 2 passed; 0 failed; 1 ignored\ntest result: ok. 3 passed; 0 failed; 0 ignored",
            0,
            True,
            True,
            {"passed": 5, "failed": 0, "skipped": 1},
        ),
        ("sh: pytest: not found", 127, False, False, {}),
        ("whatever", 0, True, True, {}),
        ("\x1b[31mE   boom\x1b[0m", 2, True, False, {}),
    ],
)
def test_digest(output, code, ran, passed, counts):
    report = digest.read(output, code)
    assert (report.ran, report.passed, report.counts) == (ran, passed, counts)
    assert "\x1b" not in report.digest


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


# ---- routing, plans, prompts -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "mode", "way"),
    [
        ("Fix the failing test", "team", "normal"),
        ("Correct the typo in the README", "team", "trivial"),
        ("What does parse() return?", "team", "trivial"),
        ("Can you fix the parser?", "team", "normal"),
        ("Rename foo to bar", "team", "trivial"),
        ("Rename foo to bar and fix the crash", "team", "normal"),
        ("typo " + "x" * 300, "team", "normal"),
        ("typo", "single", "single"),
    ],
)
def test_route(task, mode, way):
    assert routing.route(task, mode) == way


@pytest.mark.parametrize(
    "text",
    [
        '{"goal": "g", "steps": ["s"]}',
        'Here:\n```json\n{"goal": "g", "steps": "s"}\n```',
        'x {"goal": "g", "steps": ["s"]} y',
    ],
)
def test_plans_are_read_leniently(text):
    assert structured.plan(text) == {
        "goal": "g",
        "acceptance": [],
        "files": [],
        "steps": ["s"],
        "test_commands": [],
    }


@pytest.mark.parametrize("text", ["", "[]", '{"goal": ""}', '{"goal": "g"}', '{"goal": "g", "steps": [{}]}'])
def test_plans_that_are_none(text):
    with pytest.raises(structured.Malformed):
        structured.plan(text)


def test_verdicts_are_bounded():
    found = structured.verdict(
        '{"verdict": "REVISE", "issues": [{"claim": "c", "severity": "fatal", "line": "3"}]}'
    )
    assert found["issues"] == [
        {"severity": "low", "file": "", "line": None, "claim": "c", "evidence_command": None}
    ]
    with pytest.raises(structured.Malformed):
        structured.verdict('{"verdict": "maybe"}')


def test_repository_text_cannot_close_its_mark():
    assert prompting.data("a </data> b").count("</data>") == 1
    text = prompting.system("coder", "/home/user/x", {"AGENTS.md": "y" * 90_000}, native=False)
    assert len(text) < 25_000
    assert '<call tool="NAME">' in text


@pytest.mark.parametrize("kind", ["plan", "code", "review", "close"])
def test_every_kind_of_task_has_words(kind):
    assert "the task text" in prompting.task_text(kind, {}, "the task text", ())
