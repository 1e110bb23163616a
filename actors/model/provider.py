"""The one door to litellm: configured once, asked for a reply, a price or a capability.

What passes is read by `wire` before litellm reads it: a reply whose end never came, or that holds an error,
is raised here as what it is, whatever litellm made of it.

litellm takes about 5 s and 170 MB to import, which is why only model cells do it, and would fetch
a price table from the network at import if it were not told to use the one it ships.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import AsyncIterator, Container, Mapping
from typing import Any

from actors.model import failures, scripted, wire
from actors.model.replies import Usage
from actors.model.watch import Watch
from runtime import model_keys
from runtime.settings import Settings
from terminalpp.types import errors
from terminalpp.types.providers import DEFAULTS
from terminalpp.types.text import clean

_NOT_OPENAIS = ("anthropic", "bedrock", "bedrock_converse", "vertex_ai", "vertex_ai_beta", "gemini")
SHORTEST_REPLY = 1024  # tokens that are asked for at least, however often the request was too long


@functools.cache
def library() -> Any:
    """litellm, imported and set up. Slow the first time."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # read at import: no network for prices
    import litellm

    litellm.telemetry = False
    litellm.drop_params = True  # a parameter that a model does not know is left out, not an error
    litellm.suppress_debug_info = True
    litellm.disable_aiohttp_transport = True  # httpx honours our timeouts and proxies alike everywhere
    litellm.custom_provider_map = [{"provider": "scripted", "custom_handler": scripted.provider()}]
    litellm.utils.custom_llm_setup()
    litellm.disable_hf_tokenizer_download = True  # to estimate usage that a provider does not tell
    litellm.REPEATED_STREAMING_CHUNK_LIMIT = 1_000_000  # a row of dashes is no endless loop
    wire.install()
    logging.getLogger("LiteLLM").setLevel(logging.ERROR)
    return litellm


def litellm_name(model: str, settings: Settings, role: str = "") -> str:
    """The model string litellm wants. A bare name with TPP_MODEL_BASE_URL set is an OpenAI-compatible one."""
    if scripted.is_scripted(model):
        return f"scripted/{model.removeprefix(scripted.PREFIX)}#{role}"
    if settings.model_base_url and "/" not in model:
        return f"openai/{model}"
    return model


async def stream(request: dict[str, Any], settings: Settings) -> AsyncIterator[Any]:
    """The reply's chunks as they arrive (one, when replies are not streamed), then its `Deltas`.

    Raises the model errors of the tree for what the wire showed, and else what litellm raises, with the
    provider's HTTP status as its `status`; see `failures.translate`.
    """
    seen = Watch()
    token = wire.attend(library(), seen)
    made = None
    try:
        made = await library().acompletion(**_options(request, settings))
        if made is None:  # litellm forgets to raise for some statuses
            raise failures.told(seen.refusal or "no reply", seen.status, request["model"])
        if hasattr(made, "choices"):
            yield made
        else:
            async for chunk in made:
                yield chunk
    except Exception as problem:
        # What the wire showed tells more than what litellm made of it; but a mistake of ours, which stops the
        # reading, is no cut.
        whole = seen.ended or (seen.seen and seen.deltas is None) or failures.defect(problem) is not None
        _judge(seen, request["model"], whole)
        problem.status = seen.status  # type: ignore[attr-defined]
        raise
    finally:
        with contextlib.suppress(ValueError):  # closed from another context: that one has no watch
            wire.WATCH.reset(token)
    _judge(seen, request["model"], seen.ended or bool(getattr(made, "received_finish_reason", None)))
    if seen.deltas is not None:
        yield seen.deltas


def _judge(seen: Watch, model: str, ended: bool) -> None:
    """Raise what the wire showed to be wrong with a reply, if anything. `ended`: its end is known."""
    if seen.error is not None:
        raise failures.told(*seen.error, model)
    if seen.foreign.strip() and not seen.seen:
        raise errors.ModelReplyInvalid(f"{model}: this is no reply of a model: {seen.foreign.strip()[:200]}")
    if (seen.read or seen.broken) and not ended:
        why = seen.broken or "neither a finish reason nor an end mark came"
        raise errors.ModelUnreachable(f"{model}: the reply broke off: {why}")


