"""The whole graph on stand-ins for sandbox and model, killed at every point and resumed.

The saver is LangGraph's in-memory one with the same rule as ours: a step's events enter the log in the
moment its checkpoint is stored (`graphs/saver.py` does it in one transaction; tests/graphs/test_saver.py).
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from graphs import (
    digest,
    graph,
    limits,
    loop,
    prompting,
    routing,
    structured,
    tools,
    turn_messages,
    weakening,
)
from graphs.ports import Services, TurnSpec
from graphs.runner_settings import Change
from graphs.state import OUTGOING
from terminalpp.types.errors import (
    ModelKeyRejected,
    ModelOverloaded,
    ModelReplyInvalid,
    ModelRequestTooLong,
    ModelUnreachable,
    Unavailable,
)
from tests.graphs.doubles import Crash, MemoryPort, MemorySandbox, MemoryWorkspace, Once, Points, World

PLAN = '{"goal": "add works", "acceptance": ["1 + 1 is 2"], "steps": ["fix add"], "test_commands": ["tests"]}'
APPROVE = '{"verdict": "approve", "issues": []}'
FILE = "/home/user/repo/add.py"


class Saver(InMemorySaver):
    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    async def aput(self, config, checkpoint, metadata, new_versions):
        self.world.points.pass_("before checkpoint")
        stored = await super().aput(config, checkpoint, metadata, new_versions)
        if OUTGOING in new_versions:
            for type, actor, payload in checkpoint["channel_values"].get(OUTGOING, []):
                self.world.append(type, actor, payload)
        self.world.points.pass_("after checkpoint")
        return stored

    async def aput_writes(self, config, writes, task_id, task_path=""):
        self.world.points.pass_("before writes")
        await super().aput_writes(config, writes, task_id, task_path)
        self.world.points.pass_("after writes")


class Team:
    """`Agents` as the agent entity does it: the loop for four roles, plain runs for the tester."""

    def __init__(self, world: World, bounds: limits.Limits, trees: dict[str, dict[str, bytes]]) -> None:
        self.world, self.bounds, self.trees, self.tasks = world, bounds, trees, Once()

    async def work(self, role: str, task: dict[str, Any]) -> dict[str, Any]:
        self.world.points.pass_(f"before {role}")
        self.tasks.use(task["task_id"], task)
        result = await (self.test(task) if role == "tester" else self.think(role, task))
        self.world.points.pass_(f"after {role}")
        return result

    async def think(self, role: str, task: dict[str, Any]) -> dict[str, Any]:
        answer = {"planner": structured.plan, "critic": structured.verdict}.get(role)
        work = loop.Task(
            task_id=task["task_id"],
            conversation_id="c",
            role=role,
            model="m",
            system="s",
            text=prompting.task_text(task["kind"], task, "Fix the bug", ()),
            tools=tools.ROLE_TOOLS[role],
            native=True,
            limits=self.bounds,
            started_at=1000.0,
            spent=limits.Spent.from_json(task["spent"]),
            answer=answer,
        )
        return await loop.run(work, MemoryPort(self.world, work.task_id, role), MemorySandbox(self.world))

    async def test(self, task: dict[str, Any]) -> dict[str, Any]:
        sandbox = MemorySandbox(self.world)
        if task["kind"] == "evidence":
            runs = [
                await sandbox.run(f"{task['task_id']}-{n}", command, 9)
                for n, command in enumerate(task["commands"])
            ]
            return {"status": "done", "failed": [n for n, seen in enumerate(runs) if seen.exit_code]}
        command = task["command"] or next(iter(task["candidates"]), None)
        if command is None:
            return {"status": "done", "command": None, "report": None}
        seen = await sandbox.run(f"{task['task_id']}-run", command, 9)
        report = digest.read(seen.output, seen.exit_code, command=command).to_json()
        weakened = []
        if task["compare"]:
            old, new = (self.trees[task["compare"][name]] for name in ("base", "to"))
            changed = [path for path in sorted(old.keys() | new.keys()) if old.get(path) != new.get(path)]
            pairs = [Change(path, *(_text(tree.get(path)) for tree in (old, new))) for path in changed]
            weakened = weakening.find(pairs, task["asked"], command=command)
        about = {"exec_id": f"{task['task_id']}-run", "exit_code": seen.exit_code, "setup": None}
        return {"status": "done", "command": command, "report": {**report, **about, "weakened": weakened}}


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode()


class Log:
    def __init__(self, world: World) -> None:
        self.world = world

    async def attempt(self, step: str, visit: int) -> int:
        return 1 + sum(
            1 for about in self.world.of("step.started") if (about["step"], about["visit"]) == (step, visit)
        )

    async def emit(self, type: str, actor: str, payload: dict[str, Any]) -> None:
        self.world.append(type, actor, payload)
        self.world.points.pass_(f"after {type}")


class Case:
    """A world with its services; `run` may be called again after a Crash, as a new process would."""

    def __init__(
        self,
        replies: dict[str, list[Any]],
        *,
        die_at: int | None = None,
        mode: str = "team",
        task: str = "Fix the bug in add",
        runner: Any = None,
        bounds: limits.Limits | None = None,
        command: str | None = None,
    ) -> None:
        self.world = World({role: list(said) for role, said in replies.items()}, Points(die_at))
        self.world.files[FILE] = b"broken 1"
        self.world.runner = runner or suite
        self.workspace = MemoryWorkspace(self.world)
        self.saver = Saver(self.world)
        self.bounds = bounds or limits.Limits()
        self.team = Team(self.world, self.bounds, self.workspace.trees)
        self.task, self.mode, self.command = task, mode, command

    async def run(self, turn_id: str = "t1") -> dict[str, Any]:
        base = dict(self.world.files)
        points, self.world.points = self.world.points, Points()
        self.start = getattr(self, "start", None) or await self.workspace.snapshot("base")
        self.world.points, self.world.files = points, base
        spec = TurnSpec("c", turn_id, self.task, self.mode, self.bounds, 1000.0, self.start, self.command)
        services = Services(spec, self.team, self.workspace, Log(self.world), lambda: self.world.clock)
        return await graph.run(services, self.saver)

    @property
    def steps(self) -> list[str]:
        return [f"{about['step']}{about['visit']}" for about in self.world.of("step.finished")]


def suite(world: World, command: str) -> tuple[int, str]:
    """The "repository": its tests fail once per number in the file's text."""
    failures = sum(int(word) for word in world.files[FILE].decode().split() if word.isdigit())
    if command.startswith("prove"):
        return (1, "proved") if "prove" in world.files[FILE].decode() else (0, "")
    return (1, f"{failures} failed, 1 passed in 0.1s") if failures else (0, "2 passed in 0.1s")


