"""Which class stands for which kind of entity, and what each group of cells imports ahead.

The names are strings so that a cell imports only what it hosts: litellm lives in `model` cells, Docker in the
`node` cell. What `general` and `conversation` name is imported by the parent that cells are forked from.
"""

ENTITIES = {
    "node": "actors.node.entity:Node",
    "sandbox": "actors.sandbox.entity:Sandbox",
    "terminal": "actors.terminal.entity:Terminal",
    "agent": "actors.agent.entity:Agent",
    "conversation": "actors.conversation.entity:Conversation",
    "model": "actors.model.entity:Model",
}

PRELOAD = {
    "general": ["actors.sandbox.entity", "actors.terminal.entity", "actors.agent.entity"],
    "conversation": ["actors.conversation.entity"],
    "model": ["actors.model.entity", "actors.model.provider:library"],
    "node": ["actors.node.entity"],
}
