"""The verbs `run` and `demo`: a task, a team at work, a result on this machine."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from terminalpp.cli import git, home, models
from terminalpp.cli.branch import check_branch
from terminalpp.cli.deliver import Destination, deliver
from terminalpp.cli.exits import Exit, NotApplied, of_outcome
from terminalpp.cli.records import find
from terminalpp.cli.repository import show
from terminalpp.cli.sanitize import clean
from terminalpp.cli.screen import Screen
from terminalpp.cli.session import Options, Session, check_task, open_session, resumed
from terminalpp.cli.watch import Detached, guarded
from terminalpp.types.errors import InvalidInput, TerminalError

DEMO_TASK = (
    "One test of this project fails. Run `python3 -m unittest`, find the bug in the code (the tests are "
    "right), and make all tests pass."
)
CONTINUE = "Go on with the task where you left it."


def task_text(task: str | None) -> str:
    """The task; `-` reads it from standard input. Raises InvalidInput and TooLarge."""
    if task == "-":
        raw = sys.stdin.buffer.read(4 * 1024 * 1024)
        try:
            task = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise InvalidInput("the task is not valid UTF-8 text") from None
    return check_task(task or "")


async def run(
    directory: str, task: str, options: Options, destination: Destination, screen: Screen, *, as_json: bool
) -> Exit:
    """A new conversation about `directory`. Raises TerminalError."""
    _headline(screen, options, as_json)
    await asyncio.to_thread(_check_destination, directory, destination)
    async with open_session(directory, screen, options, task, as_json=as_json) as session:
        return await _work(session, task, destination, screen, as_json)


def _check_destination(directory: str, destination: Destination) -> None:
    """A branch name that cannot be must not cost a run. Raises InvalidInput and Conflict."""
    root = Path(directory)
    if destination.branch is not None and root.is_dir():
        check_branch(root, git.maybe("rev-parse", "--git-dir", cwd=root) is not None, destination.branch)


async def resume(
    prefix: str, task: str | None, destination: Destination, screen: Screen, *, as_json: bool
) -> Exit:
    """Go on with a conversation: watch the turn that runs, post `task`, or deliver what is done."""
    async with resumed(prefix, screen, as_json=as_json) as session:
        turn = await _standing(session)
        if turn == "running" and not task:
            return await _watch(session, destination, screen, as_json)
        if task or not isinstance(turn, dict) or turn.get("outcome") not in ("passed", "unverified"):
            if isinstance(turn, dict) and not task and not destination.open:
                # Its result was seen before, red or not; asking for it again by name is meant.
                return await _deliver(session, turn, destination, screen, as_json, seen=True)
            return await _work(session, task or CONTINUE, destination, screen, as_json)
        return await _deliver(session, turn, destination, screen, as_json, seen=True)


async def demo(model: str | None, screen: Screen, *, as_json: bool) -> Exit:
    """The sample project, seeded and mended. Raises TerminalError."""
    choice = models.choose(model, os.environ, demo=True, keys=models.stored())
    sample = await asyncio.to_thread(seed_demo)
    options = Options(choice=choice)
    _headline(screen, options, as_json)
    if not as_json:
        screen.line(f"Sample project with a failing test: {show(str(sample))}", "dim")
    async with open_session(str(sample), screen, options, DEMO_TASK, as_json=as_json) as session:
        status = await _work(session, DEMO_TASK, Destination(to_tree=True), screen, as_json)
    if not as_json:
        _next(screen, sample, choice, status)
    return status


def seed_demo() -> Path:
    """A fresh git repository with the sample, under TPP_HOME/demo. Raises TerminalError."""
    from terminalpp.cli.server import checkout

    source = checkout() / "examples" / "demo-repo"
    stamp = time.strftime("%Y%m%d-%H%M%S") + f"-{os.getpid()}"
    target = home.folder("demo") / stamp / "wordcount"
    try:
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".git"))
    except OSError as error:
        raise TerminalError(f"the sample project could not be copied: {error}") from error
    who = ("-c", "user.name=Terminal++ demo", "-c", "user.email=demo@localhost", "-c", "commit.gpgsign=false")
    git.run("init", "-q", "-b", "main", "--template=", cwd=target)
    git.run("add", "-A", cwd=target)
    git.run(*who, "commit", "-q", "-m", "wordcount: one test fails", cwd=target)
    return target


def _headline(screen: Screen, options: Options, as_json: bool) -> None:
    if options.choice is None:
        return
    if as_json:
        facts = {"model": options.choice.model, "scripted": options.choice.scripted,
                 "reason": options.choice.reason}
        screen.line(json.dumps({"type": "cli.model", "payload": facts}))
    else:
        screen.line(models.headline(options.choice), *(("yellow",) if options.choice.scripted else ("dim",)))


def _next(screen: Screen, sample: Path, choice: models.Choice, status: Exit) -> None:
    screen.line()
    if status == Exit.OK:
        screen.line("The failing test is green: five agents did it in an isolated sandbox.", "bold")
    screen.line("What next:")
    screen.line(f"  see the change      git -C {show(str(sample))} diff")
    screen.line('  on your own code    ./tpp run --repo your-project "what is to be done"')
    if choice.scripted:
        screen.line("                      (needs a model: ./tpp model add PROVIDER)")
    screen.line("  talk to the team    ./tpp chat --repo your-project")
    screen.line("  what runs           ./tpp status        stop it   ./tpp down")


async def _standing(session: Session) -> dict[str, Any] | str:
    """How the last turn ended, "running", or "new" when there was none."""
    turn: dict[str, Any] | str = "new"
    async for event in session.client.events(session.id, follow=False):
        if event["type"] in ("message.accepted", "turn.started"):
            turn = "running"
        elif event["type"] == "turn.finished":
            turn = event["payload"]
        session.watch.renderer.totals.add(dict(event))
        session.watch.seq = event["seq"]
    return turn


async def _work(session: Session, task: str, destination: Destination, screen: Screen, as_json: bool) -> Exit:
    try:
        turn = await session.ask(task)
    except Detached:
        return _left(session, screen, as_json)
    return await _deliver(session, turn, destination, screen, as_json)


async def _watch(session: Session, destination: Destination, screen: Screen, as_json: bool) -> Exit:
    try:
        turn = await guarded(session.watch, after=0)
    except Detached:
        return _left(session, screen, as_json)
    return await _deliver(session, turn, destination, screen, as_json)


async def _deliver(
    session: Session,
    turn: dict[str, Any],
    destination: Destination,
    screen: Screen,
    as_json: bool,
    *,
    seen: bool = False,
) -> Exit:
    outcome = str(turn.get("outcome"))
    untested = outcome == "unverified" and turn.get("tests") is None  # the project has no tests to be red
    green = seen or outcome == "passed" or untested
    changes = await session.changes()
    record = session.record or find(session.id)
    if record is None:
        if not destination.open and destination.patch is None:
            raise InvalidInput("this conversation was not started on this machine's home",
                               "Use --patch FILE, then `git apply FILE`.")
        if destination.patch:
            await asyncio.to_thread(home.write_atomically, Path(destination.patch), changes.patch)
    else:
        deliver(screen, record, changes, destination, green=green, as_json=as_json,
                ask=outcome != "cancelled", why_not=_why_not(turn))
    if outcome != "passed" and not as_json:
        screen.line(f"  go on:     ./tpp run --resume {session.id[:8]}", "dim")
    return of_outcome(outcome)


def _why_not(turn: dict[str, Any]) -> str:
    """Why a turn's changes are not to be applied unseen; "": its tests are not green."""
    outcome, reason = turn.get("outcome"), clean(str(turn.get("reason") or ""), one_line=True)
    if outcome == "unverified" and reason:
        return reason[:1].upper() + reason[1:]
    return "" if outcome in ("failed", "unverified") else "The turn did not come to its end"


def _left(session: Session, screen: Screen, as_json: bool) -> Exit:
    if not as_json:
        screen.line("Left. The turn ends by itself; nothing is lost.", "yellow")
        screen.line(f"  watch:     ./tpp logs {session.id[:8]} --follow")
        screen.line(f"  go on:     ./tpp run --resume {session.id[:8]}")
    return Exit.CANCELLED


def not_applied(screen: Screen, problem: NotApplied, as_json: bool) -> Exit:
    """Tell why the changes stayed on the shelf, and where that is."""
    if as_json:
        facts = {"result": "not-applied", "patch": problem.path, "error": problem.error.to_json()}
        screen.line(json.dumps({"type": "cli.result", "payload": facts}))
    else:
        screen.line(f"Not applied: {problem.error.detail}", "red")
        screen.line(f"  {problem.error.next_step}")
        screen.line(f"  patch: {problem.path}")
    return Exit.NOT_APPLIED
