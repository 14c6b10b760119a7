"""Results as text: what each command prints.

What can be computed without a terminal is in :mod:`ampho.status` and :mod:`ampho.migrate`.
"""
