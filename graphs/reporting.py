"""Asks a runner for a report that machines read, beside what it prints for people.

Pure. A report goes into a folder outside the workspace, one per run, by what the runner itself offers: an
environment variable where it has one, a flag where the command is plain enough to take it. The rule above
all: never break a command. Where the repository configures reports itself, or its runner might refuse the
option, nothing is asked for, and the words are read alone.
"""

from __future__ import annotations

import re
import shlex

from graphs.probe import Found

MOST_FILES, MOST_BYTES = 400, 16 << 20

# Nothing but the runner: it takes one more flag at its end, as every PHPUnit of the last fifteen years does.
_PHPUNIT = re.compile(r"^(?:\./)?(?:vendor/bin/)?phpunit$")


def environment(command: str, found: Found, folder: str) -> str:
    """Shell lines that make the runner write a report into `folder`; what is set already is kept."""
    lines = []
    texts = "\n".join([command, *found.contents.values()])
    if "junitxml" not in texts and "no:junit" not in texts and "PYTEST_ADDOPTS" not in texts:
        # $PWD is filled in by pytest itself, so that two runs from two folders do not overwrite each other.
        option = shlex.quote(f"--junitxml={folder}/$PWD/pytest.xml")
        lines.append(f'export PYTEST_ADDOPTS="${{PYTEST_ADDOPTS:+$PYTEST_ADDOPTS }}"{option}')
    if "node --test" in texts and "test-reporter" not in texts and "node-reporters" in found.tools:
        # What node prints when nobody asks, away from a terminal: that stays as it is.
        usual = "tap" if found.node < 23 else "spec"
        options = (
            f"--test-reporter={usual} --test-reporter-destination=stdout "
            f"--test-reporter=junit --test-reporter-destination={folder}/node.xml"
        )
        lines.append(_unless_set("NODE_OPTIONS", options))
    specs = any(path.endswith("_spec.rb") for path in found.files)
    if specs and not re.search(r"(^|\s)(-f|--format)", f"{command}\n{found.text('.rspec')}", re.MULTILINE):
        # rspec forgets every other format as soon as one is named here: so its usual one is named as well.
        options = f"--format progress --format json --out {folder}/rspec.json"
        lines.append(_unless_set("SPEC_OPTS", options))
    return "\n".join(lines)


def _unless_set(name: str, value: str) -> str:
    return f'[ -n "${name}" ] || export {name}={shlex.quote(value)}'


def flagged(command: str, folder: str) -> str:
    """The command with the flag that makes its runner write a report, where it takes one."""
    return f"{command} --log-junit {folder}/phpunit.xml" if _PHPUNIT.match(command) else command


def collect(folder: str, workspace: str, since: str) -> str:
    """A shell script that prints every report with its size: those in `folder`, and those that Maven and
    Gradle write into the workspace by themselves, if newer than the file `since`."""
    return f"""
exec 2>&1
{{ find {folder} -type f
  find {workspace} \\( -name node_modules -o -name .git \\) -prune -o -newer {since} \\
    \\( -path '*/target/surefire-reports/*.xml' -o -path '*/build/test-results/*/*.xml' \\) -print
}} | sort | head -n {MOST_FILES} | while IFS= read -r f; do
  s=$(($(wc -c < "$f"))); printf 'report %s\\n' "$s"; cat "$f"; echo
done
true
"""


def read(output: bytes) -> list[bytes]:
    """The reports in what `collect` printed."""
    found, at = [], 0
    while (start := output.find(b"report ", at)) >= 0:
        end = output.find(b"\n", start)
        size = output[start + 7 : end]
        if end < 0 or not size.isdigit():
            at = start + 7
            continue
        body = output[end + 1 : end + 1 + int(size)]
        if len(body) == int(size):
            found.append(body)
        at = end + 1 + int(size)
    return found
