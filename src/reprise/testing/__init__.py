"""Reprise."""
