"""How a server on the loopback proves that it knows a token before the token is sent to it.

The client sends a nonce; the answer is HMAC-SHA256 over it and the address on which the server took the
connection. The key is the token's SHA-256, so a server that keeps only digests can answer too. The address is
part of it because a stranger at one could else have the real server at another answer for it.
"""

from __future__ import annotations

import hashlib
import hmac
import re

PATH = "/proof"
SOCKET = "gateway.sock"  # in `run/` of the home: a private folder, so whoever listens there needs no proof
NONCE = re.compile(r"[0-9a-f]{64}")


def digest(token: str) -> str:
    """Hexadecimal SHA-256 of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def proof(token_digest: str, nonce: str, host: str, port: int) -> str:
    """Hexadecimal HMAC (RFC 2104) that whoever knows the token expects."""
    words = f"terminalpp proof {nonce} {host} {port}".encode()
    return hmac.new(token_digest.encode(), words, hashlib.sha256).hexdigest()
