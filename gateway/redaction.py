"""A payload as an operator may see it: its shape, the beginning of its texts, nothing that looks secret."""

from __future__ import annotations

import re
from typing import Any

TEXT_MAX = 200
ITEMS_MAX = 20
DEPTH_MAX = 6
HIDDEN = "(hidden)"
# A field of such a name, and everything below it; the names of environment variables stay.
_SECRET_NAME = re.compile(r"secret|token|passw|credential|authori[sz]ation|cookie|api_?key|stdin", re.I)
_ENVIRONMENT = re.compile(r"^(env|environment|environment_vars)$", re.I)
# Within a text: what providers' keys and bearer tokens look like, and assignments to such names.
_SECRET_TEXT = re.compile(
    r"(?i)\bbearer\s+\S+|\b(?:sk|pk|rk|ghp|gho|ghs|github_pat|glpat|xox[abprs]|AKIA|AIza|hf)[-_]?[A-Za-z0-9_-]{12,}"
    r"|\b[\w-]*(?:secret|token|passw\w*|api_?key)[\w-]*\s*[=:]\s*\S+"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)


def extract(value: Any, depth: int = 0) -> Any:
    """`value` (JSON) with long texts, long lists and deep nesting cut; each cut says what is missing."""
    if isinstance(value, str):
        text = _SECRET_TEXT.sub(HIDDEN, value[: TEXT_MAX * 4])
        cut = len(value) > TEXT_MAX * 4 or len(text) > TEXT_MAX
        return f"{text[:TEXT_MAX]}… ({len(value)} characters)" if cut else text
    if depth >= DEPTH_MAX and isinstance(value, (dict, list)):
        return "…"
    if isinstance(value, dict):
        shown = {
            name[:TEXT_MAX]: _field(name, item, depth) for name, item in list(value.items())[:ITEMS_MAX]
        }
        return shown | _more(len(value))
    if isinstance(value, list):
        items = [extract(item, depth + 1) for item in value[:ITEMS_MAX]]
        return items + [f"… ({len(value)} items)"] * (len(value) > ITEMS_MAX)
    return value


def _field(name: str, value: Any, depth: int) -> Any:
    if _SECRET_NAME.search(name):
        return HIDDEN
    if _ENVIRONMENT.match(name) and isinstance(value, dict):
        return {key[:TEXT_MAX]: HIDDEN for key in list(value)[:ITEMS_MAX]} | _more(len(value))
    return extract(value, depth + 1)


def _more(count: int) -> dict[str, str]:
    return {"…": f"({count} fields)"} if count > ITEMS_MAX else {}
