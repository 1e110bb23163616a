"""The options of a sandbox's container: every hardening flag in one table, tested from inside.

Pure but for the network: a spec in, arguments of Docker's `create` out. Each flag is asserted from within
a real sandbox by tests/docker/.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import docker
import docker.errors
from docker.types import LogConfig, Mount, Ulimit

from actors.node.driver import SandboxSpec
from terminalpp.types.states import Isolation

MIB = 1024**2
OOM_SCORE = 500
HELPER_NOFILE = 16384
LABEL_HOME = "terminalpp.home"
LABEL_SANDBOX = "terminalpp.sandbox"
LABEL_GENERATION = "terminalpp.generation"
LABEL_IMAGE = "terminalpp.image"
LABEL_BASE = "terminalpp.image.base"
LABEL_NOFILE = "terminalpp.nofile"

WORKSPACE = "/home/user"
TPPD = "/.tpp/bin/tppd"
RUN = "/.tpp/run"

# Only tppd itself holds these, under uid 0: to become the user (SETUID, SETGID), to empty the
# bounding set of its children (SETPCAP), to end them (KILL), to hand journals and files to their
# owners (CHOWN, DAC_OVERRIDE). Its children have none.
CAPABILITIES = ["SETUID", "SETGID", "SETPCAP", "KILL", "CHOWN", "DAC_OVERRIDE"]

# exec: compilers and package managers build and run things in /tmp. Counted against the memory limit: all
# that the user can fill, System V memory and /dev/shm (1/16 each) included, is 3/4 of it: `rm` still runs.
_TMPFS = {
    "/tmp": "rw,nosuid,nodev,exec,mode=1777,size={half}",
    "/var/tmp": "rw,nosuid,nodev,exec,mode=1777,size={eighth}",
    "/run": "rw,nosuid,nodev,noexec,mode=755,size=16m",
}
_RUNTIMES = {"runsc": Isolation.RUNSC, "kata": Isolation.KATA}


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose sandbox it is: tag of the home, uid inside, the tppd binary and run directory on the host; what
    its image is called, and the base of one that we built ("": somebody else's)."""

    tag: str
    uid: int
    tppd: str
    run_dir: str
    image: str = ""
    base: str = ""

    def volume(self, sandbox_id: str) -> str:
        """The name of the volume with a sandbox's workspace."""
        return volume_name(self.tag, sandbox_id)

    def labels(self, sandbox_id: str) -> dict[str, str]:
        """The labels that mark a sandbox's container as ours."""
        return {LABEL_HOME: self.tag, LABEL_SANDBOX: sandbox_id}


def network_name(tag: str) -> str:
    """The name of the network of a home's sandboxes."""
    return f"tpp-{tag}"


def volume_name(tag: str, sandbox_id: str) -> str:
    """The named volume that holds the workspace of a sandbox."""
    return f"tpp-{tag}-{sandbox_id}"


