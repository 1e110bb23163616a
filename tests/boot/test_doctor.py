"""doctor: run for real on this machine, and against machines that lack something."""

from __future__ import annotations

import asyncio
import os

import pytest

from runtime import doctor, sandbox_probe
from runtime.settings import load
from terminalpp.types.errors import TerminalError


@pytest.fixture
def facts(tmp_path):
    environ = {"TPP_HOME": str(tmp_path / "h"), "OPENAI_API_KEY": "sk-very-secret", "TPP_PROT": "1"}
    found = asyncio.run(doctor.examine(load(environ), environ))
    return {fact.name: fact for fact in found}


def test_every_fact_is_one_line_and_every_bad_one_has_a_fix(facts):
    expected = (
        "python, venv, lock, compiler, git, bubblewrap, user namespaces, bubblewrap sandbox, docker, "
        "isolation, open network, cgroups, home, disk, home size, memory, shared memory, port, postgres, "
        "redis, model keys, settings"
    )
    assert list(facts) == expected.split(", ")
    for fact in facts.values():
        assert "\n" not in fact.detail
        if fact.ok is False:
            assert fact.fix
        assert fact.detail in doctor.render(fact, colour=False)


def test_it_starts_and_writes_nothing(facts, tmp_path):
    assert facts["home"].ok
    assert not (tmp_path / "h").exists()


def test_keys_are_named_and_never_shown(facts):
    assert facts["model keys"].detail == "OPENAI_API_KEY"
    assert "sk-very-secret" not in "".join(doctor.render(fact, colour=True) for fact in facts.values())
    assert "TPP_PROT" in facts["settings"].detail


def test_no_isolation_is_a_failure(facts):
    assert doctor.exit_code([doctor.Fact("isolation", False, "none", "fix", required=True)]) == 1
    assert doctor.exit_code([doctor.Fact("lock", False, "differs", "fix")]) == 0


async def test_a_sandbox_that_cannot_run_is_told_with_its_words():
    assert await sandbox_probe.try_bwrap("/nonexistent/bwrap")
    assert await sandbox_probe.try_bwrap("/bin/false") == "status 1"


async def test_docker_is_asked_over_its_socket(tmp_path):
    path = tmp_path / "d.sock"

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.0 200 OK\r\n\r\n{"Version": "27.1", "ApiVersion": "1.46"}')
        writer.close()

    async with await asyncio.start_unix_server(answer, path):
        works, words = await sandbox_probe.docker_version({"DOCKER_HOST": f"unix://{path}"})
        assert (works, words.split()[0]) == (True, "27.1")
    path.unlink(missing_ok=True)
    works, words = await sandbox_probe.docker_version({"DOCKER_HOST": f"unix://{path}"})
    assert not works
    assert "does not exist" in words
    assert not (await sandbox_probe.docker_version({"DOCKER_HOST": "tcp://elsewhere:2375"}))[0]


async def test_an_old_system_bwrap_gives_way_to_the_wheels(tmp_path, monkeypatch):
    def system(version: str) -> None:
        script = tmp_path / "bwrap"
        script.write_text(f"#!/bin/sh\necho bubblewrap {version}\n")
        script.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    system("0.8.0")
    choice = await sandbox_probe.choose_bwrap()
    assert choice.path == sandbox_probe.wheel_bwrap()
    assert "0.8.0 is older" in choice.why
    system("0.12.1")
    choice = await sandbox_probe.choose_bwrap()
    assert choice.path == str(tmp_path / "bwrap")
    assert choice.version == "0.12.1"


def test_a_required_service_that_is_missing_is_red(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    settings = load({"TPP_HOME": str(tmp_path)})
    for probe in (doctor._postgres, doctor._redis):
        fact = probe(settings)
        assert fact.ok is False
        assert fact.required
        assert fact.fix
    assert doctor._postgres(load({"TPP_DATABASE_URL": "postgresql://x/y"})).ok is None
    with pytest.raises(TerminalError):
        doctor.redis.binary()
