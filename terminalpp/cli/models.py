"""Which model a run uses when the person names none."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass

from terminalpp.cli import home
from terminalpp.types.errors import InvalidInput
from terminalpp.types.providers import DEFAULTS, KEY_FILE, SCRIPTED, provided


@dataclass(frozen=True, slots=True)
class Choice:
    """A litellm model string and why it was taken."""

    model: str
    reason: str

    @property
    def scripted(self) -> bool:
        """Whether it is one of the models that work offline."""
        return self.model.startswith("scripted:")


def stored() -> frozenset[str]:
    """The providers whose keys are stored in the home; none when that cannot be read."""
    try:
        return frozenset(json.loads((home.path() / "secrets" / KEY_FILE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return frozenset()


def choose(
    option: str | None, environ: Mapping[str, str], *, demo: bool, keys: Container[str] = ()
) -> Choice:
    """`--model`, else TPP_MODEL, else a provider's key (`keys`: the stored ones), else (demo only) the
    scripted model.

    Raises InvalidInput when there is nothing to choose from.
    """
    if option:
        return Choice(option, "--model")
    if environ.get("TPP_MODEL"):
        return Choice(environ["TPP_MODEL"], "TPP_MODEL")
    if found := provided(environ, keys):
        return Choice(*found)
    if demo:
        return Choice(SCRIPTED, "no model key found")
    names = ", ".join(DEFAULTS)
    raise InvalidInput(
        "no model is chosen",
        f"Give --model, set TPP_MODEL, or give a provider's key: `./tpp model add PROVIDER`, or {names}. "
        "For a local server: "
        "TPP_MODEL_BASE_URL=http://127.0.0.1:8080/v1 ./tpp run --model NAME …",
    )


def headline(choice: Choice) -> str:
    """The first line of a run: which model, and in plain words when it is none."""
    if choice.scripted:
        return (f"Model: {choice.model} — scripted: a recorded session plays, no model is asked "
                f"({choice.reason}).")
    return f"Model: {choice.model} (from {choice.reason})"