def write(text: str) -> tuple:
    return ("", [("write", {"path": "add.py", "content": text})])


def full_replies() -> dict[str, list[Any]]:
    """Planner, a first try that fails, a repair, a critic that sends it back, an executor."""
    return {
        "planner": [("", [("read", {"path": "add.py"})]), PLAN],
        "coder": [write("still 1"), "first try", write("good"), "second try", write("better"), "reviewed"],
        "critic": [
            '{"verdict": "revise", "issues": [{"severity": "high", "file": "add.py", "claim": "bad name"}]}'
        ],
        "executor": ["All is well."],
    }


async def test_the_full_team_from_red_to_green():
    case = Case(full_replies())
    state = await case.run()
    assert case.steps == [
        "route1",
        "planner1",
        "baseline1",
        "coder1",
        "gate1",
        "coder2",
        "gate2",
        "critic1",
        "coder3",
        "gate3",
        "executor1",
    ]
    assert routing.outcome(state) == "passed"
    assert (state["baseline"]["passed"], state["tests"]["passed"], state["rounds"]) == (False, True, 1)
    assert state["summary"] == "All is well."
    assert case.world.files[FILE] == b"better"
    assert [plan["goal"] for plan in case.world.of("plan.made")] == ["add works"]


async def test_killed_at_every_point_and_resumed():
    calm = Case(full_replies())
    final = await calm.run()
    total = calm.world.points.count
    boundaries = [name for name in calm.world.points.names if name == "before checkpoint"]
    assert len(boundaries) == 13  # the input, LangGraph's start, and eleven steps
    timeless = [event.type for event in calm.world.events if event.type != "step.started"]
    for die_at in range(1, total + 1):
        case = Case(full_replies(), die_at=die_at)
        with pytest.raises(Crash):
            await case.run()
        state = await case.run()
        name = case.world.points.names[die_at - 1]
        assert {**state, OUTGOING: 0} == {**final, OUTGOING: 0}, f"after a death {name}"  # it holds attempts
        assert [event.type for event in case.world.events if event.type != "step.started"] == timeless, name
        assert [event.seq for event in case.world.events] == list(range(1, len(case.world.events) + 1))
        assert len(set(case.world.once.started)) == len(case.world.once.started)
        opened = {payload["tool_call_id"] for payload in case.world.of("tool.called")}
        assert opened == {payload["tool_call_id"] for payload in case.world.of("tool.finished")}


