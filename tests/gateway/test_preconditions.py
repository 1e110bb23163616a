"""Tags, conditions, ranges and names as pure functions: what holds for any of them."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from actors.sandbox.tppd.files import Conditions, State
from gateway.paths import below, nanoseconds, quoted, raw_path, shown
from gateway.preconditions import conditions_of, range_counts, span, tag_of, verdict
from terminalpp.client.transport import segment
from terminalpp.types.errors import BadRequest, InvalidInput

stamps = st.text("0123456789abcdef-", min_size=1, max_size=70).filter(lambda stamp: stamp != "-")
STATE = State("file", 10, 0o644, 0, stamp="a-b", settled=True)


def state(stamp: str | None, settled: bool = True) -> State:
    return State("file", 1, 0o644, 0, stamp=stamp, settled=settled)


@given(st.integers(0, 10**30), st.one_of(st.none(), st.integers(0, 10**30)), st.integers(0, 2**62))
def test_a_range_is_what_it_says_or_none(first: int, last: int | None, size: int) -> None:
    header = f"bytes={first}-{'' if last is None else last}"
    if len(str(first)) > 30 or len(str(last or 0)) > 30 or (last is not None and last < first):
        assert span(header, size) is None
    elif first >= size:
        with pytest.raises(ValueError, match="behind the end"):
            span(header, size)
    else:
        assert span(header, size) == (first, size if last is None else min(last + 1, size))


@given(st.integers(0, 10**29), st.integers(0, 2**62))
def test_the_last_bytes(length: int, size: int) -> None:
    if length == 0:
        with pytest.raises(ValueError, match="no last bytes"):
            span("bytes=-0", size)
    else:
        assert span(f"bytes=-{length}", size) == ((max(0, size - length), size) if size else None)


@given(st.text())
def test_what_is_no_range_is_the_whole(text: str) -> None:
    try:
        part = span(text, 100)
    except ValueError:
        return
    assert part is None or 0 <= part[0] < part[1] <= 100


@given(st.lists(st.tuples(stamps, st.booleans()), min_size=1, max_size=5), stamps, st.booleans())
def test_lists_of_tags(tags: list[tuple[str, bool]], present: str, settled: bool) -> None:
    header = ", ".join(f'W/"{stamp}"' if weak else f'"{stamp}"' for stamp, weak in tags)
    strong = {stamp for stamp, weak in tags if not weak}
    wanted = conditions_of({"if-match": header})
    assert wanted.met_by(state(present)) == (present in strong)
    assert not wanted.met_by(None)
    refused = conditions_of({"if-none-match": header})
    assert refused.met_by(state(present, settled)) == (present not in {stamp for stamp, _ in tags})
    assert refused.met_by(None)
    assert verdict(refused, state(present)) == (304 if present in {stamp for stamp, _ in tags} else 200)
    assert verdict(wanted, state(present)) == (200 if present in strong else 412)


@given(stamps, st.booleans())
def test_a_tag_comes_back_as_it_went(stamp: str, settled: bool) -> None:
    there = state(stamp, settled)
    tag = tag_of(there)
    assert tag is not None
    assert conditions_of({"if-match": tag}).met_by(there) == settled
    assert range_counts({"if-range": tag}, there) == settled
    assert not conditions_of({"if-none-match": tag}).met_by(there)
    assert tag_of(state(None)) is None


@given(st.text())
def test_any_header_is_understood_or_refused(text: str) -> None:
    for name in ("if-match", "if-none-match"):
        try:
            found = conditions_of({name: text})
        except BadRequest:
            continue
        assert found != Conditions()


@pytest.mark.parametrize("header", ["", "x", '"x', 'w/"x"', '"x" "y"', '"x", *', "**", ',"x"y'])
def test_what_is_no_list_of_tags(header: str) -> None:
    with pytest.raises(BadRequest):
        conditions_of({"if-match": header})


def test_a_date_is_no_strong_tag() -> None:
    assert not range_counts({"if-range": "Wed, 21 Oct 2015 07:28:00 GMT"}, STATE)
    assert range_counts({}, STATE)
    assert range_counts({"if-range": '"a-b"'}, STATE)


names = st.binary(min_size=1, max_size=50).map(lambda raw: raw.replace(b"\0", b"0"))


def asked(query: str, name: str = "path") -> str:
    return raw_path(Request({"type": "http", "query_string": query.encode("latin-1")}), name)


@given(names)
def test_any_name_comes_back_byte_for_byte(name: bytes) -> None:
    path = b"/home/" + name.replace(b"/", b"_")
    if name.replace(b"/", b"_") == b"..":
        return
    told = shown(path, STATE)
    assert os.fsencode(asked(f"x=1&path={told['path_raw']}")) == path
    assert os.fsencode(asked(f"path={segment(os.fsdecode(path))}")) == path
    assert os.fsencode(asked(f"from={quoted(path)}&to=/x", "from")) == path


@given(st.text())
def test_any_query_is_a_path_or_refused(query: str) -> None:
    try:
        found = asked(query.encode("utf-8", "replace").decode("latin-1"))
    except InvalidInput:
        return
    assert found.startswith("/")
    assert "\0" not in found


@pytest.mark.parametrize(
    "query", ["", "path=", "path=a", "path=/a&path=/b", "path=/a/../b", "path=/a%00", "path=/.."]
)
def test_paths_that_are_refused(query: str) -> None:
    with pytest.raises(InvalidInput):
        asked(query)


def test_shapes_of_names_and_times() -> None:
    assert shown(b"/", STATE)["name"] == "/"
    assert shown(b"/a/b/", STATE)["name"] == "b"
    assert below("/", b"a") == b"/a"
    assert below("/a/", b"b/c") == b"/a/b/c"
    for ns, text in [
        (0, "1970-01-01T00:00:00.000000Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
        (10**18 + 1999, "2001-09-09T01:46:40.000001Z"),
        (2**62, "2116-02-20T23:53:38.427387Z"),
        (2**63 - 1, None),
        (-(2**63), None),
    ]:
        assert shown(b"/a", State("file", 0, 0, ns))["modified_at"] == text


@given(st.integers(-(2**63) // 1000 + 1, 2**63 // 1000 - 1))
def test_times_go_both_ways(us: int) -> None:
    text = shown(b"/a", State("file", 0, 0, us * 1000))["modified_at"]
    assert text is not None
    assert nanoseconds(text) == us * 1000
    assert nanoseconds(text.lower()) == us * 1000


@pytest.mark.parametrize(
    "text", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-02-30T00:00:00Z", "2026-01-01T25:00:00Z"]
)
def test_times_that_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        nanoseconds(text)
