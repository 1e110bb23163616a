"""`python -m runtime <verb>`: the boot verbs as a process, for the launcher and for people.

With --json every line on stdout is an object (`step`, `state`, `detail`, …); else the same as text.
Exit codes: 0 done; 1 failed; 2 wrong usage; 3 `status` when nothing runs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from typing import Any

from runtime import boot
from runtime.disk import shown
from runtime.settings import load
from terminalpp.types.errors import TerminalError

NOT_RUNNING = 3


def main(arguments: list[str] | None = None) -> int:
    """Run a boot verb from the command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m runtime", description="Boot verbs of Terminal++.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, words in [
        ("up", "start this node"),
        ("down", "stop it"),
        ("status", "what runs"),
        ("doctor", "check this machine"),
        ("db", "the database's migrations"),
    ]:
        verb = verbs.add_parser(name, help=words)
        verb.add_argument("--json", action="store_true", help="one JSON object a line")
        if name == "up":
            verb.add_argument("--foreground", action="store_true", help="stay, and stop with Ctrl-C")
            verb.add_argument("--only", help="only these steps, comma separated (tests, benches)")
        if name == "status":
            verb.add_argument("--memory", action="store_true", help="with each service's memory")
        if name == "db":
            verb.add_argument("action", choices=["migrate", "status", "verify"])
    hidden = verbs.add_parser("supervise")
    hidden.add_argument("--progress-fd", type=int, required=True)
    hidden.add_argument("--only")
    options = parser.parse_args(arguments)
    emit = _emitter(options)
    try:
        return _VERBS[options.verb](options, emit)
    except TerminalError as error:
        emit(boot.failed(options.verb, error))
        return 1
    except KeyboardInterrupt:
        return 130


def _emitter(options: argparse.Namespace) -> Callable[[dict[str, Any]], None]:
    def as_json(line: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(line, default=str) + "\n")
        sys.stdout.flush()

    def as_text(line: dict[str, Any]) -> None:
        if line.get("state") != "start":
            sys.stdout.write(f"{line.get('step', '')}: {line.get('detail') or line.get('state', '')}\n")
        for item in line.get("items", []):
            words = (
                item if isinstance(item, str) else "  ".join(str(v) for v in item.values() if v is not None)
            )
            sys.stdout.write(f"  {words}\n")
        if line.get("hint"):
            sys.stdout.write(f"  {line['hint']}\n")
        sys.stdout.flush()

    return as_json if getattr(options, "json", False) else as_text


def _up(options: argparse.Namespace, emit: Callable) -> int:
    settings = load(os.environ)
    if not options.foreground:
        return asyncio.run(boot.up(settings, emit, options.only))
    _log_to_stderr(settings.log_level)
    return asyncio.run(boot.supervise(settings, emit, options.only))


def _supervise(options: argparse.Namespace, _emit: Callable) -> int:
    """The detached process. Nobody may be listening any more when a line is written: that is no error."""
    settings = load(os.environ)
    _log_to_stderr(settings.log_level)
    descriptor = options.progress_fd
    os.set_inheritable(descriptor, False)
    listening = True

    def emit(line: dict[str, Any]) -> None:
        nonlocal listening
        logging.getLogger("supervisor").info("%s %s %s", line["step"], line["state"], line.get("detail", ""))
        if not listening:
            return
        try:
            os.write(descriptor, json.dumps(line).encode() + b"\n")
        except BrokenPipeError:
            listening = False
        if line["step"] == "up":
            os.close(descriptor)
            listening = False

    return asyncio.run(boot.supervise(settings, emit, options.only))


def _down(_options: argparse.Namespace, emit: Callable) -> int:
    return asyncio.run(boot.down(load(os.environ), emit))


def _status(options: argparse.Namespace, emit: Callable) -> int:
    found = boot.status(load(os.environ), memory=options.memory, room=True)
    if options.json:
        emit(found)
    else:
        emit({"step": "node", "detail": f"{found['state']} {found['url'] or ''}".strip()})
        if room := found.get("disk"):
            emit({"step": "disk", "detail": room["detail"]})
            emit({"step": "home", "detail": shown(room["parts"], room["whole"])})
        for name, unit in found["services"].items():
            memory = f", {unit['memory_bytes'] // 1024**2} MiB" if "memory_bytes" in unit else ""
            words = f"{unit['state']}, process {unit['pid']}, restarts {unit['restarts']}{memory}"
            emit({"step": name, "detail": f"{words}  {unit['detail']}"})
    return 0 if found["running"] else NOT_RUNNING


def _doctor(options: argparse.Namespace, emit: Callable) -> int:
    from runtime import doctor

    facts = asyncio.run(doctor.examine(load(os.environ), os.environ))
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    for fact in facts:
        if options.json:
            emit(asdict(fact))
        else:
            sys.stdout.write(doctor.render(fact, colour=colour) + "\n")
    return doctor.exit_code(facts)


def _db(options: argparse.Namespace, emit: Callable) -> int:
    from schema import migrations

    action = {"migrate": migrations.migrate, "status": migrations.status, "verify": migrations.verify}
    found = asyncio.run(action[options.action](boot.database_url(load(os.environ))))
    items = [asdict(item) if is_dataclass(item) else item for item in found]
    wrong = options.action == "verify" and bool(items)
    words = {"migrate": "applied", "status": "known", "verify": "differences"}[options.action]
    emit(
        {
            "step": f"db {options.action}",
            "state": "failed" if wrong else "done",
            "detail": f"{len(items)} {words}",
            "items": items,
        }
    )
    return int(wrong)


def _log_to_stderr(level: str) -> None:
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")


_VERBS = {"up": _up, "supervise": _supervise, "down": _down, "status": _status, "doctor": _doctor, "db": _db}

if __name__ == "__main__":
    raise SystemExit(main())
