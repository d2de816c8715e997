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
        """The nodes nothing is made from; those that save or show an image first."""
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


# A drawn ComfyUI workflow turned into the API graph that the rest reads.
#
# The drawing keeps values without names ("widgets_values") and links in a list of their own. Newer files name the
# inputs that have a widget; for older ones the order of the common nodes' widgets is written down here. Muted nodes
# are skipped, bypassed ones passed through, subgraphs expanded.

MAX_SUBGRAPH_DEPTH = 8
MAX_SUBGRAPHS = 200
_BYPASSED, _MUTED = 4, 2
_CONTROLS = {"fixed", "increment", "decrement", "randomize"}  # the value after every seed

_WIDGETS = {
    "KSampler": ("seed", "control", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSamplerAdvanced": (
        "add_noise",
        "noise_seed",
        "control",
        "steps",
        "cfg",
        "sampler_name",
        "scheduler",
        "start",
        "end",
    ),
    "SamplerCustom": ("add_noise", "noise_seed", "control", "cfg"),
    "RandomNoise": ("noise_seed", "control"),
    "KSamplerSelect": ("sampler_name",),
    "BasicScheduler": ("scheduler", "steps", "denoise"),
    "KarrasScheduler": ("steps",),
    "SDTurboScheduler": ("steps", "denoise"),
    "CFGGuider": ("cfg",),
    "FluxGuidance": ("guidance",),
    "CLIPTextEncode": ("text",),
    "CLIPTextEncodeSDXL": ("width", "height", "crop_w", "crop_h", "target_width", "target_height", "text_g", "text_l"),
    "CLIPTextEncodeFlux": ("clip_l", "t5xxl", "guidance"),
    "CLIPTextEncodeSD3": ("clip_l", "clip_g", "t5xxl", "empty_padding"),
    "CheckpointLoaderSimple": ("ckpt_name",),
    "CheckpointLoader": ("config_name", "ckpt_name"),
    "UNETLoader": ("unet_name", "weight_dtype"),
    "UnetLoaderGGUF": ("unet_name",),
    "LoraLoader": ("lora_name", "strength_model", "strength_clip"),
    "LoraLoaderModelOnly": ("lora_name", "strength_model"),
    "EmptyLatentImage": ("width", "height", "batch_size"),
    "EmptySD3LatentImage": ("width", "height", "batch_size"),
    "PrimitiveNode": ("value",),
    "SDPromptReader": ("image", "upload", "parameter_index", "positive", "negative", "settings"),
    "SDParameterGenerator": (
        "ckpt_name",
        "vae",
        "version",
        "config",
        "seed",
        "steps",
        "refiner",
        "cfg",
        "sampler_name",
    ),
    "Note": (),
    "MarkdownNote": (),
}


def convert_workflow(workflow: dict[str, Any]) -> dict[str, Any]:
    """Nodes by their number, as in the API graph; {} for what is no workflow."""
    drawing = _Drawing(_list_subgraphs(workflow))
    drawing.add_nodes(workflow)
    drawing.join_buses()
    for node in drawing.nodes.values():
        node["inputs"] = {name: drawing.leave_subgraphs(value) for name, value in node["inputs"].items()}
    return drawing.nodes


def _list_subgraphs(workflow: dict[str, Any]) -> dict[str, dict[str, Any]]:
    definitions = workflow.get("definitions")
    found = definitions.get("subgraphs") if isinstance(definitions, dict) else None
    listed = [graph for graph in found if isinstance(graph, dict)] if isinstance(found, list) else []
    return {graph["id"]: graph for graph in listed if isinstance(graph.get("id"), str)}


