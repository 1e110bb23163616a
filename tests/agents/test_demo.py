"""The shipped scripted model, through the real model actor, fixes the shipped sample repository."""

from __future__ import annotations

from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo-repo"


@pytest.fixture
def model_kind() -> str:
    return "ENTITIES"


async def test_the_demo_turns_green(talk):
    files = {str(p.relative_to(DEMO)): p.read_text() for p in DEMO.rglob("*") if p.suffix in (".py", ".md")}
    chat = await talk("scripted:demo", files)
    await chat.post("The test suite fails. Find out why and fix it.")
    end = await chat.finished(timeout_s=120)
    assert end["outcome"] == "passed"
    tests = [(e.payload["phase"], e.payload["passed"]) for e in await chat.events("tests.finished")]
    assert tests == [("before", False), ("after", True)]
    agents = {e.payload["agent"] for e in await chat.events("model.finished")}
    assert agents == {"planner", "coder", "critic", "executor"}
    assert all(e.payload["scripted"] for e in await chat.events("model.started", "turn.started"))
    assert [e.payload["verdict"] for e in await chat.events("review.finished")] == ["approve"]
    steps = {e.payload["step"]: e.payload["duration_ms"] for e in await chat.events("step.finished")}
    assert set(steps) == {"route", "planner", "baseline", "coder", "gate", "critic", "executor"}
