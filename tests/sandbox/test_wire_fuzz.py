"""tppd under a stream of wrong, half and hostile frames, built with the address and undefined-behaviour
sanitizers.

Every client is the host's, so this is no boundary to an attacker; but tppd is process 1, and a frame that
made it fall would take a sandbox with all its commands. It runs as in a real sandbox (bubblewrap), so that
whatever a mutated frame starts or removes is inside. Seeded: the seed is in the message of a failure.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from actors.node.bubblewrap import Bubblewrap
from actors.node.driver import SandboxSpec
from actors.sandbox.tppd.client import Tppd
from actors.sandbox.tppd.protocol import Op, Tag, number
from terminalpp.types.ids import new_id
from tests.sandbox.conftest import ROOT, Sandbox

SANITIZED = [
    "-std=c11", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-static-libasan",
    "-static-libubsan", "-pthread",
]  # fmt: skip
NUMBERS = [0, 1, 2, 3, 7, 8, 9, 24, 80, 1000, 1001, 65_535, 2**31, 2**32, 2**62, 2**63 - 1, -1, -(2**63)]
PATHS = [
    b"a",
    b"b/c",
    b".",
    b"..",
    b"/",
    b"/etc/passwd",
    b"/proc/1/mem",
    b"x" * 300,
    b"y/" * 2000,
    b"",
    b"\0",
    b"\xff",
]
NUMBERED = (
    *(Tag.FLAGS, Tag.OFFSET, Tag.LIMIT, Tag.TIMEOUT_MS, Tag.ROWS, Tag.COLS),
    *(Tag.OWNER, Tag.SIGNO, Tag.DEPTH, Tag.UNTIL, Tag.MODE, Tag.LIMIT_MS),
)
COMMANDS = [[b"true"], [b"cat"], [b"sh", b"-c", b"echo x; sleep 0.05"], [b"/no/such"], [b""], []]
TEXTS = [b"", b"a" * 64, b"0" * 64, b"*", b"HOME=/", b"=", b"A=" + b"b" * 5000, bytes(range(256))]


@pytest.fixture(scope="module")
async def hardened(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sandbox]:
    """A sandbox whose tppd stops at the first wrong access."""
    folder = tmp_path_factory.mktemp("sanitized")
    binary = folder / "tppd"
    sources = sorted(str(path) for path in (ROOT / "tppd").glob("*.c"))
    subprocess.run(["cc", *SANITIZED, "-o", str(binary), *sources], check=True)
    for above in (folder, *folder.parents[:3]):
        above.chmod(above.stat().st_mode | 0o055)
    driver = Bubblewrap(folder / "home", binary)
    spec = SandboxSpec(new_id(), memory_bytes=2 << 30)
    started = await driver.start(spec)
    one = Sandbox(driver, spec, started, Tppd(started.run_dir))
    yield one
    await one.tppd.close()
    await driver.remove(spec.sandbox_id)


class Fuzz:
    """Frames from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.ids = [new_id().encode() for _ in range(6)]

    def frame(self) -> bytes:
        r = self.random
        op = r.choice([*Op, *Op, 0, 15, 200])
        fields = b"".join(self.field(int(tag), value) for tag, value in self.plausible(op))
        for _ in range(r.choice([0, 0, 1, 3])):
            fields += self.field(r.choice([*map(int, Tag), 0, 255]), self.value())
        body = struct.pack("<BI", op, r.getrandbits(32)) + fields
        data = bytearray(struct.pack("<I", len(body)) + body)
        for _ in range(r.choice([0, 0, 0, 1, 4])):  # bits turn
            data[r.randrange(len(data))] ^= 1 << r.randrange(8)
        match r.randrange(40):
            case 0:
                return bytes(data[: r.randrange(len(data))])
            case 1:
                return struct.pack("<I", r.choice([0, 1, 4, 5, 2**24, 2**24 + 1, 2**32 - 1])) + bytes(
                    data[4:]
                )
            case 2:
                return r.randbytes(r.randrange(200))
        return bytes(data)

    def field(self, tag: int, value: bytes) -> bytes:
        size = len(value) if self.random.random() < 0.98 else self.random.choice([0, 1, 2**31, 2**32 - 1])
        return struct.pack("<BI", tag, size) + value

    def value(self) -> bytes:
        r = self.random
        kind = r.randrange(4)
        if kind == 0:
            return number(r.choice(NUMBERS))
        return r.choice([TEXTS, PATHS, self.ids][kind - 1])

    def plausible(self, op: int) -> list[tuple[int, bytes]]:
        r = self.random
        found: list[tuple[int, bytes]] = [(Tag.EPOCH, number(r.choice([1, 1, 1, 2, 3, r.choice(NUMBERS)])))]
        if op >= Op.STAT:
            found += [
                (Tag.PATH, r.choice(PATHS)),
                (Tag.TARGET, r.choice(PATHS)),
                (Tag.WRITE_ID, number(r.randrange(4))),
            ]
        else:
            found.append((Tag.EXEC_ID, r.choice(self.ids)))
        if op in (Op.START, Op.PREPARE):
            found += [(Tag.SPEC_HASH, b"%064x" % r.randrange(3))] + [
                (Tag.ARG, one) for one in r.choice(COMMANDS)
            ]
            found += [(Tag.ENV, r.choice(TEXTS)), (Tag.CWD, r.choice(PATHS))]
        if op in (Op.READ_FILES, Op.WRITE_FILES):
            found += [(Tag.NAME, self.item(op)) for _ in range(r.randrange(5))]
        if op == Op.WALK and r.random() < 0.5:
            found.append((Tag.AFTER, r.choice([*PATHS, b"", b"a", b"a/b", b"zz/\xff"])))
        for tag in NUMBERED:
            if r.random() < 0.4:
                found.append((tag, number(r.choice(NUMBERS[:8] if r.random() < 0.7 else NUMBERS))))
        if r.random() < 0.5:
            found.append((Tag.DATA, r.randbytes(r.choice([0, 1, 100, 70_000]))))
        if r.random() < 0.3:
            found.append((Tag.WRITER, r.choice([b"anna", b"", b"w" * 64, b"w" * 65, b"\0"])))
        return found


    def item(self, op: int) -> bytes:
        """A name to read, or an entry to make."""
        r = self.random
        path = r.choice([*PATHS, b"a", b"a/b", b"a/b/c", b"../x", b"", b"n" * 300])
        if op == Op.READ_FILES:
            return path
        kind = r.choice([0, 0, 0o100000, 0o100000, 0o040000, 0o120000, 0o010000, r.getrandbits(32)])
        length = len(path) if r.random() < 0.9 else r.choice([0, 1, 2**16 - 1])
        data = r.choice([b"", b"x", bytes(70_000), r.randbytes(500)])
        when = r.choice([0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 255])
        stamp = r.randbytes(r.choice([24, 24, 3])) if when & 3 == 2 else b""
        head = struct.pack("<IHB", kind | r.choice([0o644, 0o755, 0, 0o777]), length, when)
        return head + stamp + path + data


