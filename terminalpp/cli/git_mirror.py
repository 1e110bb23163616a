"""What makes git in the sandbox see a project's files as it sees them at home.

The copy's index equals HEAD; everything else that decides whether a file is "modified" is carried over:

- settings: line ends, modes, links, case, sparse checkout, untracked files. Only the names in `CARRIED`, and
  only their values: nothing that could run a program. `core.safecrlf` is off, or every edit would warn.
- attributes: `info/attributes`, and the system's and the person's own file as `core.attributesFile` (they
  stand below a `.gitattributes`, so they cannot be merged into `info/attributes`).
- ignore rules: the person's own excludes and `info/exclude`, in this order one list (the later rule wins).
- sparse checkout's patterns, and the skip-worktree and assume-unchanged marks. A tracked file that is
  withheld from the sandbox is marked skip-worktree, so that nobody there takes it for deleted.

Some files only the person's machine can see as unmodified: a filter program made them (git-lfs,
git-crypt), or git never looked again after the settings changed. Which ones is not worked out but asked:
git at home says what is unmodified, git with the copy's settings says what it would find. For the
difference there is `filters`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from terminalpp.cli import filters, git
from terminalpp.cli.repository import Survey, show

CARRIED = ("core.autocrlf", "core.eol", "core.filemode", "core.symlinks", "core.ignorecase",
           "core.protecthfs", "core.protectntfs", "core.sparsecheckout", "core.sparsecheckoutcone",
           "sparse.expectfilesoutsideofpatterns", "status.showuntrackedfiles")
SYSTEM_ATTRIBUTES = "/etc/gitattributes"
GLOBAL_NAME = "info/attributes.global"
_CONVERSIONS = ("text", "eol", "crlf", "ident", "working-tree-encoding")


@dataclass(frozen=True, slots=True)
class Tracked:
    """A path of HEAD. `size` in bytes, -1 when the object is missing."""

    mode: str
    oid: str
    size: int


class Inside:
    """git on the person's files as it will be in the sandbox: the copy's settings and nobody else's."""

    def __init__(self, made: Path, root: Path, scratch: Path) -> None:
        self.made, self.root = made, root
        home = scratch / "nobody"
        home.mkdir(exist_ok=True)
        self.env = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_ATTR_NOSYSTEM": "1",
                    "HOME": str(home), "XDG_CONFIG_HOME": str(home)}

    def git(
        self, *args: str, stdin: bytes = b"", index: Path | None = None, ok: tuple[int, ...] = (0,)
    ) -> bytes:
        """Raises GitFailed."""
        where = (f"--git-dir={self.made}", f"--work-tree={self.root}",
                 "-c", f"core.attributesFile={self.made / GLOBAL_NAME}")
        env = self.env | ({"GIT_INDEX_FILE": str(index)} if index else {})
        return git.run(*where, *args, cwd=self.root, env=env, stdin=stdin, ok=ok)


def carry(found: Survey, made: Path, scratch: Path) -> None:
    """Complete the fresh repository `made`: settings, rules, index, stand-ins for filters."""
    (made / "info").mkdir(exist_ok=True)
    settings = _settings(found.root)
    for key in CARRIED:
        if settings.get(key, "").isalnum():
            git.run("config", key, settings[key], cwd=made)
    git.run("config", "core.safecrlf", "false", cwd=made)
    _rules(found.root, made)
    if found.head is None:
        return
    inside = Inside(made, found.root, scratch)
    inside.git("read-tree", "HEAD")
    tracked = _tracked(inside)
    _marks(found, inside, tracked)
    _stand_ins(found, inside, tracked, settings, scratch)


def _settings(root: Path) -> dict[str, str]:
    """The values that are in force; the last one wins, one without a value is true."""
    raw = git.maybe("config", "--null", "--get-regexp", r"^(core|sparse|status)\.", cwd=root) or ""
    found = {}
    for record in raw.split("\0"):
        key, told, value = record.partition("\n")
        found[key] = value if told else "true"
    return found


# ---- rules --------------------------------------------------------------------------------------


