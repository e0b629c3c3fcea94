"""Wiring: everything a program opens with one line."""

from __future__ import annotations

from reprise.app.reprise import Reprise

__all__ = ["Reprise"]
