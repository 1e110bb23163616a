"""What the gateway answers, as types: JSON objects stay dictionaries, byte answers are dataclasses.

Times are RFC 3339 in UTC, ids are UUIDs, sizes are bytes, durations are milliseconds, money is US
dollars. A field that is not known yet is null. New fields may appear; none is ever renamed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict


class Sandbox(TypedDict):
    """A sandbox's record."""

    id: str
    name: str
    status: str                      # stopped | starting | running | error
    status_detail: str | None        # what it does or why it failed, one line
    paused: bool                     # it runs, and its processes are frozen
    quarantined: str | None          # why it was put aside, null when it was not
    image: str | None
    network: str | None              # none | allowlist | open
    driver: str | None               # docker | bubblewrap
    isolation: str | None            # runc | runsc | kata | bwrap
    node_id: str | None
    generation: int
    workspace: str | None
    resource_limits: dict[str, Any]
    limits: dict[str, str]           # by which means each is enforced, or "not enforced: why"
    helper: str | None               # another uid | same uid, filtered
    image_id: str | None             # digest of the image it was last started from
    image_base: str | None           # what the built-in image was built from
    auto_sleep_after_minutes: int | None
    created_at: str | None
    updated_at: str | None
    last_activity_at: str | None


class ExecutionListed(TypedDict):
    """A command in a list: all but its output."""

    id: str
    sandbox_id: str
    command: str
    working_directory: str
    status: str                      # pending | running | completed | failed | killed
    exit_code: int | None
    reason: str | None               # why it failed or was killed: lost, timeout, …
    stdout_bytes: int
    stderr_bytes: int
    truncated: bool
    duration_ms: int | None
    agent: str | None
    conversation_id: str | None
    created_at: str | None
    started_at: str | None
    completed_at: str | None


class Execution(ExecutionListed):
    """A command's record."""

    stdout: str                      # the bounded head (and tail) of the output; the rest: `output`
    stderr: str


class Process(TypedDict):
    """A process inside a sandbox."""

    pid: int
    parent_pid: int
    command_id: str | None
    name: str
    argv: list[str]
    state: str
    cpu_ms: int
    memory_bytes: int
    started_at: str | None


class Conversation(TypedDict):
    """A conversation's record."""

    id: str
    sandbox_id: str
    title: str | None
    model: str | None
    mode: str                        # team | single
    workspace: str
    status: str                      # active | archived | deleted
    quarantined: str | None          # why it was put aside, null when it was not
    settings: dict[str, Any]
    total_tokens: int
    cost_usd: float
    last_seq: int                    # the highest event sequence number
    created_at: str | None
    updated_at: str | None


class Quarantine(TypedDict):
    """An entity that was put aside; `messages` and `actions` wait for its release."""

    kind: str
    id: str
    code: str
    reason: str
    since: str
    failures: int
    messages: int
    actions: int


class DeadLetter(TypedDict):
    """A message or an action that failed for good; `payload` is cut and without what may be a secret."""

    id: str
    source: str                      # mailbox | outbox
    source_id: str
    kind: str
    entity_id: str
    method: str
    payload: Any
    code: str
    reason: str
    attempts: int
    created_at: str
    replayed_at: str | None


class Message(TypedDict):
    """A message of a conversation, a person's or the team's."""

    id: str
    seq: int                         # orders; it may skip numbers
    role: str                        # user | assistant | system | tool
    content: str
    metadata: dict[str, Any] | None  # of an answer: turn_id, outcome
    created_at: str | None


class Model(TypedDict):
    """A model that can be asked for."""

    id: str
    object: str                      # model
    created: int                     # not known: 0
    owned_by: str
    default: bool
    scripted: bool


class Agent(TypedDict):
    """An agent of a conversation."""

    id: str
    conversation_id: str
    role: str
    name: str
    status: str                      # active | paused | terminated
    created_at: str | None
    updated_at: str | None


class Uploaded(TypedDict):
    """What came out of an archive that was put into a sandbox."""

    files: int
    directories: int
    symlinks: int
    bytes: int


class File(TypedDict):
    """A file or directory, or what else there is at a path."""

    path: str                        # as text: what is no UTF-8 is U+FFFD
    path_raw: str                    # its bytes, percent-encoded
    name: str
    type: str                        # file | directory | symlink | other
    size: int
    mode: str                        # four octal digits
    modified_at: str | None
    target: str | None               # of a symlink
    target_raw: str | None
    etag: str | None                 # of a regular file that is not being written to just now


class FileListed(TypedDict):
    """An entry of a directory's list."""

    path: str
    path_raw: str
    name: str
    type: str
    size: int
    mode: str
    modified_at: str | None
    target: str | None
    target_raw: str | None
    error: str | None                # why what is in this directory could not be listed


class Event(TypedDict):
    """One line of a conversation's log. `seq` counts from 1 without a gap."""

    seq: int
    type: str
    actor: str
    created_at: str
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Output:
    """A piece of a command's output. `gap_bytes` > 0: so many bytes before `offset` were dropped by the
    journal's bound. `exited`: the command has ended; `ended`: nothing follows `next_offset`, ever (processes
    that the command left may print for longer than it runs)."""

    data: bytes
    offset: int
    next_offset: int
    gap_bytes: int
    exited: bool
    ended: bool


@dataclass(frozen=True, slots=True)
class OutputEvent:
    """One event of a command's output. `kind`: stdout, stderr (`data` begins at `offset` of `stream`), gap
    (`gap_bytes` from `offset` on were dropped by the journal's bound), exited (its own process has ended;
    what it left may still print), end. `record`, of the last two: status, exit_code, reason, …"""

    kind: str
    stream: str | None = None
    offset: int = 0
    data: bytes = b""
    gap_bytes: int = 0
    record: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Diff:
    """What a conversation changed: a patch for `git apply`, per file `{path, added, removed}`, and what stays
    in the sandbox: `{path, files, why, lost}`, where `lost` means by no rule."""

    patch: bytes
    files: list[dict[str, Any]]
    left: list[dict[str, Any]]


class TerminalListed(TypedDict):
    """A terminal in a list."""

    id: str
    sandbox_id: str
    conversation_id: str | None
    agent: str | None                # whose it is; null: a person's
    name: str
    command: str                     # empty: a shell
    cwd: str
    cols: int
    rows: int
    status: str                      # starting | running | ended | failed | lost
    exit_code: int | None
    signal: int | None
    reason: str | None
    output_bytes: int                # once it has ended
    created_at: str
    started_at: str | None
    ended_at: str | None


class Viewer(TypedDict):
    """Who looks at a terminal."""

    id: str
    name: str
    role: str                        # writer | viewer
    agent: bool
    asks: bool                       # for control


class Terminal(TerminalListed):
    """A terminal's record, with who looks at it now."""

    title: str
    policy: str                      # latest | smallest | fixed
    controller: str | None           # the viewer that types
    viewers: list[Viewer]


class ScreenText(TypedDict):
    """What stands on a terminal's screen. `cursor`: column, row (from 0), visible."""

    lines: list[str]
    cols: int
    rows: int
    cursor: dict[str, Any]
    alternate: bool                  # a program has taken the whole screen
    title: str
    lines_above: int
    offset: int                      # so many bytes of output are on it
    status: str
    history: list[str] | None
