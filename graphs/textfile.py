"""A file's bytes as text and back, byte for byte.

`TextFile.of` finds out how the bytes are written: a byte order mark decides (UTF-8, UTF-16, UTF-32), else
they are UTF-8, else one byte per character (Windows-1252, or Latin-1 where that has no character for a
byte). UTF-8 with some stray bytes stays UTF-8: each stray byte is one character that is written back as
that byte. Bytes with a NUL and no mark are refused: they are no text.

`body` is the text as it stands, line ends included, without the mark: any part of it, encoded, is exactly
the part of the file it came from. `shown` is what a model may see of it: the same characters at the same
places, with a Latin-1 character for each stray byte and U+FFFD for half of a surrogate pair.

**Lines end at a line feed and nowhere else**, as for grep and sed; a carriage return before it belongs to
the line's end. A form feed or U+2028 is a character in a line. A file that has carriage returns and no line
feed (as an old Mac wrote it) is one line, whose `end` is the carriage return all the same.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, replace

CRLF, LF, CR = "\r\n", "\n", "\r"
_MARKS = (  # the longer marks first: UTF-32 LE begins as UTF-16 LE does
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_NAMES = {
    "utf-8": "UTF-8",
    "utf-16-le": "UTF-16 LE",
    "utf-16-be": "UTF-16 BE",
    "utf-32-le": "UTF-32 LE",
    "utf-32-be": "UTF-32 BE",
    "cp1252": "Windows-1252",
    "latin-1": "Latin-1",
}
_END_NAMES = {CRLF: "CRLF", LF: "LF", CR: "CR"}
_SURROGATE = re.compile("[\ud800-\udfff]")


class NotText(ValueError):
    """The bytes are no text."""


class Unwritable(ValueError):
    """The file's encoding has no such character; the message says which, and what to do."""


@dataclass(frozen=True, slots=True)
class Style:
    """How a text is written: codec, byte order mark, and its line end where all lines have the same."""

    encoding: str = "utf-8"
    mark: bytes = b""
    end: str | None = LF

    @property
    def name(self) -> str:
        """The encoding in words."""
        return _NAMES[self.encoding] + (" with a byte order mark" if self.mark == codecs.BOM_UTF8 else "")

    @property
    def end_name(self) -> str:
        """The line ends in words."""
        return _END_NAMES[self.end] if self.end else "mixed"

    def encode(self, part: str) -> bytes:
        """A part of a body as bytes, without the mark. Raises Unwritable."""
        try:
            return part.encode(self.encoding, _errors(self.encoding))
        except UnicodeEncodeError as error:
            bad = part[error.start]
            raise Unwritable(
                f"it is {self.name} text, which cannot hold {bad!r} (U+{ord(bad):04X}): "
                "use other characters, or convert the file first (iconv)"
            ) from None

    def to_json(self) -> dict[str, str | None]:
        """The style as JSON."""
        return {"encoding": self.encoding, "mark": self.mark.hex(), "end": self.end}

    @staticmethod
    def from_json(value: dict[str, str | None]) -> Style:
        """The style that `to_json` wrote."""
        return Style(str(value["encoding"]), bytes.fromhex(value["mark"] or ""), value["end"])


