"""Terminal++: the published part. The vocabulary (`terminalpp.types`), the SDK client and the CLI."""

__version__ = "0.1.0"
