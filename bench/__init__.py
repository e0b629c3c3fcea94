"""Measurements: `python -m bench [name …] [--once] [--json FILE]`.

A module of this package that has `main(once: bool) -> bool` is a bench: it prints its table and returns whether its
floors were kept. With `--once` it does the least that shows it still works; figures then mean nothing.
"""
