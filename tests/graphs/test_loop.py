"""The agent loop: every way to end, every stop condition, and a death at every point of a whole task."""

from __future__ import annotations

from dataclasses import replace

import pytest

from graphs import loop, structured, tools
from graphs.limits import Limits
from graphs.toolbox import Call, Prepared, Result, Tool, Toolbox
from terminalpp.types.errors import ModelReplyCut, ModelReplyInvalid, ModelRequestTooLong, NotFound
from tests.graphs.doubles import Crash, MemoryPort, MemorySandbox, Points, World

FILE = "/home/user/repo/a.py"


def task(**changes) -> loop.Task:
    values = {
        "task_id": "task-1",
        "conversation_id": "c",
        "role": "coder",
        "model": "m",
        "system": "sys",
        "text": "do it",
        "tools": tools.ROLE_TOOLS["coder"],
        "native": True,
        "limits": Limits(),
        "started_at": 1000.0,
        **changes,
    }
    return loop.Task(**values)


async def run(world: World, work: loop.Task) -> dict:
    return await loop.run(work, MemoryPort(world, work.task_id, work.role), MemorySandbox(world))


def bash(command: str) -> tuple:
    return ("", [("bash", {"command": command})])


async def test_a_task_ends_with_the_first_reply_without_calls():
    world = World({"coder": [bash("ls"), "all done"]})
    result = await run(world, task())
    assert (result["status"], result["content"], result["steps"]) == ("done", "all done", 2)
    assert result["spent"]["input_tokens"] == 200
    assert result["spent"]["cost_usd"] == pytest.approx(0.002)
    assert [event.type for event in world.events] == [
        "model.finished",
        "tool.called",
        "tool.finished",
        "model.finished",
    ]


async def test_a_death_at_every_point_changes_nothing_but_time():
    def world_of(points: Points) -> World:
        world = World(
            {
                "coder": [
                    bash("make a"),
                    (
                        "",
                        [
                            ("write", {"path": "a.py", "content": "x = 1\n"}),
                            ("edit", {"path": "a.py", "old": "1", "new": "11"}),
                        ],
                    ),
                    (
                        "",
                        [
                            ("edit", {"path": "a.py", "old": "x = 11", "new": "x = 11  # x = 11"}),
                            ("bash", {"command": "b"}),
                        ],
                    ),
                    ("", [("read", {"path": "a.py"}), ("nonsense", {})]),
                    "done",
                ]
            },
            points,
        )
        return world

    calm = world_of(Points())
    await run(calm, task())
    expected = [(event.type, {k: v for k, v in event.payload.items()}) for event in calm.events]
    total = calm.points.count
    assert total > 30
    for die_at in range(1, total + 1):
        world = world_of(Points(die_at))
        with pytest.raises(Crash):
            await run(world, task())
        result = await run(world, task())
        assert result["content"] == "done", world.points.names[die_at - 1]
        assert world.files[FILE] == b"x = 11  # x = 11\n"
        assert [(event.type, event.payload) for event in world.events] == expected
        assert len(world.once.started) == len(set(world.once.started))


async def test_a_second_run_of_a_finished_task_asks_nobody():
    world = World({"coder": ["done"]})
    first = await run(world, task())
    assert await run(world, task()) == first
    assert len(world.events) == 1


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({"limits": Limits(max_steps=2)}, "steps"),
        ({"limits": Limits(max_tokens=200)}, "tokens"),
        ({"limits": Limits(max_usd=0.002)}, "usd"),
        ({"started_at": 1000.0 - 3600}, "seconds"),
    ],
)
async def test_limits_stop_before_the_next_model_call(changes, limit):
    world = World({"coder": [bash(f"c{n}") for n in range(9)]})
    result = await run(world, task(**changes))
    assert (result["status"], result["limit"]) == ("stopped", limit)
    assert world.of("limit.reached")[0]["limit"] == limit
    assert len(world.of("model.finished")) == (0 if limit == "seconds" else 2)
    assert await run(world, task(**changes)) == result, "a stopped task stays stopped"
    assert len(world.of("limit.reached")) == 1


