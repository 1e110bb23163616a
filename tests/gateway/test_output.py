"""A command's output as server-sent events: byte-exact, resumed anywhere, and its end."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.output import body, whole
from terminalpp.client import Client, OutputEvent
from terminalpp.client.events import Parser
from terminalpp.types import errors
from terminalpp.types.ids import new_id
from tests.gateway.conftest import Served


def bytes_of(told: dict[str, str]) -> bytes:
    return base64.b64decode(told["base64"]) if "base64" in told else told["text"].encode()


@given(st.binary(max_size=200))
def test_any_bytes_are_told_exactly(data: bytes) -> None:
    assert bytes_of(body(data, "utf-8")) == data
    assert set(body(data, "base64")) == {"base64"}
    assert 0 <= len(data) - whole(data) <= 3


@given(st.text(max_size=60), st.data())
def test_text_stays_text_wherever_it_is_cut(text: str, choose: st.DataObject) -> None:
    data = text.encode()
    cut = choose.draw(st.integers(0, len(data)))
    first = data[: whole(data[:cut])]
    assert first.decode() == text[: len(first.decode())]
    assert whole(data) == len(data)
    assert cut - len(first) <= 3


@given(st.binary(max_size=50))
def test_what_is_cut_off_is_the_beginning_of_a_character(data: bytes) -> None:
    rest = data[whole(data) :]
    if rest:
        lead = rest[0]
        assert len(rest) < (2 if lead < 0xE0 else 3 if lead < 0xF0 else 4)
        assert all(byte & 0xC0 == 0x80 for byte in rest[1:])


async def everything(api: Client, box: str, command: str, **at: int) -> list[OutputEvent]:
    return [event async for event in api.stream_output(box, command, **at)]


def printed(events: list[OutputEvent], stream: str) -> bytes:
    return b"".join(event.data for event in events if event.stream == stream)


async def test_both_streams_and_the_end(api: Client, box: str) -> None:
    text = "echo a; echo b >&2; printf 'é\\377'; printf '\\303'; exit 3"
    ran = await api.run_command(box, text)
    events = await everything(api, box, ran["id"])
    assert printed(events, "stdout") == b"a\n\xc3\xa9\xff\xc3"
    assert printed(events, "stderr") == b"b\n"
    assert [event.kind for event in events][-2:] == ["exited", "end"]
    record = events[-1].record
    assert record is not None
    assert (record["status"], record["exit_code"], record["stdout_bytes"]) == ("completed", 3, 6)
    again = await everything(api, box, ran["id"], stdout_offset=6, stderr_offset=2)
    assert [event.kind for event in again] == ["exited", "end"]


async def test_it_is_sent_while_it_comes(api: Client, box: str) -> None:
    """Each line is answered through standard input only once it has been seen."""
    ran = await api.run_command(box, "while read line; do echo $line; echo $line >&2; done", stdin=True)
    sent, kinds = 0, []
    sent = (await api.write_stdin(box, ran["id"], b"0\n", offset=0))["offset"]
    seen = {"stdout": 0, "stderr": 0}
    async for event in api.stream_output(box, ran["id"]):
        kinds.append(event.kind)
        if event.stream is None:
            continue
        seen[event.stream] += 1
        if seen["stdout"] == seen["stderr"] < 5:
            line = b"%d\n" % seen["stdout"]
            sent = (await api.write_stdin(box, ran["id"], line, offset=sent))["offset"]
        elif seen["stdout"] == seen["stderr"]:
            await api.write_stdin(box, ran["id"], b"", offset=sent, eof=True)
    assert seen == {"stdout": 5, "stderr": 5}
    assert kinds[-2:] == ["exited", "end"]


async def test_what_it_left_prints_after_its_end(api: Client, box: str) -> None:
    ran = await api.run_command(box, "mkfifo go; (read x < go; echo late) & echo early", wait_ms=10_000)
    assert ran["status"] == "completed"
    seen = []
    async for event in api.stream_output(box, ran["id"]):
        seen.append((event.kind, event.data))
        if event.kind == "exited":
            await api.run_command(box, "echo > go", wait_ms=10_000)
    assert seen == [("stdout", b"early\n"), ("exited", b""), ("stdout", b"late\n"), ("end", b"")]


async def test_it_goes_on_at_any_event_byte_for_byte(stack: Served, api: Client, box: str) -> None:
    text = "for n in $(seq 3000); do echo é$n; echo e$n >&2; done; head -c 300000 /dev/urandom"
    ran = await api.run_command(box, text, wait_ms=20_000)
    assert ran["status"] == "completed"
    path = f"/v1/sandboxes/{box}/commands/{ran['id']}/output/stream"

    async def raw(**headers: str) -> list[tuple[str, str, dict[str, Any]]]:
        async with stack.http() as http:
            answer = await http.get(path, headers=headers)
        assert answer.headers["content-type"].startswith("text/event-stream")
        found = []
        for block in answer.text.split("\n\n"):
            lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            if "data" in lines:
                found.append((lines["id"], lines["event"], json.loads(lines["data"])))
        return found

    every = await raw()
    assert len(every) > 6
    for number, (id, _, _) in enumerate(every[:-2]):
        rest = await raw(**{"last-event-id": id})
        for stream in ("stdout", "stderr"):
            whole_stream = b"".join(bytes_of(told) for _, kind, told in every if kind == stream)
            before = b"".join(bytes_of(told) for _, kind, told in every[: number + 1] if kind == stream)
            after = b"".join(bytes_of(told) for _, kind, told in rest if kind == stream)
            assert before + after == whole_stream
    for id, kind, told in every:
        if kind in ("stdout", "stderr"):
            offsets = dict(zip(("stdout", "stderr"), map(int, id.split("-")), strict=True))
            assert offsets[kind] == told["offset"] + len(bytes_of(told))


async def test_what_the_journal_dropped_is_a_gap(api: Client, box: str) -> None:
    ran = await api.run_command(box, "head -c 90000000 /dev/zero | tr '\\0' a", wait_ms=60_000)
    assert ran["status"] == "completed"
    begin = 2 * (8 << 20) - 100
    kinds = []
    async for event in api.stream_output(box, ran["id"], stdout_offset=begin):
        kinds.append((event.kind, event.offset, event.gap_bytes or len(event.data)))
        if len(kinds) == 3:
            break
    assert kinds[0] == ("stdout", begin, 100)
    assert kinds[1][:2] == ("gap", begin + 100)
    assert kinds[2][:2] == ("stdout", begin + 100 + kinds[1][2])


async def test_the_end_of_the_sandbox_is_an_end(api: Client, box: str) -> None:
    ran = await api.run_command(box, "echo begun; sleep 600")
    events = []
    async for event in api.stream_output(box, ran["id"]):
        events.append(event)
        if event.kind == "stdout":
            await api.stop_sandbox(box)
    assert printed(events, "stdout") == b"begun\n"
    assert events[-1].kind == "end"
    assert events[-1].record is not None
    assert events[-1].record["status"] in ("failed", "killed")


async def test_without_following_it_ends_with_what_is_there(stack: Served, api: Client, box: str) -> None:
    ran = await api.run_command(box, "echo one; sleep 600")
    async for _ in api.stream_output(box, ran["id"]):
        break
    path = f"/v1/sandboxes/{box}/commands/{ran['id']}/output/stream?follow=false"
    async with stack.http() as http:
        answer = await http.get(path)
    assert [kind for kind, _ in Parser().feed(answer.content)] == ["stdout"]
    assert answer.text.endswith(": end\n\n")


async def test_odd_requests(stack: Served, api: Client, box: str) -> None:
    with pytest.raises(errors.NotFound):
        await everything(api, box, new_id())
    ran = await api.run_command(box, "true", wait_ms=10_000)
    path = f"/v1/sandboxes/{box}/commands/{ran['id']}/output/stream"
    async with stack.http() as http:
        for id in ("1", "a-b", "1-2-3", "-1-0", "1.0", "1-99999999999999999999"):
            assert (await http.get(path, headers={"last-event-id": id})).status_code == 422, id
        for query in ("stdout_offset=-1", "encoding=latin-1", "offset=1"):
            assert (await http.get(f"{path}?{query}")).status_code == 422, query
        answer = await http.get(f"{path}?encoding=base64&stdout_offset=99")
    assert [kind for kind, _ in Parser().feed(answer.content)] == ["exited", "end"]
