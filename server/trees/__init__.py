"""Trees that outlive their request. A problem that comes again is answered from its tree, or searched on from there.

    entries.py   a tree as a key, which is a hash of all that shapes it, and a value: bytes that are checked when read
    store.py     `TreeStore`: what every store of trees promises, and the leases that let one search at a time grow one
    memory.py    the store within one process, bounded in bytes
    redis.py     the store that replicas share, on Redis or Valkey

`server.solving.cache` uses them for each request. Nothing here knows requests, models or HTTP.
"""
