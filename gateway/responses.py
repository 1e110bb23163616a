"""The shapes of all answers, for OpenAPI; and rows of the database as those shapes.

Routes return plain JSON made here; the classes document it and are checked against it by a test.
A row may have more columns than an answer has fields, and an answer never shows a user id, a host
path or an environment variable.

Longer than 400 lines because it is a list: each answer is one shape, and they are looked up here.
"""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse

from gateway.requests import SANDBOX_EXAMPLE
from terminalpp.types import text
from terminalpp.types.states import AgentRole, AgentState, ExecutionState, Isolation, Network, SandboxState
from terminalpp.types.times import moment

Id = Annotated[str, Field(json_schema_extra={"format": "uuid"})]
Time = Annotated[
    str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$", json_schema_extra={"format": "date-time"})
]
Count = Annotated[int, Field(ge=0)]

_ID = "7d0c4d57-0d53-4a34-a1a1-3a1f0f0c9c11"
_TIME = "2026-11-22T10:00:00.000000Z"


# Made once: `json.dumps` makes one at each call that does not take its defaults.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class Json(JSONResponse):
    """JSON that can always be sent: what is no text in it (a file name of stray bytes) shows as U+FFFD."""

    def render(self, content: Any) -> bytes:
        """The content as JSON bytes."""
        try:
            return _encode(content).encode()
        except UnicodeEncodeError:
            return _encode(text.clean(content)).encode()


_QUARANTINED = (
    "Why it was put aside after defects of the server; null when it was not. It can still be stopped, "
    "cancelled, deleted and read."
)


class Answer(BaseModel):
    """The base of all answers: fields that are not declared are refused."""

    model_config = ConfigDict(extra="forbid")


def example(**values: Any) -> ConfigDict:
    """A shape's configuration with an example of it."""
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [values]})


class Sandbox(Answer):
    """A sandbox's record."""

    id: Id
    name: str
    status: SandboxState
    status_detail: str | None
    paused: bool = Field(description="It runs, and its processes are frozen.")
    quarantined: str | None = Field(description=_QUARANTINED)
    image: str | None
    network: Network | None
    driver: Literal["bubblewrap", "docker"] | None
    isolation: Isolation | None
    node_id: str | None
    generation: Count
    workspace: str | None
    resource_limits: dict[str, Any]
    limits: dict[str, str] = Field(
        description='By which means each limit was enforced at the last start, or "not enforced: why".')
    helper: str | None = Field(description="Whether commands run under another uid than the helper.")
    image_id: str | None = Field(description="Digest of the image that it was last started from.")
    image_base: str | None = Field(description="What the built-in image was built from.")
    auto_sleep_after_minutes: Count | None
    created_at: Time | None
    updated_at: Time | None
    last_activity_at: Time | None

    model_config = example(
        id=SANDBOX_EXAMPLE, name="parser", status="running", status_detail=None, paused=False,
        quarantined=None, image=None, network="none",
        driver="bubblewrap", isolation="bwrap", node_id="local", generation=1, workspace=None,
        resource_limits={"cpu": "1", "memory": "1GB", "disk": "10GB"}, auto_sleep_after_minutes=60,
        limits={"memory": "cgroup v2", "disk": "not enforced: Docker's volumes have no quota"},
        helper="another uid", image_id=None, image_base=None,
        created_at=_TIME, updated_at=_TIME, last_activity_at=_TIME,
    )  # fmt: skip


class ExecutionListed(Answer):
    """A command in a list: all but its output."""

    id: Id
    sandbox_id: Id
    command: str
    working_directory: str
    status: ExecutionState
    exit_code: int | None
    reason: str | None
    stdout_bytes: Count
    stderr_bytes: Count
    truncated: bool
    duration_ms: Count | None
    agent: AgentRole | None
    conversation_id: Id | None
    created_at: Time | None
    started_at: Time | None
    completed_at: Time | None

    model_config = example(
        id=_ID, sandbox_id=SANDBOX_EXAMPLE, command="echo hello", working_directory="/home/user",
        status="completed", exit_code=0, reason="exited", stdout_bytes=6, stderr_bytes=0, truncated=False,
        duration_ms=2, agent=None, conversation_id=None, created_at=_TIME, started_at=_TIME,
        completed_at=_TIME,
    )  # fmt: skip


