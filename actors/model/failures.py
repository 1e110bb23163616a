"""What went wrong with a model call, in our own words: litellm's exceptions to the error tree.

Matched by class name along the inheritance chain, because litellm's classes wrap the provider
SDK's and the most telling name may stand anywhere in it.
"""

from __future__ import annotations

import re

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
    ("APIError", errors.ModelOverloaded),
    ("ConnectError", errors.ModelUnreachable),
    ("ConnectionError", errors.ModelUnreachable),
)

# litellm prefixes the provider's words with the names of its own classes, often several times.
_NOISE = re.compile(r"^(?:(?:litellm\.)?\w+(?:Error|Exception)(?::| -) )+")
_DETAIL_LIMIT = 600  # characters of the provider's own words that are kept


def translate(problem: Exception, model: str) -> errors.TerminalError:
    """The error of our tree that says what `problem` means for the person who chose `model`."""
    if isinstance(problem, errors.TerminalError):
        return problem
    names = [cls.__name__ for cls in type(problem).__mro__]
    words = _NOISE.sub("", " ".join(str(problem).split()))[:_DETAIL_LIMIT]
    for name, kind in _BY_NAME:
        if name in names:
            # litellm reports a refused connection as InternalServerError; its words tell.
            if kind is errors.ModelOverloaded and _is_connection_problem(words):
                kind = errors.ModelUnreachable
            if kind is errors.InvalidInput and "LLM Provider NOT provided" in words:
                kind = errors.ModelUnknown
            return kind(f"{model}: {words}")
    return errors.ModelReplyInvalid(f"{model}: {type(problem).__name__}: {words}")


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


def retry_after_seconds(problem: Exception) -> float | None:
    """Seconds the provider asked to wait (its Retry-After header), or None."""
    response = getattr(problem, "response", None)
    headers = getattr(response, "headers", None) or {}
    try:
        return max(0.0, float(headers.get("retry-after", "")))
    except (TypeError, ValueError):
        return None
