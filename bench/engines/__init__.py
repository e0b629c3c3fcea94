"""The same jobs on several engines, each in a process of its own: `python -m bench.engines ENGINE STORE FOLDER`.

A module `<engine>_jobs` of this package is an engine: `opened(store, folder, work)` is an async context manager of an object with

    async chain(run, steps, pause)        a run whose steps follow each other
    async fan(run, steps, pause)          a run whose steps start at once and are limited to 100 at a time

and, of ours alone, ``pure``: a chain whose steps are declared so.

A step does `work` and returns its value. Modules of peers are executed by the peers' interpreter, so nothing here
imports Reprise except `reprise_jobs`.
"""
