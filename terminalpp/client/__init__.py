"""The Python client of a Terminal++ gateway.

Objects, synchronous (`Sandbox`, `Command`, `Conversation`) and asynchronous (`AsyncSandbox`, …), and under
them `Client`, with a coroutine for each route. All raise `TerminalError` and nothing else of their own;
records are typed dictionaries of `shapes`.
"""

from terminalpp.client import shapes
from terminalpp.client.client import Client
from terminalpp.client.command import AsyncCommand, CommandOptions
from terminalpp.client.conversation import AsyncConversation, ConversationOptions
from terminalpp.client.result import Result
from terminalpp.client.sandbox import AsyncSandbox, SandboxOptions
from terminalpp.client.shapes import Diff, Event, OutputEvent
from terminalpp.client.sync import Command, Conversation, Sandbox
from terminalpp.types.errors import CommandFailed, TerminalError

__all__ = [
    "AsyncCommand",
    "AsyncConversation",
    "AsyncSandbox",
    "Client",
    "Command",
    "CommandFailed",
    "CommandOptions",
    "Conversation",
    "ConversationOptions",
    "Diff",
    "Event",
    "OutputEvent",
    "Result",
    "Sandbox",
    "SandboxOptions",
    "TerminalError",
    "shapes",
]
