"""What comes before what: order, cycles, levels, the longest way through. Nodes are numbers."""

from __future__ import annotations

from collections.abc import Sequence


class Graph:
    """A graph by the nodes that come before each: ``before[node]``.

    >>> graph = Graph([[], [0], [0], [1, 2]])
    >>> graph.order, graph.levels(), graph.critical_path([1, 5, 2, 1])
    ([0, 1, 2, 3], [[0], [1, 2], [3]], [0, 1, 3])
    """

    def __init__(self, before: Sequence[Sequence[int]]) -> None:
        self.before = before
        after: list[list[int]] = [[] for _ in before]
        left = [0] * len(before)
        for node, those in enumerate(before):
            left[node] = len(those)
            for one in those:
                after[one].append(node)
        self.after = after
        self.order = [node for node, count in enumerate(left) if not count]
        """Every node behind those before it (Kahn's algorithm); without those in a cycle, or behind one."""
        for node in self.order:
            for one in after[node]:
                left[one] -= 1
                if not left[one]:
                    self.order.append(one)
        self._ancestors: list[int] | None = None
        self._stuck = set(range(len(before))).difference(self.order)

    def is_stuck(self, node: int) -> bool:
        """Return whether a node is in a cycle or behind one."""
        return node in self._stuck

    def cycles(self) -> list[list[int]]:
        """Return cycles that share no node, each beginning with its least node; all nodes of none are in ``order``.

        >>> Graph([[2], [0], [1], [0], []]).cycles()
        [[0, 1, 2]]
        """
        stuck = self._stuck
        found: list[list[int]] = []
        seen: set[int] = set()
        for start in sorted(stuck):
            way: dict[int, None] = {}
            node = start
            while node not in seen and node not in way:
                way[node] = None
                node = next(one for one in self.before[node] if one in stuck)
            if node in way:
                cycle = list(way)[list(way).index(node) :][::-1]
                least = cycle.index(min(cycle))
                found.append(cycle[least:] + cycle[:least])
            seen |= way.keys()
        return found

    def comes_before(self, one: int, other: int) -> bool:
        """Return whether ``other`` waits for ``one``, directly or not."""
        if self._ancestors is None:
            # A number of as many bits as there are nodes: a set that is joined in a few microseconds.
            self._ancestors = [0] * len(self.before)
            for node in self.order:
                for each in self.before[node]:
                    self._ancestors[node] |= self._ancestors[each] | 1 << each
        return bool(self._ancestors[other] >> one & 1)

    def levels(self) -> list[list[int]]:
        """Return the nodes by how many must come before: those of a level wait for none of it."""
        depth = [0] * len(self.before)
        levels: list[list[int]] = []
        for node in self.order:
            depth[node] = max((depth[one] + 1 for one in self.before[node]), default=0)
            if depth[node] == len(levels):
                levels.append([])
            levels[depth[node]].append(node)
        return [sorted(level) for level in levels]

    def critical_path(self, lengths: Sequence[float]) -> list[int]:
        """Return the longest way through, by the length of each node."""
        total = [0.0] * len(self.before)
        previous = [-1] * len(self.before)
        for node in self.order:
            for one in self.before[node]:
                if previous[node] < 0 or total[one] > total[previous[node]]:
                    previous[node] = one
            total[node] = lengths[node] + (total[previous[node]] if previous[node] >= 0 else 0.0)
        way: list[int] = []
        node = max(self.order, key=total.__getitem__, default=-1)
        while node >= 0:
            way.append(node)
            node = previous[node]
        return way[::-1]
