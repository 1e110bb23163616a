"""What a conversation has cost so far: tokens, money, time; and how its tests went."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Totals:
    """Adds up `model.finished` and remembers each `tests.finished`: green, red or not run, with its counts.

    `unpriced`: calls without a price. `waiting`: messages that no agent has had yet. `model`: the turn's.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float = 0.0
    calls: int = 0
    unpriced: int = 0
    scripted: bool = False
    running: bool = False
    model: str = ""
    waiting: set[str] = field(default_factory=set)
    tests: list[tuple[str, dict[str, int]]] = field(default_factory=list)

    def add(self, event: dict[str, Any]) -> None:
        """Count what an event adds: tokens, money, time, results of tests."""
        payload = event["payload"]
        match event["type"]:
            case "turn.started":
                self.tests.clear()
                self.running = True
                self.model = str(payload.get("model") or self.model)
                self.waiting.discard(str(payload.get("message_id")))
                self.scripted = bool(payload.get("scripted"))
            case "turn.finished":
                self.running = False
            case "message.accepted":
                self.waiting.add(str(payload.get("message_id")))
            case "message.delivered":
                self.waiting.discard(str(payload.get("message_id")))
            case "model.finished":
                usage = payload.get("usage") or {}
                self.calls += 1
                self.input_tokens += usage.get("input_tokens") or 0
                self.output_tokens += usage.get("output_tokens") or 0
                self.cached_tokens += usage.get("cached_tokens") or 0
                if payload.get("cost_usd") is None:
                    self.unpriced += 1
                else:
                    self.cost_usd += payload["cost_usd"]
            case "tests.finished":
                state = "green" if payload.get("passed") else "red" if payload.get("ran", True) else "not run"
                weak = any(one.get("blocks") for one in payload.get("weakened") or [])
                self.tests.append((f"{state}, weakened" if weak else state, payload.get("counts") or {}))

    def tests_words(self) -> str:
        """`red (1 failed, 4 passed) → green (5 passed)`: the first run and the last."""
        ends = self.tests[:1] + self.tests[-1:] if len(self.tests) > 1 else self.tests
        return " → ".join(_state_words(state, counts) for state, counts in ends)

    def standing(self) -> list[str]:
        """How the conversation stands, in a few words each, what matters most first."""
        words = [self.model or "no model yet", f"{_short(self.input_tokens + self.output_tokens)} tokens"]
        if self.scripted:
            words.append("scripted")
        elif self.calls:
            cost = self._cost()
            words.append("cost unknown" if cost is None else f"${cost:.4f}")
        if self.tests:
            words.append(f"tests {_state_words(*self.tests[-1])}")
        if self.running:
            words.append("working")
        if queued := len(self.waiting):
            words.append(f"{queued} queued")
        return words

    def cost_words(self, turn: dict[str, Any] | None = None) -> str:
        """Tokens, cost and time of a finished turn, or of the whole conversation."""
        usage = (turn or {}).get("usage") or {}
        taken = usage.get("input_tokens", self.input_tokens)
        given = usage.get("output_tokens", self.output_tokens)
        cached = usage.get("cached_tokens", self.cached_tokens)
        parts = [f"{taken:,} tokens in" + (f" ({cached:,} cached)" if cached else "") + f", {given:,} out"]
        cost = turn.get("cost_usd") if turn and "cost_usd" in turn else self._cost()
        if self.scripted:
            parts.append("no cost (scripted)")
        else:
            parts.append("cost unknown (no price for this model)" if cost is None else f"${cost:.4f}")
        if turn and turn.get("duration_ms") is not None:
            parts.append(duration(turn["duration_ms"]))
        return " · ".join(parts)

    def _cost(self) -> float | None:
        return None if self.unpriced else self.cost_usd


def _state_words(state: str, counts: dict[str, int]) -> str:
    words = counts_words(counts)
    return state + (f" ({words})" if words else "")


def _short(count: int) -> str:
    """`950`, `12.3k`, `1.2M`."""
    if count < 1000:
        return str(count)
    return f"{count / 1000:.1f}k" if count < 1_000_000 else f"{count / 1_000_000:.1f}M"


def counts_words(counts: dict[str, Any]) -> str:
    """`1 failed, 4 passed`: what went wrong first."""
    order = ("failed", "errors", "passed", "skipped")
    return ", ".join(f"{int(counts[name])} {name}" for name in order if counts.get(name))


def duration(ms: float | None) -> str:
    """Milliseconds for people."""
    if ms is None:
        return "?"
    if ms < 1000:
        return f"{ms:.0f} ms"
    if ms < 60_000:
        return f"{ms / 1000:.1f} s"
    return f"{int(ms // 60_000)} min {int(ms % 60_000 // 1000)} s"
