"""Every block of commands in README, CONTRIBUTING and docs/ is typed as it stands, and does what is said.

Each document is one `sh -eu` session of one person (see `person`), from its first block to its last, so
what one block sets the next one has. `CLAIMS` holds, for each document, what its blocks print and leave
behind: a block without its claims is a failure, like a block that ends with another status than 0.
"""

from __future__ import annotations

import difflib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.documents import ROOT, blocks, documents, shell_blocks
from tests.e2e.person import KEY, SCENARIO, Person, Said
from tests.eventually import eventually

Claim = Callable[[Said, Person], Any]
WORDS_FOR_CHAT = "29 February is still rejected. Please mend it.\n/diff\n/cost\n/quit\n"


@pytest.fixture(scope="module")
def person() -> Iterator[Person]:
    """A machine on which nothing of ours runs yet, and a provider that knows one model and one key."""
    folder = Path(tempfile.mkdtemp(prefix="tpp-docs-"))
    (folder / "scenario.json").write_text(json.dumps(SCENARIO))
    words = [sys.executable, "-m", "tests.model_server.server", str(folder / "scenario.json"), "--key", KEY]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as provider:
        try:
            assert provider.stdout
            person = Person(folder, provider.stdout.readline().strip())
            yield person
            person.down()
        finally:
            provider.terminate()
    shutil.rmtree(folder, ignore_errors=True)


# ---- README.md ----------------------------------------------------------------------------------


def the_demo_starts_everything_and_the_suite_runs(said: Said, person: Person) -> None:
    """`./tpp demo`, then `./tpp test` (of which a part is run here, see `person`)."""
    assert said.out.startswith("Model: scripted:demo — scripted: a recorded session plays")
    for step in ("home", "tppd", "postgres", "migrate", "redis", "ray", "gateway", "up"):
        assert re.search(rf"^  ✓ {step}\b", said.out, re.M), f"{step} was not started"
    assert "✗ tests red  1 failed, 4 passed" in said.out
    assert "✓ tests green  5 passed" in said.out
    applied = re.search(r"^Applied to (\S+): 1 file\.", said.out, re.M)
    assert applied
    assert "key=lambda item: (-item[1], item[0])" in person.run("git", "-C", applied[1], "diff").stdout
    difference = unlike_the_readme(said.out)
    assert not difference, difference
    the_suite_runs(said, person)


def unlike_the_readme(printed: str) -> str:
    """How the session that README.md shows "as it was printed" differs from this one: a diff, or "".

    What two sessions never share (ids, times, ports, paths, tokens, what a first start makes) is levelled."""
    shown = next(block.text for block in blocks(ROOT / "README.md") if block.text.startswith("Model: "))
    last = shown.strip().splitlines()[-1]
    here = printed.partition(last)[0] + last  # what follows is the suite's
    diff = difflib.unified_diff(_levelled(shown), _levelled(here), "README.md", "./tpp demo", "", "", 1, "")
    return "\n".join(diff)


def _levelled(session: str) -> list[str]:
    for pattern, word in (
        (r"\S*/share/terminalpp\b", "HOME"),
        (r"\d{8}-\d{6}-\d+", "WHEN"),
        (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "ID"),
        (r"\b(?=[a-f]*\d)[0-9a-f]{7,16}\b", "ID"),
        (r"\b\d+(\.\d+)? ?(s|ms)\b", "TIME"),
        (r"\b[\d,]+ tokens in, [\d,]+ out", "TOKENS"),  # of prompts that change
        (r"(?m)^    \w+: .*\n", ""),  # progress of a first start
        (r"(?m)^(  ✓ \w+)  .*$", r"\1"),
    ):
        session = re.sub(pattern, word, session)
    start, up, rest = session.partition("  ✓ up\n")
    return [*sorted(start.splitlines()), up.strip(), *rest.strip().splitlines()]


def the_run_and_the_chat_end_green(said: Said, person: Person) -> None:
    """Both mend a copy. Without a terminal nobody is asked: the patch of `run` is kept."""
    head, run, chat = said.out.split("\n▸ ")
    assert "Terminal++ is down." in head
    assert "Model: openai/gpt-5.5 (from OPENAI_API_KEY)" in head
    assert run.startswith("The date parser rejects 29 February.")
    assert chat.startswith(WORDS_FOR_CHAT.splitlines()[0])
    for turn in (run, chat):
        assert re.search(r"^✗ tests red .* 2 passed ", turn, re.M)
        assert re.search(r"^✓ tests green  3 passed ", turn, re.M)
        assert "✓ passed  the tests pass" in turn
        assert "+    return monthrange(year, month)[1]" in turn  # the diff, in the chat by `/diff`
    kept = re.search(r"^The changes are kept: (\S+)$", run, re.M)
    assert kept
    assert person.run("git", "status", "--porcelain").stdout == ""
    assert person.run("git", "apply", kept[1]).returncode == 0
    assert person.tests() == "OK"


def the_last_turn_is_taken_back(said: Said, person: Person) -> None:
    listed, _, rest = said.out.partition("Going back to before: ")
    assert re.search(r"^1 .* before: ", listed, re.M)
    preview, _, back = rest.partition("Went back to before: ")
    assert re.search(r"would change [1-9]\d* files and directories:\n  ~ /home/user/", preview)
    assert "Files outside of the conversation's directory stay as they are." in preview
    assert re.search(r"^To undo it: \./tpp rewind \w{8} --to ", back, re.M)


