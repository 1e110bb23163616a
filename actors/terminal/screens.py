"""Which screen a terminal has on this machine."""

from __future__ import annotations

from actors.terminal.ghostty import GhosttyScreen
from actors.terminal.ring import RingScreen
from actors.terminal.screen import Screen


def new_screen(cols: int, rows: int, vt: str = "ghostty") -> Screen:
    """Ghostty's where it can be had (and `vt` does not say `ring`), else the ring."""
    if vt != "ring":
        try:
            return GhosttyScreen(cols, rows)
        except (ImportError, OSError):
            pass
    return RingScreen(cols, rows)
