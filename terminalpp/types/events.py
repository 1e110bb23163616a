"""The shapes of the events' payloads, which a client reads with `GET …/events`.

A field without `NotRequired` is always there. `docs/payloads.md` is printed from these shapes, and the tests
hold every event that they meet to them.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from terminalpp.types.network import NetworkRefused

# ---- parts ----------------------------------------------------------------------------------------


class Usage(TypedDict):
    """Tokens that a provider counted."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int


class TurnUsage(Usage):
    """Of all model calls of a turn."""

    model_calls: int


class ToolCall(TypedDict):
    """A call as the model wrote it: `arguments` is a text when it is no object."""

    id: str
    name: str
    arguments: dict[str, Any] | str
    given: NotRequired[Any]  # what the provider wants back beside the call


class ChangedFile(TypedDict):
    """A file of a patch; lines are None for a binary one."""

    path: str
    added: int | None
    removed: int | None


class LeftBehind(TypedDict):
    """`files` at or below `path` that stay in the sandbox; `lost`: by no rule, so they are missed at home."""

    path: str
    files: int
    why: str
    lost: bool


class Weakening(TypedDict):
    """What a change did to the tests."""

    kind: str
    file: str
    test: str
    claim: str
    severity: Literal["low", "medium", "high"]
    blocks: bool


class TestReport(TypedDict):
    """What a run of the tests showed."""

    ran: bool
    passed: bool
    counts: dict[str, int]
    digest: str  # its words, shortened to what matters
    hung: bool
    reason: str | None
    missing: str | None  # the program that the tests need and the sandbox lacks
    setup: str | None  # the command that would bring it
    exec_id: str
    exit_code: int | None
    weakened: list[Weakening]


class TurnTests(TestReport):
    """The last report of a turn, with its command."""

    command: str


class Issue(TypedDict):
    """What a critic found."""

    severity: Literal["low", "medium", "high"]
    file: str
    line: int | None
    claim: str
    evidence_command: str | None
    by: NotRequired[str]  # `gate`: found by the program that watches the tests, not by the critic


class AgentName(TypedDict):
    """An agent of the team."""

    id: str
    role: str


# ---- events ---------------------------------------------------------------------------------------


class MessageAccepted(TypedDict):
    """A person's message is stored: from here on the work is done whatever dies."""

    message_id: str
    text: str


class MessageDelivered(TypedDict):
    """An agent at work was given a message that came meanwhile."""

    message_id: str
    task_id: str
    agent: str
    text: str


class TurnStarted(TypedDict):
    """The team begins with a message."""

    turn_id: str
    message_id: str
    task: str
    mode: Literal["team", "single"]
    model: str
    scripted: bool
    agents: list[AgentName]


class TurnFinished(TypedDict):
    """How it ended; `outcome` is one of states.TurnOutcome. The last event of a turn."""

    turn_id: str
    outcome: str
    reason: str
    summary: str
    tests: TurnTests | None
    files: list[ChangedFile]
    left: list[LeftBehind]
    running: list[str]  # command lines of what still runs
    usage: TurnUsage
    cost_usd: float | None
    duration_ms: int


class StepStarted(TypedDict):
    """A step of the workflow begins; `visit` counts its visits, `attempt` the tries of this one."""

    turn_id: str
    step: str
    visit: int
    attempt: int


class StepFinished(StepStarted):
    """The step is done and its checkpoint stored."""

    duration_ms: int


class PlanMade(TypedDict):
    """What the planner wants to be done."""

    goal: str
    acceptance: list[str]
    files: list[str]
    steps: list[str]
    test_commands: list[str]


class ReviewFinished(TypedDict):
    """What the critic said; `none`: nothing that can be read, and `reason` says why."""

    verdict: Literal["approve", "revise", "none"]
    issues: list[Issue]
    reason: NotRequired[str]
    sent_back: NotRequired[int]  # issues for which the work goes back to the coder


class RevisionRolledBack(TypedDict):
    """Files went back to an earlier snapshot."""

    reason: str
    snapshot: str


class ModelCall(TypedDict):
    """What the events of a model call share."""

    call_id: str
    task_id: str | None
    agent: str
    model: str


class ModelStarted(ModelCall):
    """A model is asked."""

    scripted: bool


class ModelRetried(ModelCall):
    """It failed and is asked again after `wait_ms`."""

    attempt: int
    code: str
    detail: str
    wait_ms: int


