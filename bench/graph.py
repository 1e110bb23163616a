"""A step of the graph without a model: LangGraph with our saver, beside LangGraph alone and a bare commit.

    python -m bench.graph [RUNS]

A step writes its checkpoint, one event and what the node returned, under the conversation's fence. The
claim: at most 20 ms a step.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Annotated, Any, TypedDict

from bench.home import booted
from bench.measure import row, table, timed
from bench.rest import committed_insert, resolved

STEPS = 10


def last(_: Any, new: Any) -> Any:
    return new


class State(TypedDict, total=False):
    count: int
    plan: Annotated[dict, last]


def graph(saver: Any) -> Any:
    """A line of STEPS nodes that do nothing but count."""
    from langgraph.graph import END, START, StateGraph

    async def node(state: State) -> State:
        return {"count": state.get("count", 0) + 1, "plan": {"goal": "x" * 200}}

    built = StateGraph(State)
    names = [f"step{number}" for number in range(STEPS)]
    for name in names:
        built.add_node(name, node)
    for before, after in zip([START, *names], [*names, END], strict=True):
        built.add_edge(before, after)
    return built.compile(checkpointer=saver)


async def run(compiled: Any, thread: str) -> float:
    """Seconds a step of one run."""
    config = {"configurable": {"thread_id": thread}, "recursion_limit": STEPS + 5}
    start = time.perf_counter()
    await compiled.ainvoke({"count": 0}, config, **({"durability": "sync"} if compiled.checkpointer else {}))
    return (time.perf_counter() - start) / STEPS


async def with_saver(home: Path, runs: int) -> list[float]:
    from graphs.saver import Saver
    from runtime.settings import load
    from schema import Database, conversations, entities, users
    from terminalpp.types.ids import Ref, new_id

    settings = load(resolved(home))
    database = await Database.connect(settings.database_url, max_size=2, application_name="bench")
    taken = []
    try:
        owner = await users.ensure_owner(database)
        for number in range(runs + 1):
            id = new_id()
            await conversations.create(database, id, owner, None)
            held = await entities.claim(database, Ref("conversation", id), f"bench@{new_id()}", 60.0)
            assert held is not None
            seconds = await run(graph(Saver(database, held.fence, id)), id)
            if number:  # the first one warms up
                taken.append(seconds)
            await entities.release(database, held.fence)
            await database.execute("DELETE FROM ai_conversations WHERE id = $1", id)
    finally:
        await database.close()
    return taken


async def main(runs: int) -> None:
    with booted() as home:
        ours = await with_saver(home, runs)
        async with committed_insert(home) as once:
            insert = await timed(once, runs * STEPS)
    bare = graph(None)
    alone = [await run(bare, str(number)) for number in range(runs + 1)][1:]
    table(f"A graph step without a model (each of the n runs is the mean of {STEPS} steps)", [
        row("a step with our saver, durability=sync", ours),
        row("a step of LangGraph alone, nothing saved", alone),
        row("one committed insert", insert),
    ])


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 50))
