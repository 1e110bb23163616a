"""Exact, unique replacement of text in a file's bytes, with errors that show where it nearly matched.

Pure. The replacement is refused rather than guessed: no whitespace is forgiven, no first match taken. Every
byte outside the replaced text stays as it is, whatever the encoding (see graphs/textfile.py).

Line ends alone are adapted, both ways, because a model does not see them: `old` matches whichever ends the
file has, and `new` gets them. Where a file mixes ends, lines that stay keep theirs and a new line takes its
neighbour's. A line end at the end of `old` also matches the end of a file that has none there; then the
file goes on having none.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from itertools import islice

from graphs.textfile import CR, CRLF, LF, NotText, TextFile, Unwritable, lines

_MAX_LINES_COMPARED = 4000  # difflib is quadratic; above this only the first line is looked for
_MAX_PLACES = 1000  # that are counted
_ANY_END = re.compile("\r\n|\n")


@dataclass(frozen=True, slots=True)
class Edited:
    """The file's new bytes and the lines (first, last, counted from 1) that now hold the replacement."""

    data: bytes
    first_line: int
    last_line: int


class EditRefused(ValueError):
    """The text to replace was not found exactly once, or cannot be written; the message says what to do."""


@dataclass(frozen=True, slots=True)
class _Match:
    """Where `old` stands in the body (from, up to), and `new` with LF alone as line end."""

    start: int
    stop: int
    new: str


def replace_once(data: bytes, old: str, new: str, path: str) -> Edited:
    """`data` with the only occurrence of `old` replaced. Raises EditRefused."""
    if not old:
        raise EditRefused("`old` is empty: to make or overwrite a whole file use `write`")
    if old == new:
        raise EditRefused("`old` and `new` are equal: nothing to change")
    try:
        file = TextFile.of(data)
    except NotText as refusal:
        raise EditRefused(f"{path} is {refusal}, not text: use bash") from None
    found = _find(file, *_without_mark(file, old, new), path)
    inside = _inside(file, found)
    body = file.body
    if inside == body[found.start : found.stop]:
        raise EditRefused(
            f"`old` and `new` differ only in line ends, and an edit keeps those of {path}: "
            "to change line ends use bash"
        )
    try:
        inside_data = file.style.encode(inside)
    except Unwritable as refusal:
        raise EditRefused(f"{path} was not changed: {refusal}") from None
    before, after = (file.style.encode(part) for part in (body[: found.start], body[found.stop :]))
    first = body.count(LF, 0, found.start) + 1
    return Edited(file.style.mark + before + inside_data + after, first, first + inside.count(LF))


# ---- where ---------------------------------------------------------------------------------------


def _without_mark(file: TextFile, old: str, new: str) -> tuple[str, str]:
    """The byte order mark stays where it is, whether the model saw it (with `cat`) or not."""
    if file.style.mark and old.startswith("\ufeff") and old not in file.shown:
        return old[1:], new.removeprefix("\ufeff")
    if file.style.mark and file.shown.startswith(old):
        return old, new.removeprefix("\ufeff")
    return old, new


def _find(file: TextFile, old: str, new: str, path: str) -> _Match:
    """Raises EditRefused unless `old` stands in the file once."""
    flat, flat_old = _flat(file, file.shown), _flat(file, old)
    one_line = LF not in file.body and CR not in file.body  # it has no line end that `new` could take
    flat_new = new if one_line else _flat(file, new)
    places = _places(flat, flat_old)
    if len(places) == 1:
        return _match(file, flat, places[0], flat_old, flat_new)
    if CR in old and file.style.end != CR:
        # The line ends that `old` spells out may tell its places apart; a line may end in CR CR LF.
        exact = _places(file.shown, old)
        if len(exact) == 1 and not old.startswith(LF) and not old.endswith(CR):
            return _Match(exact[0], exact[0] + len(old), flat_new)
        if len(unfolded := _places(flat, old)) == 1:
            return _match(file, flat, unfolded[0], old, new)
    if places:
        starts = ", ".join(str(flat.count(LF, 0, at) + 1) for at in places[:8])
        count = f"{len(places)}{'+' if len(places) == _MAX_PLACES else ''}"
        raise EditRefused(
            f"`old` occurs {count} times in {path} (lines {starts}): "
            "add neighbouring lines to `old` until it is unique"
        )
    short = flat_old.removesuffix(LF)
    if short and short != flat_old and flat.endswith(short):
        return _match(file, flat, len(flat) - len(short), short, flat_new.removesuffix(LF))
    raise EditRefused(f"`old` was not found in {path}.{_closest(flat, flat_old)}")


def _flat(file: TextFile, text: str) -> str:
    """With LF alone for every line end of the file's kind."""
    text = text.replace(CRLF, LF)
    return text.replace(CR, LF) if file.style.end == CR else text