class _Drawing:
    """nodes: what was converted so far. exits: (node of a subgraph, its slot) to the node inside and its slot."""

    def __init__(self, subgraphs: dict[str, dict[str, Any]]) -> None:
        self.subgraphs = subgraphs
        self.nodes: dict[str, dict[str, Any]] = {}
        self.exits: dict[tuple[str, int], list[Any]] = {}
        self.opened = 0
        self.buses: dict[str, Any] = {}  # names of SetNodes (KJNodes), which GetNodes repeat, and what they were given
        self.readers: list[tuple[str, dict[str, Any]]] = []

    def _add_bus(self, kind: str, node: dict[str, Any], inputs: dict[str, Any]) -> None:
        values = node.get("widgets_values")
        name = str(values[0])[:100] if isinstance(values, list) and values else ""
        links = [value for value in inputs.values() if isinstance(value, list)]
        if kind == "get":
            self.readers.append((name, inputs))
        elif links:
            self.buses.setdefault(name, links[0])

    def join_buses(self) -> None:
        """Link every GetNode to what the SetNode of its name was given."""
        for name, inputs in self.readers:
            if name in self.buses:
                inputs["*"] = self.buses[name]

    def add_nodes(
        self, workflow: dict[str, Any], prefix: str = "", outside: dict[int, Any] | None = None, depth: int = 0
    ) -> None:
        """Add a workflow's nodes under a prefix. outside: what is linked to each slot of a subgraph's entrance."""
        links = _read_links(workflow.get("links"))
        drawn = workflow.get("nodes")
        for node in drawn if isinstance(drawn, list) else []:
            if not isinstance(node, dict) or node.get("mode") == _MUTED or len(self.nodes) >= MAX_NODES:
                continue
            inputs = _read_inputs(node, links, prefix, outside or {})
            key = f"{prefix}{str(node.get('id'))[:100]}"
            subgraph = self.subgraphs.get(str(node.get("type")))
            if subgraph and depth < MAX_SUBGRAPH_DEPTH and self.opened < MAX_SUBGRAPHS:
                self.opened += 1
                typed = _name_widgets(node)  # into the node that stands for the subgraph
                names = enumerate(_list_input_names(node))
                entrance = {slot: typed.get(name) if inputs.get(name) is None else inputs[name] for slot, name in names}
                self.add_nodes(subgraph, f"{key}:", entrance, depth + 1)
                self.exits |= _read_exits(subgraph, key)
                continue
            if node.get("mode") != _BYPASSED:
                inputs = {**_name_widgets(node), **{name: value for name, value in inputs.items() if value is not None}}
            kind, title = str(node.get("type")), node.get("title")
            if kind_of_bus := {"SetNode": "set", "GetNode": "get"}.get(str(node.get("type"))):
                self._add_bus(kind_of_bus, node, inputs)
            self.nodes[key] = {"class_type": kind, "inputs": inputs, "_meta": {"title": title}}

    def leave_subgraphs(self, value: Any) -> Any:
        """A link to the node of a subgraph as a link to the node inside that it comes from."""
        for _ in range(MAX_SUBGRAPH_DEPTH):
            if not isinstance(value, list) or len(value) != 2 or not isinstance(value[1], int):
                break
            inside = self.exits.get((str(value[0]), value[1]))
            if inside is None:
                break
            value = inside
        return value


def _read_links(links: Any) -> dict[int, tuple[Any, Any]]:
    """Number of the link to (node, slot) it comes from; links are lists in the old form, objects in the new one."""
    found: dict[int, tuple[Any, Any]] = {}
    for link in links if isinstance(links, list) else []:
        if isinstance(link, list) and len(link) >= 5 and isinstance(link[0], int):
            found[link[0]] = (link[1], link[2])
        elif isinstance(link, dict) and isinstance(link.get("id"), int):
            found[link["id"]] = (link.get("origin_id"), link.get("origin_slot"))
    return found


def _list_entries(node: dict[str, Any]) -> list[dict[str, Any]]:
    entries = node.get("inputs")
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _list_input_names(node: dict[str, Any]) -> list[str]:
    return [str(entry.get("name")) for entry in _list_entries(node)]


def _read_inputs(
    node: dict[str, Any], links: dict[int, tuple[Any, Any]], prefix: str, outside: dict[int, Any]
) -> dict[str, Any]:
    inputs: dict[str, Any] = {}
    for entry in _list_entries(node):
        name, link = entry.get("name"), entry.get("link")
        if not isinstance(name, str) or not isinstance(link, int) or link not in links:
            continue
        origin, slot = links[link]
        if isinstance(slot, int):
            inputs[name] = outside.get(slot) if origin == -10 and prefix else [f"{prefix}{origin}", slot]
    return inputs


def _read_exits(subgraph: dict[str, Any], key: str) -> dict[tuple[str, int], list[Any]]:
    """(the node that represents a subgraph, its slot) to the node inside and its slot."""
    links = subgraph.get("links")
    listed = [link for link in links if isinstance(link, dict)] if isinstance(links, list) else []
    return {
        (key, link["target_slot"]): [f"{key}:{link.get('origin_id')}", link.get("origin_slot")]
        for link in listed
        if link.get("target_id") == -20 and isinstance(link.get("target_slot"), int)
    }


def _name_widgets(node: dict[str, Any]) -> dict[str, Any]:
    values = node.get("widgets_values")
    if isinstance(values, dict):
        return values
    if not isinstance(values, list):
        return {}
    kind = str(node.get("type"))
    names = _WIDGETS.get(kind)
    if names is None:
        widgets = (entry["widget"] for entry in _list_entries(node) if isinstance(entry.get("widget"), dict))
        names = tuple(str(widget.get("name")) for widget in widgets)
        controls = {
            place for place, value in enumerate(values) if place and isinstance(value, str) and value in _CONTROLS
        }
        values = [value for place, value in enumerate(values) if place not in controls]
    if not names:  # an unknown node: only its texts can be read
        texts = [value for value in values if isinstance(value, str) and " " in value.strip()]
        return {f"text{number}": text for number, text in enumerate(texts)}
    return dict(zip(names, values, strict=False))
