"""Where the functions of steps are called: here, in a thread, in a process of their own.

``executor`` is the promise, ``here`` and ``processes`` keep it. Of a process, ``process`` is our end and ``inside`` is what
runs in it; ``frames`` is what passes between them.
"""
