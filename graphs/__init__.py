"""Workflows of the agents: graph, nodes, loop, tools, prompts. All effects go through `graphs.ports`.

Only `graphs.graph` and `graphs.saver` import langgraph; agents' cells never load it.
"""
