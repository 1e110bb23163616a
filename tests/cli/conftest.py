"""Every test of the CLI has a home of its own and no settings of the machine's user."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cli.recorded_server import RecordedServer


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "home of tpp"
    monkeypatch.setenv("TPP_HOME", str(path))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in ("TPP_MODEL", "NO_COLOR", "XDG_DATA_HOME", "GIT_CONFIG_GLOBAL", "OPENAI_API_KEY",
                 "ANTHROPIC_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return path


@pytest.fixture
async def server(tmp_path: Path, home: Path) -> AsyncIterator[RecordedServer]:
    """A server that plays a recorded session; the team's change is of `a.py`."""
    played = RecordedServer(tmp_path / "inside", {"a.py": b"2\n"})
    await played.start(home)
    yield played
    await played.stop()