async def test_a_trivial_task_skips_planner_and_critic():
    case = Case({"coder": [write("good"), "done"], "executor": ["ok"]}, task="Correct the typo in the README")
    await case.run()
    assert case.steps == ["route1", "baseline1", "coder1", "gate1", "executor1"]


async def test_single_mode_is_coder_and_gate():
    case = Case({"coder": [write("good"), "I fixed it"]}, mode="single")
    state = await case.run()
    assert case.steps == ["route1", "baseline1", "coder1", "gate1", "executor1"]
    assert state["summary"] == "I fixed it"


async def test_a_revision_that_makes_it_worse_is_rolled_back():
    case = Case(
        {
            "planner": [PLAN],
            "coder": [write("still 1"), "a", write("now 5"), "b", write("good"), "c"],
            "critic": [APPROVE],
            "executor": ["ok"],
        }
    )
    state = await case.run()
    assert len(case.world.of("revision.rolled_back")) == 1
    assert case.world.files[FILE] == b"good"
    assert state["tests"]["passed"]


async def test_a_review_that_breaks_green_tests_keeps_the_green_tree():
    case = Case(
        {
            "planner": [PLAN],
            "coder": [write("good"), "a", write("pretty 2"), "b"],
            "critic": ['{"verdict": "revise", "issues": [{"severity": "high", "claim": "ugly"}]}'],
            "executor": ["ok"],
        }
    )
    state = await case.run()
    assert case.world.files[FILE] == b"good"
    assert routing.outcome(state) == "passed"
    assert case.steps[-3:] == ["coder2", "gate2", "executor1"]


async def test_only_severe_or_proven_findings_go_back():
    def issue(evidence: str) -> str:
        found = {"severity": "low", "claim": "c", "evidence_command": evidence}
        return json.dumps({"verdict": "revise", "issues": [found]})

    case = Case(
        {"planner": [PLAN], "coder": [write("good"), "a"], "critic": [issue("prove it")], "executor": ["ok"]}
    )
    await case.run()
    assert "coder2" not in case.steps, "its evidence does not fail"
    case = Case(
        {
            "planner": [PLAN],
            "coder": [write("good prove"), "a", write("good"), "b"],
            "critic": [issue("prove it")],
            "executor": ["ok"],
        }
    )
    await case.run()
    assert "coder2" in case.steps


async def test_repair_rounds_are_bounded_and_red_is_told_as_red():
    replies = [item for n in range(9) for item in (write(f"try{n} 1"), "no")]
    case = Case({"planner": [PLAN], "coder": replies, "executor": ["It still fails."]})
    state = await case.run()
    assert routing.outcome(state) == "failed"
    assert [step for step in case.steps if step.startswith("coder")] == [
        "coder1",
        "coder2",
        "coder3",
        "coder4",
    ]
    assert "critic1" not in case.steps


