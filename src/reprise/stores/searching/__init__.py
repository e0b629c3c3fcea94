"""Answering queries with SQL, for every keeper that has it: what to walk, and what to ask of each row on the way."""

from reprise.stores.searching.plan import Asking, Plan, Search, Statement

__all__ = ["Asking", "Plan", "Search", "Statement"]
