"""Every event, effect and message has a declared shape, and the document shows them all."""

from __future__ import annotations

import re
from pathlib import Path

from actors import registry
from gateway.export_payloads import document
from runtime.decorators import Kind, methods_of
from runtime.registry import resolve
from terminalpp.types.events import EVENTS
from terminalpp.types.messages import EFFECTS, MESSAGES

ROOT = Path(__file__).resolve().parents[2]
_FAMILIES = sorted({name.partition(".")[0] for name in EVENTS})
_NAMED = re.compile(rf'"((?:{"|".join(_FAMILIES)})\.[a-z_]+)"')


def test_the_document_is_printed_from_the_shapes() -> None:
    assert (ROOT / "docs" / "payloads.md").read_text() == document(), "run python -m gateway.export_payloads"


def test_every_event_that_the_code_names_is_declared() -> None:
    named = {
        name
        for floor in ("actors", "graphs")
        for path in (ROOT / floor).rglob("*.py")
        for name in _NAMED.findall(path.read_text())
    }
    assert named - {"setup.py", "setup.cfg"} == set(EVENTS)


def test_every_effect_and_every_message_is_declared() -> None:
    kinds = {kind: methods_of(resolve(path)) for kind, path in registry.ENTITIES.items()}
    for wanted, declared in ((Kind.EFFECT, EFFECTS), (Kind.DURABLE, MESSAGES)):
        have = {f"{kind}.{name}" for kind, all in kinds.items() for name, how in all.items() if how is wanted}
        assert have == set(declared)