def _match(file: TextFile, flat: str, at: int, old: str, new: str) -> _Match:
    """The match of `old` at `at` of the flat text, at its place in the body."""
    stop = at + len(old)
    if file.style.end == CR or len(flat) == len(file.body):
        return _Match(at, stop, new)
    if file.style.end == CRLF:
        return _Match(at + flat.count(LF, 0, at), stop + flat.count(LF, 0, stop), new)
    before, within = flat.count(LF, 0, at), flat.count(LF, at, stop)
    longer = [len(end[0]) - 1 for end in islice(_ANY_END.finditer(file.body), before + within)]
    return _Match(at + sum(longer[:before]), stop + sum(longer), new)


def _places(text: str, old: str) -> list[int]:
    """Where `old` begins; places that overlap are several."""
    out, at = [], text.find(old)
    while at >= 0 and len(out) < _MAX_PLACES:
        out.append(at)
        at = text.find(old, at + 1)
    return out


# ---- what ----------------------------------------------------------------------------------------


def _inside(file: TextFile, found: _Match) -> str:
    """What stands in the matched place afterwards, with the file's line ends and its stray bytes."""
    had = file.body[found.start : found.stop]
    if had == file.shown[found.start : found.stop] and file.style.end is not None:
        return found.new.replace(LF, file.style.end)
    shown = _flat(file, file.shown[found.start : found.stop]).split(LF)
    raw = _flat(file, had).split(LF)
    wanted = found.new.split(LF)
    partner = _partners(shown, wanted)
    ends = _ends(file, found, len(shown), partner)
    made = [
        line if was is None else _merged(raw[was], shown[was], line)
        for line, was in zip(wanted, partner, strict=True)
    ]
    return "".join(line + end for line, end in zip(made, [*ends[:-1], ""], strict=True))


def _partners(old: list[str], new: list[str]) -> list[int | None]:
    """For each new line the old line that it is, or that it stands in place of."""
    partner: list[int | None] = [None] * len(new)
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for _, i1, i2, j1, j2 in matcher.get_opcodes():
        for step in range(min(i2 - i1, j2 - j1)):
            partner[j1 + step] = i1 + step
    return partner


def _ends(file: TextFile, found: _Match, count: int, partner: list[int | None]) -> list[str]:
    """The line end behind each new line: its partner's, else its neighbour's, else the file's commonest."""
    body = file.body
    if file.style.end is not None:
        return [file.style.end] * len(partner)
    had = [end[0] for end in _ANY_END.finditer(body, found.start, found.stop)]
    following = _ANY_END.search(body, found.stop)  # the rest of the last matched line
    had += [following[0] if following else ""]
    earlier = body.rfind(LF, 0, found.start)
    last = "" if earlier < 0 else CRLF if body[earlier - 1 : earlier] == CR else LF
    crlf = body.count(CRLF)
    default = CRLF if 2 * crlf > body.count(LF) else LF
    ends = []
    for was in partner:
        last = (had[min(was, count - 1)] if was is not None else "") or last or had[0] or default
        ends.append(last)
    return ends


def _merged(raw: str, shown: str, line: str) -> str:
    """`line` in place of `raw`, keeping the stray bytes of what did not change."""
    if raw == shown:
        return line
    made = list(line)
    matcher = difflib.SequenceMatcher(None, shown, line, autojunk=len(shown) > _MAX_LINES_COMPARED)
    for block in matcher.get_matching_blocks():
        made[block.b : block.b + block.size] = raw[block.a : block.a + block.size]
    return "".join(made)


# ---- nearly --------------------------------------------------------------------------------------


def _closest(text: str, old: str) -> str:
    """The passage most like `old`, with its line numbers, or a hint to read the file."""
    there, wanted = lines(text), lines(old)
    if not there or not wanted:
        return " The file is empty." if not there else ""
    stripped = [line.strip() for line in wanted]
    for at in range(len(there) - len(wanted) + 1):
        if [line.strip() for line in there[at : at + len(wanted)]] == stripped:
            return _show(there, at, len(wanted), "It differs only in whitespace from")
    if len(there) > _MAX_LINES_COMPARED:
        near = difflib.get_close_matches(wanted[0], there[:50_000], n=1, cutoff=0.8)
        return _show(there, there.index(near[0]), len(wanted), "The closest is") if near else _READ
    best, best_at = 0.0, -1
    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2("\n".join(wanted))
    for at in range(max(1, len(there) - len(wanted) + 1)):
        matcher.set_seq1("\n".join(there[at : at + len(wanted)]))
        if matcher.real_quick_ratio() > best and matcher.quick_ratio() > best:
            ratio = matcher.ratio()
            if ratio > best:
                best, best_at = ratio, at
    return _show(there, best_at, len(wanted), "The closest is") if best >= 0.5 else _READ


_READ = " Nothing similar is in the file: read it again."


def _show(there: list[str], at: int, count: int, words: str) -> str:
    count = min(count, 12)
    body = "\n".join(there[at : at + count])
    return f" {words} lines {at + 1}–{at + count}:\n{body}\nCopy the text exactly as the file has it."