def _options(request: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """The arguments of litellm's `acompletion`."""
    model = request["model"]
    wanted = request.get("max_tokens") or settings.model_max_tokens
    options: dict[str, Any] = {
        "model": litellm_name(model, settings, request.get("agent", "")),
        "messages": _messages(request["messages"], litellm_name(model, settings)),
        "num_retries": 0,  # retries are ours, so that each one shows as an event
        "max_retries": 0,
        "timeout": request.get("timeout_s") or settings.model_timeout_seconds,
        # The room for the reply is part of the context too: less is asked for once it was too short.
        "max_tokens": max(min(wanted, SHORTEST_REPLY), wanted >> request.get("compactions", 0)),
        "_skip_mcp_handler": True,  # else litellm imports `mcp`, which we do not have, for any tool
    }
    if settings.model_stream or scripted.is_scripted(model):
        options |= {"stream": True, "stream_options": {"include_usage": True}}
    if request.get("tools"):
        options["tools"] = request["tools"]
    if request.get("temperature") is not None:
        options["temperature"] = request["temperature"]
    if not scripted.is_scripted(model):
        if settings.model_base_url:
            options["api_base"] = settings.model_base_url
        if settings.model_api_key is not None:
            options["api_key"] = settings.model_api_key
        elif settings.model_base_url:
            options["api_key"] = "none"  # the OpenAI client insists on some key; local servers ignore it
        elif key := model_keys.of(settings.home).all().get(_provider(options["model"])):
            options["api_key"] = key  # before the environment's: it was added later, and on purpose
    return options


def _provider(name: str) -> str:
    """litellm's name of the provider of a model; empty when it knows none."""
    try:
        return str(library().get_llm_provider(name)[1])
    except Exception:  # litellm raises bare BadRequestError for a provider it does not know
        return ""


def _messages(messages: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The messages without characters that no wire carries, in the form that the model's provider takes.

    Beside calls an empty text is fine for OpenAI and its like; for others litellm makes words up for it.
    """
    others = _provider(name) in _NOT_OPENAIS
    said = clean(messages)
    for message in said:
        if others and message.get("tool_calls") and message["content"] == "":
            message["content"] = None
    return said


def price_usd(model: str, usage: Usage, settings: Settings) -> float | None:
    """What the tokens cost, from the raw counts and litellm's price table; None when it has no price.

    A scripted model costs nothing. Cached input is charged at the cache-read price where there is one.
    """
    if scripted.is_scripted(model):
        return 0.0
    info = _info(litellm_name(model, settings))
    if info is None or info.get("input_cost_per_token") is None:
        return None
    per_input = info["input_cost_per_token"]
    per_cached = info.get("cache_read_input_token_cost") or per_input
    fresh = max(0, usage.input_tokens - usage.cached_tokens)
    return (
        fresh * per_input
        + usage.cached_tokens * per_cached
        + usage.output_tokens * (info.get("output_cost_per_token") or 0.0)
    )


def problem(model: str, environ: Mapping[str, str], stored: Container[str] = ()) -> tuple[str, str]:
    """Why a model certainly cannot be asked without TPP_MODEL_BASE_URL, and what to do; two empty strings
    when it may work. Certain is: litellm finds no provider in the name, or it is one of those in `DEFAULTS`,
    no key is `stored` for it, and the environment says nothing of it: no key, no address, no profile."""
    name = _provider(model)
    if not name:
        return f"{model}: no provider is known by that name", "Write it as `provider/model`: `openai/gpt-4o`."
    key = next((key for key, known in DEFAULTS.items() if known.partition("/")[0] == name), None)
    if key is None or name in stored:
        return "", ""
    prefixes = (key.partition("_")[0] + "_", *(("GOOGLE_",) if name == "gemini" else ()))
    if any(value and variable.startswith(prefixes) for variable, value in environ.items()):
        return "", ""
    return f"{model}: there is no key for {name}", f"Give it one: `./tpp model add {name}`."


def capabilities(model: str, settings: Settings) -> dict[str, Any]:
    """`native_tools`, `context_tokens`, `scripted`, `priced`. Raises ModelUnknown for an unknown script.

    A model that litellm does not know is taken to have native tools (nearly all current ones do);
    TPP_MODEL_TOOLS=text overrides that for the few that have none.
    """
    if scripted.is_scripted(model):
        script = scripted.load(model.removeprefix(scripted.PREFIX))
        native = script.get("tools", "native") == "native"
        return {"native_tools": native, "context_tokens": 128_000, "scripted": True, "priced": True}
    info = _info(litellm_name(model, settings))
    native = True if info is None else info.get("supports_function_calling") is not False
    if settings.model_tools != "auto":
        native = settings.model_tools == "native"
    return {
        "native_tools": native,
        "context_tokens": (info or {}).get("max_input_tokens") or 128_000,
        "scripted": False,
        "priced": info is not None and info.get("input_cost_per_token") is not None,
    }


@functools.lru_cache(maxsize=256)
def _info(name: str) -> dict[str, Any] | None:
    try:
        return dict(library().get_model_info(name))
    except Exception:  # litellm raises bare Exception for a model it has no record of
        return None