async def test_three_malformed_calls_in_a_row_stop_and_one_good_call_resets():
    bad, good = ("", [("fly", {})]), bash("ls")
    world = World(
        {"coder": [bad, bad, good, bad, ("", [("bash", {"cmd": "ls"})]), ("", [("bash", "{oops")]), "no"]}
    )
    result = await run(world, task())
    assert (result["status"], result["limit"]) == ("stopped", "malformed")
    outputs = [payload["output"] for payload in world.of("tool.finished")]
    assert "there is no tool 'fly'" in outputs[0]
    assert "needs command" in outputs[4]
    assert "must be an object" in outputs[5]


async def test_circles_get_one_nudge_and_then_the_end():
    world = World({"coder": [bash("ls") for _ in range(20)]})
    result = await run(world, task())
    assert (result["status"], result["limit"]) == ("stopped", "stuck")
    assert len(world.of("nudge.given")) == 1
    assert len(world.of("model.finished")) == 8


async def test_an_unusable_reply_is_asked_again_and_the_third_is_an_error():
    world = World({"coder": [ModelReplyInvalid("empty"), ModelReplyCut("cut"), "fine"]})
    assert (await run(world, task()))["content"] == "fine"
    assert "more briefly" in world.of("nudge.given")[1]["text"]
    world = World({"coder": [ModelReplyInvalid("empty")] * 3})
    with pytest.raises(ModelReplyInvalid):
        await run(world, task())


async def test_replies_that_cannot_be_used_after_work_was_done_end_the_task_with_it():
    world = World({"coder": [bash("ls"), *[ModelReplyInvalid("empty")] * 3]})
    result = await run(world, task())
    assert result["status"] == "malformed"
    assert len(world.of("tool.finished")) == 1


async def test_an_empty_answer_gets_one_nudge_and_thoughts_are_the_last_resort():
    world = World({"coder": [bash("ls"), "", "fine"]})
    assert (await run(world, task()))["content"] == "fine"
    world = World({"coder": [("I look.", [("bash", {"command": "ls"})]), "", ""]})
    result = await run(world, task())
    assert (result["status"], result["content"], result["steps"]) == ("malformed", "I look.", 3)
    assert [payload["reason"] for payload in world.of("nudge.given")] == ["empty"]


async def test_an_empty_answer_is_no_plan():
    world = World({"planner": ["", ""]})
    result = await run(world, task(role="planner", tools=(), answer=structured.plan))
    assert result["status"] == "malformed"
    assert "answer" not in result


async def test_a_step_with_one_good_call_among_bad_ones_is_no_malformed_step():
    mixed = ("", [("fly", {}), ("bash", {"command": "ls"})])
    world = World({"coder": [("", [("fly", {})]), ("", [("fly", {})]), mixed, ("", [("fly", {})]), "done"]})
    assert (await run(world, task()))["status"] == "done"


async def test_too_long_is_made_shorter_a_bounded_number_of_times():
    world = World({"coder": [bash("ls"), ModelRequestTooLong("x"), ModelRequestTooLong("x"), "done"]})
    world.runner = lambda w, c: (0, "y" * 9000)
    result = await run(world, task())
    assert (result["status"], result["steps"]) == ("done", 2)
    budgets = [payload["budget"] for payload in world.of("nudge.given")]
    assert len(budgets) == 2
    assert budgets[1] < budgets[0] < 9000
    world = World({"coder": [ModelRequestTooLong("x")] * (loop.MAX_COMPACTIONS + 1)})
    with pytest.raises(ModelRequestTooLong):
        await run(world, task())
    assert len(world.of("nudge.given")) == loop.MAX_COMPACTIONS


async def test_calls_written_as_text_run_and_quoted_ones_do_not():
    call = '<tool_call>{"name": "bash", "arguments": {"command": "ls"}}</tool_call>'
    world = World({"coder": [f"I look.\n{call}", f"It was `{call}`."]})
    result = await run(world, task())
    assert (result["status"], result["content"]) == ("done", f"It was `{call}`.")
    assert [payload["arguments"] for payload in world.of("tool.called")] == [{"command": "ls"}]


async def test_what_the_person_types_meanwhile_is_seen_at_the_next_step():
    world = World({"coder": [bash("ls"), "done", "done with both"]})
    world.runner = lambda w, c: (w.inbox.append({"message_id": "m2", "text": "and b"}), (0, "x"))[1]
    result = await run(world, task(takes_messages=True))
    assert result["content"] == "done"  # taken before the next model call, so the reply covers it
    assert [event.type for event in world.events][3] == "message.delivered"
    asked = world.once.seen[world.of("model.finished")[1]["call_id"]]
    assert "and b" in asked