def a_sandbox_runs(said: Said, person: Person) -> None:
    sandbox = json.loads(said.out)
    assert (sandbox["status"], sandbox["network"]) == ("running", "none")


# ---- CONTRIBUTING.md ----------------------------------------------------------------------------


def the_suite_runs(said: Said, person: Person) -> None:
    assert re.search(r"^[1-9]\d* passed in [\d.]+s", said.out, re.M), said.out


# ---- docs/api.md --------------------------------------------------------------------------------


def a_sandbox_is_made_used_and_copied_to(said: Said, person: Person) -> None:
    system, copied, *_ = said.out.splitlines()
    assert system == "Linux"
    assert re.fullmatch(r"[\d,]+ bytes to /home/user/README\.md", copied)
    assert said.out.endswith("No terminal is open.\n")


def the_list_was_changed_and_taken_away(said: Said, person: Person) -> None:
    after_change, _, after_none = said.out.partition("network none")
    assert "network allowlist\nallow api.example.com:8443\nallow *.example.org\n" in after_change
    assert "allow pypi" not in said.out
    assert "deleted" in after_none


def what_was_there_is_back(said: Said, person: Person) -> None:
    changed, restored, notes = said.out.partition("To undo it: ./tpp snapshot restore ")
    assert changed.splitlines()[:3] == [
        "+ /home/user/other",
        "- /home/user/project/",
        "- /home/user/project/notes",
    ]
    assert restored
    assert notes.endswith("\none\n")


def it_is_up(said: Said, person: Person) -> None:
    assert re.search(r"^Terminal\+\+ runs: http://127\.0\.0\.1:[1-9]\d* ", said.out, re.M)


def the_command_says_hello(said: Said, person: Person) -> None:
    record = json.loads(said.out)
    assert (record["status"], record["exit_code"], record["stdout"]) == ("completed", 0, "hello\n")


def its_status_and_its_output(said: Said, person: Person) -> None:
    assert said.out == "0\n1\n2\n3\ndone\n"


def all_files_are_there(said: Said, person: Person) -> None:
    here = [path for path in person.project.rglob("*") if path.is_file()]
    assert json.loads(said.out)["files"] == len(here)


def the_message_is_accepted(said: Said, person: Person) -> None:
    assert re.fullmatch(r"[0-9a-f-]{36}", json.loads(said.out)["message_id"])


def the_events_of_the_turn(said: Said, person: Person) -> None:
    events = [json.loads(line) for line in re.findall(r"^data: (.*)$", said.out, re.M)]
    numbers = [event["seq"] for event in events]
    last = numbers[numbers.index(3, 3) - 1]  # the second stream begins again, behind number 2
    assert numbers == [*range(1, last + 1), *range(3, last + 1)]
    assert events[last - 1] == events[-1]
    assert (events[-1]["type"], events[-1]["payload"]["outcome"]) == ("turn.finished", "passed"), events[-1]
    assert said.out.rstrip().endswith(": end")


def the_change_is_here_and_the_sandbox_gone(said: Said, person: Person) -> None:
    assert said.out == ""
    assert person.run("git", "diff", "--stat").stdout.startswith(" dates.py | 2 +-")
    assert person.tests() == "OK"


async def no_sandbox_is_named_try(person: Person) -> None:
    url, token = person.gateway()
    request = urllib.request.Request(f"{url}/v1/sandboxes", headers={"Authorization": f"Bearer {token}"})

    def names() -> list[str]:
        with urllib.request.urlopen(request) as answer:
            return [row["name"] for row in json.load(answer)["items"]]

    await eventually(lambda: "try" not in names(), 20)


# -------------------------------------------------------------------------------------------------

CLAIMS: dict[str, list[Claim]] = {
    "README.md": [
        the_demo_starts_everything_and_the_suite_runs,
        the_run_and_the_chat_end_green,
        the_last_turn_is_taken_back,
        a_sandbox_runs,
        a_sandbox_is_made_used_and_copied_to,
    ],
    "CONTRIBUTING.md": [the_suite_runs, the_suite_runs],
    "api.md": [
        it_is_up,
        the_command_says_hello,
        its_status_and_its_output,
        all_files_are_there,
        the_message_is_accepted,
        the_events_of_the_turn,
        the_change_is_here_and_the_sandbox_gone,
    ],
    "rewind.md": [what_was_there_is_back],
    "network.md": [the_list_was_changed_and_taken_away],
}
WITH_BLOCKS = [document for document in documents() if shell_blocks(document)]


def test_every_block_has_its_claims():
    assert {path.name: len(shell_blocks(path)) for path in WITH_BLOCKS} == {
        name: len(claims) for name, claims in CLAIMS.items()
    }


@pytest.mark.timeout(600)  # a minute where nothing else runs
@pytest.mark.parametrize("document", WITH_BLOCKS, ids=lambda path: path.name)
async def test_every_block_of(document, person):
    typed, claims = shell_blocks(document), CLAIMS[document.name]
    stdin = [WORDS_FOR_CHAT if "./tpp chat" in block.text else "" for block in typed]
    # Whoever reads on behind the README has set a key.
    key = {} if document.name == "README.md" else {"OPENAI_API_KEY": KEY}
    person.has_a_project()
    for said, claim in zip(person.types(typed, stdin, **key), claims, strict=True):
        claim(said, person)
    if document.name == "api.md":
        await no_sandbox_is_named_try(person)
