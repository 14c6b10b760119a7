"""The signals that a run sends, with the app as the sender. The docstring of each signal lists its arguments.

``step`` is the :class:`ampho.Step`, ``revision`` is the id of its revision, and ``package`` is the name of its package.
``direction`` is an :class:`ampho.Direction`, because downgrades also send the signals about revisions.
"""

from __future__ import annotations

from blinker import NamedSignal, Namespace

_namespace = Namespace()  # not blinker's default namespace, in which other libraries could use the same names

revision_started: NamedSignal = _namespace.signal(
    "revision_started", "Sent when a revision starts, with ``step``, ``revision``, ``package``, and ``direction``."
)
revision_applied: NamedSignal = _namespace.signal(
    "revision_applied",
    "Sent after a revision is committed, with the arguments of ``revision_started`` and the ``duration`` in seconds.",
)
revision_failed: NamedSignal = _namespace.signal(
    "revision_failed",
    "Sent when a revision fails, with the arguments of ``revision_started`` and the ``error`` that the run raises.",
)
revision_retrying: NamedSignal = _namespace.signal(
    "revision_retrying",
    "Sent when a revision cannot get a lock, with the arguments of ``revision_started`` and the ``seconds`` until it"
    " is retried.",
)
revision_interrupted: NamedSignal = _namespace.signal(
    "revision_interrupted", "Sent when a revision is interrupted, with the arguments of ``revision_started``."
)
upgrade_finished: NamedSignal = _namespace.signal(
    "upgrade_finished",
    "Sent when an upgrade has finished, with its ``run``, ``direction``, and ``duration`` in seconds.",
)
downgrade_finished: NamedSignal = _namespace.signal(
    "downgrade_finished", "Sent when a downgrade has finished, with the arguments of ``upgrade_finished``."
)