async def alive(sandbox: Sandbox, log: str) -> None:
    """It answers, and runs a command."""
    tppd = Tppd(sandbox.run_dir)
    try:
        told = await tppd.hello()
        if told.epoch < 2**62:
            done = await tppd.run(new_id(), ["true"], epoch=told.epoch + 1, wait_s=20)
            assert done.record is not None
            assert done.record.exit_code == 0
    except Exception as error:
        raise AssertionError(f"{log}: {error!r}\n{sanitizer_said(sandbox)}") from error
    finally:
        await tppd.close()


def sanitizer_said(sandbox: Sandbox) -> str:
    found = [
        path for path in Path(sandbox.run_dir).parent.rglob("*") if path.is_file() and "log" in path.name
    ]
    return "\n".join(path.read_text(errors="replace")[-4000:] for path in found)


def connected(run_dir: str) -> socket.socket:
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.open(run_dir, os.O_PATH)
    try:
        line.connect(f"/proc/self/fd/{folder}/ctl.sock")
    finally:
        os.close(folder)
    line.setblocking(False)
    return line


def drain(line: socket.socket) -> bool:
    """Take what was answered; False when the other side has closed."""
    try:
        while data := line.recv(1 << 20):
            del data
        return False
    except BlockingIOError:
        return True
    except OSError:
        return False


def assault(run_dir: str, seed: int, count: int) -> int:
    fuzz, lines, sent = Fuzz(seed), [], 0
    for _ in range(count):
        if not lines or fuzz.random.random() < 0.02:
            lines.append(connected(run_dir))
        line = fuzz.random.choice(lines)
        try:
            line.send(fuzz.frame())
            sent += 1
        except OSError:
            pass  # cut off for what it sent: as it should
        if not drain(line) or fuzz.random.random() < 0.02:
            line.close()
            lines.remove(line)
        while len(lines) > 30:
            lines.pop(0).close()
    for line in lines:
        line.close()
    return sent


@pytest.mark.parametrize(
    "seconds", [8, pytest.param(600, marks=[pytest.mark.chaos, pytest.mark.timeout(1200)])]
)
async def test_no_frame_brings_it_down(hardened: Sandbox, seconds: float) -> None:
    seed, sent, until = random.SystemRandom().getrandbits(32), 0, time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            sent += await asyncio.to_thread(assault, hardened.run_dir, seed, 1500)
        except ConnectionRefusedError:
            raise AssertionError(f"seed {seed}: it is gone\n{sanitizer_said(hardened)}") from None
        await alive(hardened, f"seed {seed}, {sent} frames")
        seed += 1
    assert sent > 1000
    sys.stdout.write(f"{sent} frames in {seconds} s\n")
