"""What the network policy refused while an agent's command ran: for the log, and for the agent in words."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from actors.agent.turn_log import TurnLog
from actors.egress.refusal import Reason, Refused
from graphs.ports import Observation
from schema import Database, network

TOLD = 5  # targets in one observation


async def with_refusals(
    database: Database, sandbox_id: str, exec_id: str, record: dict[str, Any], seen: Observation,
    log: TurnLog, agent: str,
) -> Observation:  # fmt: skip
    """The observation of a command that has ended, with the targets that were refused since its start."""
    if not record.get("started_at"):
        return seen
    found = await network.refusals(database, sandbox_id, datetime.fromisoformat(record["started_at"]), TOLD)
    if not found:
        return seen
    targets = [{"host": one.host, "port": one.port, "reason": one.reason} for one in found]
    await log.emit_once("connection.refused", agent, {"exec_id": exec_id, "targets": targets, "agent": agent})
    lines = [_line(sandbox_id, one) for one in found]
    words = "\n".join(["", *lines, ""])
    return replace(seen, tail=seen.tail + words) if seen.tail else replace(seen, output=seen.output + words)


def _line(sandbox_id: str, one: network.Refusal) -> str:
    way_out = ""
    if one.reason in list(Reason) and one.port:
        way_out = Refused(one.host, one.port, Reason(one.reason)).way_out(sandbox_id)
    asked = f"; do not try other ways, ask the person: {way_out}" if way_out else ""
    return f"[the network policy refused {one.detail}{asked}]"
