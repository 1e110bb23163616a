"""The way out of a sandbox, next to a direct connection over the host's loopback.

python -m bench.egress [N] [MIB]

A program (Perl, which every image has) asks a server on the host for one byte, N times, with a new connection
each, and then for MIB MiB: from the host directly, and from a bubblewrap sandbox through a tunnel of the
egress proxy, which runs here. The rounds take turns. The proxy's growth while MIB MiB pass is told too.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import re
import shlex
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from actors.egress.credentials import NoCredentials
from actors.egress.dialing import Dialer
from actors.egress.dialogue import Means
from actors.egress.policy import Policy
from actors.egress.refusal import Refused
from actors.egress.way import Way, take_listener
from actors.node.bubblewrap import Bubblewrap
from actors.node.driver import SandboxSpec
from actors.sandbox.tppd.client import Tppd
from bench.measure import row, table
from runtime.services import helper
from terminalpp.types.ids import new_id
from terminalpp.types.network import PROXY_PORT
from terminalpp.types.states import Network

MIB = 1024**2
ROUNDS = 5
# Port of the proxy (0: none), port of the server, rounds, bytes of each; prints the seconds of each round.
CLIENT = """
use IO::Socket::INET; use Time::HiRes "time";
my ($proxy, $port, $rounds, $bytes) = @ARGV;
for (1..$rounds) {
    my $begun = time;
    my $s = IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $proxy || $port) or die;
    $s->autoflush(1);
    print $s "CONNECT 127.0.0.1:$port HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n" if $proxy;
    sysread($s, my $head, 4096) if $proxy;
    print $s pack("Q", $bytes);
    my ($left, $data) = ($bytes);
    while ($left > 0) { my $n = sysread($s, $data, 1 << 20) or die; $left -= $n; }
    printf "%.6f\\n", time - $begun;
}
"""


def server(listener: socket.socket) -> None:
    """Sends as many bytes as each connection asks for."""
    block = bytes(MIB)
    while True:
        connection, _ = listener.accept()
        with connection:
            left = int.from_bytes(connection.recv(8, socket.MSG_WAITALL), "little")
            while left > 0:
                left -= connection.send(block[: min(left, MIB)])


def resident_kib() -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) if found else 0


async def sandbox(home: Path, port: int) -> tuple[Bubblewrap, str, Tppd, Way]:
    driver = Bubblewrap(home, await helper.build(home, lambda *_: None))
    spec = SandboxSpec(new_id(), network=Network.ALLOWLIST)
    started = await driver.start(spec)
    allowed = Policy.of([], [f"127.0.0.1:{port}"])

    async def policy() -> Policy:
        return allowed

    async def refused(refusal: Refused) -> None:
        raise AssertionError(refusal)

    means = Means(spec.sandbox_id, policy, refused, Dialer(host_ports=frozenset((port,))), NoCredentials())
    return driver, spec.sandbox_id, Tppd(started.run_dir), Way(await take_listener(started.run_dir), means)


async def main(n: int, mib: int) -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    port = listener.getsockname()[1]
    serving = multiprocessing.get_context("fork").Process(target=server, args=(listener,), daemon=True)
    serving.start()
    with tempfile.TemporaryDirectory(prefix="tpp-bench-") as folder:
        home = Path(folder)
        (home / "bin").mkdir()
        driver, id, tppd, way = await sandbox(home, port)

        async def asked(proxy: int, rounds: int, size: int) -> list[float]:
            words = ["perl", "-e", CLIENT, str(proxy), str(port), str(rounds), str(size)]
            if not proxy:
                done = await asyncio.to_thread(subprocess.run, words, capture_output=True, check=True)
                return [float(line) for line in done.stdout.split()]
            exec_id = new_id()
            line = f"{' '.join(map(shlex.quote, words))} > /home/user/out"
            ran = await tppd.run(exec_id, ["/bin/sh", "-c", line], epoch=1, wait_s=600)
            assert ran.record is not None
            assert ran.record.exit_code == 0
            return [float(line) for line in (await tppd.read_file("/home/user/out")).split()]

        names = {0: "direct, over the loopback", PROXY_PORT: "from a sandbox, through the proxy"}
        times: dict[int, list[float]] = {proxy: [] for proxy in names}
        rates: dict[int, list[float]] = {proxy: [] for proxy in names}
        before = resident_kib()
        for _ in range(ROUNDS):
            for proxy in names:
                times[proxy] += await asked(proxy, max(1, n // ROUNDS), 1)
                rates[proxy] += [mib / seconds for seconds in await asked(proxy, 1, mib * MIB)]
        table("one byte, a new connection each", [row(name, times[proxy]) for proxy, name in names.items()])
        for proxy, name in names.items():
            print(f"{name}: {sorted(rates[proxy])[ROUNDS // 2]:.0f} MiB/s (median of {ROUNDS} × {mib} MiB)")
        print(f"the proxy grew by {resident_kib() - before} KiB while {ROUNDS * mib} MiB passed")
        await way.close()
        await tppd.close()
        await driver.remove(id)
    serving.terminate()


if __name__ == "__main__":
    asyncio.run(main(*(int(word) for word in [*sys.argv[1:], "500", "256"][:2])))
