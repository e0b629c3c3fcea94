"""The same tasks on many queues, for `bench/recovered.py`: `python -m bench.recovering put|feed|work NAME …`.

A module `NAME_tasks` has the task, `put(numbers, seconds)`, and what the queue's own worker is started with. Each is
imported by an interpreter that has that queue, so they import nothing of each other and nothing of Reprise but its own.
"""
