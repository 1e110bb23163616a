"""Transcripts and the messages made from them."""

from __future__ import annotations

import re

import pytest

from graphs import messages, tools, transcript
from graphs.ports import Event


def test_old_outputs_are_elided_first_and_user_messages_merged():
    events = []
    for n in range(12):
        events.append(
            Event(
                n,
                "model.finished",
                "coder",
                {
                    "call_id": str(n),
                    "content": "",
                    "tool_calls": [{"name": "bash", "arguments": {"command": "x"}}],
                },
            )
        )
        events.append(
            Event(
                n,
                "tool.finished",
                "coder",
                {"tool_call_id": transcript.call_id("t", n, 0), "ok": True, "output": str(n) * 500},
            )
        )
    events.append(Event(99, "nudge.given", "coder", {"reason": "plan", "text": "one"}))
    events.append(Event(100, "message.delivered", "coder", {"message_id": "m", "text": "two"}))
    state = transcript.fold("t", events, native=True, schemas=tools.BUILT_IN.schemas)
    said = messages.build(state, "s", "task", 5000)
    outputs = [message["content"] for message in said if message["role"] == "tool"]
    assert outputs[0] == messages.ELIDED
    assert outputs[-messages.KEEP_RECENT :] == [str(n) * 500 for n in range(4, 12)]
    assert said[-1] == {"role": "user", "content": "one\n\ntwo"}
    answered = {message["tool_call_id"] for message in said if message["role"] == "tool"}
    assert answered == {call["id"] for message in said for call in message.get("tool_calls", [])}


def replied(number: int, model: str = "m", **fields) -> Event:
    calls = [
        {
            "id": "toolu_01A",
            "name": "bash",
            "arguments": {"command": "x"},
            "given": {"extra_content": {"s": 1}},
        }
    ]
    payload = {"call_id": str(number), "content": "", "tool_calls": calls, "model": model, **fields}
    return Event(number, "model.finished", "coder", payload)


def built(*events: Event, model: str = "m", budget: int = 10_000) -> list[dict]:
    own = tools.ROLE_TOOLS["coder"]
    state = transcript.fold("t", events, native=True, schemas=tools.BUILT_IN.schemas, tools=own)
    return messages.build(state, "s", "task", budget, model)


def test_what_the_provider_gave_goes_back_as_it_came():
    given = {"reasoning_content": "hm", "thinking_blocks": [{"type": "thinking", "signature": "S"}]}
    said = built(replied(0, given=given))[2]
    assert {name: said[name] for name in given} == given
    assert said["tool_calls"][0]["id"] == "toolu_01A"
    assert said["tool_calls"][0]["extra_content"] == {"s": 1}


def test_another_model_gets_no_ids_or_signatures_of_the_first():
    """`/model` takes effect with the next call; Mistral would refuse the ids, Anthropic the signatures."""
    said = built(replied(0, given={"reasoning_content": "hm"}), model="other")[2]
    assert said.keys() == {"role", "content", "tool_calls"}
    assert re.fullmatch("[A-Za-z0-9]{9}", said["tool_calls"][0]["id"])
    assert said["tool_calls"][0].keys() == {"id", "type", "function"}


def test_messages_built_for_one_model_can_be_sent_to_another():
    said = messages.plain(built(replied(0, given={"reasoning_content": "hm"}), replied(1)))
    assert all(message.keys() <= {"role", "content", "tool_calls", "tool_call_id"} for message in said)
    ids = [call["id"] for message in said for call in message.get("tool_calls", [])]
    assert all(re.fullmatch("[A-Za-z0-9]{9}", id) for id in ids)
    assert len(set(ids)) == 2
    assert ids == [message["tool_call_id"] for message in said if message["role"] == "tool"]


def test_repeated_ids_are_mended_and_stay_as_they_were_mended():
    once, twice = built(replied(0), replied(1)), built(replied(0), replied(1), replied(2))
    ids = [call["id"] for message in twice for call in message.get("tool_calls", [])]
    assert ids[0] == "toolu_01A"
    assert len(set(ids)) == 3
    assert once == twice[: len(once)]


def test_events_of_older_versions_fold():
    old = {
        "call_id": "0",
        "content": "x",
        "tool_calls": [{"id": "a", "name": "bash", "arguments": {"command": "x"}}],
    }
    said = built(Event(0, "model.finished", "coder", old))
    assert said[2]["tool_calls"][0]["id"] == "a"
    assert said[3]["tool_call_id"] == "a"


@pytest.mark.parametrize("name", ["functions.bash", "", "bash bash", "b" * 80])
def test_a_name_that_no_provider_takes_is_not_sent_back(name):
    event = replied(0, tool_calls=[{"id": "a", "name": name, "arguments": {"command": "x"}}])
    sent = built(event)[2]["tool_calls"][0]["function"]["name"]
    assert re.fullmatch("[A-Za-z0-9_-]{1,64}", sent)


def test_an_answer_without_words_is_not_sent_empty():
    said = built(Event(0, "model.finished", "coder", {"call_id": "0", "content": "", "model": "m"}))
    assert said[2]["content"] == messages.NO_ANSWER


def test_each_too_long_makes_the_conversation_shorter():
    """Outputs, arguments, thoughts, the task itself: whatever is long gets shorter; calls keep results."""
    events, sizes = [], []
    for n in range(10):
        calls = [{"id": f"c{n}", "name": "bash", "arguments": {"command": f"echo {'a' * 3000}"}}]
        events.append(replied(n, tool_calls=calls, given={"reasoning_content": "r" * 3000}))
        output = {"tool_call_id": transcript.call_id("t", n, 0), "ok": True, "output": "o" * 5000}
        events.append(Event(n, "tool.finished", "coder", output))
    for _ in range(6):
        state = transcript.fold("t", events, native=True, schemas=tools.BUILT_IN.schemas)
        said = messages.build(state, "s", "t" * 20_000, 1_000_000, "m")
        sizes.append(messages.size(said))
        ids = [call["id"] for message in said for call in message.get("tool_calls", [])]
        assert ids == [message["tool_call_id"] for message in said if message["role"] == "tool"]
        assert all(message.get("reasoning_content") for message in said if message["role"] == "assistant")
        nudge = {"reason": "compact", "text": "shorter", "budget": sizes[-1] // 2}
        events.append(Event(99, "nudge.given", "coder", nudge))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0] // 8
