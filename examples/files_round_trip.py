"""Send data into a sandbox, work on it there, and fetch the result.

    PYTHONPATH=. .venv/bin/python examples/files_round_trip.py
"""

from terminalpp.client import Sandbox

WORK = "/home/user/work"


def main() -> None:
    with Sandbox.create(name="example") as sandbox:
        files = sandbox.files
        files.write(f"{WORK}/words.txt", "pear\napple\nquince\napple\n")
        sandbox.commands.run("sort -u words.txt > sorted.txt && gzip -k sorted.txt", cwd=WORK, timeout=30)
        for entry in files.list(WORK):
            print(f"{entry['type']} {entry['name']} {entry['size']}")
        print(files.read(f"{WORK}/sorted.txt"), end="")
        print(f"gzip begins with {files.read_bytes(f'{WORK}/sorted.txt.gz')[:2].hex()}")
        files.make_dir(f"{WORK}/done")
        files.rename(f"{WORK}/sorted.txt", f"{WORK}/done/sorted.txt")
        files.remove(f"{WORK}/words.txt")
        print("left:", ", ".join(entry["path"] for entry in files.list(WORK, depth=2)))


if __name__ == "__main__":
    main()
