"""Crash: processes die, pause and lose power; what was acknowledged is there, and nothing is recorded twice."""
