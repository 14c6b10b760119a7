"""The signals of a run. Their sender is the app; what else a receiver gets is said with each.

``step`` is the :class:`ampho.Step`, ``revision`` its id, ``package`` its package, ``direction`` an
:class:`ampho.Direction`: downgrades send these signals too.
"""

from __future__ import annotations

from blinker import NamedSignal, Namespace

_namespace = Namespace()  # of Ampho's own, so that nobody else's signals are called the same

revision_started: NamedSignal = _namespace.signal(
    "revision_started", "A revision begins: ``step``, ``revision``, ``package``, ``direction``."
)
revision_applied: NamedSignal = _namespace.signal(
    "revision_applied", "A revision is committed: the same, and its ``duration`` in seconds."
)
revision_failed: NamedSignal = _namespace.signal(
    "revision_failed", "A revision failed: as ``revision_started``, and the ``error`` with which the run ends."
)
revision_retrying: NamedSignal = _namespace.signal(
    "revision_retrying", "A revision met a lock: as ``revision_started``, and the ``seconds`` until it is tried again."
)
revision_interrupted: NamedSignal = _namespace.signal(
    "revision_interrupted", "A revision was interrupted: the same as ``revision_started``."
)
upgrade_finished: NamedSignal = _namespace.signal(
    "upgrade_finished", "An upgrade came to its end: its ``run``, ``direction``, and ``duration`` in seconds."
)
downgrade_finished: NamedSignal = _namespace.signal(
    "downgrade_finished", "A downgrade came to its end: the same as ``upgrade_finished``."
)
