"""The bodies that may be sent, with examples. Unknown fields and values of another type are refused: `"7"`
and `true` are no numbers. `bodies` has read them before. Sizes are bytes, durations milliseconds."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from gateway import field_errors
from terminalpp.types import errors
from terminalpp.types.commands import MAX_ARGUMENTS, MAX_COMMAND_BYTES, MAX_TIMEOUT_MS, as_typed
from terminalpp.types.limits import MESSAGE_BYTES

WAIT_LIMIT_MS = 60_000
UUID_SPELLING = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
SANDBOX_EXAMPLE = "0b0f2a63-5c1e-4d8a-9a55-7e2b60a0c0de"

STRICT = ConfigDict(extra="forbid", strict=True, regex_engine="python-re")


class Body(BaseModel):
    """Base of every request body."""

    model_config = STRICT


def _example(schema: dict[str, Any] | None = None, /, **values: Any) -> ConfigDict:
    """`schema`: what else the document says of the body."""
    return STRICT | ConfigDict(json_schema_extra={"examples": [values], **(schema or {})})


def _usual(value: Any) -> Any:
    """An id in its one usual spelling; pydantic knows more of them."""
    if not isinstance(value, str) or not UUID_SPELLING.fullmatch(value):
        raise ValueError("must be a UUID, such as " + SANDBOX_EXAMPLE)
    return value


Id = Annotated[UUID, Field(strict=False), BeforeValidator(_usual)]
AbsolutePath = Annotated[str, Field(max_length=512, pattern=field_errors.ABSOLUTE)]
Pattern = Annotated[str, Field(min_length=1, max_length=1000, pattern=field_errors.ONE_LINE)]
Model = Annotated[str, Field(min_length=1, max_length=200, pattern=field_errors.NOT_BLANK)]
Size = Annotated[int, Field(ge=1, le=2**60)] | Annotated[str, Field(pattern=field_errors.SIZE)] | None


Hosts = Annotated[list[Annotated[str, Field(min_length=1, max_length=260)]], Field(max_length=200)]


def _alone(name: str, other: str) -> dict[str, Any]:
    """The schema of a body that has `name` and not `other`; null is as good as nothing."""
    one = {"not": {"type": "null"}}
    return {"required": [name], "properties": {name: one, other: {"type": "null"}}}


def _one_of(*names: str) -> dict[str, Any]:
    """The schema of a body that has at least one of `names`; null is as good as nothing."""
    one = {"not": {"type": "null"}}
    return {"anyOf": [{"required": [name], "properties": {name: one}} for name in names]}


class ResourceLimits(Body):
    """The limits of a sandbox; null: the server's default."""

    model_config = _example(cpu="2", memory="2GB", disk="10GB", pids=512)

    cpu: Annotated[float, Field(gt=0, le=1024)] | Annotated[str, Field(pattern=field_errors.CPUS)] | None = (
        Field(None, description="CPUs, such as `2`, `0.5` or `500m`.")
    )
    memory: Size = Field(None, description="Bytes, or with a unit: `512MB`, `2GB`.")
    disk: Size = Field(None, description="Bytes, or with a unit.")
    pids: int | None = Field(None, ge=16, le=1_000_000, description="Processes and threads.")
    nofile: int | None = Field(None, ge=64, le=1_048_576, description="Open files of a process.")


class SandboxCreate(Body):
    """A new sandbox."""

    model_config = _example(name="parser", network="none", resource_limits={"memory": "2GB"})

    name: Annotated[str, Field(min_length=1, max_length=255, pattern=field_errors.NOT_BLANK)] | None = None
    image: str | None = Field(None, min_length=1, max_length=255, description="Null: the built-in image.")
    network: Literal["none", "allowlist", "open"] | None = Field(
        None, description="Null: `allowlist` where a list is given, else the server's default."
    )
    allow: Hosts | None = Field(None, description="What an allowlist lets out to: hosts and presets.")
    allow_private: Hosts | None = Field(None, description="Hosts with private addresses, named exactly.")
    resource_limits: ResourceLimits | None = None
    auto_sleep_after_minutes: int | None = Field(
        None, ge=0, le=525_600, description="Idle minutes until it is stopped; 0: never. Null: 60."
    )


class NetworkChange(Body):
    """Another network of a sandbox, or another list; what is left out stays."""

    model_config = _example(
        _one_of("network", "allow", "allow_private"),
        network="allowlist", allow=["pypi", "api.example.org:8443"],
    )

    network: Literal["none", "allowlist", "open"] | None = None
    allow: Hosts | None = Field(
        None, description="In place of the present list: `api.example.org` (ports 443 and 80), "
        "`api.example.org:8443`, `*.example.org`, `*`, or a preset.",
    )  # fmt: skip
    allow_private: Hosts | None = Field(
        None, description="Hosts that may have private addresses, each named exactly.")

    @model_validator(mode="after")
    def something(self) -> NetworkChange:
        """Raises ValueError when nothing is to be changed."""
        if self.network is None and self.allow is None and self.allow_private is None:
            raise ValueError("send `network`, `allow`, `allow_private`, or some of them")
        return self


