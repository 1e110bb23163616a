"""What the documentation must name, it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from terminalpp.types import errors

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
