"""Whole tasks against strict, odd and failing providers: the model entity, its log and the agent loop."""

from __future__ import annotations

import json
import re

import pytest

from actors.model import provider
from graphs import loop
from terminalpp.types import errors
from tests.model.quirks.row import CALLED, DONE, TWO, USAGE, call, calls, delta
from tests.model_server.odd import OddServer, Play, status, stream

FINISHED = stream(delta(content="Done."), delta("stop"), USAGE, DONE)


def bash(command: str, id: str = "a1", **fields) -> Play:
    return stream(
        delta(role="assistant", content="", **fields),
        calls(call(json.dumps({"command": command}), index=0, id=id)), *CALLED,
    )  # fmt: skip


def wants_reasoning(request: dict) -> str | None:
    """What DeepSeek and Moonshot demand in thinking mode."""
    lacking = [m for m in request["messages"] if m.get("tool_calls") and not m.get("reasoning_content")]
    return "The `reasoning_content` in the thinking mode must be passed back to the API." if lacking else None


def wants_mistrals_ids(request: dict) -> str | None:
    ids = [one["id"] for m in request["messages"] for one in m.get("tool_calls") or []]
    ids += [m["tool_call_id"] for m in request["messages"] if m["role"] == "tool"]
    wrong = [id for id in ids if not re.fullmatch("[A-Za-z0-9]{9}", id)]
    return f"Tool call id was {wrong[0]} but must be a-z, A-Z, 0-9, with a length of 9." if wrong else None


def wants_one_result_per_call(request: dict) -> str | None:
    """What OpenAI demands: ids that are unique, each answered once, right after its call."""
    ids = [one["id"] for m in request["messages"] for one in m.get("tool_calls") or []]
    answered = [m["tool_call_id"] for m in request["messages"] if m["role"] == "tool"]
    return None if ids == answered and len(set(ids)) == len(ids) else f"calls {ids}, results {answered}"


async def test_calls_without_index_both_run(talk):
    first = stream(
        calls(call('{"command": "one"}', id="a1")), calls(call('{"command": "two"}', id="a2")), *CALLED
    )
    async with OddServer(first, FINISHED, by_answers=True, demand=wants_one_result_per_call) as server:
        conversation = await talk(server.base_url)
        result = await conversation.work()
    assert (result["status"], result["content"]) == ("done", "Done.")
    assert conversation.commands() == [arguments for _, arguments in TWO]


async def test_reasoning_goes_back(talk):
    first = bash("one", reasoning_content="I write first.")
    second = bash("two", id="a2", reasoning_content="Now the second.")
    async with OddServer(first, second, FINISHED, by_answers=True, demand=wants_reasoning) as server:
        conversation = await talk(server.base_url)
        assert (await conversation.work())["status"] == "done"
        said = [m for m in server.requests[-1]["messages"] if m["role"] == "assistant"]
    assert [message["reasoning_content"] for message in said] == ["I write first.", "Now the second."]


async def test_the_providers_own_ids_go_back(talk):
    async with OddServer(
        bash("one", "aB3dE6gH9"), FINISHED, by_answers=True, demand=wants_mistrals_ids
    ) as server:
        conversation = await talk(server.base_url)
        assert (await conversation.work())["status"] == "done"
        assert server.requests[1]["messages"][-1]["tool_call_id"] == "aB3dE6gH9"


@pytest.mark.parametrize("id", ["call_0", "", "aB3dE6gH9"])
async def test_ids_that_repeat_are_mended_once_they_repeat(talk, id):
    def demand(request: dict) -> str | None:
        ids = [one["id"] for m in request["messages"] for one in m.get("tool_calls") or []]
        mended = [one for one in ids if one != id]
        strange = [one for one in mended if not re.fullmatch("[A-Za-z0-9]{9}", one)]
        return wants_one_result_per_call(request) or (f"{strange}" if strange else None)

    twice = stream(
        calls(call('{"command": "one"}', index=0, id=id), call('{"command": "two"}', index=1, id=id)), *CALLED
    )
    plays = (twice, bash("three", id), FINISHED)
    async with OddServer(*plays, by_answers=True, demand=demand) as server:
        conversation = await talk(server.base_url)
        assert (await conversation.work())["status"] == "done"
        first = [one["id"] for m in server.requests[1]["messages"] for one in m.get("tool_calls") or []]
        later = [one["id"] for m in server.requests[2]["messages"] for one in m.get("tool_calls") or []]
    assert later[:2] == first, "an id does not change from request to request"
    assert id == "" or first[0] == id


