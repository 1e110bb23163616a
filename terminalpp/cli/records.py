"""What a run left on this machine, so that it can be resumed and its result applied later.

One folder per conversation under TPP_HOME/runs: `run.json` (where the project is, which commit was
copied), `manifest.gz` (the hash of every file that was copied), and `applied.patch` once changes
were written to the working tree: the next patch of the same conversation begins at the same copy,
so what was applied is taken back (in the staging area) before the new patch goes on.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from terminalpp.cli import archive, home
from terminalpp.cli.apply import Project
from terminalpp.types.errors import HomeCorrupt, InvalidInput


@dataclass(frozen=True, slots=True)
class Record:
    """One conversation about one project of this machine."""

    conversation_id: str
    sandbox_id: str
    root: str
    name: str
    is_git: bool
    head: str | None
    workspace: str
    task: str

    def save(self, manifest: archive.Manifest) -> None:
        """Write the record and the manifest of what was sent."""
        folder = self.folder()
        home.write_atomically(folder / "manifest.gz", archive.manifest_bytes(manifest))
        home.write_atomically(folder / "run.json", json.dumps(asdict(self)).encode("ascii"))

    def folder(self) -> Path:
        """The folder of this run in the home; it is made when it is not there."""
        made = home.folder("runs") / self.conversation_id
        made.mkdir(mode=0o700, exist_ok=True)
        return made

    def project(self) -> Project:
        """What applying needs. Raises HomeCorrupt."""
        target = self.folder() / "manifest.gz"
        try:
            manifest = archive.read_manifest(target.read_bytes())
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise HomeCorrupt(f"{target} cannot be read: {error}") from error
        applied = self.folder() / "applied.patch"
        before = applied.read_bytes() if applied.exists() else b""
        return Project(Path(self.root), self.is_git, self.head, manifest, before)

    def note_applied(self, patch: bytes, changed: list[str]) -> None:
        """The working tree now holds `patch`: remember it, and the files as they are now."""
        manifest = self.project().manifest
        for name in changed:
            found = archive.present(os.path.join(self.root, name))
            if found is None:
                manifest.pop(name, None)
            else:
                manifest[name] = found
        home.write_atomically(self.folder() / "applied.patch", patch)
        self.save(manifest)

    def keep(self, patch: bytes) -> Path:
        """The patch as a file in the home."""
        target = home.folder("patches") / f"{self.name}-{self.conversation_id[:8]}.patch"
        home.write_atomically(target, patch)
        return target


def find(prefix: str) -> Record | None:
    """The record of a conversation by its id or the beginning of it; None when it was not made here.

    Raises InvalidInput when several begin so.
    """
    folder = home.path() / "runs"
    names = sorted(path.name for path in folder.glob(f"{_safe(prefix)}*")) if folder.is_dir() else []
    if len(names) > 1 and prefix not in names:
        raise InvalidInput(f"{prefix} is the beginning of {len(names)} ids", "Give more of it.")
    if not names:
        return None
    target = folder / (prefix if prefix in names else names[0]) / "run.json"
    try:
        return Record(**json.loads(target.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise HomeCorrupt(f"{target} cannot be read: {error}") from error


def _safe(prefix: str) -> str:
    if not prefix or not all(char in "0123456789abcdefABCDEF-" for char in prefix):
        raise InvalidInput(f"not an id: {prefix!r}", "`./tpp ps` lists the conversations.")
    return prefix.lower()