class Execution(ExecutionListed):
    """A command's record."""

    stdout: str
    stderr: str

    model_config = example(
        id=_ID, sandbox_id=SANDBOX_EXAMPLE, command="echo hello", working_directory="/home/user",
        status="completed", exit_code=0, reason="exited", stdout="hello\n", stderr="", stdout_bytes=6,
        stderr_bytes=0, truncated=False, duration_ms=2, agent=None, conversation_id=None, created_at=_TIME,
        started_at=_TIME, completed_at=_TIME,
    )  # fmt: skip


class Conversation(Answer):
    """A conversation with its totals."""

    id: Id
    sandbox_id: Id
    title: str | None
    model: str | None
    mode: Literal["team", "single"]
    workspace: str
    status: Literal["active", "archived"]
    quarantined: str | None = Field(description=_QUARANTINED)
    settings: dict[str, Any]
    total_tokens: Count
    cost_usd: Annotated[float, Field(ge=0)]
    last_seq: Count
    created_at: Time | None
    updated_at: Time | None

    model_config = example(
        id=_ID, sandbox_id=SANDBOX_EXAMPLE, title=None, model="openai/gpt-4o", mode="team",
        workspace="/home/user/project", status="active", quarantined=None,
        settings={"test_command": "pytest -q"}, total_tokens=0, cost_usd=0.0, last_seq=0, created_at=_TIME,
        updated_at=_TIME,
    )  # fmt: skip


class Agent(Answer):
    """A member of a conversation's team."""

    id: Id
    conversation_id: Id
    role: AgentRole
    name: str
    status: AgentState
    created_at: Time | None
    updated_at: Time | None

    model_config = example(
        id=_ID, conversation_id=_ID, role="coder", name="coder", status="active", created_at=_TIME,
        updated_at=_TIME,
    )  # fmt: skip


class SandboxPage(Answer):
    """A page of sandboxes."""

    items: list[Sandbox]
    next_cursor: str | None


class ExecutionPage(Answer):
    """A page of commands."""

    items: list[ExecutionListed]
    next_cursor: str | None


class ConversationPage(Answer):
    """A page of conversations."""

    items: list[Conversation]
    next_cursor: str | None


class AgentPage(Answer):
    """A page of agents."""

    items: list[Agent]
    next_cursor: str | None


class Uploaded(Answer):
    """The numbers of what was unpacked."""

    model_config = example(files=12, directories=3, symlinks=1, bytes=48213)

    files: Count
    directories: Count
    symlinks: Count
    bytes: Count


_FILE = {
    "path": "/home/user/a.py", "path_raw": "/home/user/a.py", "name": "a.py", "type": "file", "size": 120,
    "mode": "0644", "modified_at": _TIME, "target": None, "target_raw": None,
}  # fmt: skip


class AnyFile(Answer):
    """An entry of a directory. `…_raw`: its bytes percent-encoded; as text, what is no UTF-8 is U+FFFD."""

    path: str
    path_raw: str
    name: str
    type: Literal["file", "directory", "symlink", "other"]
    size: int
    mode: str = Field(description="Four octal digits.")
    modified_at: str | None
    target: str | None = Field(description="Of a symlink.")
    target_raw: str | None


class File(AnyFile):
    """A file, directory or link, with its ETag."""

    model_config = example(**_FILE, etag='"2c7fe5-78-18eb7b4b75e60fb3-18eb7b4b75e60fb3"')

    etag: str | None = Field(description="Of a regular file that is not being written to just now.")


class FileListed(AnyFile):
    """A file, directory or link, in a list."""

    model_config = example(**_FILE, error=None)

    error: str | None = Field(description="Why what is in this directory could not be listed.")


class FilePage(Answer):
    """A page of a directory."""

    items: list[FileListed]
    next_cursor: str | None


