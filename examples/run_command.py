"""Run a command in a fresh sandbox and show what it prints as it comes.

    PYTHONPATH=. .venv/bin/python examples/run_command.py

Talks to the server of this machine (`./tpp up`), or to TPP_URL with TPP_TOKEN.
"""

import sys

from terminalpp.client import CommandFailed, Sandbox


def main() -> None:
    with Sandbox.create(name="example") as sandbox:
        result = sandbox.commands.run(
            "for n in 1 2 3; do echo step $n; sleep 0.2; done; echo careful >&2",
            on_stdout=lambda text: print(text, end="", flush=True),
            on_stderr=lambda text: print(text, end="", file=sys.stderr),
            timeout=30,
        )
        print(f"exit code {result.exit_code} after {result.duration_ms} ms")
        try:
            sandbox.commands.run("ls /not-there", timeout=30)
        except CommandFailed as failed:
            print(f"exit code {failed.exit_code}: {failed.stderr.strip()}")


if __name__ == "__main__":
    main()
