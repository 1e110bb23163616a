# ruff: noqa: E501 (a row of a table is one line)
"""Green means green: whole turns in a real sandbox whose tests are skipped, hidden, missing or weakened."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.agents.test_turns import APPROVE, PLAN, call

UNIT = (
    "import unittest\nfrom app import add\n\n\nclass T(unittest.TestCase):\n    def test_add(self):\n"
    "        self.assertEqual(add(2, 3), 5)\n"
)
APP = "def add(a, b):\n    return a - b\n"
MENDED = call("edit", path="app.py", old="a - b", new="a + b")
TWO_UNITS = (
    "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n        self.assertEqual(1, 2)\n"
    "    def test_b(self):\n        pass\n"
)
SKIP = call("edit", path="test_app.py", old="class T(", new='@unittest.skip("needs a database")\nclass T(')
DONE = {"content": "Done."}


def single(*replies: dict[str, Any]) -> dict[str, Any]:
    return {"coder": [{"replies": list(replies)}]}


async def test_tests_that_are_only_skipped_are_not_passed(talk, script):
    chat = await talk(script(single(SKIP, DONE, DONE)), {"app.py": APP, "test_app.py": UNIT}, mode="single")
    await chat.post("Fix the failing test")
    end = await chat.finished()
    assert end["outcome"] == "unverified"
    assert end["reason"].startswith("tests were weakened: `T.test_add` is skipped now")
    first, *_, last = (e.payload for e in await chat.events("tests.finished"))
    assert (first["ran"], first["passed"], first["weakened"]) == (True, False, [])
    assert (last["ran"], last["passed"], last["counts"].get("skipped")) == (False, False, 1)
    assert [(one["kind"], one["file"]) for one in last["weakened"]] == [("skipped", "test_app.py")]
    assert [e.payload["step"] for e in await chat.events("step.finished")].count("coder") == 2, (
        "sent back once"
    )


async def test_a_deleted_test_is_seen_and_the_critic_gets_it(talk, script):
    two = UNIT + "\n    def test_more(self):\n        self.assertEqual(add(0, 0), 0)\n"
    delete = call(
        "edit", path="test_app.py", old=UNIT.split("\n\n\n")[1], new="class T(unittest.TestCase):\n"
    )
    chat = await talk(
        script(
            {
                "planner": [{"replies": [PLAN]}],
                "coder": [{"replies": [delete, DONE, DONE]}],
                "critic": [
                    {"when": r"\[high\] test_app.py the test `T.test_add` was deleted", "replies": [APPROVE]}
                ],
                "executor": [{"replies": [{"content": "All green!"}]}],
            }
        ),
        {"app.py": APP, "test_app.py": two},
    )
    await chat.post("Fix the failing test")
    end = await chat.finished()
    assert (end["outcome"], end["tests"]["passed"]) == ("unverified", True)
    assert "Tests were weakened" in end["summary"]
    review = (await chat.events("review.finished"))[0].payload
    assert (review["verdict"], review["issues"][0]["severity"]) == ("revise", "high")


async def test_a_weakening_is_mended_when_told(talk, script):
    undo = call("edit", path="test_app.py", old='@unittest.skip("needs a database")\n', new="")
    replies = {
        "coder": [{"when": "Put the tests back", "replies": [undo, MENDED, DONE]}, {"replies": [SKIP, DONE]}]
    }
    chat = await talk(script(replies), {"app.py": APP, "test_app.py": UNIT}, mode="single")
    await chat.post("Fix the failing test")
    end = await chat.finished()
    assert (end["outcome"], [file["path"] for file in end["files"]]) == ("passed", ["app.py"])
    assert await chat.events("revision.rolled_back") == []


@pytest.mark.parametrize(
    ("files", "command", "outcome", "words"),
    [
        (  # `make` fails, `tee` does not
            {"Makefile": "test:\n\tfalse\n"}, "make test | tee log", "failed", "the tests do not pass",
        ),
        ({"a.txt": ""}, "yes | head -n 1", "passed", "the tests pass"),
        (  # node_modules stayed at home
            {"package.json": json.dumps({"scripts": {"test": "mini-runner"}}), "package-lock.json": "{}"},
            None, "unverified",
            'cannot run: mini-runner is missing; to bring it: --setup-cmd "npm ci" --network open',
        ),
        (
            {"package.json": json.dumps({"scripts": {"test": "no-such-runner"}, "padding": "x" * 31_000})},
            None, "unverified", 'no-such-runner is missing; to bring it: --setup-cmd "npm install" --network open',
        ),
        ({"package.json": json.dumps({"scripts": {"test": "node --test"}}), "index.js": "exports.x = 1\n"},
         None, "unverified", "the tests were not run: "),
        pytest.param(  # tests/e2e/test_reports.py plays it in every run
            {"Makefile": "test:\n\tpython3 -m unittest -v t.check 2>&1 | tee test.log\n", "t/check.py": TWO_UNITS},
            None, "failed", "the tests do not pass", marks=pytest.mark.chaos,
        ),
        ({"package.json": "{broken"}, None, "unverified", "package.json is no JSON that can be read"),
        ({"a.txt": ""}, None, "unverified", "there were no tests to run"),
        pytest.param(
            {"a.txt": ""}, "no-such-program --test", "unverified", "no-such-program is missing",
            marks=pytest.mark.chaos,
        ),
        (
            {"api/requirements.txt": "", "api/test_app.py": UNIT, "api/app.py": APP.replace("-", "+"),
             "tools/Makefile": "test:\n\ttrue\n"},
            None, "passed", "the tests pass",
        ),
    ],
)  # fmt: skip
async def test_how_a_turn_ends(talk, script, files, command, outcome, words):
    change = call("write", path="note.txt", content="x")
    chat = await talk(script(single(change, DONE)), files, mode="single", test_command=command)
    await chat.post("Write a note")
    end = await chat.finished()
    assert end["outcome"] == outcome, end
    assert words in end["reason"]
    assert (end["tests"] is None) == ("no tests to run" in end["reason"])


async def test_work_before_a_models_trouble_is_tested_and_kept(talk, script):
    error = {"code": "model-overloaded", "detail": "too many requests", "hint": "wait"}
    files = {"app.py": APP, "test_app.py": UNIT}
    chat = await talk(script(single(MENDED, {"error": error})), files, mode="single")
    await chat.post("Fix the failing test")
    end = await chat.finished()
    assert (end["outcome"], end["reason"]) == ("error", "too many requests")
    assert end["tests"]["passed"]
    assert [file["path"] for file in end["files"]] == ["app.py"]
    assert [e.payload["code"] for e in await chat.events("error.raised")] == ["model-overloaded"]


async def test_a_reply_that_is_none_leaves_the_verdict_to_the_tests(talk, script):
    error = {"code": "model-reply-invalid", "detail": "no content", "hint": ""}
    files = {"app.py": APP, "test_app.py": UNIT}
    chat = await talk(script(single(MENDED, {"error": error})), files, mode="single")
    await chat.post("Fix the failing test")
    end = await chat.finished()
    assert end["outcome"] == "passed"
    assert "the coder's model gave no usable reply" in end["reason"]


async def test_what_the_tests_write_stays_and_is_part_of_the_change(talk, script):
    files = {"Makefile": "test:\n\techo ran >> test.txt\n"}
    executor = [call("bash", command="echo no > extra.txt"), {"content": "Fine."}]
    chat = await talk(
        script({"planner": [{"replies": [PLAN]}], "coder": [{"replies": [call("write", path="a.txt", content="x"), DONE]}],
                "critic": [{"replies": [APPROVE]}], "executor": [{"replies": executor}]}),
        files,
    )  # fmt: skip
    await chat.post("Fix the failing test")
    end = await chat.finished()
    assert sorted(file["path"] for file in end["files"]) == ["a.txt", "test.txt"]
    assert await chat.read("test.txt") == "ran\nran\n"
    rolled = (await chat.events("revision.rolled_back"))[0].payload
    assert rolled["reason"].startswith("the executor changed files")
