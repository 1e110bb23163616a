"""Whom the first bytes of a TLS client greet. OpenSSL reads them; nothing is ever answered from here."""

from __future__ import annotations

import ssl

HANDSHAKE = 0x16  # the first byte of every TLS client
HELLO_MAX_BYTES = 64 * 1024
UNRECOGNIZED_NAME = bytes.fromhex("15030300020270")  # the alert, RFC 6066: the client says so in words


class NotTls(Exception):
    """These bytes begin no TLS connection."""


def greeted(data: bytes) -> str | None:
    """The server name that the client asks for; None: it names none. Raises ssl.SSLWantReadError while the
    greeting is incomplete, NotTls when it is none."""
    seen: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED

    def named(_connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> int:
        seen.append(name)
        return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

    context.sni_callback = named
    arriving = ssl.MemoryBIO()
    reading = context.wrap_bio(arriving, ssl.MemoryBIO(), server_side=True)
    arriving.write(data)
    try:
        reading.do_handshake()
    except ssl.SSLWantReadError:
        if len(data) > HELLO_MAX_BYTES:
            raise NotTls("the greeting is too long") from None
        raise
    except (ssl.SSLError, ValueError) as error:  # ValueError: a name that is no name
        if not seen:
            raise NotTls(str(error)) from None
    return seen[0] if seen else None