async def test_a_message_after_the_answer_goes_on():
    world = World({"coder": ["done", "done with both"]})
    port = MemoryPort(world, "task-1", "coder")
    original = port.complete

    async def complete(request):
        if not world.of("message.delivered"):
            world.inbox.append({"message_id": "m", "text": "more"})
        return await original(request)

    port.complete = complete
    result = await loop.run(task(takes_messages=True), port, MemorySandbox(world))
    assert result["content"] == "done with both"


async def test_the_plan_is_told_again_every_ten_steps():
    world = World({"coder": [bash(f"c{n}") for n in range(21)] + ["done"]})
    await run(world, task(reminder="the plan"))
    assert [payload["reason"] for payload in world.of("nudge.given")] == ["plan", "plan"]


async def test_a_malformed_answer_is_repaired_once():
    good = '{"goal": "g", "steps": ["s"]}'
    world = World({"planner": ["no json", good]})
    result = await run(world, task(role="planner", tools=(), answer=structured.plan))
    assert result["answer"]["goal"] == "g"
    world = World({"planner": ["no json", "still none"]})
    result = await run(world, task(role="planner", tools=(), answer=structured.plan))
    assert result["status"] == "malformed"


async def test_calls_beyond_the_allowance_are_refused():
    world = World({"planner": [("", [("list", {})]), ("", [("list", {})]), "done"]})
    await run(world, task(role="planner", tools=tools.ROLE_TOOLS["planner"], max_calls=1))
    assert [payload["ok"] for payload in world.of("tool.finished")] == [True, False]


async def test_the_text_protocol_runs_the_same_tools():
    call = 'I look.\n<call tool="bash">\n<command>echo "</x>"</command>\n</call>'
    world = World({"coder": [call, '<call tool="bash">', "done"]})
    result = await run(world, task(native=False))
    assert result["content"] == "done"
    assert world.of("tool.called")[0]["arguments"] == {"command": 'echo "</x>"'}
    assert "not closed" in world.of("nudge.given")[0]["text"]
    last = world.once.seen[world.of("model.finished")[2]["call_id"]]
    assert "<result tool" in last


async def test_a_running_command_leaves_its_id_and_its_output_can_be_read():
    world = World({"coder": [bash("sleep 9"), "done"]})
    world.runner = lambda w, c: (None, "tick\n")
    await run(world, task())
    finished = world.of("tool.finished")[0]
    assert "still running" in finished["output"]
    assert f"output:{finished['exec_id']}" in finished["output"]
    path = f"output:{finished['exec_id']}"
    wanted = Call({"path": path}, "e", MemorySandbox(world), timeout_s=1, limit=1000)
    assert "tick" in (await tools.BUILT_IN.perform("read", wanted, Prepared({}))).output


async def test_tools_of_others_stand_beside_the_built_in_ones():
    """A plugin's tool: told to the model, checked by its schema, put on the log, and carried out once."""
    carried_out = []

    async def weigh(call: Call, prepared: Prepared) -> Result:
        carried_out.append(call.arguments["thing"])
        if call.arguments["thing"] == "smoke":
            raise NotFound("there is none")
        return Result(True, "3 kg")

    schema = {
        "type": "object",
        "properties": {"thing": {"type": "string"}},
        "required": ["thing"],
        "additionalProperties": False,
    }
    tool = Tool("weigh", "Weigh a thing.", schema, weigh)
    with pytest.raises(ValueError, match="two tools called bash"):
        Toolbox(*tools.BUILT_IN.values(), replace(tool, name="bash"))
    calls = [("weigh", {"thing": "stone"}), ("weigh", {"stone": 1}), ("weigh", {"thing": "smoke"})]
    world = World({"coder": [("", calls), "done"]})
    box = Toolbox(*tools.BUILT_IN.values(), tool)
    work = task(toolbox=box, tools=("bash", "weigh"))
    assert (await run(world, work))["content"] == "done"
    assert [one["ok"] for one in world.of("tool.finished")] == [True, False, False]
    assert world.of("tool.finished")[0]["output"] == "3 kg"
    assert "there is no file" not in world.of("tool.finished")[2]["output"]
    assert carried_out == ["stone", "smoke"]
    assert await run(world, work)
    assert carried_out == ["stone", "smoke"]
