"""A call to an entity over the cell's Unix socket, beside the same call over Ray.

    python -m bench.calls [N]

Both ways end in the same method of the same cell of a running home.
"""

from __future__ import annotations

import asyncio
import os
import sys

from bench.home import booted, client
from bench.measure import in_turns, table
from bench.rest import resolved
from terminalpp.types.ids import Ref


async def main(n: int) -> None:
    with booted() as home:
        # Before Ray is imported: it reads its token's place from the environment then.
        os.environ |= {k: v for k, v in resolved(home).items() if k.startswith(("TPP_", "RAY_"))}
        from runtime import wire
        from runtime.connect import connect
        from runtime.settings import load

        runtime = await connect(load(os.environ))
        try:
            async with client(home) as api:
                sandbox = await api.wait_for_sandbox((await api.create_sandbox())["id"], timeout_s=900)
                ref = Ref("sandbox", sandbox["id"])
                await runtime.call(ref, "status")
                cells, cell = runtime._cells, runtime._locations[ref]
                asked = (cell, "call", wire.request(ref, "status", {}))
                works = {
                    "a call over the cell's socket": lambda: cells.ask(*asked, timeout_s=10),
                    "the same call over Ray": lambda: cells._ask_by_ray(*asked, timeout_s=10),
                }
                rows = await in_turns(works, n)
                await api.delete_sandbox(sandbox["id"])
        finally:
            await runtime.close()
    table("A call to an entity", rows)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 500))
