"""The Python client of a Terminal++ gateway: `Client`, what it answers, and what it raises."""

from terminalpp.client.client import Client
from terminalpp.client.shapes import (
    Agent,
    Conversation,
    Diff,
    Event,
    Execution,
    File,
    FileListed,
    Message,
    Model,
    Output,
    OutputEvent,
    Process,
    Sandbox,
    Uploaded,
)
from terminalpp.types.errors import TerminalError

__all__ = [
    "Agent",
    "Client",
    "Conversation",
    "Diff",
    "Event",
    "Execution",
    "File",
    "FileListed",
    "Message",
    "Model",
    "Output",
    "OutputEvent",
    "Process",
    "Sandbox",
    "TerminalError",
    "Uploaded",
]
