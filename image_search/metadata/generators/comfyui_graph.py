"""A ComfyUI graph as something one can walk: nodes by their number, inputs that are values or links to other nodes.

Graphs come out of wild files: they may have cycles, a hundred thousand nodes, and anything as a value. Every walk
visits a node once and stops after MAX_VISITS.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from image_search.metadata.generators.generation import as_number

MAX_NODES = 20_000
MAX_VISITS = 5_000
MAX_DEPTH = 60
MAX_NAME = 100  # characters of an input's or a class's name; beyond, patterns would be slow

# Inputs by which a number or a name is handed on, when it was typed into a node of its own.
_VALUE_INPUTS = (
    "value",
    "seed",
    "noise_seed",
    "int",
    "float",
    "number",
    "INT",
    "FLOAT",
    "Value",
    "Number",
    "string",
    "text",
    "a",
)


@dataclass(frozen=True, slots=True)
class Node:
    """One step of a graph."""

    key: str
    kind: str  # its class, such as "KSampler"
    inputs: dict[str, Any]
    title: str = ""


class Graph:
    """The nodes of an API graph ("prompt"), in the order of the file."""

    def __init__(self, nodes: dict[str, Any]) -> None:
        self.nodes: dict[str, Node] = {}
        for key, node in list(nodes.items())[:MAX_NODES]:
            if not isinstance(node, dict) or not isinstance(node.get("inputs"), dict):
                continue
            kind, meta = node.get("class_type"), node.get("_meta")
            if isinstance(kind, str):
                inputs = {name: value for name, value in node["inputs"].items() if len(name) <= MAX_NAME}
                title = str(meta.get("title") or "")[:MAX_NAME] if isinstance(meta, dict) else ""
                self.nodes[str(key)] = Node(str(key), kind[:MAX_NAME], inputs, title)

    def follow(self, value: Any) -> Node | None:
        """The node an input is linked to, or None when it is a value."""
        if (
            isinstance(value, list)
            and len(value) == 2
            and isinstance(value[0], str | int)
            and isinstance(value[1], int)
        ):
            return self.nodes.get(str(value[0]))
        return None

    def walk_up(self, node: Node, chosen: Callable[[str], bool] = lambda _: True) -> Iterator[Node]:
        """The nodes this one was made from, nearest first, through those inputs whose name is chosen."""
        waiting, seen = deque([node]), {node.key}
        while waiting and len(seen) <= MAX_VISITS:
            current = waiting.popleft()
            for name, value in current.inputs.items():
                source = self.follow(value) if chosen(name) else None
                if source and source.key not in seen:
                    seen.add(source.key)
                    waiting.append(source)
                    yield source

    def find_ends(self) -> list[Node]:
        """The nodes nothing is made from; those that save or show a picture first."""
        used = {
            source.key
            for node in self.nodes.values()
            for value in node.inputs.values()
            if (source := self.follow(value))
        }
        ends = [node for node in self.nodes.values() if node.key not in used]
        return sorted(ends, key=lambda node: ("Save" not in node.kind, "Preview" not in node.kind))

    def find_value(self, node: Node | None, *names: str) -> Any:
        """The first of these inputs that has a value, looked up through links to the node it was typed into."""
        for name in names:
            value = node.inputs.get(name) if node else None
            for _ in range(MAX_DEPTH):
                source = self.follow(value)
                if source is None:
                    break
                values = [source.inputs[key] for key in (name, *_VALUE_INPUTS) if key in source.inputs]
                links = [value for value in source.inputs.values() if self.follow(value)]
                value = values[0] if values else links[0] if len(links) == 1 else None
            if value not in (None, "") and not isinstance(value, list):
                return value
        return None

    def find_number(self, node: Node | None, *names: str) -> float | None:
        """The same as a number."""
        return as_number(self.find_value(node, *names))
