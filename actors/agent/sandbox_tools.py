"""The sandbox as an agent's tools use it: commands and files of its sandbox, told to the turn's log.

A command starts at most once per exec id, whoever asks and how often: the sandbox entity keeps the
record. `bash` keeps directory and exported variables from call to call in a folder of the sandbox's home,
written when a command ends; a command that outlives its timeout does not overwrite what later ones left.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import time
from typing import Any

from actors.agent.refused import with_refusals
from actors.agent.terminals import AgentTerminals
from actors.agent.turn_log import TurnLog
from actors.sandbox.access import SandboxAccess
from actors.sandbox.link import link_to
from actors.sandbox.versions import rows
from graphs.ports import Glimpse, Observation
from runtime import Context
from terminalpp.types.errors import (
    DeadlineExceeded,
    Fenced,
    IdempotencyMismatch,
    NotFound,
    NotOwner,
    SandboxNotRunning,
    TerminalError,
    Unavailable,
)
from terminalpp.types.ids import Ref, new_id

WAIT_MS = 20_000  # one wait; longer commands are waited for in slices
STEP_SECONDS = 10.0  # for what ends a command, beyond its own time
HEAD_BYTES = 48 * 1024  # of a command's output in an answer
TAIL_BYTES = 48 * 1024

# What cannot be restored is told on standard error. Two things only are asked in silence, because "no" is
# an ordinary answer: whether an earlier call left anything (-r), and whether this call is still the last one
# (its note may be gone with the home it lay in). The trap must not show up in a command's `set -x`.
# `eval ' '` keeps a command that begins with "-" from being taken for an option. All of it is one line, so
# that the line numbers in the shell's complaints are those of the command.
SHELL = """\
__t={folder}; mkdir -p "$__t";
if [ -r "$__t/env" ]; then . "$__t/env"; fi;
cd {workspace} || {{ cd -P .; echo "[the workspace is gone; this runs in $PWD]" >&2; }};
if [ -r "$__t/cwd" ]; then
__d=$(cat "$__t/cwd"; echo .); __d=${{__d%??}};
cd "$__d" || echo "[the working directory of earlier calls is gone; this runs in $PWD]" >&2;
fi;
printf %s {exec_id} > "$__t/last";
__tpp_save() {{ if [ "$(cat "$__t/last" 2>/dev/null)" = {exec_id} ]; then
pwd > "$__t/cwd.new" && mv -f "$__t/cwd.new" "$__t/cwd";
export -p > "$__t/env.new" && mv -f "$__t/env.new" "$__t/env";
fi; exit $__s; }};
trap '{{ __s=$?; set +exu; }} 2>/dev/null; __tpp_save' EXIT;
eval ' ' {command}
""".replace("\n", " ")


class SandboxCommands:
    """The commands and files of one sandbox as a conversation uses them. `close` it when done."""

    def __init__(self, context: Context, sandbox_id: str, conversation_id: str, agent: str | None) -> None:
        self.runtime, self.database, self.sandbox_id = context.runtime, context.database, sandbox_id
        self.conversation_id, self.agent = conversation_id, agent
        self.ref = Ref("sandbox", sandbox_id)
        self.access = SandboxAccess(link_to(context.settings.home, sandbox_id), self.attach)

    async def attach(self) -> dict[str, Any]:
        """Start the sandbox if it sleeps; the leave to act in it."""
        return await self._call("attach", {})

    async def _call(self, method: str, payload: dict[str, Any]) -> Any:
        return await self.runtime.call(self.ref, method, payload, timeout_s=None)

    async def close(self) -> None:
        """Close the connections."""
        await self.access.close()

    async def run(
        self,
        exec_id: str,
        script: str,
        timeout_s: float,
        *,
        merge: bool = True,
        env: dict[str, str] | None = None,
        cwd: str = "/home/user",
        room: bool = False,
        limited: bool = False,
    ) -> dict[str, Any]:
        """Start `script` once and wait up to `timeout_s`; the sandbox's record of it (see `Sandbox.run`).

        `room`: wait first until the disk is no longer nearly full. `limited`: when the time is up the sandbox
        itself ends it (reason `timeout`), whatever has become of us.
        """
        payload = {
            "exec_id": exec_id,
            "command": script,
            "cwd": cwd,
            "env": env or {},
            "mode": "auto",
            "merge": merge,
            "stdin": False,
            "conversation_id": self.conversation_id,
            "head_bytes": HEAD_BYTES,
            "room": room,
        }
        if limited:
            payload["timeout_ms"] = max(1, int(timeout_s * 1000))
            timeout_s += STEP_SECONDS
        if self.agent is not None:
            payload["agent"] = self.agent
        wait_ms = int(max(0.0, min(WAIT_MS, timeout_s * 1000)))
        while True:
            try:
                seen = await self._call("run", {**payload, "wait_ms": wait_ms})
                break
            except SandboxNotRunning:
                await self.attach()
        # Counted from its start: before, it may have waited for its sandbox, or for room on the disk.
        left = timeout_s - wait_ms / 1000
        return seen if left <= 0 or _over(seen) else await self.wait(exec_id, left)

    async def wait(self, exec_id: str, timeout_s: float) -> dict[str, Any]:
        """The record after the command's end, or after `timeout_s` seconds."""
        deadline = time.monotonic() + timeout_s
        while True:
            seen = await self._call(
                "wait", {"exec_id": exec_id, "timeout_ms": _slice_ms(deadline), "head_bytes": HEAD_BYTES}
            )
            if _over(seen) or time.monotonic() >= deadline:
                return seen

    async def keep(self, label: str, log: TurnLog, workspace: str) -> str | None:
        """Keep all files of the sandbox as they are (see `Sandbox.snapshot`); the snapshot's id, of the
        newest one when nothing has changed since it. None when it cannot be done: the log tells why, and the
        work goes on.

        Raises what passes by itself, and Superseded.
        """
        if not rows.holds(workspace):
            return None  # told by the turn at its start
        asked = {"snapshot_id": new_id(), "name": label[:255], "type": "auto", "always": False}
        asked["metadata"] = {"conversation_id": self.conversation_id}
        try:
            taken = await self._call("snapshot", asked)
        except (DeadlineExceeded, Fenced, NotOwner, SandboxNotRunning, Unavailable):
            raise
        except TerminalError as error:
            told = {"label": label, "code": error.code, "detail": error.detail}
            await log.emit("snapshot.failed", "system", told)
            return None
        return str(taken["snapshot"]["id"])

    async def kill(self, exec_id: str) -> None:
        """Kill a command with all it started; harmless when it is gone."""
        with contextlib.suppress(NotFound, SandboxNotRunning):
            await self._call("kill", {"exec_id": exec_id})

    async def end(self, exec_id: str, timeout_s: float = 30.0) -> dict[str, Any]:
        """See to it that the command does not run, now or later; its record.

        The request to start it may still be on its way while its agent is gone. So its id is taken first,
        by a command that does nothing: then the real one is refused when it comes. If the real one was
        there before, this one is refused, and the real one is killed until it has ended.
        """
        with contextlib.suppress(IdempotencyMismatch):
            try:
                async with asyncio.timeout(timeout_s + STEP_SECONDS):
                    seen = await self.run(exec_id, ":", timeout_s)
            except TimeoutError:
                raise Unavailable("the sandbox could not be asked in time") from None
            return {**seen, "status": "killed", "exit_code": None, "reason": "never started"}
        deadline = time.monotonic() + timeout_s
        while True:
            await self.kill(exec_id)
            seen = await self.wait(exec_id, 1.0)
            if _over(seen) or time.monotonic() >= deadline:
                return seen

    async def bytes_of(
        self, exec_id: str, offset: int, limit: int, stream: Any = "stdout"
    ) -> tuple[bytes, int]:
        """Output from the journal, as many bytes as there are up to `limit`, and where to go on."""
        out, at = bytearray(), offset
        while len(out) < limit:
            chunk = await self.access.output(exec_id, stream, at, min(limit - len(out), 1 << 20))
            if chunk.gap_bytes:
                out += f"\n[… {chunk.gap_bytes} bytes were not kept …]\n".encode()
            out += chunk.data
            if chunk.next_offset == at:
                break
            at = chunk.next_offset
        return bytes(out), at

    async def read_file(self, path: str) -> bytes:
        """A file's bytes, by its absolute path. Raises NotFound, FileProblem."""
        return await self.access.read_file(path)

    async def write_file(self, path: str, data: bytes) -> None:
        """Make or replace a file, with its parent folders. Raises FileProblem, DiskFull."""
        await self.access.write_file(path, data)

    async def observation(self, exec_id: str, seen: dict[str, Any]) -> Observation:
        """The record with the output's end beside its head when it is longer than that."""
        size, head, tail = int(seen["stdout_bytes"] or 0), str(seen["stdout"] or ""), ""
        if size > HEAD_BYTES and seen.get("reason") != "lost":
            with contextlib.suppress(NotFound):
                if size <= HEAD_BYTES + TAIL_BYTES:
                    data, _ = await self.bytes_of(exec_id, 0, size)
                    head = data.decode("utf-8", "replace")
                else:
                    data, _ = await self.bytes_of(exec_id, size - TAIL_BYTES, TAIL_BYTES)
                    head, tail = head.removesuffix("\ufffd"), _from_a_character(data)
        return Observation(
            seen["status"],
            seen["exit_code"],
            head,
            size,
            tail,
            seen.get("reason"),
            int(seen.get("duration_ms") or 0),
        )


