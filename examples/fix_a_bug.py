"""Have the team fix a failing test, watch what it does, and print the change.

    PYTHONPATH=. .venv/bin/python examples/fix_a_bug.py [MODEL]

Without a MODEL (a litellm string such as `openai/gpt-5.5`, whose key the server has) the recorded session of
`./tpp demo` plays: scripted, offline, always the same.
"""

import sys
from pathlib import Path

from terminalpp.client import Conversation, Sandbox

PROJECT = Path(__file__).parent / "demo-repo"
WORKSPACE = "/home/user/wordcount"


def main() -> None:
    model = sys.argv[1] if len(sys.argv) > 1 else "scripted:demo"
    with Sandbox.create(name="example") as sandbox:
        for path in PROJECT.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                sandbox.files.write(f"{WORKSPACE}/{path.relative_to(PROJECT)}", path.read_bytes())
        talk = Conversation.create(sandbox, WORKSPACE, model=model)
        talk.send("A test of top_words fails. Find out why and make it pass.")
        for event in talk:
            payload = event["payload"]
            match event["type"]:
                case "command.started":
                    print(f"{event['actor']} $ {payload['command']}")
                case "tests.finished":
                    print(f"tests {'green' if payload['passed'] else 'red'}")
                case "turn.finished":
                    print(f"{payload['outcome']}: {payload['summary']}")
        print(talk.diff().patch.decode(), end="")


if __name__ == "__main__":
    main()
