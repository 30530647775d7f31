"""Redis: the store of trees that several replicas share. Works with Redis from 6.2 on and with Valkey.

Of each tree there are four keys. They share a hash tag, so a cluster keeps them in one slot, and each of them has a
time to live from its first write.

    rstar:{<fingerprint>}:tree     hash: value, version
    rstar:{<fingerprint>}:lease    string: the token of who has the lease
    rstar:{<fingerprint>}:fence    counter: the fence of the last lease
    rstar:{<fingerprint>}:events   bounded stream: leased, committed, released

Everything that writes is one Lua script: it checks the lease and the fence, and writes, in one step. A lease that
ended by itself, for example while Redis was out of reach, is taken again by its heartbeat or the next commit, unless
another search had it since: that has raised the fence. Giving a lease back raises it too.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any, TypeVar, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from search.calls import task_group
from server.trees.entries import Fingerprint
from server.trees.store import Lease, LeaseLost, StoredTree, StoreUnavailable

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

LEASE_S = 10.0
"""After this a tree is free whose process died. A heartbeat renews the lease three times as often."""
MAX_CONNECTIONS = 16
"""A call takes about a millisecond, so a few connections serve many searches. Further calls wait for one."""
PAUSE_S = 2.0
"""Without a connection, calls fail at once for so long before one tries again: requests shall not all wait for it."""
POLL_S = 0.1
"""How often a follower on another replica looks for a change."""
MAX_EVENTS = 64
"""Length of the stream of one tree."""

_IS_MINE = """
local holder, fence = redis.call('GET', KEYS[2]), redis.call('GET', KEYS[3])
if (holder and holder ~= ARGV[1]) or (fence and fence ~= ARGV[2]) then return 0 end
"""
_TELL = """
local function tell(...)
    redis.call('XADD', KEYS[4], 'MAXLEN', '~', {max_events}, '*', ...)
    redis.call('PEXPIRE', KEYS[4], ARGV[4])