class AgentSandbox:
    """`graphs.ports.Sandbox` of one agent in one turn."""

    def __init__(self, commands: SandboxCommands, log: TurnLog, agent: str, workspace: str) -> None:
        self.commands, self.log, self.agent, self.workspace = commands, log, agent, workspace
        self._terminals = AgentTerminals(
            commands.runtime, commands.sandbox_id, commands.conversation_id, agent
        )

    async def run(self, exec_id: str, command: str, timeout_s: float, *, quiet: bool = False) -> Observation:
        """See graphs.ports.Sandbox."""
        if quiet:
            return await self.plain(exec_id, command, timeout_s)
        await self._point(command, exec_id)
        folder = f"/home/user/.tpp/shell/{self.log.conversation_id[:8]}-{self.agent}"
        script = SHELL.format(
            folder=shlex.quote(folder),
            workspace=shlex.quote(self.workspace),
            exec_id=shlex.quote(exec_id),
            command=shlex.quote(command),
        )
        return await self.told(exec_id, command, script, timeout_s)

    async def plain(self, exec_id: str, script: str, timeout_s: float) -> Observation:
        """A command of our own that the person need not see."""
        return await self.commands.observation(exec_id, await self.commands.run(exec_id, script, timeout_s))

    async def end(self, exec_id: str) -> Observation:
        """Kill a command with all it started; its record."""
        return await self.commands.observation(exec_id, await self.commands.end(exec_id))

    async def told(
        self, exec_id: str, command: str, script: str, timeout_s: float, env: dict[str, str] | None = None,
        *, limited: bool = False,
    ) -> Observation:  # fmt: skip
        """Run `script` and tell the log of it as `command`, once, however often this is repeated.

        `limited`: it is ended when its time is up.
        """
        await self.log.emit_once(
            "command.started",
            self.agent,
            {"exec_id": exec_id, "command": command, "cwd": self.workspace, "agent": self.agent},
        )
        record = await self.commands.run(exec_id, script, timeout_s, env=env, room=True, limited=limited)
        seen = await self.commands.observation(exec_id, record)
        if not seen.running:
            await self.log.emit_once("command.finished", self.agent, finished(exec_id, seen))
            database, sandbox_id = self.commands.database, self.commands.sandbox_id
            seen = await with_refusals(database, sandbox_id, exec_id, record, seen, self.log, self.agent)
        return seen

    async def kill(self, exec_id: str) -> None:
        """See graphs.ports.Sandbox."""
        await self.commands.kill(exec_id)

    async def output(self, exec_id: str, offset: int, limit: int) -> tuple[bytes, int]:
        """See graphs.ports.Sandbox."""
        return await self.commands.bytes_of(exec_id, offset, limit)

    async def read_file(self, path: str) -> bytes:
        """See graphs.ports.Sandbox."""
        return await self.commands.read_file(path)

    async def write_file(self, path: str, data: bytes) -> None:
        """See graphs.ports.Sandbox."""
        await self._point(f"write {path}")
        await self.commands.write_file(path, data)

    async def _point(self, what: str, exec_id: str | None = None) -> None:
        """Before something that may write: a point to go back to."""
        label = f"{self.agent}: {what.strip().splitlines()[0] if what.strip() else what}"[:120]
        if (kept := await self.commands.keep(label, self.log, self.workspace)) is not None:
            await self.log.point(kept, label, exec_id)

    async def find_terminal(self, name: str) -> tuple[str, bool]:
        """See graphs.ports.Sandbox."""
        return await self._terminals.find(name)

    async def use_terminal(self, id: str, call_id: str, name: str, **use: Any) -> Glimpse:
        """See graphs.ports.Sandbox."""
        await self._point(f"terminal {name}")
        return await self._terminals.use(id, call_id, name, cwd=self.workspace, **use)


def _from_a_character(data: bytes) -> str:
    """Output that was cut out of the middle, without the end of a character that began before it."""
    cut = next((n for n in range(min(4, len(data))) if data[n] & 0xC0 != 0x80), 0)
    return data[cut:].decode("utf-8", "replace")


def _slice_ms(deadline: float) -> int:
    return int(max(0.0, min(WAIT_MS, (deadline - time.monotonic()) * 1000)))


def _over(seen: dict[str, Any]) -> bool:
    return seen["status"] not in ("pending", "running")


def finished(exec_id: str, seen: Observation) -> dict[str, Any]:
    """The payload of `command.finished`."""
    return {
        "exec_id": exec_id,
        "status": seen.status,
        "exit_code": seen.exit_code,
        "duration_ms": seen.duration_ms,
        "output_bytes": seen.output_bytes,
        "reason": seen.reason,
    }
