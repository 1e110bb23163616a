"""The verbs `up` and `down`."""

from __future__ import annotations

import subprocess

from terminalpp.cli import home, server
from terminalpp.cli.exits import Exit
from terminalpp.cli.screen import Screen


def up(screen: Screen, *, as_json: bool, foreground: bool) -> Exit:
    """Start the system; a second `up` says that it runs. Raises TerminalError with the reason."""
    if foreground:
        words = server.command("up", "--foreground", *(["--json"] if as_json else []))
        done = subprocess.run(words, cwd=server.checkout(), env=server.environment(), check=False)
        return Exit.OK if done.returncode in (0, -2, 130) else Exit.ENVIRONMENT
    status = server.run(screen, "up", as_json=as_json)
    screen.clear_status()
    if status == 0 and not as_json:
        found = home.state() or {}
        screen.line(f"Terminal++ runs: {found.get('url')}  (home {home.path()})")
    return Exit.OK if status == 0 else Exit.ENVIRONMENT


def down(screen: Screen, *, as_json: bool) -> Exit:
    """Stop it; `down` when it is down already is no error."""
    status = server.run(screen, "down", as_json=as_json)
    screen.clear_status()
    if status == 0 and not as_json:
        screen.line("Terminal++ is down. Interrupted runs go on with the next `./tpp up`.")
    return Exit.OK if status == 0 else Exit.ENVIRONMENT
