"""The installed command `tpp`. Without the extra `cli` it says what to install, and imports nothing else."""

from __future__ import annotations

import importlib.util
import sys

NEEDED = ("typer", "rich", "prompt_toolkit")  # the extra `cli`


def main() -> None:
    """Run `tpp`, or say what to install when the packages of the extra `cli` are missing."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        sys.stderr.write(f"tpp needs {', '.join(missing)}: pip install 'terminalpp[cli]'\n")
        sys.exit(3)  # the machine lacks something (terminalpp.cli.exits)
    from terminalpp.cli.main import main

    main()


if __name__ == "__main__":
    main()