async def test_unfit_characters_are_replaced_once_and_alike_everywhere(talk):
    first = stream(
        'data: {"choices":[{"index":0,"delta":{"content":"half \\ud83d and \\u0000 here"}}]}\n\n',
        calls(call('{"command": "echo \\ud83d\\u0000"}', index=0, id="a1")), *CALLED,
    )  # fmt: skip
    async with OddServer(first, FINISHED, by_answers=True) as server:
        conversation = await talk(server.base_url)
        assert (await conversation.work())["status"] == "done"
        back = server.requests[1]["messages"][2]
    mark = "\N{REPLACEMENT CHARACTER}"
    assert conversation.commands() == [{"command": f"echo {mark}{mark}"}]
    assert conversation.world.once.seen[conversation.world.once.started[0]] == json.dumps(
        f"echo {mark}{mark}"
    )
    assert (await conversation.events("model.finished"))[0]["content"] == f"half {mark} and {mark} here"
    assert back["content"] == f"half {mark} and {mark} here"
    assert json.loads(back["tool_calls"][0]["function"]["arguments"]) == {"command": f"echo {mark}{mark}"}
    assert not await conversation.events("model.retried")


async def test_a_tools_odd_output_can_be_sent(talk):
    async with OddServer(bash("one"), FINISHED, by_answers=True) as server:
        conversation = await talk(server.base_url)
        conversation.world.runner = lambda world, command: (0, "a\0b")
        assert (await conversation.work())["status"] == "done"
        assert server.requests[1]["messages"][-1]["content"].startswith("a\N{REPLACEMENT CHARACTER}b")


async def test_arguments_that_need_reading_are_no_malformed_calls(talk):
    plays = [
        stream(calls(call(arguments, name, index=0, id=f"a{n}")), *CALLED)
        for n, (name, arguments) in enumerate([
            ("bash", '{"command": "echo a\necho b"}'), ("bash", json.dumps('{"command": "c"}')),
            ("bash", {"command": "d", "description": "x", "timeout_seconds": "30"}),
            ("functions.bash", {"command": "e", "timeout_seconds": 30.0}),
        ])
    ]  # fmt: skip
    async with OddServer(*plays, FINISHED, by_answers=True) as server:
        conversation = await talk(server.base_url)
        assert (await conversation.work())["status"] == "done"
    assert conversation.commands() == [
        {"command": "echo a\necho b"}, {"command": "c"}, {"command": "d", "timeout_seconds": 30},
        {"command": "e", "timeout_seconds": 30},
    ]  # fmt: skip
    assert not [payload for payload in conversation.world.of("tool.finished") if payload.get("malformed")]


@pytest.mark.parametrize(("cut", "code"), [
    (stream(delta(content="I will now fix the bug in the parser by")), "model-unreachable"),
    (stream(calls(call('{"command": "rm -rf /ho', index=0, id="a1"))), "model-unreachable"),
    (stream(delta(content="I will"), broken=True), "model-unreachable"),
    (stream(delta(content="Let me"), {"error": {"message": "Provider returned error", "code": 502}}, DONE),
     "model-overloaded"),
    (status(503, "overloaded"), "model-overloaded"),
    (status(429, "slow down", retry_after="0"), "model-overloaded"),
], ids=["text", "arguments", "connection", "error", "503", "429"])  # fmt: skip
async def test_what_broke_off_is_asked_again_and_is_nobodys_answer(talk, cut, code):
    async with OddServer(cut, bash("echo fixed"), FINISHED) as server:
        conversation = await talk(server.base_url)
        result = await conversation.work()
    assert (result["status"], result["content"], result["steps"]) == ("done", "Done.", 2)
    assert conversation.commands() == [{"command": "echo fixed"}]
    assert [payload["code"] for payload in await conversation.events("model.retried")] == [code]
    assert not conversation.world.of("nudge.given"), "it was not the model's fault"


