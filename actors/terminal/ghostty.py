"""A screen kept by libghostty-vt, the core of Ghostty, through the bindings of `pyghostty`.

Its formatter writes a screen as bytes, and this file makes good what it leaves out (each found by a test that
paints, paints again and compares): blank rows at the end, rows of colour without text, what lies under the
alternate screen, the place of a cursor that counts from a margin, its shape, the title, a sequence that has
only begun. What it cannot tell, and so is not painted: the cursor that a program saved (DECSC), and that a
row was folded rather than ended.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

from actors.terminal.screen import HARD_RESET, TITLE_MAX, Text, gap_line

CONTINUATION_BYTES = 64 * 1024  # of an escape sequence that has not ended
FOREGROUND, BACKGROUND = (229, 229, 229), (16, 16, 16)  # what is answered to who asks: a dark terminal
_TOP_MARGIN = re.compile(rb"\x1b\[(\d+);\d+r")
_LEFT_MARGIN = re.compile(rb"\x1b\[(\d+);\d+s")
_ALTERNATE = (b"\x1b[?1049h", b"\x1b[?1047h", b"\x1b[?47h")
_PLAIN = b"\x1b[?6l\x1b[r\x1b[0m\x1b[?7h\x1b[4l\x1b[H"  # as a reset screen is, but for its size
SCROLLBACK_LINES = 5000
SCROLLBACK_BYTES = 16 * 1024 * 1024


class GhosttyScreen:
    """A screen kept by libghostty-vt."""

    def __init__(self, cols: int, rows: int) -> None:
        from pyghostty import _ffi, core

        self._core, self._ffi, self._lib = core, _ffi.ffi, _ffi.lib
        self.offset = 0
        self._replies: list[bytes] = []
        self._terminal = core.Terminal(cols, rows, SCROLLBACK_LINES, FOREGROUND, BACKGROUND)
        self._harden(self._terminal)
        self._terminal.on_reply(self._replies.append)

    def _harden(self, terminal: Any) -> None:
        ffi = self._ffi
        self._set(terminal, "KITTY_IMAGE_STORAGE_LIMIT", ffi.new("uint64_t*", 0))  # no graphics at all
        self._set(terminal, "SCROLLBACK_MAX_BYTES", ffi.new("size_t*", SCROLLBACK_BYTES))
        self._set(terminal, "CONTINUATION_MAX_BYTES", ffi.new("size_t*", CONTINUATION_BYTES))

    def _set(self, terminal: Any, option: str, value: Any) -> None:
        result = self._lib.ghostty_terminal_set(
            terminal._t[0], getattr(self._lib, f"GHOSTTY_TERMINAL_OPT_{option}"), value
        )
        self._core.check(result, option)

    def feed(self, data: bytes) -> bytes:
        """See Screen.feed."""
        self._terminal.feed(data)
        self.offset += len(data)
        answer, self._replies[:] = b"".join(self._replies), []
        return answer

    def skip(self, size: int) -> None:
        """See Screen.skip. A line says so on the screen."""
        self._terminal.feed(gap_line(size))
        self.offset += size

    def resize(self, cols: int, rows: int) -> None:
        """See Screen.resize. Folded lines of the primary screen are folded anew."""
        self._terminal.resize(cols, rows)

    def paint(self) -> bytes:
        """See Screen.paint. While a program has the whole screen, what it will give back lies under it."""
        top = self._format(self._terminal)
        if self._alternate:
            enter = next((way for way in _ALTERNATE if way in top), _ALTERNATE[0])
            top = self._primary() + enter + _PLAIN + top.replace(enter, b"", 1)
        return HARD_RESET + top + self._rest()

    @property
    def _alternate(self) -> bool:
        screen = self._terminal.get("active_screen", "GhosttyTerminalScreen")
        return bool(screen == self._lib.GHOSTTY_TERMINAL_SCREEN_ALTERNATE)

    def _primary(self) -> bytes:
        """The screen under the alternate one: of a copy, which leaves the alternate one."""
        ffi, lib = self._ffi, self._lib
        out, size = ffi.new("uint8_t**"), ffi.new("size_t*")
        self._core.check(
            lib.ghostty_snapshot_encode_alloc(self._terminal._t[0], ffi.NULL, out, size), "snapshot"
        )
        decoder, copy = ffi.new("GhosttySnapshotDecoder*"), ffi.new("GhosttyTerminal*")
        try:
            made = lib.ghostty_snapshot_decoder_new_buf(ffi.NULL, decoder, out[0], size[0])
            self._core.check(made, "snapshot")
            try:
                self._core.check(lib.ghostty_snapshot_decoder_decode(decoder[0], copy), "snapshot")
            finally:
                lib.ghostty_snapshot_decoder_free(decoder[0])
        finally:
            lib.ghostty_free(ffi.NULL, out[0], size[0])
        other = self._core.Terminal.__new__(self._core.Terminal)
        other._t, other._unknown_cb, other._reply_cb, other._cb_err = copy, None, None, None
        try:
            other.feed(b"\x18\x1b[?1049l\x1b[?1047l\x1b[?47l")  # CAN: it may be in the middle of a sequence
            return self._format(other)
        finally:
            lib.ghostty_terminal_free(copy[0])

    def _format(self, terminal: Any) -> bytes:
        """The active screen of a terminal with its scrollback, modes and cursor, from the reset state.

        Each row stands on a line of its own, folded or not. The formatter leaves out blank rows at the end;
        they are put back, or all that was scrolled away would come back down by as many."""
        whole = self._emit(terminal, True)
        if terminal.get("scrollback_rows", "size_t"):
            rows, there = self._emit(terminal, False), int(terminal.get("total_rows", "size_t"))
            at = whole.index(rows) + len(rows)
            whole = whole[:at] + b"\r\n" * (there - 1 - rows.count(b"\r\n")) + whole[at:]
        if coloured := self._coloured(terminal):
            column, row = terminal.cursor
            at = whole.rindex(b"\x1b[%d;%dH" % (row + 1, column + 1))
            whole = whole[:at] + coloured + whole[at:]
        if terminal.mode(6):
            whole += self._origin(terminal, whole)
        return whole + b"\x1b[%d q" % self._cursor_shape(terminal)

    def _coloured(self, terminal: Any) -> bytes:
        """Rows of the screen without text but not without colour, which the formatter leaves out."""
        ffi, lib, parts = self._ffi, self._lib, []
        state, rows = ffi.new("GhosttyRenderState*"), ffi.new("GhosttyRenderStateRowIterator*")
        self._core.check(lib.ghostty_render_state_new(ffi.NULL, state), "render state")
        self._core.check(lib.ghostty_render_state_row_iterator_new(ffi.NULL, rows), "rows")
        try:
            self._core.check(lib.ghostty_render_state_update(state[0], terminal._t[0]), "render state")
            key = lib.GHOSTTY_RENDER_STATE_DATA_ROW_ITERATOR
            self._core.check(lib.ghostty_render_state_get(state[0], key, rows), "rows")
            view, number = ffi.new("GhosttyCellsView*"), 0
            while lib.ghostty_render_state_row_iterator_next(rows[0]):
                number += 1
                got = lib.ghostty_render_state_row_get(
                    rows[0], lib.GHOSTTY_RENDER_STATE_ROW_DATA_CELLS_RAW, view
                )
                self._core.check(got, "cells")
                parts.append(self._runs(number, ffi.unpack(view.ptr, view.len) if view.len else []))
        finally:
            lib.ghostty_render_state_row_iterator_free(rows[0])
            lib.ghostty_render_state_free(state[0])
        return b"".join(parts)

    def _runs(self, row: int, cells: list[int]) -> bytes:
        if not any(cells):
            return b""
        parts, column = [], 1
        for cell, run in itertools.groupby(cells):
            size, (text, colour) = len(list(run)), self._cell(cell)
            if text:
                return b""
            if colour:
                parts.append(b"\x1b[%d;%dH\x1b[48;%sm\x1b[%dX" % (row, column, colour, size))
            column += size
        return b"".join(parts)

    def _cell(self, cell: int) -> tuple[bool, bytes]:
        """Whether it has text, and what is behind `48;` in the sequence that gives it its colour."""
        ffi, lib = self._ffi, self._lib
        text, tag = ffi.new("bool*"), ffi.new("GhosttyCellContentTag*")
        lib.ghostty_cell_get(cell, lib.GHOSTTY_CELL_DATA_HAS_TEXT, text)
        lib.ghostty_cell_get(cell, lib.GHOSTTY_CELL_DATA_CONTENT_TAG, tag)
        if tag[0] == lib.GHOSTTY_CELL_CONTENT_BG_COLOR_PALETTE:
            index = ffi.new("GhosttyColorPaletteIndex*")
            lib.ghostty_cell_get(cell, lib.GHOSTTY_CELL_DATA_COLOR_PALETTE, index)
            return bool(text[0]), b"5;%d" % index[0]
        if tag[0] == lib.GHOSTTY_CELL_CONTENT_BG_COLOR_RGB:
            rgb = ffi.new("GhosttyColorRgb*")
            lib.ghostty_cell_get(cell, lib.GHOSTTY_CELL_DATA_COLOR_RGB, rgb)
            return bool(text[0]), b"2;%d;%d;%d" % (rgb.r, rgb.g, rgb.b)
        return bool(text[0]), b""

    @staticmethod
    def _origin(terminal: Any, painted: bytes) -> bytes:
        """Places count from the margins (DECOM): the formatter's do not. Setting it moves the cursor."""
        column, row = terminal.cursor
        top, left = (int(([b"1", *margin.findall(painted)])[-1]) for margin in (_TOP_MARGIN, _LEFT_MARGIN))
        there, counted = (row + 1, column + 1), (row + 2 - top, column + 2 - left)
        return b"\x1b[?6l\x1b[%d;%dH\x1b[?6h\x1b[%d;%dH" % (*there, *counted)

    def _emit(self, terminal: Any, everything: bool) -> bytes:
        ffi, lib = self._ffi, self._lib
        options = self._core.init_sized("GhosttyFormatterTerminalOptions")
        options.emit = lib.GHOSTTY_FORMATTER_FORMAT_VT
        extra = options.extra
        extra.palette = everything and self._recoloured(terminal)
        extra.modes = extra.scrolling_region = extra.tabstops = extra.keyboard = everything
        for name in ("cursor", "style", "hyperlink", "protection", "kitty_keyboard", "charsets"):
            setattr(extra.screen, name, everything)
        formatter, out, size = ffi.new("GhosttyFormatter*"), ffi.new("uint8_t**"), ffi.new("size_t*")
        made = lib.ghostty_formatter_terminal_new(ffi.NULL, formatter, terminal._t[0], options[0])
        self._core.check(made, "formatter")
        try:
            formatted = lib.ghostty_formatter_format_alloc(formatter[0], ffi.NULL, out, size)
            self._core.check(formatted, "formatter")
            data = bytes(ffi.buffer(out[0], size[0])) if size[0] else b""
            lib.ghostty_free(ffi.NULL, out[0], size[0])
            return data.replace(b"\x1b[?6h", b"", 1)
        finally:
            lib.ghostty_formatter_free(formatter[0])

    def _recoloured(self, terminal: Any) -> bool:
        palettes = []
        for name in ("color_palette", "color_palette_default"):
            found = self._ffi.new("GhosttyColorRgb[256]")
            key = getattr(self._lib, f"GHOSTTY_TERMINAL_DATA_{name.upper()}")
            self._core.check(self._lib.ghostty_terminal_get(terminal._t[0], key, found), name)
            palettes.append(bytes(self._ffi.buffer(found)))
        return palettes[0] != palettes[1]

    def _rest(self) -> bytes:
        """What belongs to no screen: the title, and a sequence that has only begun."""
        terminal, lib, ffi = self._terminal, self._lib, self._ffi
        parts = []
        if title := self._string("title"):
            parts.append(b"\x1b]2;" + title + b"\x1b\\")
        if not terminal.get("vt_ground", "bool"):
            size = ffi.new("size_t*")
            lib.ghostty_terminal_continuation_buf(terminal._t[0], ffi.NULL, 0, size)
            buffer = ffi.new("uint8_t[]", max(size[0], 1))
            if lib.ghostty_terminal_continuation_buf(terminal._t[0], buffer, len(buffer), size) == 0:
                parts.append(bytes(ffi.buffer(buffer, size[0])))
        return b"".join(parts)

    def _cursor_shape(self, terminal: Any) -> int:
        """The parameter of DECSCUSR that gives the cursor its shape."""
        lib, ffi, state = self._lib, self._ffi, self._ffi.new("GhosttyRenderState*")
        self._core.check(lib.ghostty_render_state_new(ffi.NULL, state), "render state")
        try:
            self._core.check(lib.ghostty_render_state_update(state[0], terminal._t[0]), "render state")
            shape, blinking = ffi.new("int*"), ffi.new("bool*")
            for name, value in (("VISUAL_STYLE", shape), ("BLINKING", blinking)):
                key = getattr(lib, f"GHOSTTY_RENDER_STATE_DATA_CURSOR_{name}")
                self._core.check(lib.ghostty_render_state_get(state[0], key, value), name)
        finally:
            lib.ghostty_render_state_free(state[0])
        steady = {
            lib.GHOSTTY_RENDER_STATE_CURSOR_VISUAL_STYLE_UNDERLINE: 4,
            lib.GHOSTTY_RENDER_STATE_CURSOR_VISUAL_STYLE_BAR: 6,
        }  # fmt: skip
        return steady.get(shape[0], 2) - int(blinking[0])

    def _string(self, name: str) -> bytes:
        found = self._terminal.get(name, "GhosttyString")
        raw = bytes(self._ffi.buffer(found.ptr, found.len)) if found.len else b""
        return bytes(byte for byte in raw if byte >= 0x20 and byte != 0x7F)

    @property
    def title(self) -> str:
        """What its program says it shows."""
        return self._string("title").decode("utf-8", "replace")[:TITLE_MAX]

    def text(self) -> Text:
        """See Screen.text."""
        terminal = self._terminal
        cols, rows = terminal.size
        lines = [line.rstrip() for line in terminal.text().split("\n")]
        lines += [""] * (rows - len(lines))
        return Text(
            lines[:rows], cols, rows, terminal.cursor, bool(terminal.get("cursor_visible", "bool")),
            self._alternate, self.title,
            int(terminal.get("scrollback_rows", "size_t")),
        )  # fmt: skip

    def history(self) -> list[str]:
        """See Screen.history."""
        return [line.rstrip() for line in self._terminal.contents().split("\n")]

    def close(self) -> None:
        """See Screen.close."""
        self._terminal.close()
