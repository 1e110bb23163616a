"""The kinds that these tests' cells host: the real ones, and in `DOUBLE` a model that costs no import."""

ENTITIES = {
    "node": "actors.node.entity:Node",
    "sandbox": "actors.sandbox.entity:Sandbox",
    "agent": "actors.agent.entity:Agent",
    "conversation": "actors.conversation.entity:Conversation",
    "model": "actors.model.entity:Model",
}
DOUBLE = {**ENTITIES, "model": "tests.agents.provider:Provider"}
PRELOAD: dict[str, list[str]] = {}
