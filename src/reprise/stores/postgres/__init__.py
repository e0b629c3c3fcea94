"""The PostgreSQL keeper: many processes on many machines.

Needs the extra ``postgres``; importing this package without it raises ``MissingExtra``.
"""

from reprise.stores.postgres.store import PostgresStore, open_postgres

__all__ = ["PostgresStore", "open_postgres"]
