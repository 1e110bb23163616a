"""What each kind of provider gave goes back to it on the wire, through litellm's own translation."""

from __future__ import annotations

import importlib
import json
from typing import Any

import pytest

from actors.model import provider, wire
from actors.model.replies import Reply
from graphs import messages, tools, transcript
from runtime import settings as settings_module
from terminalpp.types import errors
from tests.model.quirks.row import DONE, call, calls, delta
from tests.model_server.odd import OddServer, Play, stream

SIGNED = {"google": {"thought_signature": "TS"}}
MARK = "\N{REPLACEMENT CHARACTER}"
CODER = tools.ROLE_TOOLS["coder"]


def anthropic(*events: dict[str, Any]) -> Play:
    return Play(tuple(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events))


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": one} for one in deltas),
        {"type": "content_block_stop", "index": index},
    ]


CLAUDE = [
    {"type": "message_start", "message": {
        "id": "m", "type": "message", "role": "assistant", "content": [], "model": "claude",
        "stop_reason": None, "usage": {"input_tokens": 10, "output_tokens": 1}}},
    *block(0, {"type": "thinking", "thinking": "", "signature": ""},
           {"type": "thinking_delta", "thinking": "Let me "}, {"type": "thinking_delta", "thinking": "look"},
           {"type": "signature_delta", "signature": "SIG1"}),
    *block(1, {"type": "redacted_thinking", "data": "RED"}),
    *block(2, {"type": "tool_use", "id": "toolu_01A", "name": "bash", "input": {}},
           {"type": "input_json_delta", "partial_json": '{"command": '},
           {"type": "input_json_delta", "partial_json": '"a\\ud83d"}'}),
    *block(3, {"type": "tool_use", "id": "toolu_01B", "name": "read", "input": {}},
           {"type": "input_json_delta", "partial_json": '{"path": "a"}'}),
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 20}},
    {"type": "message_stop"},
]  # fmt: skip
GEMINI = [
    {"candidates": [{"content": {"role": "model", "parts": [{"text": "hm", "thought": True}]}}]},
    {"candidates": [{"content": {"role": "model", "parts": [
        {"functionCall": {"name": "bash", "args": {"command": "a\ud83d"}}, "thoughtSignature": "c2lnMQ=="},
        {"functionCall": {"name": "read", "args": {"path": "a"}}}]}, "finishReason": "STOP"}],
     "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 7, "totalTokenCount": 12}},
]  # fmt: skip


def gemini(*events: dict[str, Any]) -> Play:
    return Play(tuple(f"data: {json.dumps(event)}\r\n\r\n".encode() for event in events))


async def twice(tmp_path, model: str, play: Play) -> tuple[Reply, dict[str, Any]]:
    """The reply to a first request, and the second request, with that reply in it."""
    async with OddServer(play) as server:
        environ = {"TPP_HOME": str(tmp_path), "TPP_MODEL_BASE_URL": server.base_url, "TPP_MODEL_API_KEY": "k"}
        settings = settings_module.load(environ)

        async def ask(said: list[dict[str, Any]]) -> Reply:
            reply = Reply()
            two = tools.BUILT_IN.definitions(("bash", "read"))
            request = {"model": model, "messages": said, "tools": two}
            async for chunk in provider.stream(request, settings):
                reply.add(chunk)
            reply.check()
            return reply

        state = transcript.fold("t", [], native=True, schemas=tools.BUILT_IN.schemas, tools=CODER)
        reply = await ask(messages.build(state, "s", "u", 100_000, model))
        told = {"call_id": "c", "model": model, **json.loads(json.dumps(reply.to_json()))}
        transcript.add(state, "model.finished", told, tools.BUILT_IN.schemas)
        await ask(messages.build(state, "s", "u", 100_000, model))
        return reply, server.requests[1]


async def test_anthropics_thoughts_and_signatures(tmp_path):
    reply, back = await twice(tmp_path, "anthropic/claude-sonnet-4-5", anthropic(*CLAUDE))
    assert [one["name"] for one in reply.tool_calls()] == ["bash", "read"]
    assert reply.thoughts == "Let me look"
    assert back["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "Let me look", "signature": "SIG1"},
        {"type": "redacted_thinking", "data": "RED"},
        {
            "type": "tool_use",
            "id": "toolu_01A",
            "name": "bash",
            "input": {"command": f"a{MARK}"},
        },
        {"type": "tool_use", "id": "toolu_01B", "name": "read", "input": {"path": "a"}},
    ]
    assert [one["tool_use_id"] for one in back["messages"][2]["content"]] == ["toolu_01A", "toolu_01B"]


async def test_geminis_signatures(tmp_path):
    reply, back = await twice(tmp_path, "gemini/gemini-2.5-pro", gemini(*GEMINI))
    assert [one["arguments"] for one in reply.tool_calls()] == [
        {"command": f"a{MARK}"}, {"path": "a"}]  # fmt: skip
    parts = [part for part in back["contents"][1]["parts"] if "function_call" in part]
    assert [part["function_call"]["name"] for part in parts] == ["bash", "read"]
    assert [part.get("thoughtSignature") for part in parts] == ["c2lnMQ==", None]


def replied(**fields: Any) -> Play:
    given = call(
        '{"command": "ls"}', index=0, id="aB3dE6gH9", extra_content=SIGNED
    )
    return stream(
        delta(role="assistant", content="I look.", **fields), calls(given), delta("tool_calls"), DONE
    )


DETAILS = [{"type": "reasoning.encrypted", "data": "D", "index": 0}]


@pytest.mark.parametrize("model", [
    "odd", "openai/odd", "deepseek/deepseek-chat", "openrouter/x/y", "xai/grok-4",
    "groq/llama-3.3-70b-versatile", "hosted_vllm/x", "moonshot/kimi-k2", "together_ai/x",
])  # fmt: skip
async def test_the_fields_of_openai_compatible_providers(tmp_path, model):
    _, back = await twice(tmp_path, model, replied(reasoning_content="hm", reasoning_details=DETAILS))
    said = back["messages"][2]
    assert said["content"] == "I look."
    assert said["reasoning_content"] == "hm"
    assert said["reasoning_details"] == DETAILS
    assert said["tool_calls"][0]["id"] == back["messages"][3]["tool_call_id"] == "aB3dE6gH9"
    assert said["tool_calls"][0]["extra_content"] == SIGNED


@pytest.mark.parametrize("model", ["odd", "deepseek/x", "mistral/x", "xai/x", "hosted_vllm/x"])
async def test_a_text_that_holds_the_end_mark_goes_on_after_it(tmp_path, model):
    text = "The stream ends with [DONE], and then the server closes."
    reply, _ = await twice(tmp_path, model, stream(delta(content=text), delta("stop"), DONE))
    assert (reply.content, reply.unseen(last=True)) == (text, text)


async def test_reasoning_under_its_own_name(tmp_path):
    _, back = await twice(tmp_path, "odd", replied(reasoning="hm"))
    assert back["messages"][2]["reasoning"] == "hm"
    assert "reasoning_content" not in back["messages"][2]


async def test_a_think_block_goes_back_where_it_stood(tmp_path):
    """MiniMax and others want it; the templates of those that do not take it out themselves."""
    play = stream(
        delta(content="<think>hm</think>I look."), calls(call(index=0, id="a")), delta("tool_calls"), DONE
    )
    reply, back = await twice(tmp_path, "odd", play)
    assert reply.content == "I look."
    assert back["messages"][2]["content"] == "<think>hm</think>I look."


@pytest.mark.parametrize("field", ["reasoning_content", "thinking_blocks"])
async def test_mistral_gets_nothing_that_it_would_refuse(tmp_path, field):
    play = replied(**{field: "hm" if field == "reasoning_content" else [{"type": "thinking"}]})
    _, back = await twice(tmp_path, "mistral/mistral-large-latest", play)
    assert back["messages"][2].keys() == {"role", "content", "tool_calls"}
    assert back["messages"][2]["tool_calls"][0]["id"] == "aB3dE6gH9"


async def test_mistrals_thoughts_are_not_sent_under_anothers_name(tmp_path):
    thought = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]
    play = stream(delta(content=thought), calls(call(index=0, id="aB3dE6gH9")), delta("tool_calls"), DONE)
    reply, back = await twice(tmp_path, "odd", play)
    assert reply.thoughts == "hm"
    assert back["messages"][2].keys() == {"role", "content", "tool_calls"}


