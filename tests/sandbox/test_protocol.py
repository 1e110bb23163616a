"""The two sides of the wire name the same numbers, and the journal reader needs no sandbox."""

from __future__ import annotations

import re
from enum import IntEnum
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.node.driver import Driver
from actors.sandbox.tppd import journal, protocol
from actors.sandbox.tppd.client import Tppd
from terminalpp.types.errors import InvalidInput, NotFound, SandboxNotRunning, TooLarge
from tests.sandbox.conftest import ROOT

START = b'{"exec_id":"id","generation":1,"epoch":1,"spec_hash":"00","started_at_ms":5,"merged":false}\n'
END = (
    b'{"exec_id":"id","reason":"exited","exit_code":3,"signal":null,"error":"","generation":1,"started_at_ms":5,'
    b'"ended_at_ms":9,"duration_ms":4.0,"out_bytes":0,"err_bytes":0,"streams_open":false,"cpu_ms":1.0,'
    b'"max_rss_bytes":4096}\n'
)
HEADER = (ROOT / "tppd" / "tppd.h").read_text()


@pytest.mark.parametrize(
    ("prefix", "names"), [("OP", protocol.Op), ("TAG", protocol.Tag), ("STATUS", protocol.Status)]
)
def test_numbers_agree_with_the_header(prefix: str, names: type[IntEnum]) -> None:
    found = {name: int(value) for name, value in re.findall(rf"\b{prefix}_(\w+) = (\d+)", HEADER)}
    assert found == {member.name: member.value for member in names}


def test_every_number_is_documented() -> None:
    text = (ROOT / "docs" / "tppd.md").read_text()
    for names in (protocol.Op, protocol.Tag, protocol.Status):
        for member in names:
            assert f"{member.name} {member.value}" in text, f"{names.__name__}.{member.name}"


@given(st.integers(0, 255), st.integers(0, 2**32 - 1), st.lists(st.tuples(st.integers(0, 255), st.binary())))
def test_frames_round_trip(kind: int, request_id: int, fields: protocol.Fields) -> None:
    got_id, reply = protocol.Reply.decode(protocol.payload(kind, request_id, fields))
    assert (reply.status, got_id, reply.fields) == (kind, request_id, fields)


def test_a_frame_has_a_limit() -> None:
    with pytest.raises(TooLarge):
        protocol.payload(1, 1, [(1, bytes(protocol.MAX_FRAME_BYTES))])


def segment(folder: Path, stream: str, offset: int, data: bytes) -> None:
    (folder / f"{stream}.{offset:016d}").write_bytes(data)


def test_reading_across_segments_and_a_gap(tmp_path: Path) -> None:
    folder = tmp_path / "output" / "id"
    folder.mkdir(parents=True)
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "id").write_bytes(START)
    assert journal.read(tmp_path, "id") == journal.Chunk(0, b"", 0, 0)
    segment(folder, "out", 0, b"abc")
    segment(folder, "out", 3, b"def")
    segment(folder, "out", 10, b"xyz")
    segment(folder, "err", 0, b"no")
    assert journal.read(tmp_path, "id", "stdout", 0) == journal.Chunk(0, b"abc", 0, 3)
    assert journal.read(tmp_path, "id", "stdout", 3, 2) == journal.Chunk(3, b"de", 0, 5)
    assert journal.read(tmp_path, "id", "stdout", 6) == journal.Chunk(10, b"xyz", 4, 13)
    assert journal.read(tmp_path, "id", "stdout", 8) == journal.Chunk(10, b"xyz", 2, 13)
    assert journal.read(tmp_path, "id", "stdout", 13) == journal.Chunk(13, b"", 0, 13)
    assert journal.read(tmp_path, "id", "stdout", 99) == journal.Chunk(99, b"", 0, 99)
    assert journal.end(tmp_path, "id", "stdout") == 13
    with pytest.raises(InvalidInput):
        journal.read(tmp_path, "id", "stdout", -1)
    with pytest.raises(NotFound):
        journal.read(tmp_path, "other")


def test_a_line_of_a_record_counts_once_it_is_whole(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    (tmp_path / "generation").write_text("1\n")
    record = tmp_path / "records" / "id"
    for cut in range(len(START + END) + 1):
        record.write_bytes((START + END)[:cut])
        if cut < len(START):
            expected = journal.Outcome.NOT_STARTED
        else:
            expected = journal.Outcome.RUNNING if cut < len(START + END) else journal.Outcome.ENDED
        assert journal.outcome(tmp_path, "id") is expected
    assert journal.exit_record(tmp_path, "id").exit_code == 3
    record.write_bytes(START + END[:-1])
    (tmp_path / "generation").write_text("2\n")
    assert journal.outcome(tmp_path, "id") is journal.Outcome.LOST
    journal.forget(tmp_path, "id")
    assert journal.outcome(tmp_path, "id") is journal.Outcome.NOT_STARTED


def test_what_never_started(tmp_path: Path) -> None:
    assert journal.outcome(tmp_path, "id") is journal.Outcome.NOT_STARTED
    assert journal.exit_record(tmp_path, "id") is None
    assert journal.list_ids(tmp_path) == []


async def test_nobody_there(tmp_path: Path) -> None:
    for run_dir in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(SandboxNotRunning):
            await Tppd(run_dir).hello()


async def test_a_driver_refuses_odd_ids(driver: Driver) -> None:
    for bad in ("", "../x", "a/b", ".x"):
        with pytest.raises(InvalidInput):
            await driver.inspect(bad)
