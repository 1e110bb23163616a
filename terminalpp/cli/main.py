"""The command `tpp`: verbs, options, help, exit codes. Everything else is imported when it is needed.

`--help` must answer at once, so this file imports typer and nothing heavy. Each verb is a few lines:
it builds what its module needs, and runs it inside `finish`, which turns errors and Ctrl-C into words
and exit codes.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from terminalpp.cli import execute, files, keys, manage, operator, ports, rewinds, snapshots, term
from terminalpp.cli.network import NETWORKS, Allow, NetworkOption
from terminalpp.cli.verb import Json, finish, one_of

if TYPE_CHECKING:
    from terminalpp.cli.screen import Screen

EPILOG = (
    "Exit status: 0 done (run, demo: the team's tests passed) · 1 no green tests, or something is red · "
    "2 wrong usage · 3 the machine or the server · 4 not applied, patch kept · 130 cancelled"
)

app = typer.Typer(
    name="tpp", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EPILOG,
    help="Terminal++: a team of AI agents at work in an isolated sandbox, on your machine.\n\n\b\n"
    "First:   ./tpp demo\n"
    'Then:    ./tpp run --repo my-project "make the failing test pass"\n',
)

Model = Annotated[str | None, typer.Option("--model", "-m", metavar="M", help="A litellm model string.")]
Repo = Annotated[str, typer.Option("--repo", "-C", metavar="DIR", help="The project. Default: here.")]
Image = Annotated[str | None, typer.Option("--image", metavar="I", help="Another sandbox image (Docker).")]
Agents = Annotated[str, typer.Option("--agents", metavar="team|single", help="Five agents, or one.")]
TestCommand = Annotated[str | None, typer.Option(
    "--test-cmd", metavar="C", help="How the tests are run. Default: detected.")]
SetupCommand = Annotated[str | None, typer.Option(
    "--setup-cmd", metavar="C", help="Run first in the sandbox, e.g. `npm ci`.")]
Include = Annotated[list[str] | None, typer.Option(
    "--include", metavar="PATTERN", help="Bring ignored files in and out, e.g. `.env`. Repeatable.")]
ApplyOption = Annotated[bool, typer.Option("--apply", help="Apply the changes to the working tree.")]
Branch = Annotated[str | None, typer.Option(
    "--branch", metavar="NAME", help="Put the changes on a new branch.")]
Patch = Annotated[str | None, typer.Option("--patch", metavar="FILE", help="Write the changes as a patch.")]


def _options(model: str | None, **given: Any) -> Any:
    from terminalpp.cli import models
    from terminalpp.cli.session import Options

    return Options(choice=models.choose(model, os.environ, demo=False, keys=models.stored()), **given)


@app.command()
def demo(model: Model = None, json: Json = False) -> None:
    """Watch the team fix a sample project.

    Without a model key a recorded (scripted) session plays; the first line says so.

    \b
    Examples:
      ./tpp demo
      ./tpp demo --model openai/gpt-5.5
    """
    from terminalpp.cli import run as verb

    finish(lambda screen: verb.demo(model, screen, as_json=json), json)


@app.command()
def run(
    task: Annotated[str | None, typer.Argument(help="What is to be done; `-` reads standard input.")] = None,
    repo: Repo = ".",
    model: Model = None,
    test_cmd: TestCommand = None,
    setup_cmd: SetupCommand = None,
    include: Include = None,
    image: Image = None,
    network: NetworkOption = None,
    allow: Allow = None,
    agents: Agents = "team",
    apply: ApplyOption = False,
    branch: Branch = None,
    patch: Patch = None,
    resume: Annotated[str | None, typer.Option(
        "--resume", metavar="ID", help="Go on with a conversation.")] = None,
    json: Json = False,
) -> None:
    """Have the team do a task on a copy of your project.

    The copy holds uncommitted and untracked files; your repository is not touched until you take
    the changes. Ctrl-C once cancels the turn and keeps what was done; twice leaves it running.

    \b
    Examples:
      ./tpp run "make the failing test in tests/test_cart.py pass"
      ./tpp run --repo ../shop --test-cmd "pytest -q" --branch fix/cart "fix the cart"
      ./tpp run --resume 3f2a91c0 --apply
      git log -1 --format=%B | ./tpp run --apply -
    """
    from terminalpp.cli import run as verb
    from terminalpp.cli.deliver import Destination

    one_of(agents, "--agents", "team", "single")
    one_of(network, "--network", *NETWORKS)

    def work(screen: Screen) -> Any:
        destination = Destination(apply, branch, patch)
        if resume is not None:
            text = verb.task_text(task) if task is not None else None
            return verb.resume(resume, text, destination, screen, as_json=json)
        text = verb.task_text(task)
        options = _options(model, image=image, network=network, allow=tuple(allow or ()), mode=agents,
                           test_command=test_cmd,
                           setup_command=setup_cmd, include=tuple(include or ()))
        return verb.run(repo, text, options, destination, screen, as_json=json)

    finish(work, json)


@app.command()
def chat(
    repo: Repo = ".",
    conversation: Annotated[str | None, typer.Option(
        "--conversation", metavar="ID", help="Go on with this one instead of starting anew.")] = None,
    model: Model = None,
    test_cmd: TestCommand = None,
    setup_cmd: SetupCommand = None,
    include: Include = None,
    image: Image = None,
    network: NetworkOption = None,
    allow: Allow = None,
    agents: Agents = "team",
    json: Json = False,
) -> None:
    """Talk with the team about your project.

    Type while it works: the message is seen at the next step. /diff /apply /model /cost /quit.

    \b
    Examples:
      ./tpp chat --repo my-project
      ./tpp chat --conversation 3f2a91c0
    """
    from terminalpp.cli import chat as verb

    one_of(agents, "--agents", "team", "single")
    one_of(network, "--network", *NETWORKS)

    def work(screen: Screen) -> Any:
        if conversation is not None:
            return verb.chat_again(conversation, screen, as_json=json)
        options = _options(model, image=image, network=network, allow=tuple(allow or ()), mode=agents,
                           test_command=test_cmd,
                           setup_command=setup_cmd, include=tuple(include or ()))
        return verb.chat(repo, options, screen, as_json=json)

    finish(work, json)


@app.command()
def logs(
    id: Annotated[str, typer.Argument(help="A conversation's id, or its beginning.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay and show what comes.")] = False,
    json: Json = False,
) -> None:
    """Show a conversation from its first event.

    \b
    Examples:
      ./tpp logs 3f2a91c0
      ./tpp logs 3f2a91c0 --json | jq -r .type
    """
    from terminalpp.cli import inspect

    finish(lambda screen: inspect.logs(id, screen, follow=follow, as_json=json), json)


@app.command()
def ps(
    sandbox: Annotated[str | None, typer.Argument(
        metavar="[SANDBOX]", help="The beginning of a sandbox's id: list its processes.")] = None,
    all: Annotated[bool, typer.Option(
        "--all", "-a", help="Old conversations and stopped sandboxes too.")] = False,
    json: Json = False,
) -> None:
    """List conversations, sandboxes and agents, or the processes of one sandbox.

    \b
    Example:
      ./tpp ps --all
    """
    from terminalpp.cli import inspect, processes

    if sandbox is not None:
        finish(lambda screen: processes.ps(sandbox, screen, as_json=json), json)
    else:
        finish(lambda screen: inspect.ps(screen, as_json=json, everything=all), json)


@app.command()
def kill(
    sandbox: Annotated[str, typer.Argument(help="The beginning of a sandbox's id.")],
    command: Annotated[str | None, typer.Argument(
        metavar="[COMMAND]", help="The beginning of a command's id: what it left, nothing else.")] = None,
    json: Json = False,
) -> None:
    """End all processes in a sandbox, or those of one command. The sandbox runs on.

    \b
    Example:
      ./tpp kill 7d0c4d57
    """
    from terminalpp.cli import processes

    finish(lambda screen: processes.kill(sandbox, command, screen, as_json=json), json)


@app.command()
def up(
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay, and stop with Ctrl-C.")] = False,
    json: Json = False,
) -> None:
    """Start the system (run, chat and demo do it by themselves).

    \b
    Examples:
      ./tpp up
      ./tpp up --foreground
    """
    from terminalpp.cli import boot

    finish(lambda screen: boot.up(screen, as_json=json, foreground=foreground), json)


@app.command()
def down(json: Json = False) -> None:
    """Stop the system; interrupted runs go on with the next `up`.

    \b
    Example:
      ./tpp down
    """
    from terminalpp.cli import boot

    finish(lambda screen: boot.down(screen, as_json=json), json)


@app.command()
def status(
    memory: Annotated[bool, typer.Option("--memory", help="With the memory of each service.")] = False,
    json: Json = False,
) -> None:
    """Show what runs. Status 1 when the system is down.

    \b
    Examples:
      ./tpp status
      ./tpp status --memory
    """
    from terminalpp.cli import inspect

    finish(lambda screen: inspect.status(screen, as_json=json, memory=memory), json)


@app.command()
def doctor(json: Json = False) -> None:
    """Check this machine: every need, green or red with the fix.

    \b
    Example:
      ./tpp doctor
    """
    from terminalpp.cli import inspect

    finish(lambda screen: inspect.doctor(screen, as_json=json), json)


@app.command("test", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def suite(
    context: typer.Context,
    require: Annotated[str, typer.Option(
        "--require", metavar="NAMES", help="docker,bubblewrap: their absence is a failure.")] = "",
    json: Json = False,
) -> None:
    """Install what the test suite needs and run it; further arguments go to pytest.

    Without any it runs in several processes, one more than there are cores.

    \b
    Examples:
      ./tpp test
      ./tpp test --require docker,bubblewrap
      ./tpp test tests/cli -q
    """
    from terminalpp.cli import suite as verb

    finish(lambda screen: verb.run(screen, context.args, require, as_json=json), json)


@app.command()
def db(
    action: Annotated[str, typer.Argument(metavar="migrate|status|verify")],
    json: Json = False,
) -> None:
    """Look after the database: apply migrations, list them, compare with schema.sql.

    \b
    Examples:
      ./tpp db status
      ./tpp db verify
    """
    from terminalpp.cli import inspect

    one_of(action, "ACTION", "migrate", "status", "verify")
    finish(lambda screen: inspect.db(action, screen, as_json=json), json)


@app.command()
def version(json: Json = False) -> None:
    """Print the version of the client and of the running server.

    \b
    Example:
      ./tpp version --json
    """
    from terminalpp.cli import inspect

    finish(lambda screen: inspect.version(screen, as_json=json), json)


app.command("exec", context_settings={"allow_interspersed_args": False})(execute.execute)
app.command()(execute.attach)
app.command(context_settings={"allow_interspersed_args": False})(term.sh)
app.command()(files.cp)
app.command()(rewinds.rewind)
app.command()(rewinds.fork)
app.add_typer(files.files)
app.add_typer(snapshots.snapshot)
app.add_typer(term.term)
app.add_typer(ports.ports)
app.add_typer(manage.conversation)
app.add_typer(manage.sandbox)
app.add_typer(keys.model)
app.add_typer(operator.quarantine)
app.add_typer(operator.dead_letters)


def main() -> None:
    """The entry point."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    app(prog_name="tpp")


if __name__ == "__main__":
    main()
