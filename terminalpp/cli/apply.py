"""Bringing a team's patch home into the working tree.

The patch is made against the very bytes that were copied into the sandbox. So it is applied where
those bytes are: the touched files are put into a staging repository, `git apply` works there, and
only the results come back. That keeps three promises:

- a file that changed meanwhile (its hash differs from the one taken when it was copied) is never
  overwritten: `Conflict`, and nothing is changed. A file that was never copied because git ignores it (your
  `.env`) is yours: it stays as it is, the rest is applied, and it is named;
- it is all or nothing: a write that fails is undone;
- the person's index, stash, HEAD and hooks are untouched; line-ending and filter settings cannot
  bend the patch (the staging repository switches them off).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from terminalpp.cli import git, home, patches
from terminalpp.cli.archive import Manifest, present
from terminalpp.cli.repository import show
from terminalpp.types.errors import Conflict, DiskFull, InvalidInput, TerminalError
from terminalpp.types.patch import EMPTY_FOLDER

_PLAIN_ATTRIBUTES = "* -text -eol -ident -filter -working-tree-encoding -whitespace -merge\n"


@dataclass(frozen=True, slots=True)
class Change:
    """One path: the file that was copied and the file that takes its place (None: no file)."""

    path: str
    before: Path | None
    after: Path | None

    @property
    def real(self) -> bool:
        """Whether the two differ (a patch may do what an earlier one did already)."""
        old = present(self.before) if self.before else None
        return old != (present(self.after) if self.after else None)


@dataclass(frozen=True, slots=True)
class Applied:
    """The paths that were changed, and those where an ignored file of the person's own stands: left alone."""

    changed: list[str]
    yours: list[str]


@dataclass(frozen=True, slots=True)
class Project:
    """Where a run came from: its root, whether git knows it, the commit and the manifest of its copy.

    `applied`: an earlier patch of the same copy that the working tree (and the manifest) holds by now.
    """

    root: Path
    is_git: bool
    head: str | None
    manifest: Manifest
    applied: bytes = b""


def to_tree(patch: bytes, project: Project) -> Applied:
    """Apply to the working tree (no path changed: it held all that already).

    Raises Conflict, InvalidInput, DiskFull.
    """
    with home.scratch("apply") as scratch, _one_at_a_time(project.root):
        staged = [change for change in stage(patch, project, scratch) if change.real]
        yours = {change.path for change in staged if _stands_already(project, change)}
        changes = [change for change in staged if change.path not in yours]
        for change in changes:
            _check_parents(project.root, change.path)
        _write(project.root, changes)
    differ = [c.path for c in staged if c.path in yours and not _same(project.root / c.path, c.after)]
    return Applied([change.path for change in changes], sorted(differ))


def _stands_already(project: Project, change: Change) -> bool:
    """Whether the patch makes a file where one stands that was not copied."""
    if change.before is not None or project.manifest.get(change.path) or is_folder(change.path):
        return False
    return os.path.lexists(project.root / change.path)


def _same(target: Path, source: Path | None) -> bool:
    return source is not None and present(target) == present(source)


def is_folder(name: str) -> bool:
    """Whether a path of a patch stands for an empty folder."""
    return name.rpartition("/")[2] == EMPTY_FOLDER


def stage(patch: bytes, project: Project, scratch: Path, committed: bool = False) -> list[Change]:
    """What the patch makes of the copied files, worked out in `scratch`.

    `committed`: a file that changed meanwhile may be taken from the copied commit instead.
    """
    area, base = scratch / "stage", scratch / "base"
    area.mkdir()
    base.mkdir()
    git.run("init", "-q", "--template=", str(area), cwd=scratch)
    (area / ".git" / "info").mkdir()
    (area / ".git" / "info" / "attributes").write_text(_PLAIN_ATTRIBUTES)
    found = patches.touches(patch)
    patches.agreed(patch, found, area)
    before = patches.touches(project.applied)
    names = sorted({name for touch in (*found, *before) for name in (touch.old, touch.new) if name})
    _lay_folders(found, before, area)
    ignored = _ignored(project, [name for name in names if name not in project.manifest], scratch)
    changed = [
        name
        for name in names
        if name not in ignored and not is_folder(name) and not _fetch_base(name, project, area, committed)
    ]
    if changed:
        raise Conflict(
            "changed since they were copied: " + ", ".join(show(name) for name in changed[:5])
            + (f" and {len(changed) - 5} more" if len(changed) > 5 else ""),
            "The patch is kept; commit or move your changes, then apply it.",
            {"paths": changed},
        )
    for number, name in enumerate(names):
        if os.path.lexists(area / name):
            shutil.copy2(area / name, base / str(number), follow_symlinks=False)
    settings = ("core.autocrlf=false", "core.symlinks=true", "core.fileMode=true", "apply.whitespace=nowarn",
                "apply.ignoreWhitespace=no", "core.protectHFS=true")
    options = [word for setting in settings for word in ("-c", setting)]
    try:
        if project.applied:
            skipped = [f"--exclude={_literal(name)}" for name in sorted(ignored)]
            git.run(*options, "apply", "--whitespace=nowarn", "--reverse", *skipped, cwd=area,
                    stdin=project.applied)
        if patch:
            git.run(*options, "apply", "--whitespace=nowarn", cwd=area, stdin=patch)
    except git.GitFailed as error:
        first, _, _ = error.words.partition("\n")
        raise Conflict(f"git apply: {first}", "The patch is kept.") from error
    changes = []
    for number, name in enumerate(names):
        before, after = base / str(number), area / name
        _check_link(name, after, before)
        changes.append(Change(name, before if os.path.lexists(before) else None,
                              after if after.is_symlink() or after.is_file() else None))
    return changes


