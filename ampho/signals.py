"""The signals of a run. Their sender is the app. The description of each signal lists its arguments.

``step`` is the :class:`ampho.Step`, ``revision`` is its id, ``package`` is its package, and ``direction`` is an
:class:`ampho.Direction`, because downgrades send these signals, too.
"""

from __future__ import annotations

from blinker import NamedSignal, Namespace

_namespace = Namespace()  # not blinker's common one, in which names of other libraries could clash

revision_started: NamedSignal = _namespace.signal(
    "revision_started", "A revision starts: ``step``, ``revision``, ``package``, ``direction``."
)
revision_applied: NamedSignal = _namespace.signal(
    "revision_applied", "A revision was committed: the same, and its ``duration`` in seconds."
)
revision_failed: NamedSignal = _namespace.signal(
    "revision_failed", "A revision failed: the same as ``revision_started``, and the ``error`` that the run raises."
)
revision_retrying: NamedSignal = _namespace.signal(
    "revision_retrying", "A revision could not get a lock: the same, and the ``seconds`` until it is retried."
)
revision_interrupted: NamedSignal = _namespace.signal(
    "revision_interrupted", "A revision was interrupted: the same as ``revision_started``."
)
upgrade_finished: NamedSignal = _namespace.signal(
    "upgrade_finished", "An upgrade has finished: its ``run``, ``direction``, and ``duration`` in seconds."
)
downgrade_finished: NamedSignal = _namespace.signal(
    "downgrade_finished", "A downgrade has finished: the same as ``upgrade_finished``."
)
