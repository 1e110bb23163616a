"""Runs one turn's graph: the first turn's preparation, the snapshot that it starts from, the services."""

from __future__ import annotations

import dataclasses
import shlex
import time
from dataclasses import dataclass
from typing import Any

from actors.agent.sandbox_tools import AgentSandbox, SandboxCommands, finished
from actors.agent.turn_log import TurnLog
from actors.conversation import core, worktree
from actors.conversation.closing import TurnEnd
from actors.conversation.team import GraphLog, Team
from actors.conversation.workspace import GitWorkspace
from actors.sandbox.versions import rows
from graphs import graph, routing, tools, turn_messages
from graphs.limits import Limits
from graphs.ports import Services, TurnSpec
from graphs.saver import Saver
from graphs.state import State
from runtime import Context, Turn
from schema import events, rewind_points
from terminalpp.types.errors import TerminalError
from terminalpp.types.ids import derived_id
from terminalpp.types.states import TurnOutcome

SETUP_SECONDS = 1800.0
RUNNING_TOLD = 10  # processes that are told one by one


@dataclass(frozen=True)
class TurnWork:
    """The work of one turn of conversation `id`, whose state is `state`."""

    context: Context
    id: str
    state: dict[str, Any]
    turn: dict[str, Any]
    sandbox: SandboxCommands
    log: TurnLog

    async def run(self) -> TurnEnd:
        """Run the turn's graph from where it stands. Raises what agents and sandbox raise."""
        context, state, turn = self.context, self.state, self.turn
        place = workspace(context, self.id, state, self.sandbox, self.log)
        base = await self._prepare(place)
        asked = await events.find(context.database, self.id, "message.accepted", turn["message_id"])
        spec = TurnSpec(
            conversation_id=self.id,
            turn_id=turn["turn_id"],
            task=asked.payload["text"] if asked else "",
            mode=turn["mode"],
            limits=Limits.of(context.settings, state["limits"]),
            started_at=turn["started_at"],
            baseline=base,
            test_command=state["test_command"],
            earlier=tuple(state["history"]),
        )

        async def announce(seq: int) -> None:
            await context.live.publish(self.id, seq)

        saver = Saver(context.database, context.fence, self.id, announce)
        team = Team(context.runtime, self.log, spec, turn, state["sandbox_id"], state["workspace"])
        final = await graph.run(Services(spec, team, place, GraphLog(self.log), time.time), saver)
        return dataclasses.replace(ending(final), tree=final.get("snapshot") or "")

    async def _prepare(self, place: GitWorkspace) -> str:
        """Setup and baseline once per conversation, a base snapshot once per turn; the latter's id."""
        state, turn = self.state, self.turn
        if turn["base"] is not None:
            return turn["base"]
        if not state["set_up"] and state["setup_command"]:
            await _set_up(state["setup_command"], self.sandbox, self.log, state["workspace"], self.id)
        base = await place.snapshot(derived_id(self.id, "base", turn["turn_id"]))
        label = f"before turn {turn['number']}"
        kept = await place.keep(label)
        if kept is None and not rows.holds(state["workspace"]):
            why = f"{state['workspace']} lies outside of {rows.ROOT}, whose files alone are kept"
            told = {"label": label, "code": "invalid-input", "detail": why}
            await self.log.emit("snapshot.failed", "system", told)
        async with self.context.turn() as t:
            await self._point(t, kept)
            core.step(t.state, core.Prepared(turn["turn_id"], base))
        turn["base"] = base
        return base

    async def _point(self, t: Turn, kept: str | None) -> None:
        """Where the turn can be taken back whole: before its message."""
        turn = self.turn
        asked = await events.find(t.connection, self.id, "message.accepted", turn["message_id"])
        if kept is None or not core.Conversation.from_json(t.state).runs(turn["turn_id"]):
            return
        before = turn["seq"] - 1  # a message that waited was said among the events of the turn before
        if asked is not None and asked.seq == before:
            before -= 1
        words = asked.payload["text"].strip().splitlines()[0] if asked is not None else ""
        label = f"before: {words}" if len(words) <= 72 else f"before: {words[:71]}…"
        await rewind_points.add(
            t.connection, self.id, before, f"turn:{turn['turn_id']}", snapshot_id=kept,
            label=label, state=core.known(core.Conversation.from_json(t.state)),
        )  # fmt: skip


def workspace(
    context: Context, id: str, state: dict[str, Any], sandbox: SandboxCommands, log: TurnLog | None = None
) -> GitWorkspace:
    """The conversation's work tree, whose record it keeps beside it. `log`: of the turn that works on it."""
    folder = state["workspace"]

    async def kept(label: str) -> str | None:
        return None if log is None else await sandbox.keep(label, log, folder)

    async def authored() -> list[str]:
        paths = await events.written_paths(context.database, id)
        return [tools.resolve(folder, path) for path in paths]

    include = state.get("include") or ()
    return GitWorkspace(sandbox, folder, id, include=include, authored=authored, kept=kept)


