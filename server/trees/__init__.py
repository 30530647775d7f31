"""Trees that outlive their request. A problem that comes again is answered from its tree, or searched on from there.

    fingerprint.py   the key of a tree: a hash of all that shapes it
    values.py        a tree as bytes, checked when they are read again
    store.py         `TreeStore`: what every store of trees promises, and the leases that let one search grow a tree
    memory.py        the store within one process, bounded in bytes

`server.solving.cache` uses them for each request. Nothing here knows requests, models or HTTP.
"""