class ModelDelta(TypedDict):
    """More of the answer; a new `attempt` begins it anew."""

    call_id: str
    text: str
    attempt: int


class ModelFinished(ModelCall):
    """The whole reply."""

    content: str
    reasoning: str
    tool_calls: list[ToolCall]
    given: dict[str, Any]  # fields of the message that go back to the provider as they came
    usage: Usage
    finish_reason: str
    cost_usd: float | None  # None: nobody knows its price
    duration_ms: int


class ToolCalled(TypedDict):
    """A call was checked and is about to act."""

    task_id: str
    call_id: str | None
    tool_call_id: str
    tool: str
    arguments: dict[str, Any] | str
    effect: dict[str, Any]  # what it will do, by tool; `refused` with the words when it may not
    exec_id: NotRequired[str]


class ToolFinished(TypedDict):
    """What the agent was shown of it."""

    task_id: str
    tool_call_id: str
    tool: str
    ok: bool
    output: str
    exec_id: NotRequired[str]
    exit_code: NotRequired[int]
    malformed: NotRequired[bool]


class CommandStarted(TypedDict):
    """A command of the team is given to the sandbox."""

    exec_id: str
    command: str
    cwd: str
    agent: str


class CommandFinished(TypedDict):
    """Its end; the output is in the command's record."""

    exec_id: str
    status: str
    exit_code: int | None
    duration_ms: int
    output_bytes: int
    reason: str | None


class SetupFinished(TypedDict):
    """The project's setup command has run."""

    command: str
    exec_id: str
    exit_code: int | None
    ok: bool


class TestsFinished(TestReport):
    """A run of the tests."""

    command: str
    phase: str
    task_id: str
    note: str


class NudgeGiven(TypedDict):
    """Words of ours to an agent: a correction, a warning, a reminder."""

    agent: str
    task_id: NotRequired[str]
    reason: str
    text: str
    budget: NotRequired[int]  # of `compact`: characters of the transcript from here on


class LimitReached(TypedDict):
    """No model is asked any more in this turn."""

    agent: str
    task_id: str
    limit: str
    value: float


class ErrorRaised(TypedDict):
    """The trouble that ended the turn."""

    code: str
    detail: str
    hint: str | None
    retryable: bool | None


class DiffMade(TypedDict):
    """What the turn changed; the patch itself is under `…/diff`."""

    files: list[ChangedFile]
    patch_bytes: int


class SnapshotFailed(TypedDict):
    """The files of this moment could not be kept: there is no going back to it."""

    label: str
    code: str
    detail: str


class ConversationRewound(TypedDict):
    """It goes on behind the event `to_seq`, with the files of then. Rewinding to `undo_point_id` undoes
    it."""

    rewind_id: str
    point_id: str
    label: str
    to_seq: int
    undo_point_id: str
    changed: int  # files, directories and links
    untouched: list[str]  # paths that could not be made as they were
    running: list[str]  # commands that went on meanwhile
    dropped: NotRequired[list[str]]  # messages that waited


class ConversationForked(TypedDict):
    """It began as a copy of another one, with a sandbox of its own."""

    conversation_id: str
    point_id: str
    label: str
    sandbox_id: str


EVENTS: dict[str, type] = {
    "message.accepted": MessageAccepted,
    "message.delivered": MessageDelivered,
    "turn.started": TurnStarted,
    "step.started": StepStarted,
    "setup.finished": SetupFinished,
    "plan.made": PlanMade,
    "model.started": ModelStarted,
    "model.delta": ModelDelta,
    "model.retried": ModelRetried,
    "model.finished": ModelFinished,
    "tool.called": ToolCalled,
    "tool.finished": ToolFinished,
    "command.started": CommandStarted,
    "command.finished": CommandFinished,
    "tests.finished": TestsFinished,
    "review.finished": ReviewFinished,
    "revision.rolled_back": RevisionRolledBack,
    "nudge.given": NudgeGiven,
    "limit.reached": LimitReached,
    "step.finished": StepFinished,
    "error.raised": ErrorRaised,
    "diff.made": DiffMade,
    "turn.finished": TurnFinished,
    "snapshot.failed": SnapshotFailed,
    "connection.refused": NetworkRefused,
    "conversation.rewound": ConversationRewound,
    "conversation.forked": ConversationForked,
}
