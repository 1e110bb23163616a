"""The folders of a project: the ones that hold no file, and the ignored ones that hold its dependencies.

git knows files only. A program that expects `data/` must find it in the sandbox all the same, and what is
left out because it is ignored must be named where it will be missed: a test runner lives in
`node_modules`. `look` walks the folders that are not ignored, level by level, and asks git once a level.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from terminalpp.cli import git
from terminalpp.cli.project_roots import ProjectRoot, folders_ignored

FOLDERS_LIMIT = 20_000  # empty ones; more are left out and told
RULES = (".gitignore", ".gitattributes")

# what stands beside a dependency folder -> the command that makes the folder; the first that is there
_NODE = (("package-lock.json", "npm ci"), ("npm-shrinkwrap.json", "npm ci"),
         ("yarn.lock", "yarn install --frozen-lockfile"),
         ("pnpm-lock.yaml", "pnpm install --frozen-lockfile"),
         ("bun.lock", "bun install --frozen-lockfile"), ("bun.lockb", "bun install --frozen-lockfile"),
         ("package.json", "npm install"))
_PYTHON = (("uv.lock", "uv sync"), ("poetry.lock", "poetry install"), ("pdm.lock", "pdm sync"),
           ("Pipfile.lock", "pipenv sync --dev"), ("requirements.txt", "pip install -r requirements.txt"),
           ("pyproject.toml", "pip install -e ."), ("setup.py", "pip install -e ."))
_VENDOR = (("composer.json", "composer install"), ("go.mod", "go mod vendor"),
           ("Gemfile", "bundle install --path vendor/bundle"), ("Cargo.toml", "cargo vendor"))
_MAKERS = {
    "node_modules": _NODE, "vendor": _VENDOR,
    "deps": (("mix.exs", "mix deps.get"),), "bower_components": (("bower.json", "bower install"),),
    ".bundle": (("Gemfile", "bundle install"),), "Pods": (("Podfile", "pod install"),),
    "elm-stuff": (("elm.json", "elm make"),),
}


@dataclass(slots=True)
class Folders:
    """Relative to the root. `rules`: ignore and attribute files that are ignored themselves.
    `problems`: git's words where it gave no answer."""

    empty: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    rules: set[str] = field(default_factory=set)
    unreadable: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def parents(names: Iterable[str]) -> set[str]:
    """Every folder that a name is in; "" is the root."""
    found = {""}
    for name in names:
        folder = os.path.dirname(name)
        while folder not in found:
            found.add(folder)
            folder = os.path.dirname(folder)
    return found


def look(root: Path, roots: list[ProjectRoot], names: set[str]) -> Folders:
    """`names` are the files that will be copied."""
    found = Folders()
    full = parents(names)
    starts = {project_root.prefix.rstrip("/") for project_root in roots}
    for project_root in roots:
        level = [project_root.prefix.rstrip("/")]
        while level:
            inside = [folder for where in level for folder in _listed(root, where, full, names, found)]
            # another repository is a project root of its own, or is nested too deeply
            inside = [folder for folder in inside
                      if folder not in starts and not os.path.lexists(root / folder / ".git")]
            try:
                out = folders_ignored(project_root, [folder for folder in inside if folder not in full])
            except git.GitFailed as error:
                found.problems.append(error.words.splitlines()[0])
                break
            found.ignored += sorted(out)
            level = [folder for folder in inside if folder not in out]
            found.empty += [folder for folder in level if folder not in full]
    found.empty += [start for start in starts if start not in full]
    dropped = set(found.ignored)
    found.empty = sorted(folder for folder in found.empty if folder not in dropped)
    return found


def _listed(root: Path, where: str, full: set[str], names: set[str], found: Folders) -> list[str]:
    """The folders in a folder. One whose own rules exclude all that is in it counts as ignored."""
    prefix = f"{where}/" if where else ""
    folders = []
    try:
        with os.scandir(root / where) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(prefix + entry.name)
                elif entry.name in RULES and prefix + entry.name not in names and entry.is_file():
                    if where in full:
                        found.rules.add(prefix + entry.name)
                    elif entry.name == ".gitignore":  # a cache that hides itself, such as .pytest_cache
                        found.ignored.append(where)
                        return []
    except FileNotFoundError:
        return []
    except OSError:
        found.unreadable.append(where)
        return []
    return [folder for folder in folders if os.path.basename(folder) != ".git"]


def dependencies(root: Path, ignored: Iterable[str], copied: set[str]) -> list[str]:
    """One line about the well-known dependency folders that stay behind, or none.

    `copied`: the folders that hold something that is copied."""
    left = []
    for folder in sorted(ignored, key=lambda name: (name.count("/"), name)):
        maker = None if folder in copied else _maker(root, folder)
        if maker is not None:
            left.append((folder, maker))
    if not left:
        return []
    shown = ", ".join(f"{folder}/" if folder.isprintable() else ascii(folder) for folder, _ in left[:3])
    more = f" and {len(left) - 3} more" if len(left) > 3 else ""
    folder, maker = left[0]
    place = os.path.dirname(folder)
    quoted = f"cd {shlex.quote(place)} && {maker}" if place.isprintable() and place else maker
    ways = [f'--setup-cmd "{quoted}" --network open']
    portable = [name for name, _ in left if not _is_python(root, name)]
    if portable:  # a virtual environment holds paths of this machine
        ways.insert(0, f"--include {os.path.basename(portable[0])}")
    return [f"ignored, so not in the sandbox: {shown}{more}. If the tests need it: {' or '.join(ways)}"]


def _maker(root: Path, folder: str) -> str | None:
    table = _PYTHON if _is_python(root, folder) else _MAKERS.get(os.path.basename(folder), ())
    above = (root / folder).parent
    return next((command for beside, command in table if (above / beside).is_file()), None)


def _is_python(root: Path, folder: str) -> bool:
    return (root / folder / "pyvenv.cfg").is_file()
