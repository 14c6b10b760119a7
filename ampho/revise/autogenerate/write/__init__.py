"""Turning the operations of packages into the code and the order of new revisions.

Writing the files is left to :mod:`ampho.revise.writer`.
"""
