"""Postgres and Redis: migrations, queries, keys, retention. The only importer of asyncpg and redis."""

from schema.connection import Connection
from schema.database import Database, Executor
from schema.live import Live

__all__ = ["Connection", "Database", "Executor", "Live"]
