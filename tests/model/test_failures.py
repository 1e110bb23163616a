"""Failures in many providers' words, and mistakes of ours told apart from them."""

from __future__ import annotations

import asyncpg
import httpx
import pytest

from actors.model import failures, provider
from actors.model.replies import Reply
from runtime import settings as settings_module
from terminalpp.types import errors
from tests.model_server.odd import OddServer, status

TOO_LONG = [
    # OpenAI, Anthropic, Gemini, DeepSeek, Mistral, Groq, xAI, Bedrock, Cohere, OpenRouter, Together, Qwen,
    # Moonshot, GLM, llama.cpp, vLLM, SGLang, TGI, LM Studio, Ollama, Copilot, proxies
    (400, "This model's maximum context length is 8192 tokens. However, you requested 9000."),
    (400, "Your input exceeds the context window of this model. Please adjust your input and try again."),
    (429, "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 50000."),
    (400, "prompt is too long: 212053 tokens > 200000 maximum"),
    (413, "Request exceeds the maximum size"),
    (400, "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000"),
    (400, "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."),
    (
        400,
        "Prompt contains 40000 tokens, too large for model with 32768 maximum context length",
    ),
    (413, "Request too large for model `llama-3.3-70b` in organization `x`: Limit 6000, Requested 8000"),
    (400, "This model's maximum prompt length is 131072 but the request contains 150000 tokens."),
    (400, "Input is too long for requested model."),
    (400, "too many tokens: total number of tokens in the prompt cannot exceed 128000"),
    (400, "This endpoint's maximum context length is 32768 tokens. Please reduce the length of either one."),
    (422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000"),
    (400, "Range of input length should be [1, 30720]"),
    (400, "Invalid request: Your request exceeded model token limit: 131072"),
    (400, "输入长度超过模型最大长度限制"),
    (400, "the request exceeds the available context size. try increasing the context size or enable shift"),
    (500, "Context size has been exceeded."),
    (400, "The prompt (total length 9000) is too long to fit into the model (max_model_len 8192)"),
    (400, "Requested token count exceeds the model's maximum context length of 32768 tokens."),
    (
        400,
        "Trying to keep the first 9000 tokens when the context overflows: the context length is 4096",
    ),
    (500, "input length exceeds maximum context length"),
    (400, "model_max_prompt_tokens_exceeded: prompt token count of 70000 exceeds the limit of 64000"),
    (400, "The messages in the conversation are too long. Please shorten your messages."),
    (400, "max_tokens is too large: 8192. The maximum context is 4096 tokens."),
]
OTHER = [
    (400, "Invalid value for 'temperature'", errors.InvalidInput),
    (400, "tools is not supported by this model", errors.InvalidInput),
    (422, "messages: field required", errors.InvalidInput),
    (
        400,
        "Failed to call a function. See 'failed_generation'",
        errors.ModelReplyInvalid,
    ),
    (401, "Incorrect API key provided", errors.ModelKeyRejected),
    (402, "Insufficient Balance", errors.ModelKeyRejected),
    (403, "Your account may not use this model", errors.ModelKeyRejected),
    (404, "The model `x` does not exist", errors.ModelUnknown),
    (429, "Rate limit reached", errors.ModelOverloaded),
    (500, "The server had an error", errors.ModelOverloaded),
    (502, "Bad gateway", errors.ModelOverloaded),
    (503, "The engine is currently overloaded", errors.ModelOverloaded),
    (529, "Overloaded", errors.ModelOverloaded),
]


async def failure(tmp_path, code: int, words: str, model: str = "odd") -> errors.TerminalError:
    request = {"model": model, "agent": "coder", "messages": [{"role": "user", "content": "hi"}]}
    async with OddServer(status(code, words)) as server:
        environ = {"TPP_HOME": str(tmp_path), "TPP_MODEL_BASE_URL": server.base_url, "TPP_MODEL_API_KEY": "k"}
        try:
            async for chunk in provider.stream(request, settings_module.load(environ)):
                Reply().add(chunk)
        except Exception as problem:
            return failures.translate(problem, model)
    raise AssertionError("the request did not fail")


@pytest.mark.parametrize(("code", "words"), TOO_LONG)
async def test_too_long_in_many_words(tmp_path, code, words):
    error = await failure(tmp_path, code, words)
    assert type(error) is errors.ModelRequestTooLong, error
    assert type(failures.told(words, code, "odd")) is errors.ModelRequestTooLong


@pytest.mark.parametrize(("code", "words", "kind"), OTHER)
async def test_other_refusals(tmp_path, code, words, kind):
    error = await failure(tmp_path, code, words)
    assert type(error) is kind, error
    assert words in error.detail
    assert type(failures.told(words, code, "odd")) is kind


@pytest.mark.parametrize(
    "model", ["anthropic/claude-x", "gemini/gemini-x", "mistral/x", "deepseek/x", "groq/x"]
)
async def test_every_provider_says_too_long(tmp_path, model):
    error = await failure(tmp_path, 400, "prompt is too long: 212053 tokens > 200000 maximum", model)
    assert type(error) is errors.ModelRequestTooLong, error


def raised(
    error: Exception, cause: Exception | None = None, wrap: type[Exception] | None = None
) -> Exception:
    """`error` as it arrives: raised, perhaps from a cause, perhaps wrapped by somebody's class."""
    try:
        try:
            raise error from cause
        except Exception as inner:
            if wrap is None:
                raise
            raise wrap("wrapped") from inner
    except Exception as caught:
        return caught


class APIConnectionError(Exception):
    """By name what litellm and the OpenAI SDK wrap everything in, a mistake of the caller too."""


@pytest.mark.parametrize("mistake", [
    TypeError("x"), AttributeError("x"), KeyError("x"), IndexError("x"), AssertionError("x"), NameError("x"),
    "\ud83d".encode, RecursionError("x"), NotImplementedError("x"),
    asyncpg.UndefinedTableError("x"), asyncpg.CheckViolationError("x"), RuntimeError("x"), ValueError("x"),
], ids=lambda mistake: type(mistake).__name__)  # fmt: skip
def test_a_mistake_of_ours_is_internal(mistake):
    if not isinstance(mistake, Exception):
        with pytest.raises(UnicodeEncodeError) as caught:
            mistake("utf-8")
        mistake = caught.value
    error = failures.translate(raised(mistake), "m")
    assert (error.code, error.retryable) == ("internal", False)
    assert type(mistake).__name__ in error.detail


@pytest.mark.parametrize(
    "mistake", [TypeError("x"), AttributeError("x"), KeyError("x"), UnicodeError("x")], ids=repr
)
def test_a_mistake_of_ours_is_internal_whoever_wraps_it(mistake):
    assert failures.translate(raised(mistake, wrap=APIConnectionError), "m").code == "internal"


@pytest.mark.parametrize("cause", [
    httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("broken"),
    ConnectionResetError("reset"), TimeoutError("late"),
], ids=repr)  # fmt: skip
def test_the_network_is_no_mistake_of_ours(cause):
    assert failures.translate(raised(cause), "m").code == "model-unreachable"
    assert failures.translate(raised(cause, wrap=APIConnectionError), "m").code == "model-unreachable"


def test_what_the_provider_answered_outranks_how_it_was_read():
    problem = raised(KeyError("error"), wrap=type("BadRequestError", (Exception,), {}))
    problem.status = 400
    assert failures.translate(problem, "m").code == "invalid-input"


@pytest.mark.parametrize("name", ["openai/m", "anthropic/m", "gemini/m"])
async def test_no_key_at_all_is_told_as_such(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider's own client refuses, in words of its own and under any class; nobody was overloaded."""
    import os

    import litellm

    for variable in [word for word in os.environ if "KEY" in word]:
        monkeypatch.delenv(variable)
    with pytest.raises(Exception) as raised:
        await litellm.acompletion(
            model=name, messages=[{"role": "user", "content": "x"}], api_base="http://127.0.0.1:9/v1",
            timeout=5, max_retries=0,
        )  # fmt: skip
    told = failures.translate(raised.value, name)
    assert (type(told), "tpp model add" in told.next_step) == (errors.ModelKeyRejected, True), told