class CommandCreate(Body):
    """A command to start: a shell line, or a program with its arguments."""

    model_config = _example(
        {"oneOf": [_alone("command", "argv"), _alone("argv", "command")]},
        command="python -m pytest -q", cwd="/home/user/project", wait_ms=5000,
    )  # fmt: skip

    command: str | None = Field(None, min_length=1, max_length=MAX_COMMAND_BYTES, description="A shell line.")
    argv: list[str] | None = Field(
        None,
        min_length=1,
        max_length=MAX_ARGUMENTS,
        description="Or a program as it is, and its arguments.",
        json_schema_extra={"prefixItems": [{"type": "string", "minLength": 1}]},
    )
    cwd: AbsolutePath | None = None
    env: dict[Annotated[str, Field(pattern=field_errors.VARIABLE)], str] | None = Field(
        None, max_length=256, json_schema_extra={"propertyNames": {"pattern": field_errors.VARIABLE}}
    )
    stdin: bool = Field(False, description="Keep standard input open for `POST …/stdin`.")
    wait_ms: int = Field(0, ge=0, le=WAIT_LIMIT_MS, description="Wait so long for the end of the command.")
    timeout_ms: int | None = Field(
        None, ge=1, le=MAX_TIMEOUT_MS,
        description="How long it may run: then SIGTERM to all its processes, two seconds later SIGKILL.",
    )  # fmt: skip

    @model_validator(mode="after")
    def one_of_two(self) -> CommandCreate:
        """Raises ValueError unless exactly one of `command` and `argv` is given."""
        if (self.command is None) == (self.argv is None):
            raise ValueError("send exactly one of `command` and `argv`")
        if self.argv is not None and not self.argv[0]:
            raise ValueError("the program, `argv.0`, must not be empty")
        if len(as_typed(self.command, self.argv).encode()) > MAX_COMMAND_BYTES:
            raise ValueError(f"the command has more than {MAX_COMMAND_BYTES} bytes")
        return self


class SignalSend(Body):
    """A signal for a command."""

    model_config = _example(signal="INT", tree=True)

    signal: Literal["HUP", "INT", "QUIT", "KILL", "USR1", "USR2", "TERM", "CONT", "STOP", "TSTP", "WINCH"] = (
        "TERM"
    )
    tree: bool = Field(True, description="To every process that the command has started.")


class CommandWait(Body):
    """How long to wait for a command's end."""

    model_config = _example(timeout_ms=30000)

    timeout_ms: int = Field(30_000, ge=0, le=WAIT_LIMIT_MS)


class TurnLimits(Body):
    """Bounds of each turn; null: the server's setting. They can be lowered and raised."""

    model_config = _example(max_steps=40, max_usd=1.5)

    max_steps: int | None = Field(None, ge=1, le=10_000)
    max_seconds: float | None = Field(None, gt=0, le=604_800)
    max_tokens: int | None = Field(None, ge=1, le=10**12)
    max_usd: float | None = Field(None, gt=0, le=1e9)
    repair_rounds: int | None = Field(None, ge=0, le=100)


class ConversationCreate(Body):
    """A new conversation with a team about a folder of a sandbox."""

    model_config = _example(
        sandbox_id=SANDBOX_EXAMPLE, workspace="/home/user/project", mode="team", test_command="pytest -q"
    )

    sandbox_id: Id
    workspace: AbsolutePath = Field(description="The directory in the sandbox that the team works in.")
    title: str | None = Field(None, max_length=255)
    model: Model | None = Field(None, description="A litellm model string. Null: the server's default.")
    mode: Literal["team", "single"] = "team"
    test_command: str | None = Field(None, min_length=1, max_length=8192)
    setup_command: str | None = Field(None, min_length=1, max_length=8192)
    limits: TurnLimits | None = None
    include: list[Pattern] | None = Field(
        None, max_length=200, description="Ignored files that belong to the work all the same; as .gitignore."
    )


class MessageCreate(Body):
    """A person's message to the team."""

    model_config = _example(text="The test of the parser fails on empty input. Fix it.")

    text: str = Field(
        pattern=field_errors.NOT_BLANK,
        description=f"The task, or the next word in it; at most {MESSAGE_BYTES} bytes of UTF-8.",
        json_schema_extra={"maxLength": MESSAGE_BYTES},
    )

    def checked(self) -> str:
        """The text. Raises TooLarge."""
        size = len(self.text.encode())
        if size > MESSAGE_BYTES:
            raise errors.TooLarge(
                f"the text has {size} bytes; the limit is {MESSAGE_BYTES}",
                "Put long material into a file of the workspace and name it in the task.",
                {"limit_bytes": MESSAGE_BYTES},
            )
        return self.text


class FileChange(Body):
    """Other metadata for a file."""

    model_config = _example(_one_of("mode", "modified_at"), mode="755")

    mode: str | None = Field(None, pattern=field_errors.OCTAL, description="Octal digits.")
    modified_at: str | None = Field(
        None, pattern=field_errors.MOMENT, description="When it was changed last, RFC 3339."
    )

    @model_validator(mode="after")
    def something(self) -> FileChange:
        """Raises ValueError when nothing is to be changed."""
        if self.mode is None and self.modified_at is None:
            raise ValueError("send `mode`, `modified_at`, or both")
        return self


class ConversationChange(Body):
    """Another title, archived or not."""

    model_config = _example(
        _one_of("title", "archived"), title="Dates", archived=False
    )

    title: Annotated[str, Field(min_length=1, max_length=255, pattern=field_errors.NOT_BLANK)] | None = None
    archived: bool | None = Field(None, description="Archived ones are in lists that ask for them.")

    @model_validator(mode="after")
    def something(self) -> ConversationChange:
        """Raises ValueError when nothing is to be changed."""
        if self.title is None and self.archived is None:
            raise ValueError("send `title`, `archived`, or both")
        return self


class ModelChange(Body):
    """The model that a conversation uses from its next call on."""

    model_config = _example(model="openai/gpt-4o")

    model: Model
