"""The words of a ComfyUI graph: from a sampler's "positive" or "negative" up to the nodes they were typed into.

Custom nodes are without number, so nothing here lists them all: an input whose name says text holds words or leads
to words, one whose name says conditioning leads further up. Only nodes that break this rule are named.
"""

from __future__ import annotations

import re
from typing import Any

from image_search.metadata.generators.comfyui_graph import MAX_DEPTH, MAX_VISITS, Graph, Node

_TEXT_INPUT = re.compile(
    r"(?:(?:positive|negative|pos|neg|populated|wildcard|base|global|local|input|style|opt)_?)?"
    r"(?:text|prompt|string|str)s?_?(?:positive|negative|pos|neg|input|multiline|[a-z]|\d{1,2})?"
    r"|clip_[lgh]|t5xxl|t5|llama|bert|mt5xl|tags|value|positive|negative|part_?\d{1,2}|any_?\d{1,2}|text_[a-z0-9]+",
    re.IGNORECASE,
)
_CONDITIONING_INPUT = re.compile(
    r".*(?:cond|guider|embeds|pipe|tuple|context)[a-z_]*\d*|any_?\d{0,2}|input|source|value|noise_prediction|on_true|on_false|\*?",
    re.IGNORECASE,
)
_BOTH_ROLES_INPUT = re.compile(r".*(?:embeds|pipe|tuple|context)[a-z_]*\d*|neg\w*|uncond\w*", re.IGNORECASE)
_SILENT = re.compile(r"ConditioningZeroOut|TextGenerate|.*(?:LLM|Ollama|Florence|Interrogat|Tagger|Caption).*")
_PLAIN_CLASSES = re.compile(r".*(?:Encode|Conditioning|Apply).*")


def find_words(graph: Graph, node: Node, role: str) -> str:
    """The words behind an input of this node; role is "positive" or "negative". "" where there are none."""
    walk = _Walk(graph, role)
    texts = walk.read_input(node.inputs.get(role))
    if not texts:
        # What is called conditioning at the sampler itself is the positive one; a pipe or a tuple carries both.
        leads_on = _CONDITIONING_INPUT if role == "positive" else _BOTH_ROLES_INPUT
        texts = [text for name in node.inputs if leads_on.fullmatch(name) for text in walk.read_named(node, name)]
    return _join(texts)


def _join(texts: list[str]) -> str:
    """Texts on lines of their own, each once; one alone stays as it was typed."""
    distinct = list(dict.fromkeys(text for text in texts if text.strip()))
    return distinct[0] if len(distinct) == 1 else "\n".join(text.strip() for text in distinct)


class _Walk:
    """One walk for one role; a node is read once, so that cycles and shared parts end."""

    def __init__(self, graph: Graph, role: str) -> None:
        self.graph = graph
        self.opposite = "neg" if role == "positive" else "pos"
        self.role = role
        self.seen: set[str] = set()

    def read_input(self, value: Any, depth: int = 0) -> list[str]:
        if isinstance(value, str):
            return [value] if value.strip() else []
        node = self.graph.follow(value)
        if node is None or node.key in self.seen or depth > MAX_DEPTH or len(self.seen) > MAX_VISITS:
            return []
        self.seen.add(node.key)
        return self._read_node(node, depth + 1)

    def read_named(self, node: Node, name: str, depth: int = 0) -> list[str]:
        """Words behind an input by its name, unless the name belongs to the other role."""
        return [] if self.opposite in name.lower() else self.read_input(node.inputs[name], depth)

    def _read_node(self, node: Node, depth: int) -> list[str]:
        if _SILENT.fullmatch(node.kind):
            return []
        if node.kind == "ComfySwitchNode":
            chosen = self.graph.find_value(node, "switch") is not False
            branches = ("on_true", "on_false") if chosen else ("on_false", "on_true")
            return next((found for name in branches if (found := self.read_input(node.inputs.get(name), depth))), [])
        if node.inputs.get("populated_text"):  # wildcards as they were drawn, beside the pattern
            return self.read_input(node.inputs["populated_text"], depth)
        texts: list[str] = []
        for name in node.inputs:
            if _TEXT_INPUT.fullmatch(name) and name != "text_0":
                texts += self.read_named(node, name, depth)
        if not texts and isinstance(node.inputs.get("text_0"), str):  # a node that shows text keeps what it showed
            texts = [node.inputs["text_0"]]
        if texts and not _PLAIN_CLASSES.fullmatch(node.kind):
            texts = [self._concatenate(node, texts)]
        if self.role in node.inputs and texts:
            return texts
        before: list[str] = []  # an area or a box adds its words to those of the nodes it is made from
        for name in node.inputs:
            if _CONDITIONING_INPUT.fullmatch(name) and not _TEXT_INPUT.fullmatch(name):
                before += self.read_named(node, name, depth)
        return before + texts

    def _concatenate(self, node: Node, texts: list[str]) -> str:
        """The texts that a node for strings puts together, with its own separator."""
        between = next(
            (node.inputs[key] for key in ("delimiter", "separator", "join_with") if key in node.inputs), ", "
        )
        return (between.replace("\\n", "\n") if isinstance(between, str) else ", ").join(dict.fromkeys(texts))
