"""Cuts what a tool gives back to what a model should see: head, marker with a pointer, tail."""

from __future__ import annotations


def cut_middle(text: str, limit: int, pointer: str = "") -> str:
    """At most about `limit` characters of `text`: equal head and tail around a marker.

    `pointer` tells how to read the rest, for instance ``read path=output:<exec id>``.
    """
    if len(text) <= limit:
        return text
    half = limit // 2
    return join(text[:half], text[-half:], len(text) - 2 * half, "characters", pointer)


def join(head: str, tail: str, missing: int, unit: str, pointer: str) -> str:
    """`head` and `tail` with the marker between; each cut at a line break where one is near."""
    at = head.rfind("\n")
    if at > len(head) * 3 // 4:
        missing += len(head) - at - 1
        head = head[: at + 1]
    at = tail.find("\n")
    if 0 <= at < len(tail) // 4:
        missing += at + 1
        tail = tail[at + 1 :]
    more = f"; to read them: {pointer}" if pointer else ""
    head = head.removesuffix("\n")
    return f"{head}\n[… {missing} {unit} cut here{more} …]\n{tail}"


def numbered(lines: list[str], first: int) -> str:
    """Lines with their numbers and a tab, as `cat -n` writes them."""
    return "\n".join(f"{first + index:6}\t{line}" for index, line in enumerate(lines))


def around(lines: list[str], first: int, last: int, most: int = 60) -> str:
    """Lines `first` to `last` (from 1) and two on either side, numbered; the middle of very many left out."""
    begin, end = max(1, first - 2), min(len(lines), last + 2)
    if end - begin < most:
        return numbered(lines[begin - 1 : end], begin)
    half = most // 2
    head, tail = lines[begin - 1 : begin - 1 + half], lines[end - half : end]
    missing = end - begin + 1 - 2 * half
    return f"{numbered(head, begin)}\n[… {missing} lines …]\n{numbered(tail, end - half + 1)}"