class Message(Answer):
    """A message of a person or of the team."""

    model_config = example(
        id=_ID, seq=1, role="user", content="Fix it.", metadata={}, created_at=_TIME
    )

    id: str
    seq: int
    role: Literal["user", "assistant", "system", "tool"]
    content: str
    metadata: dict[str, Any] | None = Field(description="Of an answer: `turn_id` and `outcome`.")
    created_at: str | None


class MessagePage(Answer):
    """A page of messages."""

    items: list[Message]
    next_cursor: str | None


class Accepted(Answer):
    """A message was accepted; its turn runs or waits."""

    model_config = example(message_id=_ID)

    message_id: Id


class Cancelled(Answer):
    """Whether a turn was running."""

    model_config = example(cancelled=True)

    cancelled: bool


class Written(Answer):
    """The offset at which to go on writing."""

    model_config = example(offset=42)

    offset: Count


class Event(Answer):
    """Something that happened in a conversation; its payload has a declared shape."""

    model_config = example(
        seq=7, type="command.started", actor="coder", created_at=_TIME,
        payload={"exec_id": _ID, "command": "pytest -q", "cwd": "/home/user/project", "agent": "coder"},
    )  # fmt: skip

    seq: Annotated[int, Field(ge=1)]
    type: str
    actor: str
    created_at: Time
    payload: dict[str, Any]


class OutputEvent(Answer):
    """`data` of `…/output/stream`, of every kind of event together; each has its own of these fields."""

    model_config = example(stream="stdout", offset=0, text="hello\n")

    stream: Literal["stdout", "stderr"] | None = Field(None, description="Of stdout, stderr and gap.")
    offset: int | None = Field(None, description="Of the first byte, or of the first that is gone.")
    text: str | None = Field(None, description="The bytes, where they are UTF-8.")
    base64: str | None = Field(None, description="The bytes, where they are not, or where it was asked for.")
    bytes: int | None = Field(None, description="Of gap: so many are gone.")
    status: str | None = Field(None, description="Of exited and end, as in the command's record.")
    exit_code: int | None = None
    reason: str | None = None
    duration_ms: int | None = None
    completed_at: str | None = None
    stdout_bytes: int | None = None
    stderr_bytes: int | None = None


class Patch(Answer):
    """The patch with the team's changes, and the list of what stays in the sandbox."""

    model_config = example(
        patch="ZGlmZiAtLWdpdCBhL2EgYi9hCg==",
        files=[{"path": "a", "added": 1, "removed": 0}],
        left=[{"path": "node_modules", "files": 412, "why": "dependencies", "lost": False}],
    )

    patch: str
    files: list[dict[str, Any]]
    left: list[dict[str, Any]] = Field(
        description="What stays in the sandbox, and why. `lost`: by no rule, so it is missing in the patch."
    )


class FieldProblem(Answer):
    """One wrong field: its place (`body.env.A`, `query.limit`), our words, and a kind for programs."""

    field: str
    message: str
    kind: str


class Problem(Answer):
    """RFC 9457, with a stable `code`, the next step and whether trying again can help."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "https://terminalpp.dev/errors/not-found", "title": "There is no such thing",
                    "status": 404, "detail": "there is no such sandbox", "instance": "/v1/sandboxes/…",
                    "code": "not-found", "hint": "Check the id.", "retryable": False, "request_id": "8c1f",
                }
            ]
        },
    )  # fmt: skip

    type: Annotated[str, Field(json_schema_extra={"format": "uri"})]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    instance: str
    code: Annotated[str, Field(pattern="^[a-z-]+$")]
    hint: str
    retryable: bool
    request_id: str
    errors: list[FieldProblem] = Field(default=[], description="Each wrong field of a request.")
    extra: dict[str, Any] = Field(default={}, description="For programs; what each code puts there.")


def from_row(shape: type[Answer], row: Any, **given: Any) -> dict[str, Any]:
    """The fields of `shape` taken from `given`, then from the row's attributes of the same name."""
    return {
        name: _plain(given[name] if name in given else getattr(row, name, None))
        for name in shape.model_fields
    }


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return moment(value)
        case Decimal():
            return float(value)
        case _:
            return value
