"""Durable multi-agent orchestration."""
