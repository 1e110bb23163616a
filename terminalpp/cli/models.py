"""Which model a run uses when the person names none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from terminalpp.types.errors import InvalidInput

SCRIPTED = "scripted:demo"

# The first key that is set decides; each name is known to the locked litellm with its price (a test).
DEFAULTS = {
    "ANTHROPIC_API_KEY": "anthropic/claude-sonnet-5-5",
    "OPENAI_API_KEY": "openai/gpt-5.5",
    "GEMINI_API_KEY": "gemini/gemini-3.8-flash",
    "MISTRAL_API_KEY": "mistral/mistral-large-latest",
    "DEEPSEEK_API_KEY": "deepseek/deepseek-v4-pro",
    "XAI_API_KEY": "xai/grok-4.7",
    "GROQ_API_KEY": "groq/openai/gpt-oss-120b",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """A litellm model string and why it was taken."""

    model: str
    reason: str

    @property
    def scripted(self) -> bool:
        return self.model.startswith("scripted:")


def choose(option: str | None, environ: Mapping[str, str], *, demo: bool) -> Choice:
    """`--model`, else TPP_MODEL, else a provider's key, else (demo only) the scripted model.

    Raises InvalidInput when there is nothing to choose from.
    """
    if option:
        return Choice(option, "--model")
    if environ.get("TPP_MODEL"):
        return Choice(environ["TPP_MODEL"], "TPP_MODEL")
    for name, model in DEFAULTS.items():
        if environ.get(name):
            return Choice(model, name)
    if demo:
        return Choice(SCRIPTED, "no model key found")
    keys = ", ".join(DEFAULTS)
    raise InvalidInput(
        "no model is chosen",
        f"Give --model, set TPP_MODEL, or set a provider's key ({keys}). For a local server: "
        "TPP_MODEL_BASE_URL=http://127.0.0.1:8080/v1 ./tpp run --model NAME …",
    )


def headline(choice: Choice) -> str:
    """The first line of a run: which model, and in plain words when it is none."""
    if choice.scripted:
        return (f"Model: {choice.model} — scripted: a recorded session plays, no model is asked "
                f"({choice.reason}).")
    return f"Model: {choice.model} (from {choice.reason})"