async def test_a_provider_that_falls_silent_is_asked_again(talk):
    async with OddServer(stream(delta(content="I will"), silent=True), FINISHED) as server:
        conversation = await talk(server.base_url, TPP_MODEL_TIMEOUT_SECONDS="0.3")
        assert (await conversation.ask())["content"] == "Done."
    (retried,) = await conversation.events("model.retried")
    assert retried["code"] == "model-unreachable"
    assert "ReadTimeout" in retried["detail"]


async def test_a_provider_that_falls_silent_after_the_end_has_answered(talk):
    said = stream(delta(content="Done."), delta("stop"), silent=True)
    async with OddServer(said) as server:
        conversation = await talk(server.base_url, TPP_MODEL_TIMEOUT_SECONDS="0.3")
        assert (await conversation.ask())["content"] == "Done."
        assert len(server.requests) == 1


async def test_a_provider_that_only_breaks_off_is_an_error_of_the_provider(talk):
    async with OddServer(stream(delta(content="I will"))) as server:
        conversation = await talk(server.base_url, TPP_MODEL_RETRIES="2")
        with pytest.raises(errors.ModelUnreachable, match="broke off"):
            await conversation.work()
        assert len(server.requests) == 3


async def test_thoughts_alone_get_one_nudge(talk):
    thought = stream(
        delta(content=None, reasoning_content="The work is done."), delta(content=""), delta("stop"), DONE
    )
    async with OddServer(bash("one"), thought, FINISHED, by_answers=True) as server:
        conversation = await talk(server.base_url)
        assert (await conversation.work())["content"] == "Done."
        assert server.requests[-1]["messages"][-2]["reasoning_content"] == "The work is done."
    async with OddServer(bash("one"), thought, by_answers=True) as server:
        conversation = await talk(server.base_url)
        result = await conversation.work()
    assert (result["status"], result["content"]) == ("malformed", "The work is done.")
    assert [payload["reason"] for payload in conversation.world.of("nudge.given")] == ["empty"]


async def test_an_empty_reply_ends_the_task_but_does_not_lose_it(talk):
    async with OddServer(bash("one"), stream(delta("stop"), DONE), by_answers=True) as server:
        conversation = await talk(server.base_url)
        result = await conversation.work()
    assert result["status"] == "malformed"
    assert conversation.commands() == [{"command": "one"}]


async def test_a_call_written_as_text_runs_and_its_result_goes_back_as_text(talk):
    text = 'I will write.\n<tool_call>\n{"name": "bash", "arguments": {"command": "one"}}\n</tool_call>'
    async with OddServer(
        stream(delta(content=text), delta("stop"), DONE), FINISHED, by_answers=True
    ) as server:
        conversation = await talk(server.base_url)
        result = await conversation.work()
        back = server.requests[1]["messages"]
    assert (result["status"], result["content"]) == ("done", "Done.")
    assert conversation.commands() == [{"command": "one"}]
    assert back[-2] == {"role": "assistant", "content": text}
    assert '<result tool="bash">' in back[-1]["content"]


async def test_what_only_looks_like_a_call_is_told_twice_and_then_ends_the_task(talk):
    text = '<tool_call>{"name": "bash", "arguments": {"command": "one"}}</tool_call>\nThe file is there now.'
    async with OddServer(stream(delta(content=text), delta("stop"), DONE)) as server:
        conversation = await talk(server.base_url)
        result = await conversation.work()
    assert result["status"] == "malformed"
    assert conversation.commands() == []
    assert [payload["reason"] for payload in conversation.world.of("nudge.given")] == [
        "written"
    ] * loop.MAX_DOUBTS


