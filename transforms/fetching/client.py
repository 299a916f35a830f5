"""Reading one file over HTTP: every hop guarded, every byte counted, what may pass tried again."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, version

import aiohttp
from yarl import URL

from schemas.config import FetchConfig
from schemas.reasons import Reason, Rejected
from transforms.fetching.budget import Share
from transforms.fetching.guard import Guard, GuardedResolver
from transforms.fetching.health import Health
from transforms.fetching.optout import opt_out
from transforms.fetching.slots import Slots
from transforms.fetching.urls import parse_url, redirect_target

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRANSIENT_STATUSES = frozenset({408, 425, 429})
_NO_SUCH_NAME = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
_LONGEST_BACKOFF_S = 10.0
# Idle connections are kept for the next file of the same host, but a web crawl meets more hosts than a
# process has file descriptors.
_KEEPALIVE_S = 2.0
_DNS_TTL_S = 300
# Honest sites send security policies beyond aiohttp's 8 kB; of headers this long it still takes 128 at most.
_LONGEST_HEADER = 32_768


class Transient(Rejected):
    """A failure that may pass: worth another try, after `retry_after_s` where the server named a time."""

    def __init__(self, reason: Reason, message: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(reason, message, permanent=False)
        self.retry_after_s = retry_after_s


@dataclass(slots=True)
class FetchCounts:
    """What a client has done so far."""

    files: int = 0
    bytes: int = 0
    requests: int = 0
    retries: int = 0


class HttpClient:
    """Reads files over HTTP and HTTPS. To be made, used and closed on one running event loop.

    Proxies and credentials of the environment are not used, cookies are not kept, certificates are verified
    against the system's authorities (or `SSL_CERT_FILE`).
    """

    def __init__(self, config: FetchConfig, guard: Guard, slots: Slots) -> None:
        self.counts = FetchCounts()
        self._config = config
        self._guard = guard
        self._slots = slots
        self._health = Health(config.host_failures, config.host_pause_s, config.network_failures)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,  # the slots are the limit: waiting for them must not count as time of the request
                resolver=GuardedResolver(guard),
                socket_factory=guard.open_socket,
                ssl=ssl.create_default_context(),
                ttl_dns_cache=_DNS_TTL_S,
                keepalive_timeout=_KEEPALIVE_S,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            max_line_size=_LONGEST_HEADER,
            max_field_size=_LONGEST_HEADER,
            headers={
                "User-Agent": user_agent(config.contact),
                "Accept": "image/jpeg,image/png,image/*;q=0.9,*/*;q=0.5",
                # Pictures are compressed already. A body that comes compressed all the same is unpacked as it
                # streams, and its unpacked bytes are what the limit counts.
                "Accept-Encoding": "identity",
            },
        )

    async def read(self, location: str, share: Share) -> bytes:
        """The body behind an http(s) URL.

        Tries again after 429, 5xx, timeouts and broken connections, at most `retries` times and while the waits
        between the tries (`Retry-After`, else exponential backoff with jitter) add up to no more than
        `max_retry_wait_s`. A file therefore costs at most (retries + 1) · total_timeout_s + max_retry_wait_s,
        besides its waits for a slot. `share` holds the bytes as they come in.

        Raises:
            Rejected: with the reason that the last try ended with; the message never holds the URL's credentials.
            NetworkDownError: nothing can be reached any more.
        """
        url = parse_url(location)
        left, waited_s = self._config.retries, 0.0
        # A plain loop: the bookkeeping of a retrying library took a third of the time of files that need no retry.
        while True:
            try:
                data = await self._try(url, share)
            except Transient as why:
                wait_s = max(why.retry_after_s, self._backoff_s(self._config.retries - left))
                waited_s += wait_s
                if not left or waited_s > self._config.max_retry_wait_s:
                    raise
                left -= 1
                self.counts.retries += 1
                await asyncio.sleep(wait_s)
            else:
                self.counts.files += 1
                self.counts.bytes += len(data)
                return data

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def _try(self, url: URL, share: Share) -> bytes:
        loop = asyncio.get_running_loop()
        left_s = self._config.total_timeout_s
        for _ in range(self._config.max_redirects + 1):
            self._guard.check_url(url)
            if left_s <= 0:
                raise self._timeout(url)
            async with self._slots.at(url.raw_host or ""):
                self._health.check(url.raw_host or "")
                started = loop.time()
                try:
                    answer = await self._request(url, left_s, share)
                except Transient as why:
                    if why.retry_after_s <= self._config.max_retry_wait_s:
                        self._slots.pause(url.raw_host or "", why.retry_after_s)
                    raise
                left_s -= loop.time() - started
            if isinstance(answer, bytes):
                return answer
            url = answer
        raise Rejected(Reason.HTTP_ERROR, f"more than {self._config.max_redirects} redirects", permanent=True)

    async def _request(self, url: URL, timeout_s: float, share: Share) -> bytes | URL:
        """One request: the body, or the URL that it redirects to."""
        self.counts.requests += 1
        timeout = aiohttp.ClientTimeout(total=timeout_s, connect=self._config.connect_timeout_s)
        try:
            async with self._session.get(url, allow_redirects=False, timeout=timeout) as response:
                self._health.reached(url.raw_host or "")
                self._check_opt_out(response)
                if response.status in _REDIRECTS and "Location" in response.headers:
                    return redirect_target(url, response.headers["Location"])
                _check_status(response)
                return await self._body(response, share)
        except asyncio.TimeoutError as error:
            if isinstance(error, aiohttp.ConnectionTimeoutError):
                self._health.missed(url.raw_host or "")
            raise self._timeout(url) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if isinstance(error, aiohttp.ClientConnectorError) and not isinstance(error, aiohttp.ClientSSLError):
                self._health.missed(url.raw_host or "", exists=not _has_no_address(error))
            raise _rejection(error, url) from error

    def _check_opt_out(self, response: aiohttp.ClientResponse) -> None:
        if self._config.honour_opt_out and response.status < 400:
            refusal = opt_out(response.headers)
            if refusal is not None:
                raise Rejected(Reason.OPTED_OUT, f"{response.url.raw_host} sends {refusal}")

    async def _body(self, response: aiohttp.ClientResponse, share: Share) -> bytes:
        limit = self._config.max_bytes
        declared = response.content_length
        if declared is not None and declared > limit:
            raise Rejected(Reason.TOO_MANY_BYTES, f"{declared:,} bytes announced, at most {limit:,} are read")
        parts, size = [], 0
        try:
            async for part in response.content.iter_any():
                if size + len(part) > limit:
                    raise Rejected(Reason.TOO_MANY_BYTES, f"more than {limit:,} bytes")
                await share.hold(len(part))
                size += len(part)
                parts.append(part)
        except BaseException:
            share.give_back(size)
            raise
        return b"".join(parts)

    def _timeout(self, url: URL) -> Transient:
        return Transient(
            Reason.TIMEOUT,
            f"{url.raw_host} did not answer within {self._config.total_timeout_s:g} s "
            f"({self._config.connect_timeout_s:g} s to connect)",
        )

    def _backoff_s(self, retries: int) -> float:
        first = self._config.retry_wait_s
        return min(first * 2.0**retries, _LONGEST_BACKOFF_S) + random.uniform(0, first)


def user_agent(contact: str) -> str:
    """The honest name of this program, with the address of whoever runs it."""
    try:
        number = version("spatialvlm")
    except PackageNotFoundError:
        number = "0"  # run from a source tree that is not installed
    return f"spatialvlm/{number}" + (f" (+{contact})" if contact else "")


def _check_status(response: aiohttp.ClientResponse) -> None:
    status = response.status
    if 200 <= status < 300:
        return
    message = f"HTTP {status} {_phrase(status)} from {response.url.raw_host}"
    if status in (404, 410):
        raise Rejected(Reason.NOT_FOUND, message)
    if 500 <= status < 600 or status in _TRANSIENT_STATUSES:
        raise Transient(Reason.HTTP_ERROR, message, retry_after_s=retry_after_s(response.headers.get("Retry-After")))
    raise Rejected(Reason.HTTP_ERROR, message, permanent=True)


def _phrase(status: int) -> str:
    # The server's own words could hold anything.
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "(not a standard status)"


def retry_after_s(value: str | None, now: Callable[[], datetime] = lambda: datetime.now(timezone.utc)) -> float:
    """The seconds that a `Retry-After` header asks for, as a number or as a date; 0 when it asks for none."""
    if value is None:
        return 0.0
    if value.strip().isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return 0.0  # unreadable: the backoff alone decides
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return max(0.0, (moment - now()).total_seconds())


def _rejection(error: Exception, url: URL) -> Rejected:
    """What a failure below HTTP means for the row."""
    host, found = url.raw_host, _one_line(error)
    match error:
        case aiohttp.InvalidURL():
            return Rejected(Reason.BAD_URL, f"not a URL that can be requested: {found}")
        case aiohttp.ClientConnectorError() if _has_no_address(error):
            return Rejected(Reason.NOT_FOUND, f"{host} has no address")
        case aiohttp.ClientConnectorDNSError():
            return Transient(Reason.HTTP_ERROR, f"{host} cannot be resolved: {found}")
        case aiohttp.ClientConnectorCertificateError():
            # Not tried again here, but not given up for good: the missing authority may be ours to install.
            found = _one_line(error.certificate_error)
            return Rejected(Reason.HTTP_ERROR, f"{host} has a bad certificate: {found}", permanent=False)
        case aiohttp.ClientConnectorError():
            return Transient(Reason.HTTP_ERROR, f"cannot connect: {found}")
        case aiohttp.ClientPayloadError():
            return Transient(Reason.HTTP_ERROR, f"{host}: the body broke off or cannot be unpacked: {found}")
        case aiohttp.ClientResponseError() | ValueError():
            return Rejected(Reason.HTTP_ERROR, f"{host} does not answer in HTTP: {found}", permanent=True)
        case _:
            return Transient(Reason.HTTP_ERROR, f"the connection to {host} broke: {found}")


def _has_no_address(error: aiohttp.ClientConnectorError) -> bool:
    dns = isinstance(error, aiohttp.ClientConnectorDNSError)
    return dns and getattr(error.os_error, "errno", None) in _NO_SUCH_NAME


def _one_line(error: Exception) -> str:
    # A response's own text would begin with the URL, credentials and all.
    text = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
    return (" ".join(text.split()) or type(error).__name__)[:200]
