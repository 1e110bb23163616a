"""The walls, asserted from inside a real sandbox: each property here is one that DESIGN promises."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from actors.sandbox.tppd.client import Tppd
from tests.sandbox.conftest import Make, Sandbox

PYTHON = "/usr/bin/env python3 -c"

SYSCALLS = r"""
import ctypes, errno, os, socket, struct
libc = ctypes.CDLL(None, use_errno=True)
arm = os.uname().machine == "aarch64"
def call(name, number, *args):
    ctypes.set_errno(0)
    result = libc.syscall(number, *args)
    print(name, "ok" if result >= 0 else errno.errorcode[ctypes.get_errno()])
call("unshare-user", 97 if arm else 272, 0x10000000)
call("unshare-net", 97 if arm else 272, 0x40000000)
call("unshare-files", 97 if arm else 272, 0x400)
call("clone-user", 220 if arm else 56, 0x10000000 | 17, 0, 0, 0, 0)
call("clone3", 435, 0, 0)
call("io_uring", 425, 1, 0)
call("bpf", 280 if arm else 321, 0, 0, 0)
call("keyctl", 219 if arm else 250, 0, 0, 0)
call("mount", 40 if arm else 165, 0, 0, 0, 0, 0)
call("setns", 268 if arm else 308, 0, 0)
call("ptrace", 117 if arm else 101, 0, 0, 0, 0)
call("userfaultfd", 282 if arm else 323, 0)
call("perf", 241 if arm else 298, 0, 0, 0, 0, 0)
call("sticky", 29 if arm else 16, 0, 0x5412, b"x")
for name, family in (("alg", 38), ("vsock", 40), ("packet", 17), ("unix", 1), ("inet", 2)):
    try:
        socket.socket(family, socket.SOCK_SEQPACKET if family == 38 else socket.SOCK_STREAM if family != 17
                      else socket.SOCK_RAW).close()
        print(name, "ok")
    except OSError as error:
        print(name, errno.errorcode[error.errno])
