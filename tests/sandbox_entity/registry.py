"""The kinds that the test cells host: the real ones."""

ENTITIES = {
    "node": "actors.node.entity:Node",
    "sandbox": "actors.sandbox.entity:Sandbox",
    "terminal": "actors.terminal.entity:Terminal",
}
PRELOAD: dict[str, list[str]] = {}
