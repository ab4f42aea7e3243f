# SPDX-License-Identifier: LGPL-2.1-or-later
"""A contract for import-linter: in no room do two modules, or two rooms within, form a circle."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


def siblings(graph: ImportGraph, room: str) -> dict[str, set[str]]:
    """What each child of a room imports, as children of that room."""
    found: dict[str, set[str]] = {child: set() for child in graph.find_children(room)}
    for child, imported in found.items():
        for module in {child} | graph.find_descendants(child):
            for target in graph.find_modules_directly_imported_by(module):
                below = ".".join(target.split(".")[: room.count(".") + 2])
                if below in found and below != child:
                    imported.add(below)
    return found


class NoCircle(Contract):
    """Every package below `root`, TYPE_CHECKING imports too."""

    root = fields.StringField()
    ignore_rooms = fields.SetField(subfield=fields.StringField(), required=False)

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        circles = []
        rooms = {self.root} | graph.find_descendants(self.root)
        for room in sorted(rooms - (self.ignore_rooms or set())):
            try:
                TopologicalSorter(siblings(graph, room)).prepare()
            except CycleError as error:
                circles.append(" → ".join(reversed(error.args[1])))
        return ContractCheck(kept=not circles, metadata={"circles": circles})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for circle in check.metadata["circles"]:
            output.print_error(circle)
