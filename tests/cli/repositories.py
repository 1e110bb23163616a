"""Real git repositories for the tests of copying and applying, and a look at what arrived."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from actors.conversation.workspace import unambiguous
from terminalpp.cli import archive, history, repository
from terminalpp.cli.apply import Project

IDENTITY = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false")


def git(cwd: Path, *args: str, stdin: bytes = b"") -> bytes:
    done = subprocess.run(["git", *IDENTITY, *args], cwd=cwd, input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def make(path: Path, files: dict[str, bytes], *options: str) -> Path:
    """A repository with one commit of `files`."""
    path.mkdir(parents=True)
    git(path, "init", "-q", "-b", "main", *options)
    write(path, files)
    git(path, "add", "-A")
    git(path, "commit", "-q", "-m", "first", "--allow-empty")
    return path


def write(root: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


class Copy:
    """A project as the sandbox would see it: the tar that is sent, unpacked."""

    def __init__(self, source: Path, scratch: Path, include: tuple[str, ...] = ()) -> None:
        work = scratch / "work"
        work.mkdir(parents=True)
        self.manifest: archive.Manifest = {}
        self.survey = repository.survey(source, work, include)
        made = history.copy_history(self.survey, work)
        data = b"".join(archive.stream(self.survey, made, self.manifest))
        self.root = scratch / "inside"
        self.root.mkdir()
        # another implementation unpacks than the one that packed
        subprocess.run(["tar", "-x", "-f", "-", "-C", str(self.root)], input=data, check=True)
        self.base = self._snapshot()

    @property
    def project(self) -> Project:
        found = self.survey
        return Project(found.root, found.is_git, found.head, self.manifest)

    def _outside(self, *args: str) -> bytes:
        """git with a repository of its own, as the server takes its snapshots."""
        where = self.root.parent / "snapshots.git"
        if not where.exists():
            git(self.root.parent, "init", "-q", "--bare", "--template=", str(where))
            (where / "info").mkdir(exist_ok=True)
            (where / "info" / "attributes").write_text("* -text -ident -filter -eol\n")
            (where / "info" / "exclude").write_text(".git\n")
        options = (f"--git-dir={where}", "-c", "core.bare=false", f"--work-tree={self.root}")
        return git(self.root, *options, *args)

    def _snapshot(self) -> str:
        self._outside("add", "-A", "-f", ".")
        return self._outside("write-tree").decode().strip()

    def patch(self) -> bytes:
        """What changed inside since the copy."""
        return unambiguous(
            self._outside("diff", "--binary", "--full-index", "-M", self.base, self._snapshot())
        )


def listing(root: Path) -> dict[bytes, tuple[str, bytes]]:
    """Every file and link below `root` but git's own: name -> (kind, content or target)."""
    found: dict[bytes, tuple[str, bytes]] = {}
    top = os.fsencode(root)
    for folder, folders, names in os.walk(top):
        if b".git" in folders:
            folders.remove(b".git")
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in names + links:
            full = os.path.join(folder, name)
            inside = os.path.relpath(full, top)
            if inside == b".git":
                continue
            if os.path.islink(full):
                found[inside] = ("link", os.readlink(full))
            else:
                with open(full, "rb") as file:
                    kind = "exec" if os.stat(full).st_mode & 0o100 else "file"
                    found[inside] = (kind, file.read())
    return found


def traces(root: Path) -> dict[str, bytes]:
    """Everything in `.git` but its objects, with times: what a run must not change."""
    found = {}
    for path in sorted((root / ".git").rglob("*")):
        inside = str(path.relative_to(root / ".git"))
        if path.is_file() and not inside.startswith("objects/"):
            found[inside] = path.read_bytes() + str(path.stat().st_mtime_ns).encode()
    return found
