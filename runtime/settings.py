"""Every setting, in one frozen model: read once from TPP_* variables, handed to children the same way.

A setting `name` is the environment variable `TPP_NAME`. An empty variable counts as unset. `load`
reads nothing but the mapping it is given (and the password file when HOME is missing) and writes
nothing; `Settings.to_environ()` is its inverse, so the supervisor resolves addresses once and every
process below it sees the same values. Secrets are kept out of `repr`.

Paths: everything lives under `home` (mode 0700). One exception: Unix socket names end at 107 bytes,
and Ray puts its sockets deep below its directory, so a home whose name is long (or holds characters
that Ray's command lines cannot carry) gets a short private directory for Ray alone: `run_dir`.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from terminalpp.types.errors import HomeCorrupt, InvalidInput

DEFAULT_PORT = 7438
# 107 bytes of socket name less "/session_2026-11-22_22-16-23_668972_4194304/sockets/plasma_store"
RAY_DIR_MAX = 42
GIB = 1024**3
MIB = 1024**2


def _setting(default: Any, about: str, *, secret: bool = False, **limits: Any) -> Any:
    return Field(default, description=about, repr=not secret, validate_default=True, **limits)


class Settings(BaseModel):
    """The resolved configuration of one home. Field descriptions are the documentation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # where things are
    home: Path = Field(
        description="Directory that holds all state, mode 0700. Default: `$XDG_DATA_HOME/terminalpp`, "
        "else `~/.local/share/terminalpp`."
    )
    port: int = _setting(
        0, "Port of the gateway on 127.0.0.1. 0: the one remembered in the home, at first boot "
        f"{DEFAULT_PORT} or, where that is taken, any free one.", ge=0, le=65535)
    allowed_hosts: str | None = _setting(
        None, "Names, with commas between, that requests may call this server beside `localhost` and "
        "loopback addresses; `.example.com` allows all below it.", pattern=r"^[A-Za-z0-9.,: _-]*$")
    database_url: str | None = _setting(
        None, "PostgreSQL 16+ with pgvector. Unset: the embedded server.", secret=True)
    redis_url: str | None = _setting(None, "Redis 7+ or Valkey. Unset: the embedded server.", secret=True)
    ray_address: str | None = _setting(
        None, "Address `host:port` of a running Ray cluster (also read from RAY_ADDRESS). Unset: a local "
        "Ray head is started.")
    node_id: str = _setting(
        "local", "Durable name of this machine in the cluster.", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    log_level: Literal["debug", "info", "warning", "error"] = _setting(
        "info", "Least severe level that the services write to `logs/`.")

    disk_reserve_bytes: int = _setting(
        512 * MIB, "Room kept free on the file system of the home: below it new work is refused (507), while "
        "reading, stopping and deleting go on.", ge=0)

    objects_url: str | None = _setting(
        None, "Where contents of snapshots are kept: `s3://BUCKET/PREFIX`, with credentials and endpoint in "
        "the `AWS_*` variables. Unset: the folder `objects` of the home.")

    # the actor system
    cells_per_node: int | None = _setting(
        None, "Most cells (Ray actors) on this node. Unset: from its memory and CPUs.", ge=1, le=10_000)
    lease_seconds: float = _setting(
        10.0, "How long a cell owns an entity without renewing it; the longest wait after the loss of a "
        "whole machine.", ge=1, le=300)
    mailbox_max_depth: int = _setting(
        1000, "Messages that may wait for one entity; more are refused with 429.", ge=1)
    ray_cpus: int | None = _setting(None, "CPUs that the local Ray head offers. Unset: all.", ge=1)
    ray_object_store_bytes: int = _setting(
        80_000_000, "Shared memory of the local Ray head (our bytes do not pass through it).", ge=78_643_200)
    entity_registry: str = _setting(
        "actors.registry:ENTITIES", "`module:name` of the table of entity classes by kind.")
    preload_registry: str = _setting(
        "actors.registry:PRELOAD", "`module:name` of the table of modules that each group of cells "
        "imports ahead.")

    # models
    model: str | None = _setting(
        None, "Default model, a litellm model string. Unset: the first provider key found in the "
        "environment decides, else `scripted:demo`.")
    model_base_url: str | None = _setting(None, "Base URL of an OpenAI-compatible server.")
    model_api_key: str | None = _setting(
        None, "Key for TPP_MODEL_BASE_URL. Providers' own variables are read as well.", secret=True)
    model_tools: Literal["auto", "native", "text"] = _setting(
        "auto", "Tool calls: the model's own, the text protocol, or whichever the model has.")
    model_stream: bool = _setting(
        True, "Ask for streamed replies; `false` for a server that cannot stream.")
    model_max_tokens: int = _setting(8192, "Longest single reply, in tokens.", ge=1)
    model_timeout_seconds: float = _setting(300.0, "Longest silence of a model before a retry.", gt=0)
    model_retries: int = _setting(4, "Retries of one model call after 429, 5xx or a cut stream.", ge=0)

    # sandboxes
    sandbox_driver: Literal["auto", "docker", "bubblewrap"] = _setting(
        "auto", "What isolates sandboxes. `auto`: Docker if its daemon answers, else bubblewrap.")
    sandbox_image: str | None = _setting(
        None, "Default image. Unset: the one built from `images/sandbox/Dockerfile`.")
    image_base: str = _setting("ubuntu:22.04", "Base of the built-in image.")
    sandbox_network: Literal["none", "allowlist", "open"] = _setting(
        "none", "Network of a sandbox by default.")
    sandbox_network_allow: str | None = _setting(
        None, "What a sandbox with the network `allowlist` may reach by default: hosts and presets with "
        "commas between, such as `pypi,api.example.org`.")
    sandbox_host_ports: str | None = _setting(
        None, "Ports of this machine itself, with commas between, that a policy's `allow_private` may let a "
        "sandbox reach.", pattern=r"^[0-9, ]*$")
    vt: Literal["ghostty", "ring"] = _setting(
        "ghostty",
        "What keeps the screens of terminals: Ghostty's emulator (the ring where it cannot be loaded), "
        "or a ring of the last bytes, which is only printed again.",
    )
    sandbox_cpu: float = _setting(2.0, "CPUs of a sandbox by default.", gt=0)
    sandbox_memory_bytes: int = _setting(2 * GIB, "Memory of a sandbox by default.", ge=16 * MIB)
    sandbox_disk_bytes: int = _setting(10 * GIB, "Disk of a sandbox by default.", ge=16 * MIB)
    sandbox_pids: int = _setting(512, "Processes and threads of a sandbox by default.", ge=16)
    sandbox_nofile: int = _setting(4096, "Open files of a process in a sandbox by default.", ge=64)

    journal_sandbox_bytes: int = _setting(
        GIB, "What a sandbox keeps of its commands' output on disk: the oldest finished command goes first.",
        ge=16 * MIB)
    journal_home_bytes: int = _setting(
        8 * GIB, "The same for all sandboxes of the home together.", ge=16 * MIB)
    journal_days: float = _setting(
        30.0, "Days for which the output of a finished command is kept on disk; its extract stays in its "
        "record.", gt=0)

    # limits of a turn; each is checked before the next model call
    turn_max_steps: int = _setting(60, "Model calls of one turn, all agents together.", ge=1)
    turn_max_seconds: float = _setting(3600.0, "Wall clock of one turn, in seconds.", gt=0)
    turn_max_tokens: int = _setting(2_000_000, "Tokens of one turn, in and out.", ge=1)
    turn_max_usd: float = _setting(5.0, "Money of one turn, in US dollars, where prices are known.", gt=0)
    repair_rounds: int = _setting(
        3, "Times that failing tests or the critic may send the coder back.", ge=0)
    tool_timeout_seconds: float = _setting(
        120.0, "How long an agent waits for its command before it gets the partial output; the command "
        "goes on.", gt=0)
    test_timeout_seconds: float = _setting(900.0, "How long a test run may take, in seconds.", gt=0)
    observation_max_bytes: int = _setting(
        16_000, "Output of a tool that a model sees; more is cut in the middle.", ge=1000)

    # the gateway
    body_limit_bytes: int = _setting(2 * MIB, "Largest JSON body of a request.", ge=1024)
    file_limit_bytes: int = _setting(4 * GIB, "Largest file written into a sandbox.", ge=1024)
    archive_limit_bytes: int = _setting(4 * GIB, "Largest archive copied into a sandbox.", ge=1024)
    header_limit_bytes: int = _setting(
        65_536, "Largest head of a request (first line and headers); more is refused with 431.", ge=1024)
    connections_max: int = _setting(
        2048, "Connections to the gateway at once. Beyond it the one idle longest is closed; where none is "
        "idle, all but health is refused with 429.", ge=8)
    requests_max: int = _setting(
        64, "Requests under way at once; commands being started have as many places of their own.", ge=1)
    requests_per_account: int = _setting(48, "So many of them of one account.", ge=1)
    requests_queue: int = _setting(
        512, "Requests that wait for a place, a second at most; more are refused with 429.", ge=0)
    long_requests_max: int = _setting(
        1024, "Event streams, long polls, archives and waits at once; more are refused with 429.", ge=1)
    long_requests_per_account: int = _setting(768, "So many of them of one account.", ge=1)

    @property
    def host_ports(self) -> frozenset[int]:
        """`sandbox_host_ports` as numbers."""
        return frozenset(int(word) for word in (self.sandbox_host_ports or "").replace(",", " ").split())

    @property
    def logs_dir(self) -> Path:
        """Where services write what they print."""
        return self.home / "logs"

    @property
    def secrets_dir(self) -> Path:
        """Where tokens, passwords and keys lie, each in a file of mode 0600."""
        return self.home / "secrets"

    @property
    def state_file(self) -> Path:
        """`run/state.json`: what runs, its URL and its services; written by the supervisor."""
        return self.home / "run" / "state.json"

    @property
    def ray_dir(self) -> Path:
        """Ray's own directory: in the home, or in `run_dir` when the home's name is too long for Ray."""
        return run_dir(self.home) / "ray"

    def to_environ(self) -> dict[str, str]:
        """The TPP_* variables from which `load` makes an equal Settings again."""
        return {variable(name): str(value) for name in type(self).model_fields
                if (value := getattr(self, name)) is not None}


def variable(field: str) -> str:
    """The name of the environment variable of a setting."""
    return "TPP_" + field.upper()


def load(environ: Mapping[str, str]) -> Settings:
    """Settings from TPP_* variables. Raises InvalidInput naming each variable that is wrong."""
    values: dict[str, Any] = {
        name: environ[variable(name)] for name in Settings.model_fields if environ.get(variable(name))
    }
    if "ray_address" not in values and environ.get("RAY_ADDRESS"):
        values["ray_address"] = environ["RAY_ADDRESS"]
    values["home"] = Path(os.path.abspath(os.path.expanduser(values.get("home") or _default_home(environ))))
    try:
        return Settings(**values)
    except ValidationError as error:
        wrong = [f"{variable(str(e['loc'][0]))}: {e['msg']}" for e in error.errors(include_input=False)]
        raise InvalidInput("; ".join(wrong), "Correct or unset the variable.") from None


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """TPP_* names in the environment that are no setting (most often a typing error)."""
    known = {variable(name) for name in Settings.model_fields}
    return sorted(name for name in environ if name.startswith("TPP_") and name not in known)


def table() -> str:
    """All settings as a Markdown table, for docs/configuration.md (a test keeps the two equal)."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.is_required() or field.default is None else f"`{field.default}`"
        lines.append(f"| `{variable(name)}` | {default} | {field.description} |")
    return "\n".join(lines) + "\n"


def run_dir(home: Path) -> Path:
    """Where Ray's directory goes: `home`, or `/tmp/tpp-<uid>-<hash of home>` when Ray cannot use it.

    Ray needs a short name, and passes it on command lines that it splits at spaces. Pure: call
    `ensure_run_dir` before writing there.
    """
    ray = str(home / "ray")
    if len(os.fsencode(ray)) <= RAY_DIR_MAX and re.fullmatch(r"[A-Za-z0-9/._+-]+", ray):
        return home
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:10]
    return Path(f"/tmp/tpp-{os.getuid()}-{digest}")


def ensure_run_dir(home: Path) -> Path:
    """Make `run_dir(home)` and prove that it is ours alone. Raises HomeCorrupt when it is not.

    /tmp is shared: another account could have made the directory (or a link) first.
    """
    path = run_dir(home)
    path.mkdir(mode=0o700, parents=path == home, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise HomeCorrupt(f"{path} belongs to somebody else or is no directory")
    if stat.S_IMODE(found.st_mode) != 0o700:
        path.chmod(0o700)
    return path


def _default_home(environ: Mapping[str, str]) -> str:
    data = environ.get("XDG_DATA_HOME")
    if not data or not os.path.isabs(data):
        user = environ.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir
        data = os.path.join(user, ".local", "share")
    return os.path.join(data, "terminalpp")
