"""Which model is used when nobody names one: client and server must come to the same answer."""

from __future__ import annotations

from collections.abc import Container, Mapping

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

# Providers, as litellm names them, that `./tpp model add` takes: a key is all that they need.
KEYED = (
    *(model.partition("/")[0] for model in DEFAULTS.values()),
    "cerebras", "cohere", "deepinfra", "fireworks_ai", "moonshot", "nvidia_nim", "openrouter", "perplexity",
    "together_ai", "zai",
)  # fmt: skip
KEY_FILE = "model-keys.json"  # in `secrets/`: the stored keys by provider, encrypted


def provided(environ: Mapping[str, str], stored: Container[str] = ()) -> tuple[str, str] | None:
    """The model of the first provider whose key is set, or is among the `stored` ones, and where it is."""
    for name, model in DEFAULTS.items():
        provider = model.partition("/")[0]
        if provider in stored:
            return model, f"the stored key for {provider}"
        if environ.get(name):
            return model, name
    return None
