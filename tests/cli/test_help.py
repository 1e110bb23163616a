"""Help, exit codes and documentation say the same, and the help is quick."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from terminalpp.cli import exits, models
from terminalpp.cli.main import app
from terminalpp.types import providers
from terminalpp.types.errors import InvalidInput, NotFound, Unavailable

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "cli.md").read_text()
GROUPS = {group.typer_instance.info.name: group.typer_instance for group in app.registered_groups}
VERBS = [command.name or command.callback.__name__ for command in app.registered_commands] + list(GROUPS)
WANTED = {
    "up", "down", "status", "doctor", "demo", "run", "chat", "logs", "ps", "kill", "test", "db", "version",
    "model", "quarantine", "dead-letters", "conversation", "sandbox", "sh", "term", "exec", "attach",
    "cp", "files", "snapshot", "rewind", "fork", "ports",
}  # fmt: skip
COMMANDS = [(verb,) for verb in sorted(WANTED - set(GROUPS))] + [
    (name, command.name) for name, group in GROUPS.items() for command in group.registered_commands]


def said(*words: str) -> str:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    command = [sys.executable, "-m", "terminalpp.cli.main", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def test_every_verb_is_there_and_documented() -> None:
    assert set(VERBS) == WANTED
    documented = re.findall(r"^\| `([a-z-]+)` \|", DOCS.split("## Exit status")[0], re.M)
    assert sorted(documented) == sorted(VERBS)
    launcher = (ROOT / "tpp").read_text()
    assert all(re.search(rf"^  {verb} ", launcher, re.M) for verb in VERBS)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_help_has_an_example_and_json(words: tuple[str, ...]) -> None:
    verb = " ".join(words)
    text = said(*words, "--help")
    assert f"./tpp {verb}" in text
    assert "--json" in text
    for option in re.findall(r"(--[a-z-]+)", text.split("Options:")[1]):
        if option not in ("--help", "--json", "--foreground", "--all"):
            assert option in DOCS, f"{verb} {option} is not in docs/cli.md"


def test_exit_codes_are_documented() -> None:
    for status in exits.Exit:
        assert re.search(rf"^\| {int(status)} \|", DOCS, re.M)
        assert re.search(rf"^\| {int(status)} \|", exits.__doc__ or "", re.M)
    assert exits.of(InvalidInput()) == 2
    assert exits.of(NotFound()) == 2
    assert exits.of(Unavailable()) == 3
    assert exits.of_outcome("passed") == 0
    assert {int(exits.of_outcome(name)) for name in ("failed", "unverified", "stopped", "error")} == {1}
    assert exits.of_outcome("cancelled") == 130


def test_help_is_quick(record_property: pytest.RecordProperty) -> None:
    took = []
    for _ in range(5):
        began = time.perf_counter()
        said("--help")
        took.append((time.perf_counter() - began) * 1000)
    record_property("help_ms", round(min(took)))
    assert min(took) < 1000, took  # the goal is 250 ms; a loaded machine must not make this test lie


def test_help_imports_nothing_heavy() -> None:
    probe = "import sys, terminalpp.cli.main; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"aiohttp", "rich", "pydantic", "asyncio", "terminalpp.client", "runtime", "ray"}


def test_the_model_that_is_chosen() -> None:
    assert models.choose("a", {"TPP_MODEL": "b"}, demo=True).model == "a"
    assert models.choose(None, {"TPP_MODEL": "b", "OPENAI_API_KEY": "k"}, demo=True).model == "b"
    found = models.choose(None, {"OPENAI_API_KEY": "k"}, demo=True)
    assert (found.model, found.reason) == (providers.DEFAULTS["OPENAI_API_KEY"], "OPENAI_API_KEY")
    assert models.choose(None, {"OPENAI_API_KEY": ""}, demo=True).scripted
    with pytest.raises(InvalidInput, match="no model"):
        models.choose(None, {}, demo=False)
    assert "scripted" in models.headline(models.choose(None, {}, demo=True))


def test_default_models_are_known_with_a_price() -> None:
    import importlib.util
    import json

    spec = importlib.util.find_spec("litellm")
    assert spec
    assert spec.origin
    table = Path(spec.origin).parent / "model_prices_and_context_window_backup.json"
    prices = json.loads(table.read_text())
    for key, model in providers.DEFAULTS.items():
        entry = prices.get(model) or prices.get(model.split("/", 1)[1])
        assert entry, model
        assert entry["input_cost_per_token"] > 0
        assert f"| `{key}` | `{model}` |" in DOCS
