"""Plans and verdicts: JSON that a model wrote, read leniently and kept within bounds."""

from __future__ import annotations

import json
import re
from typing import Any

_FENCE = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL)
_ITEMS, _CHARACTERS = 20, 600


class Malformed(ValueError):
    """The reply holds no such JSON; the message tells the model what is wrong."""


def find_object(text: str) -> dict[str, Any]:
    """The JSON object in a reply: all of it, a fenced block, or the longest braces. Raises Malformed."""
    candidates = [text.strip(), *(match.strip() for match in _FENCE.findall(text))]
    if "{" in text and "}" in text:
        candidates.append(text[text.index("{") : text.rindex("}") + 1])
    for candidate in candidates:
        try:
            value = json.loads(candidate)
        except ValueError:
            continue
        if isinstance(value, dict):
            return value
    raise Malformed("no JSON object was found in the reply")


def plan(text: str) -> dict[str, Any]:
    """`{goal, acceptance, files, steps, test_commands}` with bounded strings. Raises Malformed."""
    value = find_object(text)
    goal = value.get("goal")
    if not isinstance(goal, str) or not goal.strip():
        raise Malformed("`goal` must be a non-empty string")
    out: dict[str, Any] = {"goal": goal.strip()[: 2 * _CHARACTERS]}
    for name in ("acceptance", "files", "steps", "test_commands"):
        out[name] = _strings(name, value.get(name, []))
    if not out["steps"]:
        raise Malformed("`steps` must name at least one step")
    return out


def verdict(text: str) -> dict[str, Any]:
    """`{verdict: approve|revise, issues: [{severity, file, line, claim, evidence_command}]}`."""
    value = find_object(text)
    word = str(value.get("verdict", "")).strip().lower()
    if word not in ("approve", "revise"):
        raise Malformed("`verdict` must be `approve` or `revise`")
    issues = []
    for raw in value.get("issues") or []:
        if not isinstance(raw, dict) or not str(raw.get("claim") or "").strip():
            raise Malformed("each issue must be an object with a `claim`")
        severity = str(raw.get("severity", "low")).lower()
        line = raw.get("line")
        evidence = raw.get("evidence_command") or raw.get("evidence_cmd")
        issues.append(
            {
                "severity": severity if severity in ("high", "medium", "low") else "low",
                "file": str(raw.get("file") or "")[:300],
                "line": line if isinstance(line, int) else None,
                "claim": str(raw["claim"])[:_CHARACTERS],
                "evidence_command": str(evidence)[:2000] if evidence else None,
            }
        )
    return {"verdict": word, "issues": issues[:_ITEMS]}


def _strings(name: str, value: Any) -> list[str]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(item, str | int | float) for item in value):
        raise Malformed(f"`{name}` must be a list of strings")
    return [str(item)[:_CHARACTERS] for item in value[:_ITEMS]]
