"""The Redis keeper of coordination: leases and taps for many processes on many machines; never of the log.

Needs the extra ``redis``; importing this package without it raises ``MissingExtra``.
"""

from reprise.stores.redis.store import RedisStore, open_redis

__all__ = ["RedisStore", "open_redis"]