end
""".replace("{max_events}", str(MAX_EVENTS))
_RENEW = """
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[3])
redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[4])
"""
# ARGV: token, unused, milliseconds of the lease, time to live. Gives fence, version, whether it is a takeover; or nil.
_ACQUIRE_SCRIPT = f"""
{_TELL}
if not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[3]) then return nil end
local fence = redis.call('INCR', KEYS[3])
redis.call('PEXPIRE', KEYS[3], ARGV[4])
local last = redis.call('XREVRANGE', KEYS[4], '+', '-', 'COUNT', 1)[1]
local is_takeover = 0
if last and last[2][1] ~= 'released' then is_takeover = 1 end
tell('leased', fence)
return {{fence, tonumber(redis.call('HGET', KEYS[1], 'version') or '0'), is_takeover}}
"""
# ARGV: token, fence, milliseconds of the lease, time to live. Gives 1, or 0 where the lease is lost.
_RENEW_SCRIPT = f"{_IS_MINE}{_RENEW}return 1"
# ARGV: the same, version, value. Gives the new version, or 0 where the lease is lost. The version stored may be one
# ahead: that of a commit whose reply was lost with its connection.
_COMMIT_SCRIPT = f"""
{_TELL}
{_IS_MINE}
local expected = tonumber(ARGV[5])
local stored = tonumber(redis.call('HGET', KEYS[1], 'version') or expected)
if stored ~= expected and stored ~= expected + 1 then return 0 end
{_RENEW}
local version = stored + 1
redis.call('HSET', KEYS[1], 'value', ARGV[6], 'version', version)
redis.call('PEXPIRE', KEYS[1], ARGV[4])
tell('committed', version)
return version
"""
# ARGV: token, unused, unused, time to live.
_RELEASE_SCRIPT = f"""
{_TELL}
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[2])
redis.call('INCR', KEYS[3])
redis.call('PEXPIRE', KEYS[3], ARGV[4])
tell('released', 1)
return 1
"""

_Script = Callable[[Sequence[str], Sequence[str | int | bytes]], Awaitable[Any]]


@dataclass(slots=True, kw_only=True, eq=False)
class _RedisLease(Lease):
    token: str


class RedisTreeStore:
    """See `TreeStore`. Use it within `running`, and within one event loop."""

    def __init__(
        self, url: str, *, ttl_s: float, timeout_s: float, lease_s: float = LEASE_S, pause_s: float = PAUSE_S
    ) -> None:
        """A tree is forgotten `ttl_s` after its last commit. Each call takes `timeout_s` at most."""
        self._pause_s = pause_s
        self._timeout_s = timeout_s
        self._lease_s = lease_s
        self._lease_ms = max(1, round(lease_s * 1000))
        # The fence has to outlive every search that a lease was lost to.
        self._ttl_ms = max(round(ttl_s * 1000), 10 * self._lease_ms)
        pool = BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType] # its options are untyped
            url,
            max_connections=MAX_CONNECTIONS,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            protocol=2,
            retry=Retry(NoBackoff(), 1),  # once at once: a connection that lay idle may have been closed meanwhile
        )
        self._redis = Redis.from_pool(pool)
        self._acquire, self._renew, self._commit, self._release = (
            self._script(text) for text in (_ACQUIRE_SCRIPT, _RENEW_SCRIPT, _COMMIT_SCRIPT, _RELEASE_SCRIPT)
        )
        self._group: asyncio.TaskGroup | None = None
        self._connection_fault: str | None = None
        self._refusal: str | None = None
        self._fails_until_s = 0.0

    @property
    def fault(self) -> str | None:
        """See `TreeStore.fault`."""
        return self._connection_fault or self._refusal

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """See `TreeStore.running`."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                watching = group.create_task(self._watch())
                try:
                    yield
                finally:
                    watching.cancel()
        finally:
            await self._redis.aclose()

    async def load(self, key: Fingerprint) -> StoredTree | None:
        """See `TreeStore.load`."""
        value, version = await self._look(key, "value", "version")
        if value is None or version is None:
            return None
        return StoredTree(value=value, version=int(version))

    @asynccontextmanager
    async def lease(self, key: Fingerprint) -> AsyncGenerator[Lease | None]:
        """See `TreeStore.lease`."""
        token = secrets.token_hex(16)
        try:
            reply = await self._run(self._acquire, key, token, 0)
        except asyncio.CancelledError:
            await self._given_back(key, token)  # Redis may have given it nevertheless
            raise
        if reply is None:
            yield None
            return
        fence, version, is_takeover = reply
        lease = _RedisLease(key=key, fence=fence, version=version, is_takeover=bool(is_takeover), token=token)
        try:
            async with task_group() as group:
                beating = group.create_task(self._beat(lease))
                yield lease
                beating.cancel()
        finally:
            await self._given_back(key, token)

    async def commit(self, lease: Lease, value: bytes) -> None:
        """See `TreeStore.commit`."""
        assert isinstance(lease, _RedisLease)
        arguments = (lease.token, lease.fence, lease.version, value)
        version = await self._shielded(self._run(self._commit, lease.key, *arguments))
        if version == 0:
            raise LeaseLost(f"the lease with fence {lease.fence} was lost")
        lease.version = version

    async def changed(self, key: Fingerprint, *, since: int) -> None:
        """See `TreeStore.changed`. Asks again and again: a call that blocks would keep a connection for itself."""
        while True:
            held = await self._call(lambda: self._redis.exists(_keys(key)[1]))
            version = (await self._look(key, "version"))[0]
            if not held or int(version or 0) > since:
                return
            await asyncio.sleep(POLL_S)

    async def _look(self, key: Fingerprint, *fields: str) -> list[bytes | None]:
        found = await self._call(lambda: self._redis.hmget(_keys(key)[0], list(fields)))
        return cast("list[bytes | None]", found)

    async def _given_back(self, key: Fingerprint, token: str) -> None:
        try:
            await self._shielded(self._run(self._release, key, token, 0))
        except StoreUnavailable:
            logger.info("the lease of the tree %.12s is not given back, and ends by itself", key)

    async def _beat(self, lease: _RedisLease) -> None:
        """Renew the lease until it is lost. Raises `LeaseLost`."""
        while True:
            await asyncio.sleep(self._lease_s / 3)
            try:
                is_mine = await self._run(self._renew, lease.key, lease.token, lease.fence)
            except StoreUnavailable:
                continue  # The search goes on: whether somebody else has the lease by now is seen later.
            if not is_mine:
                raise LeaseLost(f"another search has the lease with fence {lease.fence} since")

    async def _watch(self) -> None:
        """See whether Redis can be reached, also while no request asks."""
        while True:
            try:
                await self._call(lambda: self._redis.exists("rstar:"))
            except StoreUnavailable as error:
                logger.debug("%s", error)
            await asyncio.sleep(self._pause_s)

    def _script(self, text: str) -> _Script:
        script = self._redis.register_script(text)
        return lambda keys, arguments: script(keys=list(keys), args=list(arguments))

    async def _run(self, script: _Script, key: Fingerprint, *arguments: str | int | bytes) -> Any:
        """Run a script on the keys of a tree. The times stand in its third and fourth argument."""
        token, fence, *rest = arguments
        given = (token, fence, self._lease_ms, self._ttl_ms, *rest)
        try:
            reply = await self._call(lambda: script(_keys(key), given))
        except StoreUnavailable as error:
            if self._connection_fault is None:
                self._refusal = str(error)
            raise
        self._refusal = None
        return reply

    async def _call(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """The only place that talks to Redis. Raises `StoreUnavailable`."""
        if self._connection_fault is not None and monotonic() < self._fails_until_s:
            raise StoreUnavailable(self._connection_fault)
        try:
            with _cancellation_kept():
                return await self._answered(call)
        except ResponseError as error:
            raise StoreUnavailable(f"Redis refuses: {error}") from error
        except (RedisError, OSError, TimeoutError) as error:
            if self._connection_fault is None:
                logger.warning("trees are neither read nor stored: Redis does not answer (%s)", type(error).__name__)
            self._connection_fault = f"Redis does not answer: {type(error).__name__}"
            self._fails_until_s = monotonic() + self._pause_s
            raise StoreUnavailable(self._connection_fault) from error

    async def _answered(self, call: Callable[[], Awaitable[Result]]) -> Result:
        async with asyncio.timeout(self._timeout_s):
            reply = await call()
        if self._connection_fault is not None:
            logger.info("Redis answers again")
            self._connection_fault = None
        return reply

    async def _shielded(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The result of the work, which goes on when the caller is cancelled. It is bounded by the time of a call."""
        assert self._group is not None
        outcome = await asyncio.shield(self._group.create_task(_outcome(work)))
        if isinstance(outcome, StoreUnavailable):
            raise outcome
        return outcome


@contextmanager
def _cancellation_kept() -> Generator[None]:
    """A cancellation in here comes out. redis-py 8.1 swallows one that arrives while it connects again."""
    task = asyncio.current_task()
    assert task is not None
    requests = task.cancelling()
    try:
        yield
    finally:
        if task.cancelling() > requests:
            raise asyncio.CancelledError


async def _outcome(work: Coroutine[Any, Any, Result]) -> Result | StoreUnavailable:
    """A failure is a result here: raised in a task of the group, it would end all others."""
    try:
        return await work
    except StoreUnavailable as error:
        return error


def _keys(key: Fingerprint) -> list[str]:
    return [f"rstar:{{{key}}}:{name}" for name in ("tree", "lease", "fence", "events")]