def _rules(root: Path, made: Path) -> None:
    excludes = [_own_file(root, "core.excludesFile", "ignore"), _inside_git(root, "info/exclude")]
    _write(made / "info" / "exclude", excludes)
    attributes = [_system_attributes(root), _own_file(root, "core.attributesFile", "attributes")]
    if _write(made / GLOBAL_NAME, attributes):
        # from the top of the work tree, where git stands when it reads this
        git.run("config", "core.attributesFile", f".git/{GLOBAL_NAME}", cwd=made)
    _write(made / "info" / "attributes", [_inside_git(root, "info/attributes")])
    _write(made / "info" / "sparse-checkout", [_inside_git(root, "info/sparse-checkout")])


def _inside_git(root: Path, name: str) -> Path | None:
    place = git.maybe("rev-parse", "--git-path", name, cwd=root)
    return root / place if place else None


def _own_file(root: Path, key: str, name: str) -> Path | None:
    given = git.maybe("config", "--type=path", "--get", key, cwd=root)
    if given is not None:
        return root / given if given else None
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(base) / "git" / name


def _system_attributes(root: Path) -> Path | None:
    told = git.maybe("var", "GIT_ATTR_SYSTEM", cwd=root)  # since git 2.42
    return None if os.environ.get("GIT_ATTR_NOSYSTEM") else Path(told or SYSTEM_ATTRIBUTES)


def _write(target: Path, sources: list[Path | None]) -> bool:
    """The sources one after the other; False when there are none to read."""
    parts = []
    for source in sources:
        if source is not None and os.path.isfile(source) and os.access(source, os.R_OK):
            parts.append(source.read_bytes().removeprefix(b"\xef\xbb\xbf").rstrip(b"\n") + b"\n")
    whole = b"".join(parts)
    if whole.strip():
        target.write_bytes(whole)
    return bool(whole.strip())


# ---- the index ----------------------------------------------------------------------------------


def _tracked(inside: Inside) -> dict[str, Tracked]:
    found = {}
    for record in git.names(inside.git("ls-tree", "-r", "-l", "-z", "HEAD")):
        about, _, path = record.partition("\t")
        mode, _, oid, size = about.split()
        found[path] = Tracked(mode, oid, int(size) if size.isdigit() else -1)
    return found


def _marks(found: Survey, inside: Inside, tracked: dict[str, Tracked]) -> None:
    skipped, assumed = set(found.withheld), set()
    for record in git.names(git.run("ls-files", "-z", "-v", "--cached", cwd=found.root)):
        tag, name = record[0], record[2:]
        if tag in "Ss":
            skipped.add(name)
        if tag.islower():
            assumed.add(name)
    arrived = {entry.path for entry in found.entries}
    folders = {*found.folders, *_above(arrived)}
    for path, what in tracked.items():  # a submodule that is withheld, with its folder
        if what.mode == "160000" and path not in folders and os.path.isdir(found.root / path):
            skipped.add(path)
    for option, names in (("--skip-worktree", skipped), ("--assume-unchanged", assumed)):
        asked = b"".join(os.fsencode(name) + b"\0" for name in sorted(names) if name in tracked)
        if asked:
            inside.git("update-index", option, "-z", "--stdin", stdin=asked)


def _above(names: set[str]) -> set[str]:
    found: set[str] = set()
    for name in names:
        folder = os.path.dirname(name)
        while folder and folder not in found:
            found.add(folder)
            folder = os.path.dirname(folder)
    return found


# ---- files that only home can see as unmodified --------------------------------------------------


def _stand_ins(
    found: Survey, inside: Inside, tracked: dict[str, Tracked], settings: dict[str, str], scratch: Path
) -> None:
    sizes = {entry.path: entry.size for entry in found.entries if not entry.link}
    here = [path for path, what in tracked.items() if what.mode.startswith("100") and path in sizes]
    attributes = _attributes(inside, here)
    modified = _modified(found.root)
    used = {path: attributes[path]["filter"] for path in here if _is_value(attributes[path]["filter"])}
    crlf = _is_true_or_input(settings.get("core.autocrlf", ""))
    suspects = {
        path for path in here
        if (path in used if path in modified else
            crlf or sizes[path] != tracked[path].size or _converted(attributes[path]))
    }
    odd = _differing(inside, {path: tracked[path] for path in suspects}, tracked, scratch)
    dos = settings.get("core.eol") == "crlf" or settings.get("core.autocrlf", "").lower() not in ("", "false")
    tables = filters.Tables(inside.made, found.root)
    for path in sorted(suspects):
        # unmodified at home, or modified for the filter's sake alone: inside it must be the same
        if (path in odd) == (path in modified):
            continue
        blob = _cleaned(found.root, inside, path) if path in modified else tracked[path].oid
        alone = path in used and _filter_alone(attributes[path], dos)
        if blob is not None:
            tables.add(path, blob, used[path] if alone else None)
    left = tables.write()
    if left:
        found.warnings.append(f"git inside will call {left:,} files modified that it does not at home "
                              "(line ends or a filter)")
    _tell_filters(found, used)


