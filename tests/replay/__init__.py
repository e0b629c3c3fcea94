"""Replay: every prefix of the log of every pattern, resumed, comes to the stated result."""