@pytest.mark.parametrize(("model", "play"), [
    ("anthropic/claude-sonnet-4-5", anthropic(*CLAUDE[:4])),
    ("anthropic/claude-sonnet-4-5", anthropic(*CLAUDE[:10])),
    ("gemini/gemini-2.5-pro", gemini(*GEMINI[:1])),
])  # fmt: skip
async def test_a_cut_is_seen_in_other_shapes_too(tmp_path, model, play):
    with pytest.raises(errors.ModelUnreachable, match="broke off"):
        await twice(tmp_path, model, play)


@pytest.mark.parametrize(("model", "play"), [
    ("anthropic/claude-sonnet-4-5", anthropic(*CLAUDE[:4], {"type": "error", "error": {
        "type": "overloaded_error", "message": "Overloaded"}})),
    ("gemini/gemini-2.5-pro", gemini(GEMINI[0], {"error": {"code": 503, "message": "busy"}})),
])  # fmt: skip
async def test_an_error_is_seen_in_other_shapes_too(tmp_path, model, play):
    with pytest.raises(errors.ModelOverloaded):
        await twice(tmp_path, model, play)


async def test_a_hook_that_is_there_twice_reads_once(tmp_path, monkeypatch):
    """Two threads that need litellm first at once both set it up."""
    litellm = provider.library()
    handler = importlib.import_module("litellm.llms.custom_httpx.http_handler").AsyncHTTPHandler
    monkeypatch.setattr(handler, "create_client", handler.create_client)
    wire.install()
    litellm.in_memory_llm_clients_cache.flush_cache()
    _, back = await twice(tmp_path, "deepseek/deepseek-chat", replied(reasoning_content="hm"))
    assert back["messages"][2]["content"] == "I look."
    litellm.in_memory_llm_clients_cache.flush_cache()
