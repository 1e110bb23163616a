"""Reading a git patch for the paths it touches, and refusing the ones that escape.

The patch comes out of a sandbox, so nothing in it is trusted: no absolute path, no `..`, no `.git`
anywhere, no submodule entry. What this parser understood is compared with what git itself
understood (`git apply --numstat`), so a patch that means different things to the two is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from terminalpp.cli import git
from terminalpp.cli.repository import show
from terminalpp.types.errors import InvalidInput

_ESCAPES = {"a": 7, "b": 8, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13, '"': 34, "\\": 92}
_HINT = "The patch is kept; read it before applying anything by hand."


@dataclass(frozen=True, slots=True)
class TouchedPath:
    """One file of a patch: its name before and after; None before when new, None after when deleted."""

    old: str | None
    new: str | None


def touches(patch: bytes) -> list[TouchedPath]:
    """Every file that the patch touches. Raises InvalidInput for a patch that is malformed or escapes."""
    found: list[TouchedPath] = []
    header: list[str] = []
    in_header = False
    for raw in patch.split(b"\n"):
        line = raw.decode("utf-8", "surrogateescape")
        if line.startswith("diff --git "):
            if header:
                found.append(_touch(header))
            header, in_header = [line], True
        elif line.startswith(("@@ ", "GIT binary patch", "Binary files ")):
            in_header = False
        elif in_header:
            header.append(line)
        elif not header and line.strip():
            raise InvalidInput("the patch does not begin with a git header", _HINT)
    if header:
        found.append(_touch(header))
    for touch in found:
        for name in {touch.old, touch.new} - {None}:
            check(name)
    return found


def agreed(patch: bytes, found: list[TouchedPath], cwd: Path) -> None:
    """Raises InvalidInput unless git reads the same names out of the patch."""
    if not patch:
        return
    try:
        raw = git.run("apply", "--numstat", "-z", cwd=cwd, stdin=patch)
    except git.GitFailed as error:
        first = error.words.partition("\n")[0]
        raise InvalidInput(f"git cannot read the patch: {first}", _HINT) from error
    theirs = {record.split("\t", 2)[-1] for record in git.names(raw)}
    if theirs != {touch.new or touch.old for touch in found}:
        raise InvalidInput("the patch is ambiguous about the files it touches", _HINT)


def check(name: str) -> None:
    """Raises InvalidInput when a path of a patch leads out of the project or into its `.git`."""
    parts = name.split("/")
    if name.startswith("/") or not name or any(part in ("", ".", "..") for part in parts):
        raise InvalidInput(f"the patch touches {show(name)}, which is outside the project", _HINT)
    if any(part.lower().rstrip(". ") == ".git" for part in parts):
        raise InvalidInput(f"the patch touches {show(name)}, which belongs to git itself", _HINT)


def _touch(header: list[str]) -> TouchedPath:
    old = new = None
    created = deleted = renamed = False
    for line in header[1:]:
        if line.startswith("--- "):
            old = _side(line[4:], "a/")
        elif line.startswith("+++ "):
            new = _side(line[4:], "b/")
        elif line.startswith(("rename from ", "copy from ")):
            old, renamed = unquote(line.split(" from ", 1)[1]), True
        elif line.startswith(("rename to ", "copy to ")):
            new = unquote(line.split(" to ", 1)[1])
        elif line.startswith(("new file mode ", "new mode ")):
            created = created or line.startswith("new file")
            _mode(line)
        elif line.startswith("deleted file mode "):
            deleted = True
    if not renamed and old is None and new is None:
        old = new = _same_name(header[0][len("diff --git "):])
    if created:
        return TouchedPath(None, new or old)
    return TouchedPath(old or new, None if deleted else new or old)


def _mode(line: str) -> None:
    if line.rsplit(" ", 1)[1].strip() not in ("100644", "100755", "120000"):
        raise InvalidInput("the patch adds something that is neither a file nor a link", _HINT)


def _side(text: str, prefix: str) -> str | None:
    name = unquote(text.rstrip("\t"))
    if name == "/dev/null":
        return None
    if not name.startswith(prefix):
        raise InvalidInput(f"the patch names {show(name)} without the prefix {prefix}", _HINT)
    return name[len(prefix):]


def _same_name(text: str) -> str:
    """The name in `a/NAME b/NAME` (both are equal when no other header line names the file)."""
    if text.startswith('"'):
        quoted = re.match(r'"(?:[^"\\]|\\.)*"', text)
        name = unquote(quoted[0]) if quoted else ""
    else:
        half = len(text) // 2
        name = text[:half]
        if text[half + 1 :] != "b/" + name[2:]:
            name = ""
    if not name.startswith("a/"):
        raise InvalidInput("the patch has a header that cannot be read", _HINT)
    return name[2:]


def unquote(text: str) -> str:
    """git's C-style quoted name as the bytes it stands for (decoded with surrogateescape)."""
    if not (len(text) >= 2 and text[0] == text[-1] == '"'):
        return text
    raw = bytearray()
    for match in re.finditer(r"\\([0-7]{1,3})|\\(.)|([^\\]+)", text[1:-1], re.S):
        octal, escape, plain = match.groups()
        if octal:
            raw.append(int(octal, 8) & 0xFF)
        elif escape:
            raw.append(_ESCAPES.get(escape, ord(escape) & 0xFF))
        else:
            raw += plain.encode("utf-8", "surrogateescape")
    return raw.decode("utf-8", "surrogateescape")