async def test_a_round_that_changes_nothing_is_the_last():
    case = Case({"planner": [PLAN], "coder": [write("still 1"), "a", "I cannot"], "executor": ["no"]})
    await case.run()
    assert [step for step in case.steps if step.startswith("coder")] == ["coder1", "coder2"]


async def test_a_limit_ends_the_turn_without_further_model_calls():
    case = Case({"planner": [PLAN], "coder": [write("good")] * 9}, bounds=limits.Limits(max_steps=3))
    state = await case.run()
    assert routing.outcome(state) == "stopped"
    assert state["tests"]["passed"], "the tests still tell where it stands"
    assert "limit on steps" in state["summary"]
    assert len(case.world.of("model.finished")) == 3


async def test_an_unreadable_plan_is_dropped():
    case = Case(
        {"planner": ["hm", "hm"], "coder": [write("good"), "a"], "critic": [APPROVE], "executor": ["ok"]},
        runner=lambda world, command: (0, "1 passed"),
    )
    state = await case.run()
    assert state["plan"] is None
    assert routing.outcome(state) == "unverified", "nothing named a test command"


async def test_the_executor_is_no_writer():
    def runner(world: World, command: str) -> tuple[int, str]:
        if command == "build":
            world.files[FILE] = b"built 7"
        return suite(world, command)

    case = Case(
        {
            "planner": [PLAN],
            "coder": [write("good"), "a"],
            "critic": [APPROVE],
            "executor": [("", [("bash", {"command": "build"})]), "ok"],
        },
        runner=runner,
    )
    await case.run()
    assert case.world.files[FILE] == b"good"
    assert case.world.of("revision.rolled_back")[0]["reason"].startswith("the executor")


async def test_a_new_turn_starts_afresh_also_after_an_interrupted_one():
    case = Case(full_replies())
    die_at = 40
    case.world.points.die_at = die_at
    with pytest.raises(Crash):
        await case.run("t1")
    case.world.replies = full_replies()
    before = len(case.steps)
    state = await case.run("t2")
    assert case.steps[before:][0] == "route1"
    assert state["turn_id"] == "t2"
    assert routing.outcome(state) == "passed"


# ---- weakened tests -----------------------------------------------------------------------------

TEST_FILE = "/home/user/repo/test_add.py"
TEST = "def test_add():\n    assert add(2, 3) == 5\n"
SKIPPED = "import pytest\n\n\n@pytest.mark.skip\n" + TEST


def weakenable(world: World, command: str) -> tuple[int, str]:
    """A repository with one test: a skip in its file makes it green without mending anything."""
    if "skip" in world.files[TEST_FILE].decode():
        return 0, "1 skipped in 0.1s" if "other" not in world.files[
            TEST_FILE
        ].decode() else "1 passed, 1 skipped in 0.1s"
    return suite(world, command)


def put_test(text: str) -> tuple:
    return ("", [("write", {"path": "test_add.py", "content": text})])


def weak_case(coder: list[Any], mode: str = "single", **options: Any) -> Case:
    replies = {"planner": [PLAN], "coder": coder, "critic": [APPROVE], "executor": ["All is well."]}
    case = Case(replies, mode=mode, runner=weakenable, command="tests", **options)
    case.world.files[TEST_FILE] = TEST.encode()
    return case


@pytest.mark.parametrize("mode", ["single", "team"])
async def test_a_skip_is_sent_back_once_and_mended(mode):
    case = weak_case([put_test(SKIPPED), "Skipped.", put_test(TEST), write("good"), "Mended."], mode)
    state = await case.run()
    assert routing.outcome(state) == "passed"
    assert [step for step in case.steps if step.startswith("coder")] == ["coder1", "coder2"]
    assert state["tests"]["weakened"] == []


