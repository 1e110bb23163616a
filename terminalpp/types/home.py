"""Where TPP_HOME is, for whoever asks: the CLI and the Python client."""

from __future__ import annotations

import os
import pwd
from pathlib import Path


def path() -> Path:
    """TPP_HOME, else `$XDG_DATA_HOME/terminalpp`, else `~/.local/share/terminalpp`; always absolute."""
    named = os.environ.get("TPP_HOME")
    if named:
        return Path(os.path.abspath(os.path.expanduser(named)))
    data = os.environ.get("XDG_DATA_HOME", "")
    if not os.path.isabs(data):
        user = os.environ.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir
        data = os.path.join(user, ".local", "share")
    return Path(data, "terminalpp")
