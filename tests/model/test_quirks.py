"""The quirk table through the real litellm: streamed, answered whole, and asked for whole."""

from __future__ import annotations

import pytest

from actors.model import failures, provider
from actors.model.replies import Reply
from graphs import tools, transcript
from graphs.ports import Event
from runtime import settings as settings_module
from terminalpp.types import errors
from tests.model.quirks import ROWS
from tests.model.quirks.row import USAGE, Row, Want
from tests.model_server.odd import OddServer, Play, body, stream

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one loop, one HTTP client: a new one costs 0.1 s
TOOLS = (*tools.ROLE_TOOLS["coder"], "list")
WHOLE = [row for row in ROWS if row.message is not None]


async def ask(play: Play, tmp_path, *, streamed: bool = True) -> Reply:
    """The reply to one request, or the error of our tree."""
    request = {
        "model": "odd", "agent": "coder", "messages": [{"role": "user", "content": "hi"}],
        "tools": tools.BUILT_IN.definitions(TOOLS),
    }  # fmt: skip
    async with OddServer(play) as server:
        settings = settings_module.load({
            "TPP_HOME": str(tmp_path), "TPP_MODEL_BASE_URL": server.base_url,
            "TPP_MODEL_STREAM": str(streamed).lower(),
        })  # fmt: skip
        reply = Reply()
        try:
            async for chunk in provider.stream(request, settings):
                reply.add(chunk)
            reply.check()
        except Exception as problem:
            raise failures.translate(problem, "odd") from problem
        finally:
            assert bool(server.requests[0].get("stream")) is streamed
        return reply


async def check(play: Play, want: Want, tmp_path, *, streamed: bool = True) -> None:
    if want.error is not None:
        with pytest.raises(errors.TerminalError) as caught:
            await ask(play, tmp_path, streamed=streamed)
        assert type(caught.value) is want.error, caught.value
        assert want.words in caught.value.detail
        return
    reply = await ask(play, tmp_path, streamed=streamed)
    told = {"call_id": "c", **reply.to_json()}
    step = transcript.fold(
        "t",
        [Event(1, "model.finished", "coder", told)],
        native=True,
        schemas=tools.BUILT_IN.schemas,
        tools=TOOLS,
    ).steps[0]
    assert tuple((call.name, call.arguments) for call in step.calls) == want.calls
    assert bool(step.doubt) is want.doubt
    assert want.content in (told["content"], "*")
    assert want.thoughts in told["reasoning"]
    assert {name: told["given"].get(name) for name in want.given} == want.given
    assert want.ids is None or tuple(call.provider_id for call in step.calls) == want.ids
    if want.tokens is not None:
        assert (reply.usage.input_tokens, reply.usage.output_tokens) == want.tokens


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_streamed(row: Row, tmp_path):
    await check(stream(*row.events), row.want, tmp_path)


def completion(row: Row) -> dict:
    choice = {"index": 0, "message": row.message, "finish_reason": row.finish}
    return {"id": "c", "object": "chat.completion", "choices": [choice], "usage": USAGE["usage"]}


@pytest.mark.parametrize("row", WHOLE, ids=lambda row: row.name)
async def test_a_stream_was_asked_for_and_one_body_came(row: Row, tmp_path):
    await check(body(completion(row)), row.want, tmp_path)


@pytest.mark.parametrize("row", WHOLE, ids=lambda row: row.name)
async def test_a_body_was_asked_for(row: Row, tmp_path):
    await check(body(completion(row)), row.want, tmp_path, streamed=False)


@pytest.mark.parametrize("row", ROWS[::5], ids=lambda row: row.name)
async def test_a_body_was_asked_for_and_a_stream_came(row: Row, tmp_path):
    await check(stream(*row.events), row.want, tmp_path, streamed=False)


@pytest.mark.parametrize("row", ROWS[::4], ids=lambda row: row.name)
async def test_in_packets_of_any_size(row: Row, tmp_path):
    data = b"".join(stream(*row.events).pieces)
    await check(Play(tuple(data[n : n + 5] for n in range(0, len(data), 5))), row.want, tmp_path)


async def test_the_table_is_as_large_as_promised():
    assert len(ROWS) >= 40
    assert len({row.name for row in ROWS}) == len(ROWS)
