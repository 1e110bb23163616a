"""The names of all Redis keys and channels. Everything in Redis may be lost at any time without harm.

The first six are the seed's, name for name. `terminal:session` and `ai:context` are caches, and no secret is
put into them: of environment variables only the names.
"""

from __future__ import annotations


def user_session(session_id: str) -> str:
    """{user_id, sandbox_ids[], preferences}; expires with the session."""
    return f"user:session:{session_id}"


def terminal_session(sandbox_id: str, terminal_id: str | None = None) -> str:
    """{pid, cwd, env_vars (names)} of the primary terminal, or of one terminal by its id."""
    return f"terminal:session:{sandbox_id}" + (f":{terminal_id}" if terminal_id else "")


def command_queue(sandbox_id: str) -> str:
    """[{command, options, created_at}]: a view of what waits; the queue itself is in Postgres."""
    return f"queue:commands:{sandbox_id}"


def ai_context(conversation_id: str) -> str:
    """{messages[], agents[], memory[]}: the last messages, for an hour."""
    return f"ai:context:{conversation_id}"


def rate_limit_user(user_id: str, action: str) -> str:
    """A count; its time to live is the window."""
    return f"rate_limit:user:{user_id}:{action}"


def rate_limit_ip(ip_address: str, action: str) -> str:
    """A count; its time to live is the window."""
    return f"rate_limit:ip:{ip_address}:{action}"


def conversation_channel(conversation_id: str) -> str:
    """Pub/sub channel: the number of the last event of a conversation, as text."""
    return f"events:{conversation_id}"


def ticket(digest: str) -> str:
    """{user_id}: who may open one WebSocket; for some seconds, and once."""
    return f"ws:ticket:{digest}"
