"""The verb `test`: what the suite needs, then the suite; without arguments in several processes at once.

`--require docker,bubblewrap` (or TPP_TEST_REQUIRE) is for machines that must have them:
a test that would be left out for want of one fails instead. The suite's processes get it as
TPP_TEST_REQUIRE.
"""

from __future__ import annotations

import os
import subprocess
import sys

from terminalpp.cli import server
from terminalpp.cli.exits import Exit
from terminalpp.cli.screen import Screen
from terminalpp.types.errors import InvalidInput

KNOWN = {"docker", "bubblewrap"}


def run(screen: Screen, arguments: list[str], require: str, *, as_json: bool) -> Exit:
    """Install requirements-dev.lock into the environment this runs in, then pytest. Raises InvalidInput."""
    wanted = {name for name in require.replace(",", " ").split() if name}
    if wanted - KNOWN:
        raise InvalidInput(f"--require does not know {', '.join(sorted(wanted - KNOWN))}",
                           f"It knows {', '.join(sorted(KNOWN))}.")
    root = server.checkout()
    installer = [sys.executable, "-I", str(root / "terminalpp" / "cli" / "install.py"), str(root), "dev"]
    if sys.prefix == str(root / ".venv"):
        done = subprocess.run(installer, stdout=sys.stderr if as_json else None, check=False)
        if done.returncode:
            return Exit.ENVIRONMENT
    environment = server.environment()
    if wanted:
        environment["TPP_TEST_REQUIRE"] = ",".join(sorted(wanted))
    screen.clear_status()
    report = ["-q", "--no-header"] if as_json else []
    arguments = arguments or ["-n", "auto"]  # how many, and who runs what, is in tests/conftest.py
    words = [sys.executable, "-m", "pytest", *report, *arguments]
    if "TPP_HOME" not in os.environ:
        environment.pop("TPP_HOME")  # the suite makes homes of its own
    output = sys.stderr if as_json else None
    done = subprocess.run(words, cwd=root, env=environment, stdout=output, check=False)
    if as_json:
        import json

        screen.line(json.dumps({"type": "cli.result", "payload": {"pytest_status": done.returncode}}))
    if done.returncode == 2:
        return Exit.CANCELLED
    return Exit.OK if done.returncode == 0 else Exit.NOT_GREEN