@pytest.mark.parametrize("mode", ["single", "team"])
async def test_a_skip_that_stays_is_not_passed_and_is_told(mode):
    other = SKIPPED + "\n\ndef test_other():\n    assert 1 + add(0, 0) == 1\n"
    case = weak_case([put_test(other), "Skipped.", "I think it is right."], mode)
    state = await case.run()
    assert state["tests"]["passed"], "the runner itself says green"
    assert routing.outcome(state) == "unverified"
    assert turn_messages.reason(state).startswith("tests were weakened: `test_add` is skipped now")
    assert "Tests were weakened" in state["summary"]
    assert [step for step in case.steps if step.startswith("coder")] == ["coder1", "coder2"]
    if mode == "team":
        verdict = case.world.of("review.finished")[0]
        assert (verdict["verdict"], verdict["issues"][0]["severity"]) == ("revise", "high")


async def test_only_skipped_tests_are_not_run_and_not_passed():
    case = weak_case([put_test(SKIPPED), "Skipped.", "It stays."])
    state = await case.run()
    assert (state["tests"]["ran"], routing.outcome(state)) == (False, "unverified")
    assert turn_messages.reason(state).startswith("tests were weakened")


async def test_a_skip_taken_away_again_is_not_rolled_back_for_being_red():
    other = SKIPPED + "\n\ndef test_other():\n    assert 1 + add(0, 0) == 1\n"
    case = weak_case([put_test(other), "a", put_test(TEST), "b", write("good"), "c"])
    state = await case.run()
    assert case.world.of("revision.rolled_back") == []
    assert routing.outcome(state) == "passed"
    assert case.world.files[TEST_FILE] == TEST.encode()


async def test_a_skip_that_the_task_asks_for_is_right():
    other = SKIPPED + "\n\ndef test_other():\n    assert 1 + add(0, 0) == 1\n"
    case = weak_case([put_test(other), "Done."], task="Skip the test of add until the bug is fixed")
    state = await case.run()
    assert routing.outcome(state) == "passed"
    assert "coder2" not in case.steps
    assert [one["severity"] for one in state["tests"]["weakened"]] == ["low"]


# ---- trouble with the model ---------------------------------------------------------------------

BROKEN = [ModelReplyInvalid("m: no content")] * 3


@pytest.mark.parametrize(
    ("work", "outcome"), [(write("good"), "passed"), (write("still 1"), "failed")]
)  # fmt: skip
async def test_work_before_an_unusable_reply_is_judged_by_its_tests(work, outcome):
    case = Case({"planner": [PLAN], "coder": [work, *BROKEN]})
    state = await case.run()
    assert routing.outcome(state) == outcome
    assert "the coder's model gave no usable reply" in turn_messages.reason(state)
    assert "not reviewed" in turn_messages.reason(state)
    assert "model failed" in state["summary"]
    assert case.steps[-2:] == ["gate1", "executor1"]
    assert len(case.world.of("model.finished")) == 2, "no model is asked any more"


@pytest.mark.parametrize("error", [ModelUnreachable, ModelOverloaded, ModelKeyRejected, ModelRequestTooLong])
async def test_work_before_a_providers_trouble_is_tested_and_kept(error):
    case = Case({"planner": [PLAN], "coder": [write("good"), *[error("it is so")] * 9]})
    state = await case.run()
    assert (routing.outcome(state), turn_messages.reason(state)) == ("error", "it is so")
    assert state["tests"]["passed"]
    assert case.world.files[FILE] == b"good"
    assert state["failed"]["code"] == error.code


async def test_a_planner_without_a_usable_reply_costs_the_plan_alone():
    case = Case(
        {"planner": BROKEN, "coder": [write("good"), "a"], "critic": [APPROVE], "executor": ["ok"]},
        command="tests",
    )
    state = await case.run()
    assert (state["plan"], routing.outcome(state)) == (None, "passed")