def _tell_filters(found: Survey, used: dict[str, str]) -> None:
    raw = git.maybe("config", "--null", "--name-only", "--get-regexp",
                    r"^filter\..*\.(clean|smudge|process)$", cwd=found.root) or ""
    ours = {key.partition(".")[2].rpartition(".")[0] for key in raw.split("\0")} & set(used.values())
    if ours:
        count = sum(1 for name in used.values() if name in ours)
        shown = ", ".join(show(name) for name in sorted(ours))
        found.warnings.append(f"the filter program of {shown} does not run in the sandbox: "
                              f"{count:,} file(s) are there as they are on your disk")


def _attributes(inside: Inside, paths: list[str]) -> dict[str, dict[str, str]]:
    asked = b"".join(os.fsencode(path) + b"\0" for path in paths)
    raw = inside.git("check-attr", "-z", "--stdin", "filter", *_CONVERSIONS, stdin=asked)
    parts = [os.fsdecode(part) for part in raw.split(b"\0")[:-1]]
    found: dict[str, dict[str, str]] = {path: {} for path in paths}
    for path, name, value in zip(parts[0::3], parts[1::3], parts[2::3], strict=True):
        found[path][name] = value
    return found


def _is_value(value: str) -> bool:
    return value not in ("unspecified", "unset", "set", "")


def _is_true_or_input(value: str) -> bool:
    return value.lower() in ("true", "yes", "on", "1", "input")


def _converted(attributes: dict[str, str]) -> bool:
    return any(value not in ("unspecified", "unset") for value in attributes.values())


def _filter_alone(attributes: dict[str, str], dos: bool) -> bool:
    """Whether nothing but the filter stands between the file and its blob. `dos`: settings ask for CRLF."""
    if attributes["ident"] == "set" or _is_value(attributes["working-tree-encoding"]):
        return False
    return attributes["text"] == "unset" or (
        not dos and attributes["text"] in ("unspecified", "auto") and attributes["eol"] != "crlf"
        and attributes["crlf"] in ("unset", "unspecified")
    )


def _cleaned(root: Path, inside: Inside, path: str) -> str | None:
    """The blob that git at home would store for the file now; it is stored in the copy. None: git fails."""
    store = {"GIT_OBJECT_DIRECTORY": str(inside.made / "objects")}
    return git.maybe("hash-object", "-w", "--", path, cwd=root, env=store)


def _modified(root: Path) -> set[str]:
    """What git at home calls modified, staged or in conflict, measured against HEAD."""
    try:
        raw = git.run("status", "--porcelain=v1", "-z", "--untracked-files=no", "--no-renames",
                      "--ignore-submodules=all", cwd=root)
    except git.GitFailed:  # a filter of the person's fails: what looks touched counts as modified
        return set(git.names(git.run("diff-index", "--name-only", "-z", "--no-renames",
                                     "--ignore-submodules=all", "HEAD", cwd=root)))
    return {record[3:] for record in git.names(raw)}


def _differing(
    inside: Inside, suspects: dict[str, Tracked], tracked: dict[str, Tracked], scratch: Path
) -> set[str]:
    """Those of `suspects` that git inside would call modified."""
    if not suspects:
        return set()
    rules = {path: what for path, what in tracked.items() if os.path.basename(path) == ".gitattributes"}
    feed = b"".join(f"{what.mode} {what.oid}\t".encode() + os.fsencode(path) + b"\0"
                    for path, what in (suspects | rules).items())
    index = scratch / "suspects"
    inside.git("update-index", "-z", "--index-info", stdin=feed, index=index)
    inside.git("update-index", "-q", "--refresh", index=index, ok=(0, 1))
    return set(git.names(inside.git("diff-files", "--name-only", "-z", index=index))) & set(suspects)
