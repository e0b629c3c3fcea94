"""Where the functions of steps are called: here, in a thread, in a process of their own.

``executor`` is the promise; ``here`` and ``processes`` keep it; ``pools`` says which pool executes a step. Of a process,
``process`` is our end and ``inside`` is what runs in it; ``frames`` is what passes between them, ``orders`` how a call is
written, ``ends`` what its end means.
"""
