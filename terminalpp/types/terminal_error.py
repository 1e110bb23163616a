"""What every error of Terminal++ is, and how one is written as JSON and read back. `errors` has the tree."""

from __future__ import annotations

from typing import Any, ClassVar

_BY_CODE: dict[str, type[TerminalError]] = {}


class TerminalError(Exception):
    """Base of every error that Terminal++ raises on purpose.

    `title` names the kind, `detail` says what happened in this case, `hint` what to do next; `extra` is JSON
    for programs.
    """

    title: ClassVar[str] = "The server failed"
    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    hint: ClassVar[str] = "See the log of the server; report it if it happens again."

    def __init__(self, detail: str = "", hint: str = "", extra: dict[str, Any] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail or f"{type(self).title}."
        self.next_step = hint or type(self).hint
        self.extra = extra or {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "title" not in cls.__dict__:
            raise TypeError(f"{cls.__name__} has no title: what its kind is called, without a full stop")
        if cls.code in _BY_CODE and _BY_CODE[cls.code].__qualname__ != cls.__qualname__:
            raise TypeError(f"error code {cls.code!r} is taken by {_BY_CODE[cls.code].__name__}")
        _BY_CODE[cls.code] = cls
        cls.__doc__ = cls.__dict__.get("__doc__") or f"{cls.title}."

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.detail, self.next_step, self.extra)

    def __str__(self) -> str:
        return self.detail

    def to_json(self) -> dict[str, Any]:
        """As `from_json` reads it: code, HTTP status, whether trying again can help, detail, hint, extra."""
        return {
            "code": self.code,
            "status": self.status,
            "retryable": self.retryable,
            "detail": self.detail,
            "hint": self.next_step,
            "extra": self.extra,
        }


_BY_CODE[TerminalError.code] = TerminalError


def from_json(value: dict[str, Any]) -> TerminalError:
    """The error that `to_json` wrote; an unknown code becomes the base error with its words kept."""
    cls = _BY_CODE.get(str(value.get("code")), TerminalError)
    return cls(str(value.get("detail", "")), str(value.get("hint", "")), dict(value.get("extra") or {}))


def all_codes() -> dict[str, type[TerminalError]]:
    """Every code with its class, for the documentation test and the mapping to HTTP."""
    return dict(_BY_CODE)
