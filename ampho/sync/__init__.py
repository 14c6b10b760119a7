"""Ampho for Flask, through Flask-SQLAlchemy and Flask-Migrate."""

from .extension import Ampho

__all__ = ["Ampho"]
