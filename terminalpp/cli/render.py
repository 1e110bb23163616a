"""A conversation's events as a person wants to watch them.

`Renderer.feed` takes one event, `output` a piece of a command's output; both only write to the
screen, so recorded events give the same text every time (the tests rely on it). Whatever comes from
the sandbox or a model passes `sanitize` first. A command's output is shown from its start and, when
there is much of it, from its end: the first HEAD_LINES lines live, the last TAIL_LINES when it has
ended, with the number of lines between; where somebody can ask for the rest (`folded_output`), with how. On a
terminal with colour the words of agents are laid out as markdown, a block as soon as it is whole. An event
of a type that is not known here is passed over: a newer server may have more to tell.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from terminalpp.cli import rewound
from terminalpp.cli.folded_output import FoldedOutput, FoldedOutputs
from terminalpp.cli.markdown import Blocks, rendered
from terminalpp.cli.sanitize import Sanitizer, clean, overwritten
from terminalpp.cli.screen import Screen
from terminalpp.cli.totals import Totals, counts_words, duration

HEAD_LINES = 20
TAIL_LINES = 10
LINE_CHARACTERS = 300
TITLE_CHARACTERS = 200
DIGEST_LINES = 12
_ROLE_COLOURS = {"planner": "magenta", "coder": "cyan", "tester": "yellow", "critic": "blue",
                 "executor": "green"}
_OUTCOMES = {
    "passed": ("✓ passed", "green"), "failed": ("✗ failed: the tests are not green", "red"),
    "unverified": ("● ended, not verified", "yellow"),
    "cancelled": ("● cancelled", "yellow"), "stopped": ("● stopped by a limit", "yellow"),
    "error": ("✗ could not go on", "red"),
}


@dataclass(slots=True)
class _Command:
    """What of a command's output is on the screen."""

    neutral: Sanitizer = field(default_factory=Sanitizer)
    title: str = ""
    partial: str = ""
    shown: int = 0
    lines: int = 0
    skipped_bytes: int = 0
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))


@dataclass(slots=True)
class _Call:
    """A model's reply while it comes in. Replies that are data (a plan, a verdict) are not shown raw."""

    agent: str
    neutral: Sanitizer = field(default_factory=Sanitizer)
    seen: str = ""
    held: str = ""
    data: bool = False
    blocks: Blocks = field(default_factory=Blocks)


