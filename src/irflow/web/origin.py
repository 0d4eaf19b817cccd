"""Where a request came from, as far as it changes what is allowed."""

from __future__ import annotations

import ipaddress

from starlette.requests import Request


def is_local(request: Request) -> bool:
    """Whether the client is this machine. A reverse proxy on it must send `X-Forwarded-For`, or hides who asks."""
    return request.client is not None and _loopback(request.client.host)


def is_private(request: Request) -> bool:
    """Whether nobody on the way could read the request: over TLS, or from this machine."""
    return request.url.scheme == "https" or is_local(request)


def names_no_site(request: Request) -> bool:
    """Whether the `Host` is an address or `localhost`.

    A page of another site can make its own name point at 127.0.0.1 and then read what the browser gets from there
    (DNS rebinding), but it cannot make the browser send another name.
    """
    name = request.url.hostname or ""
    if name == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def may_see(request: Request) -> bool:
    """Whether a page may be shown: over TLS, or on this machine and under its own address."""
    return request.url.scheme == "https" or (is_local(request) and names_no_site(request))


def is_own(request: Request) -> bool:
    """Whether a form that is sent was shown by us, as far as the browser says where it comes from.

    Where it says nothing the sender is no browser, which other sites cannot make send anything. `Origin: null` is what
    is left of it under `no-referrer`, and what hides other sites: then only `Sec-Fetch-Site` can tell.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    return origin is None or origin == f"{request.url.scheme}://{request.url.netloc}"


def from_elsewhere(request: Request) -> bool:
    """Whether somebody followed a link of another site to here, so that the browser kept its strict cookies back."""
    return request.headers.get("sec-fetch-site") == "cross-site"


def _loopback(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
