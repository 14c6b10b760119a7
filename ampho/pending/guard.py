"""Who may see the details on the pending page, and who may press its buttons.

Other sites can send requests to a server on the same machine, through the browser of its developer. Therefore, a button
needs more than a click: see the functions of this module. Rails once let anybody run migrations (CVE-2020-8185).
"""

from __future__ import annotations

import ipaddress
from hmac import compare_digest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from werkzeug.sansio.request import Request

_FORWARDED = frozenset({"via", "x-real-ip", "cdn-loop", "x-original-host", "x-envoy-external-address"})
_FORWARDED_PARTS = ("forwarded", "client-ip", "connecting-ip", "user-ip")


def is_trusted(request: Request, *, debug: bool) -> bool:
    """Return whether an answer may name revisions, files, and databases.

    The host must be an address or a name of this machine. Otherwise, a site could give its own name the address of this
    machine, and read the answer (DNS rebinding). A script of another site may not read it either, even if the app
    allows that with CORS.
    """
    name = _name(request)
    return debug and (_is_local_name(name) or _address(name) is not None) and not _is_of_other_site(request)


def refusal(request: Request, *, debug: bool) -> str:
    """Return why a request does not get buttons; empty if it does."""
    if not debug:
        return "The buttons work only in debug mode."
    if not _is_loopback(_client(request)):
        return "The request does not come from this machine."
    if _is_forwarded(request):
        return "The request comes through a proxy."
    name = _name(request)
    if not (_is_local_name(name) or _is_loopback(name)):
        return "The request is not for this machine: open the page at localhost or 127.0.0.1."
    if _is_of_other_site(request):
        return "The request comes from another site."
    return ""


def refusal_of_press(request: Request, given: str, token: str) -> str:
    """Return why a button that was pressed does nothing, in a request that :func:`refusal` does not refuse.

    :param given: the token of the form.
    :param token: the token of this process.
    """
    if request.headers.get("Origin") is None or request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        return "The request comes from another site."
    if not compare_digest(given.encode(), token.encode()):
        return "This page comes from another server process, or from before a restart. Reload it."
    return ""


def _is_of_other_site(request: Request) -> bool:
    """Return whether a script or a form of another site sends a request. Following a link does not count."""
    own = f"{request.scheme}://{request.headers.get('Host', '')}"
    if request.headers.get("Origin", own) != own:
        return True
    is_link = request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate"
    return not is_link and request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")


def _client(request: Request) -> str | None:
    """Return the address of the client. Quart's ``remote_addr`` comes from a header that the client can also send."""
    scope = getattr(request, "scope", None)
    if scope is None:
        return request.remote_addr
    return next(iter(scope.get("client") or ()), None)


def _is_forwarded(request: Request) -> bool:
    """Return whether a request comes through a proxy, including those that add no header but speak HTTP/1.0."""
    names = {name.lower() for name, _ in request.headers}
    if not names.isdisjoint(_FORWARDED) or any(part in name for name in names for part in _FORWARDED_PARTS):
        return True
    environment = getattr(request, "environ", None)
    if environment is not None:
        return bool(environment.get("SERVER_PROTOCOL") == "HTTP/1.0")
    return bool(getattr(request, "http_version", "") == "1.0")


def _name(request: Request) -> str:
    """Return the name or address in the Host header, without the port."""
    host = request.headers.get("Host", "").strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")


def _is_local_name(name: str) -> bool:
    return name == "localhost" or name.endswith(".localhost")


def _address(name: str | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(name or "")
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _is_loopback(name: str | None) -> bool:
    address = _address(name)
    return address is not None and address.is_loopback
