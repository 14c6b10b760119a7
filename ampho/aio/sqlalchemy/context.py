"""The app context to which sessions and recorded queries belong."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from quart import has_app_context
from quart.globals import app_ctx

if TYPE_CHECKING:
    from quart.ctx import AppContext


def current_context() -> AppContext:
    """Return the current app context.

    :raises RuntimeError: outside of an app context.
    """
    if not has_app_context():
        raise RuntimeError(
            "This needs the app context of a Quart app. Requests, websockets, and commands have one. A generator that "
            "streams a response needs quart.stream_with_context; elsewhere, use 'async with app.app_context():'."
        )
    # Quart annotates this proxy with the type of `g`, so a cast is needed.
    return cast("AppContext", app_ctx._get_current_object())  # noqa: SLF001 (werkzeug's documented way)