def too_long_beyond(characters: int):
    def demand(request: dict) -> str | None:
        size = len(json.dumps(request["messages"]))
        return (
            f"This model's maximum context length is {characters} tokens; you sent {size}."
            if size > characters
            else None
        )

    return demand


async def test_a_conversation_that_is_too_long_is_made_shorter_and_goes_on(talk):
    plays = [bash(f"c{n}", f"id{n}") for n in range(12)]
    async with OddServer(*plays, FINISHED, by_answers=True, demand=too_long_beyond(12_000)) as server:
        conversation = await talk(server.base_url)
        conversation.world.runner = lambda world, command: (0, f"{command} " * 1000)
        result = await conversation.work()
        assert max(len(json.dumps(request["messages"])) for request in server.requests) > 12_000
    assert (result["status"], result["content"], result["steps"]) == ("done", "Done.", 13)
    assert (
        1
        <= len([p for p in conversation.world.of("nudge.given") if p["reason"] == "compact"])
        <= loop.MAX_COMPACTIONS
    )


async def test_one_long_output_task_or_argument_is_made_shorter_too(talk):
    first = bash("echo " + "x" * 20_000)
    async with OddServer(
        first, bash("two", "a2"), FINISHED, by_answers=True, demand=too_long_beyond(9000)
    ) as server:
        conversation = await talk(server.base_url)
        conversation.world.runner = lambda world, command: (0, "y" * 15_000)
        result = await conversation.work(text="Look at this: " + "z" * 15_000)
    assert result["status"] == "done"


async def test_a_conversation_that_no_shortening_helps_is_the_error(talk):
    async with OddServer(status(400, "prompt is too long: 250000 tokens > 200000 maximum")) as server:
        conversation = await talk(server.base_url)
        with pytest.raises(errors.ModelRequestTooLong):
            await conversation.work()
        assert len(server.requests) == loop.MAX_COMPACTIONS + 1
        rooms = [request["max_tokens"] for request in server.requests]
    assert rooms[-1] < rooms[0], "the room for the reply is part of the context"


async def test_a_mistake_of_ours_is_told_as_one_and_not_retried(talk, monkeypatch):
    def broken(*_):
        raise TypeError("unsupported operand")

    async with OddServer(FINISHED) as server:
        conversation = await talk(server.base_url)
        monkeypatch.setattr(provider, "_messages", broken)
        with pytest.raises(errors.TerminalError) as caught:
            await conversation.work()
    assert caught.value.code == "internal"
    assert "not a fault of the provider" in caught.value.detail
    assert not await conversation.events("model.retried")


async def test_a_mistake_on_the_wire_is_ours_though_litellm_wraps_it(talk, monkeypatch):
    def broken(*_):
        raise AttributeError("no such thing")

    async with OddServer(FINISHED) as server:
        conversation = await talk(server.base_url)
        monkeypatch.setattr("actors.model.sse.clean", broken)
        with pytest.raises(errors.TerminalError) as caught:
            await conversation.work()
    assert caught.value.code == "internal"
    assert not await conversation.events("model.retried")


async def test_a_database_that_fails_is_no_fault_of_the_provider(talk, monkeypatch):
    async with OddServer(FINISHED) as server:
        conversation = await talk(server.base_url)
        await conversation.database.execute("ALTER TABLE events ADD CHECK (type <> 'model.delta')")
        with pytest.raises(errors.TerminalError) as caught:
            await conversation.work()
        assert len(server.requests) == 1
    assert caught.value.code == "internal"


async def test_thoughts_are_not_shown_as_text(talk):
    text = "<think>secret</think>Hello <b>there</b>."
    pieces = [delta(content=text[n : n + 3]) for n in range(0, len(text), 3)]
    async with OddServer(stream(*pieces, delta("stop"), DONE)) as server:
        conversation = await talk(server.base_url)
        reply = await conversation.ask()
    shown = "".join(payload["text"] for payload in await conversation.events("model.delta"))
    assert shown == reply["content"] == "Hello <b>there</b>."
    assert reply["reasoning"] == "secret"
