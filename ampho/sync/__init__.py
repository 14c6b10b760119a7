"""Ampho for Flask, through Flask-SQLAlchemy and Flask-Migrate."""

from ampho.sync.extension import Ampho

__all__ = ["Ampho"]
