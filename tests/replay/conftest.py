"""The corpus runs on the loop that the environment names."""

from tests.replay.loops import LOOP, loop_factory


def pytest_asyncio_loop_factories(config, item):
    return {LOOP: loop_factory()}
