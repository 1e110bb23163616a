"""The graph of a turn, and how it is run or gone on with.

    route ─┬─ planner ─┬─ baseline ── coder ── gate ─┬─ critic ─┬─ executor
           └───────────┘               ▲  ▲──────────┘ (red)    │
                                       └────────────────────────┘ (severe findings, once)

State is JSON of a few KB; every step is committed before the next one starts (`durability="sync"`).
"""

from __future__ import annotations

import functools
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph

from graphs import nodes, routing
from graphs.ports import Services
from graphs.state import FRESH, State

NODES = {
    "route": nodes.route,
    "planner": nodes.planner,
    "baseline": nodes.baseline,
    "coder": nodes.coder,
    "gate": nodes.gate,
    "critic": nodes.critic,
    "executor": nodes.executor,
}
# route, planner, baseline, then coder and gate for each of at most ~100 rounds, critic, executor
RECURSION_LIMIT = 250


def build(services: Services, saver: BaseCheckpointSaver) -> Any:
    """The compiled graph of one turn."""
    graph = StateGraph(State)
    for name, body in NODES.items():
        graph.add_node(name, functools.partial(_run, name, body, services))
    graph.add_edge(START, "route")
    graph.add_conditional_edges("route", routing.after_route, ["planner", "baseline"])
    graph.add_conditional_edges("planner", routing.after_planner, ["baseline", "executor"])
    graph.add_edge("baseline", "coder")
    graph.add_edge("coder", "gate")
    graph.add_conditional_edges("gate", routing.after_gate, ["coder", "critic", "executor"])
    graph.add_conditional_edges("critic", routing.after_critic, ["coder", "executor"])
    graph.add_edge("executor", END)
    return graph.compile(checkpointer=saver)


async def run(services: Services, saver: BaseCheckpointSaver) -> State:
    """Run the turn to its end, from its last committed step if it has one. Returns the final state.

    Raises whatever an agent raises; calling it again goes on at the step that raised.
    """
    graph = build(services, saver)
    turn = services.turn
    config = {"configurable": {"thread_id": turn.conversation_id}, "recursion_limit": RECURSION_LIMIT}
    known = await graph.aget_state(config)
    ours = known.values.get("turn_id") == turn.turn_id  # else: the turn before, ended or cancelled
    if ours and not known.tasks:  # `next` leaves LangGraph's own first step out, `tasks` does not
        return State(**known.values)
    start = None if ours else {**FRESH, "turn_id": turn.turn_id}
    return State(**await graph.ainvoke(start, config, durability="sync"))


async def _run(name: str, body: nodes.Body, services: Services, state: State) -> dict[str, Any]:
    return await nodes.visit(name, body, state, services)