@dataclass(frozen=True, slots=True)
class TextFile:
    """See the head of this file."""

    style: Style
    body: str
    shown: str

    @staticmethod
    def of(data: bytes) -> TextFile:
        """Raises NotText."""
        for mark, encoding in _MARKS:
            if data.startswith(mark):
                body = _marked(data[len(mark) :], encoding)
                if body is not None:
                    return _made(Style(encoding, mark), body)
        if b"\0" in data:
            raise NotText(f"a binary file of {len(data)} bytes")
        encoding = _encoding(data)
        return _made(Style(encoding), data.decode(encoding, _errors(encoding)))

    @property
    def data(self) -> bytes:
        """The file's bytes."""
        return self.style.mark + self.style.encode(self.body)

    @property
    def stray(self) -> int:
        """How many characters are shown as others, because they are none."""
        return len(_SURROGATE.findall(self.body)) if self.shown is not self.body else 0

    def about(self) -> str:
        """What a reader of its lines cannot see, in words; empty for UTF-8 with LF."""
        facts = []
        if self.style.encoding != "utf-8":
            facts.append(f"{self.style.name} text")
        if self.stray:
            facts.append(f"{self.stray} bytes that are not {_NAMES[self.style.encoding]}")
        if self.style.end is None:
            crlf = self.body.count(CRLF)
            facts.append(f"mixed line ends: {crlf} CRLF, {self.body.count(LF) - crlf} LF")
        elif self.style.end == CR:
            facts.append("line ends are CR alone, so it is all one line")
        elif self.style.end == CRLF:
            facts.append("CRLF line ends")
        return "; ".join(facts)


def lines(text: str) -> list[str]:
    """The lines without their ends (see the head of this file)."""
    *whole, rest = text.split(LF)
    found = [line.removesuffix(CR) for line in whole]
    return [*found, rest] if rest else found


def rewritten(style: Style, content: str) -> tuple[bytes, list[str]]:
    """A whole new content for a file of `style`, as an editor would save it, and what was kept of the style.

    Content with a carriage return of its own keeps its line ends; content that the encoding cannot hold
    is written as UTF-8.
    """
    kept = []
    if style.end in (CRLF, CR) and LF in content and CR not in content:
        content = content.replace(LF, style.end)
        kept.append(f"kept its {style.end_name} line ends")
    if style.mark:
        content = content.removeprefix("\ufeff")
    try:
        data = style.mark + style.encode(content)
    except Unwritable:
        return content.encode("utf-8", "replace"), [*kept, f"it was {style.name} and is UTF-8 now"]
    if style.mark or (style.encoding != "utf-8" and not content.isascii()):
        kept.append(f"kept its encoding, {style.name}")
    return data, kept


def _errors(encoding: str) -> str:
    """Keeps what no character stands for: stray bytes in UTF-8, halves of pairs in UTF-16 and UTF-32."""
    if encoding == "utf-8":
        return "surrogateescape"
    return "surrogatepass" if encoding.startswith("utf") else "strict"


def _marked(data: bytes, encoding: str) -> str | None:
    """The text behind a mark, unless the mark was only bytes that look like one."""
    try:
        body = data.decode(encoding, _errors(encoding))
    except UnicodeDecodeError:
        return None
    return None if "\0" in body else body


def _encoding(data: bytes) -> str:
    try:
        data.decode("utf-8")
        return "utf-8"
    except UnicodeDecodeError:
        pass
    loose = data.decode("utf-8", "surrogateescape")
    stray = len(_SURROGATE.findall(loose))
    beyond_ascii = len(loose) - len(loose.encode("ascii", "ignore"))
    if beyond_ascii - stray >= stray:  # sequences of UTF-8 hardly come about by chance
        return "utf-8"
    if not any(0x80 <= byte < 0xA0 for byte in set(data)):
        return "latin-1"
    try:
        data.decode("cp1252")
        return "cp1252"
    except UnicodeDecodeError:
        return "latin-1"


def _made(style: Style, body: str) -> TextFile:
    shown = body
    if _SURROGATE.search(body):
        shown = _SURROGATE.sub(_shown if style.encoding == "utf-8" else "\ufffd", body)
    return TextFile(replace(style, end=_end(body)), body, shown)


def _shown(stray: re.Match[str]) -> str:
    return chr(ord(stray[0]) - 0xDC00)


def _end(body: str) -> str | None:
    """The end that all lines have; LF for a text without any, None when they differ."""
    feeds = body.count(LF)
    if not feeds:
        return CR if CR in body else LF
    crlf = body.count(CRLF)
    return LF if crlf == 0 else CRLF if crlf == feeds else None