async def _set_up(command: str, commands: SandboxCommands, log: TurnLog, workspace: str, id: str) -> None:
    """Run the setup command once; a failure is told and the team goes on, it may know what to do."""
    sandbox = AgentSandbox(commands, log, "system", workspace)
    exec_id = derived_id(id, "setup")
    seen = await sandbox.told(
        exec_id, command, f"cd {shlex.quote(workspace)} || exit 126\n{command}", SETUP_SECONDS, limited=True
    )
    if seen.running:
        seen = await sandbox.end(exec_id)
        await log.emit_once("command.finished", "system", finished(exec_id, seen))
    await log.emit_once(
        "setup.finished",
        "system",
        {"command": command, "exec_id": exec_id, "exit_code": seen.exit_code, "ok": seen.exit_code == 0},
    )


def ending(state: State) -> TurnEnd:
    """How the turn ended, from the graph's final state.

    `tests` is None where there is no test command (or the turn ended before any could be run). A model's
    trouble that ended the work is the error, with the tests' result beside it.
    """
    outcome, tests, failed = routing.outcome(state), state.get("tests"), state.get("failed")
    report = {"command": state.get("command"), **tests} if tests else None
    error = None
    if outcome is TurnOutcome.ERROR and failed:
        error = {name: failed[name] for name in ("code", "detail", "hint", "retryable")}
    return TurnEnd(outcome, turn_messages.reason(state), state.get("summary", ""), report, error)


# Every process but tppd's own and this shell, by its command line; listed before anything is started.
_RUNNING = """\
set -- /proc/[0-9]*
for p; do
  [ "${p#/proc/}" != $$ ] && line=$(tr '\\0\\n' '  ' < "$p/cmdline") || continue
  case $line in "" | /.tpp/tppd*) ;; *) printf '%s\\n' "$line" ;; esac
done
"""


async def still_running(sandbox: SandboxCommands, key: str) -> list[str]:
    """Command lines of what commands of the team left running, bounded."""
    seen = await sandbox.run(derived_id(key, "running"), _RUNNING, 30.0, merge=False)
    lines = [line.strip() for line in str(seen["stdout"] or "").split("\n") if line.strip()]
    more = [f"and {len(lines) - RUNNING_TOLD} more"] if len(lines) > RUNNING_TOLD else []
    return [line[:200] for line in lines[:RUNNING_TOLD]] + more


async def with_diff(
    found: TurnEnd, turn: dict[str, Any], place: GitWorkspace, sandbox: SandboxCommands
) -> TurnEnd:
    """The ending with what the turn changed, what stays behind, and what still runs.

    "Passed" is said of the very files that come home: not when some of the work cannot, not when files
    changed after the tests had run, not when the tree cannot be looked at.
    """
    if turn["base"] is None:
        return found
    key = derived_id(turn["turn_id"], "end")
    try:
        record = await place.record(derived_id(key, "snapshot"), whole=True)
        diff = await place.diff(key, turn["base"], record.tree)
        moved = found.tree not in ("", record.tree)  # mostly not: then nothing is asked
        later = await place.diff(key, found.tree, record.tree) if moved else {"files": []}
        heavy = await place.too_large(key, turn["base"], record.tree, diff["patch_bytes"])
        running = await still_running(sandbox, key)
    except TerminalError as error:
        return _unproven(found, f"the work tree could not be recorded: {error.detail}")
    found = dataclasses.replace(
        found,
        files=diff["files"],
        patch_bytes=diff["patch_bytes"],
        left=worktree.bounded([*record.left, *heavy]),
        running=running,
    )
    lost = [item["path"] for item in found.left if item["lost"]]
    if lost:
        found = _unproven(found, f"some of the work cannot be brought home: {_some(lost)}")
    changed = [file["path"] for file in later["files"] if not worktree.incidental(file["path"])]
    if changed:
        found = _unproven(found, f"files changed after the tests had run: {_some(changed)}")
    return found


def _unproven(found: TurnEnd, why: str) -> TurnEnd:
    """The ending with one reason more why it is not to be called passed; a worse outcome stays."""
    if found.outcome is TurnOutcome.PASSED:
        return dataclasses.replace(found, outcome=TurnOutcome.UNVERIFIED, reason=f"the tests pass, but {why}")
    return dataclasses.replace(found, reason=f"{found.reason}; {why}".removeprefix("; "))


def _some(paths: list[str]) -> str:
    return ", ".join(paths[:5]) + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")