class Renderer:
    """Writes a conversation to a screen. `live` also draws what is going on right now. `folds`, set by
    whoever can show more, remembers what was not shown."""

    def __init__(self, screen: Screen, *, live: bool = True) -> None:
        self.folds: FoldedOutputs | None = None
        self.screen = screen
        self.live = live
        self.totals = Totals()
        self._commands: dict[str, _Command] = {}
        self._calls: dict[str, _Call] = {}
        self._tools: dict[str, tuple[str, str]] = {}
        self._whole: set[str] = set()  # commands whose output stands on the screen without a cut
        self._handlers = {
            "message.accepted": self._message, "turn.started": self._turn, "plan.made": self._plan,
            "step.started": self._step, "model.started": self._asked, "model.delta": self._delta,
            "model.finished": self._replied, "model.retried": self._retried, "tool.called": self._called,
            "tool.finished": self._used, "command.started": self._started,
            "command.finished": self._finished, "tests.finished": self._tests, "diff.made": self._diff,
            "review.finished": self._review, "revision.rolled_back": self._rolled_back,
            "nudge.given": self._nudge, "limit.reached": self._limit, "error.raised": self._error,
            "turn.finished": self._turn_finished,
        }

    def feed(self, event: dict[str, Any]) -> None:
        """Show one event."""
        self.totals.add(event)
        handler = self._handlers.get(event["type"])
        if handler:
            handler(event["payload"], event.get("actor", ""))
        elif words := rewound.WORDS.get(event["type"]):
            self._say("\n".join(words(event["payload"])), "yellow")

    def tick(self, text: str) -> None:
        """Show a passing line of status, on a terminal only."""
        if self.live:
            self.screen.status(clean(text, one_line=True))

    def _role(self, name: str) -> str:
        name = clean(str(name), one_line=True)
        return self.screen.paint(name, _ROLE_COLOURS.get(name, "bold"))

    def _say(self, text: str, *styles: str, indent: str = "  ") -> None:
        for line in clean(text).split("\n"):
            self.screen.line(f"{indent}{_cut(line)}" if line else "", *styles)

    def _prose(self, text: str) -> None:
        """What an agent says."""
        if self.screen.colour:
            for line in rendered(text, self.screen.width - 3):
                self.screen.line(f"  {line}" if line else "")
        else:
            self._say(text)

    def _fold(self, title: str, *, exec_id: str = "", text: str = "") -> str:
        """How to see what is hidden, to stand after its number of lines; empty where nobody can ask."""
        return self.folds.add(FoldedOutput(title, exec_id, text)) if self.folds else ""

    # ---- the course of a turn --------------------------------------------------------------------

    def _message(self, payload: dict[str, Any], actor: str) -> None:
        text = clean(str(payload.get("text", ""))).strip()
        lines = text.split("\n")
        self.screen.line()
        self.screen.line(f"▸ {_cut(lines[0])}", "bold")
        for line in lines[1:6]:
            self.screen.line(f"  {_cut(line)}")
        if len(lines) > 6:
            how = self._fold("your message", text=text)
            self.screen.line(f"  … (+{len(lines) - 6} lines{how})", "dim")

    def _turn(self, payload: dict[str, Any], actor: str) -> None:
        scripted = " (scripted)" if payload.get("scripted") else ""
        mode = "one agent" if payload.get("mode") == "single" else "planner, coder, tester, critic, executor"
        self.screen.line(f"  {mode} · model {_one(payload.get('model'))}{scripted}", "dim")

    def _step(self, payload: dict[str, Any], actor: str) -> None:
        self.tick(f"… {payload.get('step', '')}")

    def _plan(self, payload: dict[str, Any], actor: str) -> None:
        self.screen.line()
        self.screen.line(self.screen.paint("Plan", "bold") + f"  {_one(payload.get('goal'))}")
        for number, step in enumerate(payload.get("steps") or [], 1):
            self.screen.line(f"  {number}. {_one(step)}")
        for label, name in (("done when", "acceptance"), ("files", "files"), ("checks", "test_commands")):
            values = [_one(value) for value in payload.get(name) or []]
            if values:
                between = "; " if name == "acceptance" else ", "
                self.screen.line(f"  {label}: {between.join(values)}", "dim")

    def _tests(self, payload: dict[str, Any], actor: str) -> None:
        passed, ran = payload.get("passed"), payload.get("ran", True)
        words = counts_words(payload.get("counts") or {})
        command = _one(payload.get("command"))
        phase = "  (before the work)" if payload.get("phase") == "before" else ""
        tail = self.screen.paint(command + phase, "dim")
        if not ran:
            why = _one(payload.get("reason")) or words
            self.screen.line(f"{self.screen.paint('– tests not run', 'bold', 'yellow')}  {why}  {tail}")
            if payload.get("setup"):
                self.screen.line(f'    → --setup-cmd "{_one(payload["setup"])}" --network open')
        else:
            mark, colour = ("✓ tests green", "green") if passed else ("✗ tests red", "red")
            why = f"  {_one(payload['reason'])}" if payload.get("reason") else ""
            self.screen.line(f"{self.screen.paint(mark, 'bold', colour)}  {words}{why}  {tail}")
        if not passed and str(payload.get("exec_id")) not in self._whole:
            self._digest(str(payload.get("digest") or ""), "red" if ran else "dim")
        self._weakened(payload.get("weakened") or [])
        if payload.get("note"):
            self.screen.line(f"    {_one(payload['note'])}", "dim")

    def _digest(self, text: str, colour: str) -> None:
        lines = [line for line in clean(text).strip().split("\n") if line]
        for line in lines[:DIGEST_LINES]:
            self.screen.line(f"    {_cut(line)}", colour)
        if len(lines) > DIGEST_LINES:
            how = self._fold("what the tests said", text=text)
            self.screen.line(f"    … {len(lines) - DIGEST_LINES} more lines{how}", "dim")

    def _weakened(self, found: list[dict[str, Any]]) -> None:
        """What the change did to the tests; what the task asked for is not worth a line."""
        for one in found:
            if one.get("severity") != "low":
                colour = "red" if one.get("blocks") else "yellow"
                weaker = one.get("blocks") and one.get("kind") != "uncompared"
                mark = "! tests weakened" if weaker else "! tests changed"
                self.screen.line(f"{mark}  {_one(one.get('file'))}  {_one(one.get('claim'))}", colour)

    def _diff(self, payload: dict[str, Any], actor: str) -> None:
        for file in payload.get("files") or []:
            added, removed = file.get("added"), file.get("removed")
            numbers = self.screen.paint(f"+{added}", "green") + " " + self.screen.paint(f"-{removed}", "red")
            self.screen.line(f"Δ {_one(file.get('path'))}  {numbers if added is not None else 'binary'}")

    def _review(self, payload: dict[str, Any], actor: str) -> None:
        verdict = _one(payload.get("verdict"))
        if verdict == "none" and payload.get("reason"):
            verdict = f"not reviewed ({_one(payload['reason'])})"
        colour = "green" if verdict == "approve" else "yellow"
        issues = payload.get("issues") or []
        remarks = f"  {len(issues)} remark{'s' if len(issues) != 1 else ''}" if issues else ""
        painted = self.screen.paint(verdict, "bold", colour)
        self.screen.line(f"{self._role('critic')}  verdict: {painted}{remarks}")
        for issue in issues:
            where = ":".join(_one(issue[key]) for key in ("file", "line") if issue.get(key))
            severity, claim = _one(issue.get("severity")), _one(issue.get("claim"))
            self.screen.line(f"    [{severity}] {where}  {claim}", "dim")

    def _rolled_back(self, payload: dict[str, Any], actor: str) -> None:
        self.screen.line(f"↺ rolled back: {_one(payload.get('reason'))}", "yellow")

    def _nudge(self, payload: dict[str, Any], actor: str) -> None:
        words = _one(payload.get("text") or payload.get("reason"))
        self.screen.line(f"● {_one(payload.get('agent'))}: {words}", "yellow")

    def _limit(self, payload: dict[str, Any], actor: str) -> None:
        limit, value = _one(payload.get("limit")), _one(payload.get("value"))
        self.screen.line(f"● limit reached: {limit} ({value})", "yellow")

    def _error(self, payload: dict[str, Any], actor: str) -> None:
        self.screen.line(f"✗ {_one(payload.get('code'))}: {_one(payload.get('detail'))}", "red")
        if payload.get("hint"):
            self.screen.line(f"  → {_one(payload['hint'])}")

    def _turn_finished(self, payload: dict[str, Any], actor: str) -> None:
        words, colour = _OUTCOMES.get(str(payload.get("outcome")), (_one(payload.get("outcome")), "yellow"))
        reason = _one(payload.get("reason"))
        self.screen.line()
        self.screen.line(self.screen.paint(words, "bold", colour) + (f"  {reason}" if reason else ""))
        if payload.get("summary"):
            self._prose(str(payload["summary"]).strip())
        history = self.totals.tests_words()
        if history:
            self.screen.line(f"  tests: {history}")
        self.screen.line("  " + self.totals.cost_words(payload), "dim")
        if running := payload.get("running"):
            self.screen.line(f"  still running in the sandbox: {'; '.join(map(_one, running))}", "yellow")
            self.screen.line("  (what it changes from now on is not in this turn's result)", "dim")
        self._commands.clear()
        self._calls.clear()
        self._whole.clear()

    # ---- models ----------------------------------------------------------------------------------

    def _asked(self, payload: dict[str, Any], actor: str) -> None:
        agent = str(payload.get("agent") or actor)
        self._calls[str(payload["call_id"])] = _Call(agent)
        self.tick(f"{agent} is thinking …")

    def _delta(self, payload: dict[str, Any], actor: str) -> None:
        call = self._calls.setdefault(str(payload["call_id"]), _Call(actor))
        text = call.neutral.feed(str(payload.get("text", ""))).replace("\r", "")
        first = not call.seen
        if first:
            text = text.lstrip()
            call.data = text.startswith(("{", "[", "```"))
        call.seen += text
        if call.data or not text:
            self.tick(f"{call.agent} writes … {len(call.seen):,} characters")
            return
        if self.screen.colour:
            if first:
                self.screen.line(self._role(call.agent))
            for block in call.blocks.feed(text):
                self._block(block)
            self.tick(call.blocks.latest)
            return
        if first:
            self.screen.end_words()
            self.screen.words(f"{self._role(call.agent)}  ")
        self._stream(call, text)

    def _block(self, text: str) -> None:
        if text.strip():
            self._prose(text)
            self.screen.line()

    def _stream(self, call: _Call, text: str) -> None:
        """On a terminal words appear as they come; in a log whole lines do."""
        text = (call.held + text).replace("\n", "\n  ")
        call.held = ""
        if not self.screen.tty:
            whole, newline, call.held = text.rpartition("\n")
            text = whole + newline
        self.screen.words(text)

    def _replied(self, payload: dict[str, Any], actor: str) -> None:
        call = self._calls.pop(str(payload["call_id"]), None)
        content = str(payload.get("content") or "")
        if call is None or not call.seen:
            call = call or _Call(str(payload.get("agent") or actor))
            self._delta_all(call, content)
        elif self.screen.colour and not call.data:
            self._block(call.blocks.end())
        elif not call.data:
            self.screen.words(call.held.rstrip())
        self.screen.end_words()
        if payload.get("finish_reason") == "length":
            self.screen.line("● the reply was cut by its length limit", "yellow")

    def _delta_all(self, call: _Call, content: str) -> None:
        text = clean(content).strip()
        if text and not text.startswith(("{", "[", "```")):
            if self.screen.colour:
                self.screen.line(self._role(call.agent))
                self._block(text)
                return
            self.screen.line(f"{self._role(call.agent)}  " + text.replace("\n", "\n  "))

    def _retried(self, payload: dict[str, Any], actor: str) -> None:
        wait = duration(payload.get("wait_ms"))
        why = _one(payload.get("detail") or payload.get("code"))
        self.screen.line(f"● model asked again in {wait}: {why}", "yellow")

    # ---- tools and commands ----------------------------------------------------------------------

    def _called(self, payload: dict[str, Any], actor: str) -> None:
        if payload.get("exec_id"):
            return  # the command itself is shown
        arguments = payload.get("arguments")
        arguments = arguments if isinstance(arguments, dict) else {}
        names = ("path", "pattern", "query", "command")
        target = next((arguments[name] for name in names if arguments.get(name)), "")
        self._tools[str(payload.get("tool_call_id"))] = (_one(payload.get("tool")), _one(target))

    def _used(self, payload: dict[str, Any], actor: str) -> None:
        tool, target = self._tools.pop(str(payload.get("tool_call_id")), ("", ""))
        if not tool:
            return
        if payload.get("ok"):
            self.screen.line(f"{self._role(actor)}  {tool} {target}".rstrip())
        else:
            self.screen.line(f"{self._role(actor)}  {tool} {target}  " + self.screen.paint("failed", "red"))
            self.screen.line(f"    {_one(payload.get('output'))}", "dim")

    def _started(self, payload: dict[str, Any], actor: str) -> None:
        lines = clean(str(payload.get("command", ""))).strip().split("\n")
        self._commands[str(payload["exec_id"])] = _Command(title=_cut(lines[0]))
        more = self.screen.paint(f"  (+{len(lines) - 1} lines)", "dim") if len(lines) > 1 else ""
        role = self._role(payload.get("agent") or actor)
        self.screen.line(f"{role}  {self.screen.paint('$ ' + _cut(lines[0]), 'bold')}{more}")

    def output(self, exec_id: str, data: bytes, gap_bytes: int = 0) -> None:
        """A piece of a command's output, in order. `gap_bytes` were dropped or jumped over before it."""
        command = self._commands.get(exec_id)
        if command is None:
            return
        command.skipped_bytes += gap_bytes
        if gap_bytes:
            command.partial = ""
            command.neutral = Sanitizer()
        text = command.partial + command.neutral.feed_bytes(data)
        *lines, command.partial = text.split("\n")
        command.partial = command.partial[-4 * LINE_CHARACTERS :]  # a line without end must not grow for ever
        for line in lines:
            self._output_line(command, line)

    def _output_line(self, command: _Command, raw: str) -> None:
        line = _cut(overwritten(raw))
        command.lines += 1
        if command.shown < HEAD_LINES and not command.skipped_bytes:
            command.shown += 1
            self.screen.line("  │ " + line, "dim")
        else:
            command.tail.append(line)
            self.tick(f"  │ {command.lines:,} lines  {line}")

    def _finished(self, payload: dict[str, Any], actor: str) -> None:
        command = self._commands.pop(str(payload.get("exec_id")), None) or _Command()
        if command.partial:
            self._output_line(command, command.partial)
        hidden = command.lines - command.shown - len(command.tail)
        if command.lines and not command.skipped_bytes and hidden <= 0:
            self._whole.add(str(payload.get("exec_id")))
        if command.skipped_bytes or hidden > 0:
            what = f"{command.skipped_bytes:,} bytes" if command.skipped_bytes else f"{hidden:,} lines"
            how = self._fold(f"$ {command.title}", exec_id=str(payload.get("exec_id")))
            self.screen.line(f"  ┆ … {what}{how or ' not shown'}", "dim")
        for line in command.tail:
            self.screen.line("  │ " + line, "dim")
        status, code = payload.get("status"), payload.get("exit_code")
        ok = status == "completed" and code == 0
        words = f"exit {code}" if status == "completed" else _one(status)
        size = f" · {payload['output_bytes']:,} bytes" if payload.get("output_bytes") else ""
        mark = self.screen.paint(words, "green" if ok else "red")
        took = duration(payload.get("duration_ms"))
        self.screen.line(f"  └ {mark}" + self.screen.paint(f" · {took}{size}", "dim"))


def _one(value: Any) -> str:
    text = clean(str("" if value is None else value), one_line=True)
    return text if len(text) <= TITLE_CHARACTERS * 2 else text[: TITLE_CHARACTERS * 2 - 1] + "…"


def _cut(line: str) -> str:
    return line if len(line) <= LINE_CHARACTERS else line[: LINE_CHARACTERS - 1] + "…"
