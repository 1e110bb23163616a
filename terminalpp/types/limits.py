"""Limits that the client and the server must agree on."""

MESSAGE_BYTES = 262_144  # of UTF-8, the text of one message: about 80,000 tokens, what models can still read
