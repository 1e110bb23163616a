"""What the documentation must name, it names."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from pathlib import Path

import pytest
import typer
from packaging.requirements import Requirement
from packaging.version import Version
from typer.testing import CliRunner

from terminalpp.cli.main import app
from terminalpp.types import errors
from tests import documents

ROOT = Path(__file__).parents[2]


def test_every_error_code_is_documented():
    text = (ROOT / "docs/errors.md").read_text()
    missing = [code for code in errors.all_codes() if f"`{code}`" not in text]
    assert not missing
    named = re.findall(r"^\| `([a-z-]+)` \|", text, re.M)
    assert sorted(named) == sorted(errors.all_codes()), "docs/errors.md names a code that does not exist"


@pytest.mark.parametrize(
    "document", sorted(ROOT.glob("docs/*.md")) + sorted(ROOT.glob("*.md")), ids=lambda p: p.name
)
def test_links_inside_the_repository_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text()):
        if "://" not in target and not target.startswith("mailto:"):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_changelog_names_this_version():
    from terminalpp import __version__

    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_locks_name_no_host():
    """A lock holds names, versions and hashes only; the known-bad litellm releases are not in it."""
    for lock in ROOT.glob("requirements*.lock"):
        text = lock.read_text()
        assert "://" not in text
        assert "--index-url" not in text
        assert not re.search(r"^litellm==1\.82\.[78]\b", text, re.M)
        for pin in re.findall(r"^[A-Za-z0-9_.\[\]-]+==.*?(?=^\S|\Z)", text, re.M | re.S):
            assert "--hash=sha256:" in pin, pin


@pytest.mark.parametrize("document", documents.documents(), ids=lambda path: path.name)
def test_every_block_says_what_it_is(document):
    """A block of commands is `sh`, and so is run by tests/e2e/test_docs.py; nothing else looks like one."""
    assert not documents.hidden(document, document.read_text())
    for block in documents.blocks(document):
        if block.language == "json":
            json.loads(block.text)
        if block.language == documents.SHELL:
            parsed = subprocess.run(["sh", "-n"], input=block.text, capture_output=True, text=True)
            assert parsed.returncode == 0, f"{block.place}: {parsed.stderr}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("```\nls\n```", "no language"),
        ("```bash\nls\n```", "a block of bash"),
        ("~~~\nls\n~~~", "no language"),
        ("- point\n\n  ```\n  ls\n  ```", "no language"),
        ("```text\n$ ls\n```", "commands marked as text"),
        ("```text\n\n./tpp up\n```", "commands marked as text"),
        ("Run:\n\n    ./tpp test\n", "an indented block"),
        ("Run:\n\n\t./tpp test\n", "an indented block"),
        ("<pre>./tpp test</pre>", "an HTML block"),
        ("```sh\nls\n```", None),
        ("````text\n```\n$ ls\n```\n````", None),
        ("```text\n./tpp run [--repo DIR] TASK\n```", None),
        ("- point\n    that goes on", None),
    ],
)
def test_a_hidden_block_of_commands_is_found(text, said):
    found = documents.hidden(ROOT / "any.md", text)
    assert (said is None and not found) or (said is not None and said in found[0]), found


def test_a_fence_left_open_is_an_error():
    with pytest.raises(ValueError, match="never closed"):
        documents.split(ROOT / "any.md", "```sh\nls\n")


COMMANDS = typer.main.get_command(app).commands
OPTIONS = {
    verb: {name for parameter in command.params for name in parameter.opts} | {"-h", "--help"}
    for verb, command in COMMANDS.items()
}
GROUPS = {verb: command.commands for verb, command in COMMANDS.items() if hasattr(command, "commands")}
for group, inner in GROUPS.items():
    OPTIONS[group] |= {name for command in inner.values() for p in command.params for name in p.opts}
TYPED = re.compile(r"\./tpp[ ]+([a-z][a-z-]*)(?:[ ]+([a-z][a-z-]*))?")


def typed_in_sources() -> set[tuple[str, str, str]]:
    """(file, verb, next word) of every `./tpp …` within a text of the program: hints, messages, help."""
    found = set()
    for folder in ("terminalpp", "schema", "runtime", "graphs", "actors", "gateway"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found |= {(path.name, *match) for match in TYPED.findall(node.value)}
    return found


def quoted() -> set[tuple[str, str, str]]:
    told = {(code, *match) for code, kind in errors.all_codes().items() for match in TYPED.findall(kind.hint)}
    for document in documents.documents():
        told |= {(document.name, *match) for match in TYPED.findall(document.read_text())}
    return told | typed_in_sources()


def test_every_command_that_is_named_has_a_help():
    """In a document, a hint or a message: `./tpp VERB`, and `./tpp GROUP WORD` for a group of verbs."""
    runner = CliRunner()
    places: dict[tuple[str, str], set[str]] = {}
    for place, verb, word in quoted():
        places.setdefault((verb, word if verb in GROUPS else ""), set()).add(place)
    assert ("quarantine", "release") in places
    assert ("run", "") in places
    for verb, word in sorted(places):
        done = runner.invoke(app, [verb, *([word] if word else []), "--help"])
        assert done.exit_code == 0, f"./tpp {verb} {word}: {done.output} {places[verb, word]}"
        assert "Usage:" in done.output


@pytest.mark.parametrize("document", documents.documents(), ids=lambda path: path.name)
def test_what_is_typed_exists(document):
    """Every `./tpp VERB --option` that a document quotes, in a block or within a sentence."""
    assert "run" in OPTIONS
    assert "--repo" in OPTIONS["run"]
    for verb, rest in re.findall(r"\./tpp[ ]+([a-z][a-z-]*)([^`\n#&|;]*)", document.read_text()):
        assert verb in OPTIONS, f"{document.name} names ./tpp {verb}"
        unknown = set(re.findall(r"(?<!\S)\[?(--?[a-z][a-z-]*)", rest)) - OPTIONS[verb]
        assert not unknown or verb == "test", f"{document.name}: ./tpp {verb} has no {unknown}"


def pins(lock: Path) -> dict[str, Version]:
    found = re.findall(r"^([A-Za-z0-9_.-]+)(?:\[[^]]*\])?==([^ ;\\]+)", lock.read_text(), re.M)
    return {re.sub(r"[-_.]+", "-", name).lower(): Version(version) for name, version in found}


@pytest.mark.parametrize("wanted", sorted(ROOT.glob("requirements*.in")), ids=lambda path: path.name)
def test_a_lock_holds_what_its_list_asks_for(wanted):
    """What one sees without an index: each name is pinned, within its bounds; a list that another one
    includes is pinned alike in both."""
    held = pins(wanted.with_suffix(".lock"))
    lines = [line.split("#")[0].strip() for line in wanted.read_text().splitlines()]
    for line in filter(None, lines):
        if line.startswith("-r "):
            inner = pins((ROOT / line.removeprefix("-r ").strip()).with_suffix(".lock"))
            assert inner.items() <= held.items()
            continue
        requirement = Requirement(line)
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert name in held, f"{wanted.name} asks for {name}; renew the lock"
        assert requirement.specifier.contains(held[name], prereleases=True), (
            f"{name} {held[name]}: renew the lock"
        )