"""


async def status(sandbox: Sandbox) -> dict[str, str]:
    text = (await sandbox.sh("cat /proc/self/status")).text
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


async def test_who_a_command_is(sandbox: Sandbox) -> None:
    assert (
        await sandbox.sh("id -un; id -u; id -g; id -G; hostname")
    ).out == b"user\n1000\n1000\n1000\nsandbox\n"
    fields = await status(sandbox)
    assert fields["Uid"].split() == ["1000"] * 4
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(fields[name], 16) == 0, name
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"


async def test_system_calls_that_are_refused(sandbox: Sandbox) -> None:
    await sandbox.tppd.write_file("calls.py", SYSCALLS.encode(), epoch=sandbox.epoch)
    result = await sandbox.sh("python3 calls.py")
    seen = dict(line.split() for line in result.text.splitlines())
    # Docker's own filter, which stands before ours, refuses every unshare.
    assert seen.pop("unshare-files") == ("EPERM" if sandbox.driver.name == "docker" else "ok")
    refused = [name for name, said in seen.items() if said == "EPERM"]
    assert refused == [
        "unshare-user", "unshare-net", "clone-user", "io_uring", "bpf", "keyctl", "mount", "setns", "ptrace",
        "userfaultfd", "perf", "sticky", "alg", "vsock", "packet",
    ], seen  # fmt: skip
    assert seen["clone3"] == "ENOSYS"
    assert (seen["unix"], seen["inet"]) == ("ok", "ok")


async def test_tracing_is_a_choice(sandbox: Sandbox) -> None:
    probe = f"{PYTHON} 'import ctypes, os; print(ctypes.CDLL(None).ptrace(0, 0, 0, 0))'"
    assert (await sandbox.sh(probe)).text == "-1"
    assert (await sandbox.sh(probe, ptrace=True)).text == "0"


async def test_process_1_is_out_of_reach(sandbox: Sandbox) -> None:
    closed = "for f in fd mem environ maps root cwd exe; do head -c1 /proc/1/$f >/dev/null 2>&1 && echo $f; "
    closed += "ls /proc/1/$f/ >/dev/null 2>&1 && echo $f; done; ls /proc/$PPID/fd 2>/dev/null; true"
    assert (await sandbox.sh(closed)).text == ""
    fds = await sandbox.sh("ls /proc/self/fd")
    assert fds.text.split() == ["0", "1", "2", "3"]  # 3 is the directory that ls reads
    assert (await sandbox.sh("kill -9 1; kill -TERM 1; kill -INT 1; echo still")).text == "still"


async def test_nothing_of_the_host_shows(sandbox: Sandbox) -> None:
    for path in (
        "/root",
        "/home/user/../*",
        "/work",
        "/var/run/docker.sock",
        "/run/docker.sock",
        "/boot",
        "/srv",
    ):
        assert (await sandbox.sh(f"ls -A {path} 2>/dev/null | grep -v '^user$' | head -3")).text == "", path
    mounts = (await sandbox.sh("cut -d' ' -f2 /proc/self/mounts; cat /proc/self/mounts")).text
    assert "docker.sock" not in mounts
    assert (await sandbox.sh("ls -d /home/*")).text == "/home/user"
    assert (await sandbox.sh("cat /etc/shadow 2>/dev/null | wc -c")).text == "0"
    assert (await sandbox.sh("ps -e 2>/dev/null | wc -l")).text.isdigit()
    assert (await sandbox.sh("ls -d /proc/[0-9]* | wc -l")).text < "99"
    assert (await sandbox.sh("ls /.tpp/run 2>/dev/null | wc -l")).text == "0"


async def test_the_environment_of_the_host_does_not_pass(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TPP_TEST_SECRET", "sesame")
    sandbox = await make(environment={"GIVEN": "yes"})
    result = await sandbox.sh("env")
    assert b"GIVEN=yes" in result.out
    assert b"sesame" not in result.out


async def test_only_its_own_places_are_writable(sandbox: Sandbox) -> None:
    probe = "for d in / /etc /usr /usr/bin /dev /.tpp /bin /lib /proc/sys/kernel /sys; do "
    probe += "touch $d/x 2>/dev/null && echo $d; done; echo x > /proc/sys/kernel/hostname && echo sysctl"
    assert (await sandbox.sh(probe)).text == ""
    assert (
        await sandbox.sh("touch /tmp/x ~/x /dev/shm/x && rm /tmp/x ~/x /dev/shm/x && echo ok")
    ).text == "ok"
    # A volume of Docker's cannot be mounted so; no-new-privileges and no CAP_MKNOD do the same there.
    places = "/tmp" if sandbox.driver.name == "docker" else "/tmp|/home/user"
    for flag in ("nosuid", "nodev"):
        assert (
            await sandbox.sh(f"grep -E ' ({places}) ' /proc/self/mounts | grep -vc {flag}")
        ).text == "0"


async def test_no_network_by_default(sandbox: Sandbox) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    connect = f"{PYTHON} \"import socket; socket.create_connection(('127.0.0.1', {port}), 2)\""
    assert (await sandbox.sh(connect)).code == 1
    devices = await sandbox.sh("ls /sys/class/net 2>/dev/null; cut -d: -f1 -s /proc/net/dev | tr -d ' '")
    assert set(devices.text.split()) == {"lo"}
    assert sandbox.started.limits["network"] != "open"
    listener.close()


async def test_limits_are_what_was_reported(make: Make) -> None:
    sandbox = await make(memory_bytes=128 << 20, pids=60, nofile=200, disk_bytes=1 << 20)
    limits = sandbox.started.limits
    assert set(limits) >= {"cpu", "memory", "pids", "nofile", "disk", "network"}
    assert (await sandbox.sh("ulimit -n; ulimit -c")).text == "200\n0"
    eat = f"{PYTHON} 'x = bytearray(400 << 20); print(len(x))'"
    if "not enforced" not in limits["memory"]:
        assert (await sandbox.sh(eat)).out == b""
    if "rlimit" in limits["disk"]:
        await sandbox.sh("head -c 3000000 /dev/zero > big")
        assert (await sandbox.tppd.stat("big")).size_bytes == 1 << 20
    assert (await sandbox.sh("echo alive")).text == "alive"


async def test_few_open_files_are_the_commands_alone(make: Make) -> None:
    """The least that can be asked for: commands run, many at once, and each has as many."""
    sandbox = await make(nofile=64)
    assert "64" in sandbox.started.limits["nofile"] or sandbox.driver.name == "bubblewrap"
    ids = [await sandbox.begin("ulimit -n; until [ -e go ]; do sleep 0.05; done") for _ in range(40)]
    await sandbox.tppd.write_file("go", b"", epoch=1)
    for exec_id in ids:
        assert (await sandbox.tppd.wait(exec_id, timeout_s=30)).record.exit_code == 0
        assert sandbox.output(exec_id) == b"64\n"


async def test_the_socket_is_reached_from_the_host_alone(sandbox: Sandbox) -> None:
    mode = os.stat(sandbox.run_dir).st_mode & 0o777
    assert mode == 0o700
    find = "find / -name ctl.sock -not -path '/proc/*' 2>/dev/null; find / -xdev -type s 2>/dev/null | head"
    assert (await sandbox.sh(find)).text == ""


async def test_a_client_of_another_thread_is_served(sandbox: Sandbox) -> None:
    import asyncio

    seen: list[int] = []

    async def hello() -> None:
        tppd = Tppd(sandbox.run_dir)
        seen.append((await tppd.hello()).version)
        await tppd.close()

    thread = threading.Thread(target=lambda: asyncio.run(hello()))
    thread.start()
    await asyncio.to_thread(thread.join)
    assert len(seen) == 1
