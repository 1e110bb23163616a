"""Which model is used when nobody names one: client and server must come to the same answer."""

from __future__ import annotations

from collections.abc import Mapping

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


def provided(environ: Mapping[str, str]) -> tuple[str, str] | None:
    """The model of the first provider whose key is set, and that key's name."""
    return next(((model, name) for name, model in DEFAULTS.items() if environ.get(name)), None)