async def test_a_planner_whose_key_is_rejected_ends_the_turn():
    case = Case({"planner": [ModelKeyRejected("no such key")]})
    state = await case.run()
    assert (routing.outcome(state), turn_messages.reason(state)) == ("error", "no such key")
    assert case.steps == ["route1", "planner1", "executor1"]


@pytest.mark.parametrize(
    ("critic", "said"),
    [
        (["Looks good to me!", "I approve."], "the critic's verdict could not be read"),
        (['<think>{"verdict": "approve"}', '<think>{"verdict": "approve"}'], "could not be read"),
        (BROKEN, "no content"),
        ([ModelOverloaded("too many requests")], "too many requests"),
    ],
)
async def test_what_is_no_verdict_is_not_reviewed(critic, said):
    case = Case({"planner": [PLAN], "coder": [write("good"), "a"], "critic": critic, "executor": ["Done."]})
    state = await case.run()
    told = case.world.of("review.finished")[0]
    assert (told["verdict"], routing.outcome(state)) == ("none", "passed")
    for text in (told["reason"], state["summary"], turn_messages.reason(state)):
        assert said in text
    assert "not reviewed" in turn_messages.reason(state)


async def test_an_approval_with_a_severe_issue_goes_back():
    approve = '{"verdict": "approve", "issues": [{"severity": "high", "claim": "it deletes data"}]}'
    case = Case(
        {
            "planner": [PLAN],
            "coder": [write("good"), "a", write("better"), "b"],
            "critic": [approve],
            "executor": ["ok"],
        }
    )
    await case.run()
    assert "coder2" in case.steps


async def test_an_executor_without_a_model_leaves_the_words_to_the_coder():
    case = Case(
        {"planner": [PLAN], "coder": [write("good"), "I fixed it"], "critic": [APPROVE], "executor": BROKEN}
    )
    state = await case.run()
    assert routing.outcome(state) == "passed"
    assert "I fixed it" in state["summary"]


async def test_trouble_of_the_machinery_is_raised_and_gone_on_with():
    case = Case({"planner": [PLAN], "coder": [Unavailable("the sandbox's cell"), write("good"), "a"],
                 "critic": [APPROVE], "executor": ["ok"]})  # fmt: skip
    with pytest.raises(Unavailable):
        await case.run()
    assert routing.outcome(await case.run()) == "passed"


# ---- what a test run writes ----------------------------------------------------------------------


def writing(world: World, command: str) -> tuple[int, str]:
    if command == "build":
        world.files[FILE] = b"built 7"
        return 0, ""
    world.files["/home/user/repo/test.log"] = b"%d" % len(world.events)
    return suite(world, command)


async def test_what_a_test_run_writes_belongs_to_the_change():
    case = Case(
        {"planner": [PLAN], "coder": [write("good"), "a"], "critic": [APPROVE],
         "executor": [("", [("bash", {"command": "build"})]), "ok"]},
        runner=writing,
    )  # fmt: skip
    state = await case.run()
    log = case.world.files["/home/user/repo/test.log"]
    assert case.world.files[FILE] == b"good", "what the executor changed is undone"
    assert case.workspace.trees[state["snapshot"]]["/home/user/repo/test.log"] == log, (
        "what the tests wrote is not"
    )


async def test_a_round_that_changes_nothing_is_seen_although_the_tests_write():
    case = Case(
        {"planner": [PLAN], "coder": [write("still 1"), "a", "I cannot"], "executor": ["no"]}, runner=writing
    )
    await case.run()
    assert [step for step in case.steps if step.startswith("coder")] == ["coder1", "coder2"]


async def test_a_baseline_that_writes_does_not_count_as_the_coders_work():
    case = Case({"coder": ["It adds."]}, mode="single", runner=writing, command="tests")
    case.world.files[FILE] = b"good"
    await case.run()
    assert case.steps == ["route1", "baseline1", "coder1", "gate1", "executor1"]
    assert len([e for e in case.world.commands]) == 1, "green and untouched: the tests are not run again"