def options(
    spec: SandboxSpec, identity: Identity, image: str, info: dict[str, Any], network: str | None
) -> dict[str, Any]:
    """Arguments of `client.containers.create`. `info` is the daemon's; `network` None means none."""
    half, eighth = spec.memory_bytes // 2, spec.memory_bytes // 8
    shared = min(64 * MIB, spec.memory_bytes // 16)
    labels = identity.labels(spec.sandbox_id)
    labels |= {LABEL_GENERATION: str(spec.generation), LABEL_NOFILE: str(spec.nofile),
               LABEL_IMAGE: identity.image, LABEL_BASE: identity.base}
    return {
        "image": image,
        "name": f"{volume_name(identity.tag, spec.sandbox_id)}-g{spec.generation}",
        "entrypoint": [TPPD, "--run", RUN, "--uid", str(identity.uid), "--gid", str(identity.uid),
                       "--generation", str(spec.generation), *spec.journal_options(),
                       "--limit-nofile", str(spec.nofile)],
        "user": "0:0",
        "working_dir": "/",
        "environment": dict(spec.environment),
        "hostname": "sandbox",
        "labels": labels,
        "mounts": [
            Mount(TPPD, identity.tppd, type="bind", read_only=True),
            Mount(RUN, identity.run_dir, type="bind"),
            Mount(WORKSPACE, identity.volume(spec.sandbox_id), type="volume"),
        ],
        "tmpfs": {path: flags.format(half=half, eighth=eighth) for path, flags in _TMPFS.items()},
        "shm_size": shared,
        "sysctls": {"kernel.shmall": str(shared // os.sysconf("SC_PAGE_SIZE")), "kernel.msgmni": "256"},
        "read_only": True,
        "cap_drop": ["ALL"],
        "cap_add": list(CAPABILITIES),
        "security_opt": ["no-new-privileges:true"],
        "network_mode": network or "none",
        "mem_limit": spec.memory_bytes,
        "memswap_limit": spec.memory_bytes,  # equal to memory: no swap on top
        "nano_cpus": int(min(spec.cpu, float(info.get("NCPU") or spec.cpu)) * 1e9),
        "pids_limit": spec.pids,
        # tppd needs some for each command; what a command gets is `--limit-nofile`.
        "ulimits": [Ulimit(name="nofile", soft=HELPER_NOFILE, hard=max(HELPER_NOFILE, spec.nofile)),
                    Ulimit(name="core", soft=0, hard=0)],
        "oom_score_adj": OOM_SCORE,  # the machine's own services outlive a greedy sandbox
        "ipc_mode": "private",
        "init": False,  # tppd is the init
        "log_config": LogConfig(type=LogConfig.types.NONE),  # output goes to tppd's journals alone
        "restart_policy": {"Name": "no"},  # a restart is a new generation, which only the entity decides
        "healthcheck": {"test": ["NONE"]},  # an image's own health check would run commands as root
        "use_config_proxy": False,  # the person's proxy settings may hold a password
    }


def ensure_network(client: docker.DockerClient, identity: Identity) -> str:
    """The name of this home's bridge network, made if missing. Sandboxes on it cannot reach each other."""
    name = network_name(identity.tag)
    try:
        client.networks.get(name)
    except docker.errors.NotFound:
        client.networks.create(
            name, driver="bridge", check_duplicate=True, labels={LABEL_HOME: identity.tag},
            options={"com.docker.network.bridge.enable_icc": "false"})
    return name


def drop_network(client: docker.DockerClient, tag: str) -> None:
    """Remove this home's network unless a sandbox is on it: Docker has some thirty address ranges in all."""
    try:
        client.networks.get(network_name(tag)).remove()
    except docker.errors.NotFound:
        return
    except docker.errors.APIError as error:
        if error.status_code != 403:  # "has active endpoints"
            raise


def isolation_of(runtime: str) -> Isolation:
    """The isolation that an OCI runtime of this name gives; crun and its like count as runc."""
    name = runtime.rsplit("/", 1)[-1].lower()
    return next((value for key, value in _RUNTIMES.items() if key in name), Isolation.RUNC)


def limits_of(host_config: dict[str, Any], labels: dict[str, str]) -> dict[str, str]:
    """By what each limit is enforced, as the daemon recorded it (it drops what the kernel lacks)."""
    memory, swap = host_config.get("Memory") or 0, host_config.get("MemorySwap") or 0
    cpu, pids = host_config.get("NanoCpus") or 0, host_config.get("PidsLimit") or 0
    none = host_config.get("NetworkMode") == "none"
    missing = "not enforced: this kernel has no such control group"
    return {
        "cpu": f"cgroup: {cpu / 1e9:g} CPUs" if cpu else missing,
        "memory": (f"cgroup: {memory} bytes" + ("" if swap == memory else ", swap not limited"))
        if memory else missing,
        "pids": f"cgroup: {pids}" if pids > 0 else missing,
        "nofile": f"rlimit: {labels.get(LABEL_NOFILE, 'as the daemon has it')}",
        "disk": "not enforced: Docker's volumes have no quota",
        "network": "no device: a network namespace of its own" if none else "open: bridge",
    }