def _literal(name: str) -> str:
    """A name as a pattern of git's that matches it alone."""
    return re.sub(r"([*?\[\\])", r"\\\1", name)


def _lay_folders(found: list[patches.TouchedPath], before: list[patches.TouchedPath], area: Path) -> None:
    """Put placeholders where the patches expect them: empty folders that the tree holds by now."""
    there = {touch.old: True for touch in found if touch.old and is_folder(touch.old)}
    for touch in before:
        name = touch.new or touch.old
        if name and is_folder(name):
            there[name] = touch.new is not None
    for name in (name for name, stands in there.items() if stands):
        (area / name).parent.mkdir(parents=True, exist_ok=True)
        (area / name).touch()


def _ignored(project: Project, names: list[str], scratch: Path) -> set[str]:
    """Which of these names git ignores in the project, and something stands there."""
    asked = [name for name in names if os.path.lexists(project.root / name)]
    if not asked:
        return set()
    where: tuple[str, ...] = ()
    if not project.is_git:
        store = scratch / "ignore.git"
        git.run("init", "-q", "--bare", "--template=", str(store), cwd=scratch)
        where = (f"--git-dir={store}", f"--work-tree={project.root}", "-c", "core.bare=false")
    out: set[str] = set()
    for name in asked:  # one by one: git refuses a whole list for one name in a repository inside
        with contextlib.suppress(git.GitFailed):
            if git.run(*where, "check-ignore", "-z", "--no-index", "--stdin", cwd=project.root,
                       stdin=os.fsencode(name) + b"\0", ok=(0, 1)):
                out.add(name)
    return out


def _fetch_base(name: str, project: Project, area: Path, committed: bool) -> bool:
    """Put the copied version of a file into the staging area; False when it is no longer to be had."""
    wanted = project.manifest.get(name)
    source, target = project.root / name, area / name
    if wanted is None:
        return committed or not os.path.lexists(source)
    if present(source) == wanted and _real_parents(project.root, name):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)
        return present(target) == wanted
    if not (committed and project.head):
        return False
    record = git.run("ls-tree", "-z", project.head, "--", f":(literal){name}", cwd=project.root)
    try:
        data = git.run("cat-file", "--filters", f"{project.head}:{name}", cwd=project.root)
    except git.GitFailed:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    if record.startswith(b"120000"):
        os.symlink(os.fsdecode(data), target)
    else:
        target.write_bytes(data)
        target.chmod(0o755 if record.startswith(b"100755") else 0o644)
    return present(target) == wanted


def _check_link(name: str, after: Path, before: Path) -> None:
    if not after.is_symlink() or (before.is_symlink() and os.readlink(before) == os.readlink(after)):
        return
    target = os.readlink(after)
    inside = os.path.normpath(os.path.join(os.path.dirname(name), target))
    if os.path.isabs(target) or inside == ".." or inside.startswith("../"):
        raise InvalidInput(f"the patch makes {show(name)} a link to {show(target)}, outside the project",
                           "The patch is kept; read it before applying anything by hand.")


# ---- the working tree ---------------------------------------------------------------------------


@contextlib.contextmanager
def _one_at_a_time(root: Path) -> Iterator[None]:
    """Two runs that end together must not both find the files unchanged and then both write."""
    digest = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
    with open(home.folder("tmp") / f"apply-{digest}.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _real_parents(root: Path, name: str) -> bool:
    folder = root
    for part in name.split("/")[:-1]:
        folder = folder / part
        if folder.is_symlink():
            return False
    return True


def _check_parents(root: Path, name: str) -> None:
    if not _real_parents(root, name):
        raise InvalidInput(f"the patch reaches {show(name)} through a symbolic link",
                           "The patch is kept; read it before applying anything by hand.")


def _write(root: Path, changes: list[Change]) -> None:
    """All changes or none: what was done is undone when one fails."""
    done: list[Change] = []
    # deletions first: a file may make room for a folder of its name
    ordered = sorted(changes, key=lambda change: change.after is not None)
    try:
        for change in ordered:
            done.append(change)
            _place(root, change.path, change.after)
    except (OSError, TerminalError) as error:
        for change in reversed(done):
            with contextlib.suppress(OSError):
                _place(root, change.path, change.before)
        if isinstance(error, OSError):
            words = f"{error.filename or root}: {error.strerror}"
            told = DiskFull if error.errno == 28 else Conflict
            raise told(f"could not be written, everything is as before: {words}") from error
        raise


def _place(root: Path, name: str, source: Path | None) -> None:
    target = root / name
    if is_folder(name):
        if source is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
        else:
            with contextlib.suppress(OSError):  # not empty, or gone: it is the person's
                target.parent.rmdir()
        return
    if source is None:
        target.unlink(missing_ok=True)
        folder = target.parent
        while folder != root:
            try:
                folder.rmdir()
            except OSError:
                return  # not empty: it stays
            folder = folder.parent
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".tpp-{os.getpid()}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:12]}")
    try:
        if source.is_symlink():
            os.symlink(os.readlink(source), fresh)
        else:
            shutil.copyfile(source, fresh)
            fresh.chmod(_mode(target, bool(source.stat().st_mode & 0o100)))
        fresh.replace(target)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def _mode(target: Path, executable: bool) -> int:
    """The rights of the file that is replaced, with the patch's x-bit; umask's for a new one."""
    try:
        found = target.lstat()
        kept = stat.S_IMODE(found.st_mode) if stat.S_ISREG(found.st_mode) else None
    except OSError:
        kept = None
    if kept is None:
        mask = os.umask(0o022)
        os.umask(mask)
        kept = 0o666 & ~mask
    return kept | (kept & 0o444) >> 2 if executable else kept & ~0o111
