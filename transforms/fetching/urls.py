"""From the text of a location to the URL that is requested."""

from __future__ import annotations

import re
from urllib.parse import quote, urljoin, urlsplit

from yarl import URL

from schemas.reasons import Reason, Rejected

# What RFC 3986 lets stand in a path or a query, and "%", so that what is already encoded stays as it is:
# the signature of a signed URL covers its exact spelling.
_KEEP = "!$&'()*+,/:;=?@-._~%"
_CONTROL = re.compile(r"[\x00-\x20\x7f]")


def parse_url(text: str) -> URL:
    """The http(s) URL that `text` means: host in IDNA, everything else percent-encoded where it must be.

    Raises:
        Rejected: `bad_url`; the message says what is wrong.
    """
    try:
        parts = urlsplit(text.strip())
        host = URL(f"//{parts.netloc}").raw_host if parts.netloc else None
        if parts.scheme.lower() not in ("http", "https"):
            raise ValueError(f"scheme {parts.scheme!r} is not http or https")
        if not host:
            raise ValueError("it names no host")
        if _CONTROL.search(host) or ("%" in host and ":" not in host):
            raise ValueError(f"{host!r} is no host name")
        host.encode("idna")  # refuses labels that no resolver takes: empty ones, and those over 63 bytes
        credentials, at, _ = parts.netloc.rpartition("@")
        port = "" if parts.port is None else f":{parts.port}"
        return URL.build(
            scheme=parts.scheme.lower(),
            authority=f"{_quoted(credentials)}{at}{f'[{host}]' if ':' in host else host}{port}",
            path=_quoted(parts.path) or "/",
            query_string=_quoted(parts.query),
            encoded=True,
        )
    except ValueError as error:
        raise Rejected(Reason.BAD_URL, f"not a URL that can be requested: {error}") from error


def redirect_target(url: URL, location: str) -> URL:
    """Where a `Location` header leads from `url`.

    Raises:
        Rejected: `forbidden_address` when it leaves http(s), `bad_url` when it cannot be read.
    """
    target = urljoin(str(url), location.strip())
    scheme = target.partition(":")[0].lower()
    if scheme not in ("http", "https"):
        raise Rejected(Reason.FORBIDDEN_ADDRESS, f"{url.raw_host} redirects to a {scheme}: address")
    return parse_url(target)


def _quoted(part: str) -> str:
    # Header bytes that are not UTF-8 arrive as surrogates and leave as the bytes they were.
    return quote(part, safe=_KEEP, errors="surrogateescape")
