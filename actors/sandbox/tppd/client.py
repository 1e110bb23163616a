"""The client of `tppd`, the helper that is process 1 of every sandbox.

One `Tppd` belongs to one event loop and one sandbox. It keeps one connection for commands and opens
one for files when they are first used; either is opened again by itself after it broke.

What is safe to repeat, and therefore is repeated once by itself when a connection breaks: everything
except `signal` (START is recognised by its id, STDIN by its offset, a file is written under another
name and renamed). A caller that gets DeadlineExceeded or Unavailable may call again with the same
arguments. Every call that changes something carries the caller's `epoch`: tppd remembers the highest
it has seen and answers an older one with Fenced, so an owner that was replaced cannot act any more.

Paths are text as Python gives it for file names (bytes that are not UTF-8 as surrogates); relative ones
start at /home/user. File operations are done by a process with the sandbox user's rights, inside.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import os
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Literal

from actors.sandbox.tppd import journal
from actors.sandbox.tppd.connection import REPLY_SECONDS, TppdConnections
from actors.sandbox.tppd.protocol import Fields, Op, Reply, Tag, number
from actors.sandbox.tppd.replies import (
    Hello,
    Process,
    StartFlag,
    Stat,
    Status,
    entry_of,
    process_of,
    spec_hash,
    started,
    stat_of,
    status_of,
)
from terminalpp.types.errors import (
    DeadlineExceeded,
    InvalidInput,
    TerminalError,
)

CHUNK_BYTES = 1024 * 1024
_UNTIL = {"exit": 0, "output": 1, "closed": 2}


class Tppd(TppdConnections):
    """See the head of this file. `way`: its run directory on this host, or what opens a connection to it."""

    # ---- commands -------------------------------------------------------------------------------

    async def hello(self, epoch: int | None = None, *, timeout_s: float = REPLY_SECONDS) -> Hello:
        """The tppd that answers. With `epoch`, older owners are shut out from here on. Raises Fenced."""
        fields: Fields = [] if epoch is None else [(Tag.EPOCH, number(epoch))]
        r = await self.ask(Op.HELLO, fields, timeout_s)
        return Hello(
            r.number(Tag.VERSION), r.number(Tag.GENERATION), r.number(Tag.EPOCH), r.number(Tag.STARTED_MS)
        )

    async def start(
        self,
        exec_id: str,
        argv: Sequence[str],
        *,
        epoch: int,
        env: Mapping[str, str] | None = None,
        cwd: str = "",
        merge: bool = False,
        stdin: bool = False,
        ptrace: bool = False,
        timeout_ms: int = 0,
    ) -> Status:
        """Start `argv` once, whoever asks how often; returns when its program runs.

        `merge` sends standard error into stdout's journal. Without `stdin` it reads /dev/null.
        `ptrace` lets it debug its own processes. After `timeout_ms` (0: never) all it left gets SIGTERM, and
        what is still there two seconds later SIGKILL. Raises CommandNotStarted (no such program or directory;
        recorded, so the id is used up), Conflict (the id was used for something else), Fenced, Overloaded and
        DiskFull (nothing was recorded), SandboxNotRunning.
        """
        flags = StartFlag.MERGE * merge | StartFlag.STDIN * stdin | StartFlag.PTRACE * ptrace
        fields = self.start_fields(exec_id, argv, epoch, env or {}, cwd, flags, timeout_ms)
        return started(status_of(exec_id, await self.ask(Op.START, fields)))

    async def run(
        self, exec_id: str, argv: Sequence[str], *, epoch: int, wait_s: float, **options: object
    ) -> Status:
        """`start`, then `wait` for its end at most `wait_s`, in one round trip. Same options and errors."""
        return await self.run_prepared(exec_id, self._fields_of(exec_id, argv, epoch, options), wait_s)

    async def prepare(
        self, exec_id: str, argv: Sequence[str], *, epoch: int, **options: object
    ) -> Fields:
        """Have tppd make the process ready, for the `run_prepared` that will follow within 5 s if it does.

        Nothing is recorded or started, and nothing is promised. Raises as `run` does.
        """
        fields = self._fields_of(exec_id, argv, epoch, options)
        (await self._open_control()).tell(Op.PREPARE, fields)
        return fields

    async def run_prepared(self, exec_id: str, fields: Fields, wait_s: float) -> Status:
        """`run` of what `prepare` returned; needs no such process to be there."""
        fields = [*fields, (Tag.TIMEOUT_MS, number(int(wait_s * 1000)))]
        return started(status_of(exec_id, await self.ask(Op.START, fields, wait_s + REPLY_SECONDS)))

    def _fields_of(
        self, exec_id: str, argv: Sequence[str], epoch: int, options: dict[str, object]
    ) -> Fields:
        env = dict(options.pop("env", None) or {})  # type: ignore[call-overload]
        cwd, timeout_ms = str(options.pop("cwd", "") or ""), options.pop("timeout_ms", 0)
        flags = {k: bool(v) for k, v in options.items()}
        merge, stdin = flags.pop("merge", False), flags.pop("stdin", False)
        ptrace = flags.pop("ptrace", False)
        if flags:
            raise InvalidInput(f"unknown options: {', '.join(sorted(flags))}")
        assert isinstance(timeout_ms, int)
        chosen = StartFlag.MERGE * merge | StartFlag.STDIN * stdin | StartFlag.PTRACE * ptrace
        return self.start_fields(exec_id, argv, epoch, env, cwd, chosen, timeout_ms)

    @staticmethod
    def start_fields(
        exec_id: str, argv: Sequence[str], epoch: int, env: Mapping[str, str], cwd: str,
        flags: int, timeout_ms: int = 0,
    ) -> Fields:  # fmt: skip
        """The fields of START, checked. Raises InvalidInput."""
        journal.check_exec_id(exec_id)
        if not argv:
            raise InvalidInput("argv is empty")
        if any("\0" in text for text in (*argv, *env.keys(), *env.values(), cwd)):
            raise InvalidInput("a zero byte in a command, its environment or its directory")
        if any(not key or "=" in key for key in env):
            raise InvalidInput("an environment variable without a name, or with = in it")
        fields: Fields = [
            (Tag.EXEC_ID, exec_id.encode()),
            (Tag.EPOCH, number(epoch)),
            (Tag.FLAGS, number(flags)),
            (Tag.SPEC_HASH, spec_hash(argv, env, cwd, flags, timeout_ms).encode()),
            (Tag.LIMIT_MS, number(timeout_ms)),
        ]
        fields += [(Tag.ARG, os.fsencode(text)) for text in argv]
        fields += [(Tag.ENV, os.fsencode(f"{key}={value}")) for key, value in env.items()]
        return [*fields, (Tag.CWD, os.fsencode(cwd))] if cwd else fields

    async def status(self, exec_id: str) -> Status:
        """How it is now. Raises NotFound when this id was never started."""
        return status_of(exec_id, await self.ask(Op.STATUS, self._id(exec_id)))

    async def wait(
        self,
        exec_id: str,
        *,
        timeout_s: float,
        until: Literal["exit", "output", "closed"] = "exit",
        out_offset: int = 0,
        err_offset: int = 0,
    ) -> Status:
        """Return when it has ended, or time is up. `closed`: when its streams have ended too; `output`: then,
        or when one of them is longer than its offset."""
        fields = [
            *self._id(exec_id),
            (Tag.TIMEOUT_MS, number(int(timeout_s * 1000))),
            (Tag.UNTIL, number(_UNTIL[until])),
            (Tag.OUT_OFFSET, number(out_offset)),
            (Tag.ERR_OFFSET, number(err_offset)),
        ]
        return status_of(exec_id, await self.ask(Op.WAIT, fields, timeout_s + REPLY_SECONDS))

    async def stdin(
        self, exec_id: str, offset: int, data: bytes, *, epoch: int, eof: bool = False,
        timeout_s: float = REPLY_SECONDS,
    ) -> int:  # fmt: skip
        """Write at `offset` of its standard input; returns the next offset once all of it was taken.

        Bytes below the offset already taken are recognised and not written twice. `eof` closes it
        behind the data. Raises OffsetMismatch for a hole, CommandFinished when it ended or closed its
        input, DeadlineExceeded when it does not read (extra.expected: where to go on), Fenced.
        """
        sent, stop = 0, offset + len(data)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            piece = data[sent : sent + CHUNK_BYTES]
            last = sent + len(piece) == len(data)
            fields = [*self._id(exec_id), (Tag.EPOCH, number(epoch)), (Tag.OFFSET, number(offset + sent))]
            fields += [(Tag.DATA, piece), (Tag.FLAGS, number(1 if eof and last else 0))]
            taken = (await self.ask(Op.STDIN, fields, timeout_s)).number(Tag.OFFSET)
            sent = max(sent, min(taken, stop) - offset)
            if sent >= len(data):
                return taken
            if loop.time() > deadline:
                raise DeadlineExceeded(
                    f"{exec_id} does not read its standard input", "", {"expected": offset + sent}
                )

    async def signal(self, exec_id: str, signo: int, *, epoch: int, tree: bool = False) -> None:
        """Send a signal to its process group, as Ctrl-C does; with `tree`, to every process it left.

        Never repeated by itself: raises Unavailable when it is not known whether it was sent.
        Raises CommandFinished (with `tree`: and it left no process), NotFound, Fenced, InvalidInput (no such
        signal).
        """
        fields = [*self._id(exec_id), (Tag.EPOCH, number(epoch)), (Tag.SIGNO, number(signo))]
        await self.ask(Op.SIGNAL, [*fields, (Tag.FLAGS, number(int(tree)))], repeat=False)

    async def kill_tree(self, exec_id: str, *, epoch: int, timeout_s: float = REPLY_SECONDS) -> None:
        """Kill every process it left, daemons too; returns when the kernel says that none is there."""
        fields = [*self._id(exec_id), (Tag.EPOCH, number(epoch))]
        await self.ask(Op.KILL_TREE, fields, timeout_s)

    async def list(self) -> list[str]:
        """Ids of commands of which a process or an open stream is left."""
        reply = await self.ask(Op.LIST, [])
        return [data.decode() for tag, data in reply.fields if tag == Tag.EXEC_ID]

    async def processes(self) -> builtins.list[Process]:
        """Every process inside but tppd's own, by pid."""
        reply = await self.ask(Op.PROCESSES, [])
        return [process_of(data) for tag, data in reply.fields if tag == Tag.PROCESS]

    async def kill_all(self, *, epoch: int, timeout_s: float = REPLY_SECONDS) -> int:
        """Kill every process inside; how many there were. Returns when none of them is left."""
        return (await self.ask(Op.KILL_ALL, [(Tag.EPOCH, number(epoch))], timeout_s)).number(Tag.COUNT)

    @staticmethod
    def _id(exec_id: str) -> Fields:
        return [(Tag.EXEC_ID, journal.check_exec_id(exec_id).encode())]

    # ---- files ----------------------------------------------------------------------------------

    async def stat(self, path: str, *, follow: bool = True) -> Stat:
        """Raises NotFound, FileProblem."""
        return stat_of(path, await self.file_request(Op.STAT, path, [(Tag.FLAGS, number(int(follow)))]))

    async def read_file(self, path: str, offset: int = 0, limit: int | None = None) -> bytes:
        """Bytes of a regular file. Raises NotFound, FileProblem (a directory, a device, no right)."""
        parts, left = [], limit
        while left is None or left > 0:
            size = CHUNK_BYTES if left is None else min(left, CHUNK_BYTES)
            fields = [(Tag.OFFSET, number(offset)), (Tag.LIMIT, number(size))]
            data = (await self.file_request(Op.READ, path, fields)).bytes(Tag.DATA)
            parts.append(data)
            offset += len(data)
            if len(data) < size:
                break
            left = None if left is None else left - len(data)
        return b"".join(parts)

    async def write_file(
        self, path: str, data: bytes, mode: int | None = None, *, epoch: int, parents: bool = True
    ) -> None:
        """Replace the file at once (written aside, then renamed); a symlink's target is replaced.

        `mode` None keeps the mode of an existing file, else 0644. Raises FileProblem, DiskFull, Fenced.
        """
        write_id, last = random.getrandbits(62), max(0, (len(data) - 1) // CHUNK_BYTES)
        for index in range(last + 1):
            flags = (index == last) | 2 * parents | 4 * (index == 0)
            piece = data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
            await self._write(path, write_id, flags, piece, mode, epoch, repeat=last == 0)

    async def write_stream(
        self, path: str, pieces: AsyncIterator[bytes], mode: int | None = None, *, epoch: int,
        parents: bool = True, conditions: Sequence[tuple[int, bytes]] = (),
    ) -> Reply:  # fmt: skip
        """`write_file` for content that arrives in pieces (each at most 8 MiB) and is not kept in memory.

        The file appears when the last piece is there, if the `conditions` hold then. Nothing is left, and
        what was there stays, when the pieces end with an error, this is cancelled, or the caller dies.
        Not repeated: the pieces are consumed.
        """
        write_id, first, piece = random.getrandbits(62), True, await anext(pieces, b"")
        try:
            while True:
                following = await anext(pieces, None) if piece else None
                last = following is None
                flags, also = last | 2 * parents | 4 * first, conditions if last else ()
                reply = await self._write(path, write_id, flags, piece, mode, epoch, also, repeat=False)
                if following is None:
                    return reply
                first, piece = False, following
        except BaseException:
            if not first:
                await asyncio.shield(self._give_up(path, write_id, epoch))
            raise

    async def _give_up(self, path: str, write_id: int, epoch: int) -> None:
        with contextlib.suppress(TerminalError):  # its connection is gone, and with it the write
            await self._write(path, write_id, 8, b"", None, epoch, repeat=False)

    async def _write(
        self, path: str, write_id: int, flags: int, data: bytes, mode: int | None, epoch: int,
        conditions: Sequence[tuple[int, bytes]] = (), *, repeat: bool,
    ) -> Reply:  # fmt: skip
        fields = [(Tag.EPOCH, number(epoch)), (Tag.WRITE_ID, number(write_id)), (Tag.FLAGS, number(flags))]
        fields += [(Tag.DATA, data), *conditions] + ([] if mode is None else [(Tag.MODE, number(mode))])
        return await self.file_request(Op.WRITE, path, fields, repeat=repeat)

    async def mkdir(self, path: str, *, epoch: int, parents: bool = True, mode: int = 0o755) -> None:
        """Make a directory; with `parents` it may exist. Raises FileProblem, DiskFull, Fenced."""
        fields = [(Tag.EPOCH, number(epoch)), (Tag.MODE, number(mode)), (Tag.FLAGS, number(2 * parents))]
        await self.file_request(Op.MKDIR, path, fields)

    async def symlink(self, path: str, target: str, *, epoch: int, parents: bool = True) -> None:
        """Make `path` a symlink to `target`, in place of a file or symlink there. Raises FileProblem."""
        fields = [(Tag.EPOCH, number(epoch)), (Tag.TARGET, os.fsencode(target))]
        await self.file_request(Op.SYMLINK, path, [*fields, (Tag.FLAGS, number(2 * parents))])

    async def remove(self, path: str, *, epoch: int, recursive: bool = False) -> None:
        """Remove a file, a symlink (never what it points to) or a directory; what is gone is fine."""
        fields = [(Tag.EPOCH, number(epoch)), (Tag.FLAGS, number(int(recursive)))]
        await self.file_request(Op.REMOVE, path, fields, timeout_s=600.0)

    async def listdir(self, path: str) -> list[Stat]:
        """The entries, by name. Raises NotFound, FileProblem, TooLarge (over 100,000 entries)."""
        reply = await self.file_request(Op.LISTDIR, path, [])
        return sorted((entry_of(d) for t, d in reply.fields if t == Tag.NAME), key=lambda e: e.name)
