"""Building tppd with the real compiler, from sources of the test's own."""

from __future__ import annotations

import subprocess

import pytest

from runtime.services import helper
from terminalpp.types.errors import ServiceFailed


@pytest.fixture
def place(tmp_path):
    (tmp_path / "home" / "bin").mkdir(parents=True)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "say.h").write_text('#define WORDS "hello"\n')
    (tmp_path / "c" / "say.c").write_text(
        '#include <stdio.h>\n#include "say.h"\nint main(void){puts(WORDS);}\n'
    )
    return tmp_path


async def build(place, said=None):
    said = [] if said is None else said
    return await helper.build(place / "home", lambda state, detail: said.append(detail), place / "c")


async def test_it_is_static_named_after_its_sources_and_built_once(place):
    said = []
    first = await build(place, said)
    assert subprocess.check_output([first], env={}) == b"hello\n"
    assert b".interp" not in first.read_bytes(), "a dynamic loader is asked for"
    assert said
    said.clear()
    assert await build(place, said) == first
    assert not said
    assert [path.name for path in first.parent.iterdir()] == [first.name], "something is left behind"
    (place / "c" / "say.h").write_text('#define WORDS "changed"\n')
    second = await build(place)
    assert second != first
    assert first.exists(), "running sandboxes keep the file they were started with"
    assert subprocess.check_output([second], env={}) == b"changed\n"


async def test_an_error_in_the_sources_is_shown_and_leaves_nothing(place):
    (place / "c" / "say.c").write_text("int main(void) { return nonsense; }\n")
    with pytest.raises(ServiceFailed, match="nonsense"):
        await build(place)
    assert not list((place / "home" / "bin").iterdir())


async def test_an_incomplete_checkout_is_said(place):
    (place / "c" / "say.c").unlink()
    with pytest.raises(ServiceFailed, match="no C sources"):
        await build(place)


async def test_a_compiler_that_cannot_link_statically_is_not_used(place, monkeypatch):
    script = place / "cc"
    script.write_text("#!/bin/sh\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    assert await helper.static_compiler(place / "home" / "bin" / "probe") is None
    monkeypatch.delenv("CC")
    assert await helper.static_compiler(place / "home" / "bin" / "probe")
