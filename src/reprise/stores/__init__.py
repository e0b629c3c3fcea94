"""Promises about memory, and who keeps them."""
