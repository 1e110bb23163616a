"""Transcripts and the messages made from them."""

from __future__ import annotations

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
    state = transcript.fold("t", events, native=True, schemas=tools.SCHEMAS)
    said = messages.build(state, "s", "task", 5000)
    outputs = [message["content"] for message in said if message["role"] == "tool"]
    assert outputs[0] == messages.ELIDED
    assert outputs[-messages.KEEP_RECENT :] == [str(n) * 500 for n in range(4, 12)]
    assert said[-1] == {"role": "user", "content": "one\n\ntwo"}
    answered = {message["tool_call_id"] for message in said if message["role"] == "tool"}
    assert answered == {call["id"] for message in said for call in message.get("tool_calls", [])}
