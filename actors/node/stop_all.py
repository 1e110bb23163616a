"""`python -m actors.node.stop_all`: end every sandbox of this TPP_HOME. Part of `./tpp down`.

Workspaces and journals stay. Prints one JSON line per sandbox and exits with 1 if one could not be
ended. Works without the actor system, which is gone by then; a driver that is not available here has
nothing running.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

from actors.node.entity import make_drivers
from actors.sandbox.machine import ENDED_MARK
from runtime import settings
from terminalpp.types.errors import TerminalError


async def stop_all(of: settings.Settings) -> int:
    """Stop them, report each on standard output; the number of failures. None keeps the others alive."""
    failed = 0
    for name, driver in make_drivers(of).items():
        try:
            ids = await driver.list() if (await driver.probe()).available else []
        except (TerminalError, OSError) as error:
            failed += 1
            _report(driver=name, state="failed", detail=str(error))
            continue
        for sandbox_id in ids:
            try:
                if await driver.inspect(sandbox_id) is None:
                    continue
                # So that it counts as stopped, not as dead, when it is looked at again.
                (of.home / "sandboxes" / sandbox_id / ENDED_MARK).touch()
                await driver.stop(sandbox_id)
                _report(sandbox=sandbox_id, driver=name, state="stopped")
            except (TerminalError, OSError) as error:
                failed += 1
                _report(sandbox=sandbox_id, driver=name, state="failed", detail=str(error))
    return failed


def _report(**line: str) -> None:
    sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    sys.exit(1 if asyncio.run(stop_all(settings.load(os.environ))) else 0)
