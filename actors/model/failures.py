"""The failures of model calls in our own words: litellm's exceptions to the error tree.

Matched by class name along the inheritance chain, because litellm's classes wrap the provider
SDK's and the most telling name may stand anywhere in it. litellm wraps everything, a mistake in our own code
too; so what lies at the root decides first whether the provider failed at all. A defect is the base error,
`internal`: it is not retried, and nobody is told that the provider was overloaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from terminalpp.types import errors

# From the most to the least telling name; the first found in the exception's ancestry decides.
_BY_NAME: tuple[tuple[str, type[errors.TerminalError]], ...] = (
    ("AuthenticationError", errors.ModelKeyRejected),
    ("PermissionDeniedError", errors.ModelKeyRejected),
    ("ContextWindowExceededError", errors.ModelRequestTooLong),
    ("LiteLLMUnknownProvider", errors.ModelUnknown),
    ("NotFoundError", errors.ModelUnknown),
    ("RateLimitError", errors.ModelOverloaded),
    ("PaymentRequiredError", errors.ModelKeyRejected),
    ("Timeout", errors.ModelUnreachable),
    ("APITimeoutError", errors.ModelUnreachable),
    ("APIConnectionError", errors.ModelUnreachable),
    ("APIResponseValidationError", errors.ModelReplyInvalid),
    ("JSONDecodeError", errors.ModelReplyInvalid),
    ("ServiceUnavailableError", errors.ModelOverloaded),
    ("BadGatewayError", errors.ModelOverloaded),
    ("InternalServerError", errors.ModelOverloaded),
    ("BadRequestError", errors.InvalidInput),
    ("UnprocessableEntityError", errors.InvalidInput),
    ("APIError", errors.ModelOverloaded),
    ("TransportError", errors.ModelUnreachable),
    ("ConnectError", errors.ModelUnreachable),
    ("ConnectionError", errors.ModelUnreachable),
    ("TimeoutError", errors.ModelUnreachable),
)
_DEFECTS = (
    TypeError, AttributeError, NameError, LookupError, UnicodeError, AssertionError, ArithmeticError,
    NotImplementedError, RecursionError, ImportError, SyntaxError, MemoryError,
)  # fmt: skip
_NETWORK = ("httpx", "httpcore", "ssl", "socket", "aiohttp", "anyio")

# "Too long" as providers, gateways and local servers say it, under 400, 413, 422, 429 and 500.
_TOO_LONG = re.compile(
    r"context[ _-]?(length|window|size|limit)|n_ctx|maximum (context|input|prompt|sequence)"
    r"|(prompt|input|request|conversation|messages?|content|payload|string|sequence)( \w+){0,4} "
    r"(is|are|was|were) (too (long|large|big)|longer than)"
    r"|(prompt|input|request|body|entity|payload) (too|is) (long|large)|too many (input |prompt )?tokens"
    r"|(reduce|shorten) (the length|your (prompt|input|messages)|the (size|number of tokens))"
    r"|tokens? (count |limit |length )?(of \d+ )?(exceed|is (above|over|greater|larger)|must be (<=|less))"
    r"|exceed\w* (the |this |your |model'?s? )*(\w+ ){0,4}(tokens?|context|input length|max length)"
    r"|inputs?`? tokens|max_new_tokens"
    r"|range of input length|max(imum)?[ _](allowed |number of )?(input[ _])?tokens"
    r"|max_(prompt|model|seq|sequence)_\w+|too large for model|larger than the (maximum|context)"
    r"|longer than the (model|maximum)|输入(过长|长度)|超过.{0,12}(长度|限制|token)|上下文",
    re.IGNORECASE,
)
_BAD_CALL = re.compile(
    r"tool_use_failed|failed to (call a function|parse (tool|function))|malformed_function_call"
    r"|failed_generation",
    re.IGNORECASE,
)
# A provider's client that was given no key refuses before it asks anybody.
_NO_KEY = re.compile(
    r"missing (credentials|\w+ api[ _]key)|no (api[ _])?key is set"
    r"|api[ _]?key\b.{0,40}\b(must be|not) (set|provided)",
    re.IGNORECASE,
)
_KINDS_THAT_MAY_BE_LENGTH = (errors.InvalidInput, errors.ModelOverloaded, errors.ModelUnreachable)

# litellm prefixes the provider's words with the names of its own classes, often several times.
_NOISE = re.compile(r"^(?:(?:litellm\.)?\w+(?:Error|Exception)(?::| -) )+")
_DETAIL_LIMIT = 600  # characters of the provider's own words that are kept


def translate(problem: BaseException, model: str) -> errors.TerminalError:
    """The error of our tree that says what `problem` means for the person who chose `model`.

    `problem.status`, where `provider` has set it, is the HTTP status that the provider answered with.
    """
    if isinstance(problem, errors.TerminalError):
        return problem
    answered = int(getattr(problem, "status", 0) or 0)
    if answered < 400 and (root := defect(problem)) is not None:
        return internal(root, model)
    problem = _unwrapped(problem)
    names = [cls.__name__ for cls in type(problem).__mro__]
    words = _NOISE.sub("", " ".join(str(problem).split()))[:_DETAIL_LIMIT]
    kind = next((kind for name, kind in _BY_NAME if name in names), None)
    if kind in (None, errors.ModelOverloaded) and answered >= 400:
        kind = _by_status(answered)
    return _sharpened(kind, words)(f"{model}: {words}") if kind is not None else internal(problem, model)


def told(words: str, code: Any, model: str) -> errors.TerminalError:
    """The error for what a provider said, with the `code` it gave: a status or a name."""
    words = " ".join(words.split())[:_DETAIL_LIMIT]
    name = str(code or "").lower()
    kind = _by_status(int(name) if name.isdigit() else 0)
    if "authentication" in name or "api_key" in name or "permission" in name:
        kind = errors.ModelKeyRejected
    elif name in ("model_not_found", "not_found_error"):
        kind = errors.ModelUnknown
    elif name in ("invalid_request_error", "invalid_argument", "bad_request"):
        kind = errors.InvalidInput
    return _sharpened(kind, words)(f"{model}: {words}")


def _by_status(status: int) -> type[errors.TerminalError]:
    match status:
        case 401 | 402 | 403:
            return errors.ModelKeyRejected
        case 404:
            return errors.ModelUnknown
        case 413:
            return errors.ModelRequestTooLong
        case 400 | 405 | 406 | 415 | 422:
            return errors.InvalidInput
        case _:
            return errors.ModelOverloaded


def internal(problem: BaseException, model: str) -> errors.TerminalError:
    """A defect of Terminal++ itself, told as one."""
    words = " ".join(str(problem).split())[:_DETAIL_LIMIT]
    return errors.TerminalError(
        f"a defect in Terminal++, not a fault of the provider, while {model} was asked: "
        f"{type(problem).__name__}: {words}"
    )


def _sharpened(kind: type[errors.TerminalError], words: str) -> type[errors.TerminalError]:
    """`kind`, unless the words say more than the class or status they came under."""
    if kind is errors.InvalidInput and "LLM Provider NOT provided" in words:
        return errors.ModelUnknown
    if kind in (errors.ModelOverloaded, errors.ModelUnreachable) and _NO_KEY.search(words):
        return errors.ModelKeyRejected
    if kind in _KINDS_THAT_MAY_BE_LENGTH:
        if _BAD_CALL.search(words):
            return errors.ModelReplyInvalid
        if _TOO_LONG.search(words):
            return errors.ModelRequestTooLong
    # litellm reports a refused connection as InternalServerError; its words tell.
    if kind is errors.ModelOverloaded and _is_connection_problem(words):
        return errors.ModelUnreachable
    return kind


def _chain(problem: BaseException) -> Iterator[BaseException]:
    """`problem` and what it was made from, to the root."""
    seen: set[int] = set()
    step: BaseException | None = problem
    while step is not None and id(step) not in seen:
        seen.add(id(step))
        yield step
        context = None if step.__suppress_context__ else step.__context__
        step = getattr(step, "original_exception", None) or step.__cause__ or context


def _unwrapped(problem: BaseException) -> BaseException:
    """What a litellm wrapper of an error in the middle of a stream was made from."""
    inner = getattr(problem, "original_exception", None)
    return _unwrapped(inner) if isinstance(inner, Exception) and inner is not problem else problem


def defect(problem: BaseException) -> BaseException | None:
    """The mistake in a program that lies at the root of `problem`, if the network had no part in it."""
    chain = list(_chain(problem))
    # A provider SDK's own classes may wrap a mistake of ours; those of the network itself do not.
    if any(type(step).__module__.split(".")[0] in _NETWORK or isinstance(step, OSError) for step in chain):
        return None
    root = chain[-1]
    return root if isinstance(root, _DEFECTS) and not isinstance(root, UnicodeDecodeError) else None


def _is_connection_problem(words: str) -> bool:
    lowered = words.lower()
    return any(
        sign in lowered
        for sign in (
            "connection error",
            "connection refused",
            "connect call failed",
            "cannot connect",
            "name or service not known",
        )
    )


def retry_after_seconds(problem: BaseException) -> float | None:
    """Seconds the provider asked to wait (its Retry-After header), or None."""
    response = getattr(problem, "response", None)
    headers = getattr(response, "headers", None) or {}
    try:
        return max(0.0, float(headers.get("retry-after", "")))
    except (TypeError, ValueError):
        return None
