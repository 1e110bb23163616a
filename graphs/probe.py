"""Looks at a workspace and its sandbox, as far as it matters for running tests.

`SCRIPT` prints it, run in the workspace by a POSIX shell; `read` takes the output apart. Manifests are
printed whole, each with its size in bytes, so that nothing in them can be taken for a line of ours. What
cannot be read is told as a trouble, never passed over.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

FILE_BYTES = 2_000_000  # of one manifest; a larger one is a trouble
MOST_FILES, MOST_READ, MOST_TROUBLES = 4000, 400, 5
OUTPUT_BYTES = 32 << 20

_TOOLS = (
    "python3 python tox nox node npm yarn pnpm bun deno go cargo make just ctest cmake mvn gradle ruby "
    "bundle rspec rake php mix swift dotnet bats prove"
)
_SKIPPED = (
    "node_modules .git .venv venv .tox .nox target vendor .tpp __pycache__ site-packages .yarn dist build"
)
_READ = (
    "package.json pyproject.toml setup.cfg tox.ini pytest.ini .pytest.ini Makefile makefile GNUmakefile "
    "justfile pnpm-workspace.yaml go.work Cargo.toml Gemfile Rakefile composer.json CMakeLists.txt "
    "deno.json deno.jsonc .rspec"
)
_NOTED = (
    "setup.py noxfile.py conftest.py go.mod pom.xml build.gradle build.gradle.kts gradlew mvnw "
    "phpunit.xml phpunit.xml.dist mix.exs Package.swift package-lock.json npm-shrinkwrap.json yarn.lock "
    ".yarnrc.yml pnpm-lock.yaml bun.lock bun.lockb uv.lock poetry.lock pdm.lock Pipfile Pipfile.lock "
    "Cargo.lock Gemfile.lock composer.lock mix.lock requirements*.txt *.csproj *.fsproj *.sln *.slnx"
)
_PYTHON_TESTS = "test_*.py *_test.py tests.py"
_TESTS = f"{_PYTHON_TESTS} *_test.go *_spec.rb *_test.rb test_*.rb *.bats *.t"


def _names(words: str) -> str:
    return " -o ".join(f"-name '{word}'" for word in words.split())


SCRIPT = rf"""
exec 2>&1
for t in {_TOOLS}; do command -v "$t" >/dev/null && echo "tool $t"; done
p=python3; command -v python3 >/dev/null || p=python
[ -x .venv/bin/python ] && p=.venv/bin/python && echo "tool venv"
"$p" -c "import pytest" 2>/dev/null && echo "tool python-pytest"
if command -v node >/dev/null; then
  echo "node $(node --version)"
  NODE_OPTIONS='--test-reporter=tap --test-reporter-destination=stdout' node -e 0 >/dev/null 2>&1 &&
    echo "tool node-reporters"
fi
walk() {{ find . \( {_names(_SKIPPED)} \) -prune -o -type f "$@"; }}
upper_first() {{
  awk -F/ '{{ printf "%04d %s\n", NF, $0 }}' | sort | cut -c6- | awk -v most="$1" -v what="$2" '
    NR <= most {{ print what substr($0, 3) }}
    NR == most + 1 {{ print "trouble there are more than " most " " what }}'
}}
walk \( {_names(f"{_READ} {_NOTED} {_TESTS}")} \) -print | upper_first {MOST_FILES} 'file '
walk \( {_names(f"{_PYTHON_TESTS} conftest.py")} \) -exec grep -lE '^[[:space:]]*(import|from) pytest' \
  {{}} + | head -n 1 | sed 's|^|uses pytest |'
walk \( {_names(_PYTHON_TESTS)} \) -exec grep -l TestCase {{}} + | head -n 1 | sed 's|^|uses unittest |'
walk \( {_names(_READ)} \) -print | upper_first {MOST_READ} | while IFS= read -r f; do
  case $f in "trouble "*) echo "${{f}}manifests"; continue;; esac
  if [ -r "$f" ]; then
    s=$(($(wc -c < "$f")))
    if [ "$s" -le {FILE_BYTES} ]; then printf 'content %s %s\n' "$s" "$f"; cat "$f"; echo
    else echo "trouble $f is too large to be read ($s bytes)"; fi
  else echo "trouble $f cannot be read"; fi
done
true
"""


@dataclass(frozen=True)
class Found:
    """The findings of the probe. Paths are relative to the workspace; `uses`: the runners of Python tests."""

    tools: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()
    contents: Mapping[str, str] = field(default_factory=dict)
    uses: frozenset[str] = frozenset()
    node: int = 0  # its major version
    troubles: tuple[str, ...] = ()

    def under(self, folder: str) -> Found:
        """The same, seen from a folder of the workspace."""
        if not folder:
            return self
        start = f"{folder}/"
        return replace(
            self,
            files=frozenset(path.removeprefix(start) for path in self.files if path.startswith(start)),
            contents={
                path.removeprefix(start): text
                for path, text in self.contents.items()
                if path.startswith(start)
            },
            tools=self.tools - {"venv"},
        )

    def holds(self, *names: str) -> bool:
        """Whether one of the files is there."""
        return any(name in self.files for name in names)

    def text(self, name: str) -> str:
        """The contents of a file that was read; "" for another."""
        return self.contents.get(name, "")


def read(output: bytes) -> Found:
    """The probe's output. Lines that it does not know are troubles: the shell or a program complained."""
    tools, files, uses, troubles = set(), set(), set(), []
    contents: dict[str, str] = {}
    node = at = 0
    while at < len(output):
        end = output.find(b"\n", at)
        end = len(output) if end < 0 else end
        line = output[at:end].decode("utf-8", "surrogateescape")
        at = end + 1
        word, _, rest = line.partition(" ")
        match word:
            case "tool":
                tools.add(rest)
            case "file":
                files.add(rest)
            case "uses":
                uses.add(rest.split(" ")[0])
            case "node":
                version = re.match(r"v?(\d+)", rest)
                node = int(version.group(1)) if version else 0
            case "content":
                size, _, name = rest.partition(" ")
                if not size.isdigit() or at + int(size) > len(output):
                    troubles.append(f"{name} could not be read whole")
                    break
                contents[name] = output[at : at + int(size)].decode("utf-8-sig", "replace")
                at += int(size) + 1
            case "trouble":
                troubles.append(rest)
            case _ if line.strip():
                troubles.append(line[:200])
    return Found(
        frozenset(tools), frozenset(files), contents, frozenset(uses), node, tuple(troubles[:MOST_TROUBLES])
    )


def projects(found: Found) -> list[str]:
    """Folders below the root that have a manifest of their own, the outermost first."""
    folders = {
        posixpath.dirname(path) for path in found.files if "/" in path and posixpath.basename(path) in _ROOTS
    }
    return sorted(folders, key=lambda folder: (folder.count("/"), folder))


_ROOTS = frozenset(
    ("package.json", "pyproject.toml", "setup.py", "setup.cfg", "tox.ini", "pytest.ini",
     "requirements.txt", "go.mod", "Cargo.toml", "pom.xml", "build.gradle", "build.gradle.kts",
     "Gemfile", "composer.json", "mix.exs", "Package.swift", "Makefile", "CMakeLists.txt", "deno.json",
     "deno.jsonc", "Pipfile")
)  # fmt: skip
