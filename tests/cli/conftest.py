"""Every test of the CLI has a home of its own and no settings of the machine's user."""

from __future__ import annotations

from pathlib import Path

import pytest


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
