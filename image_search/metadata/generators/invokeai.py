"""InvokeAI in its forms: Dream (a command line), sd-metadata, invokeai (nodes), invokeai_metadata, invokeai_graph."""

from __future__ import annotations

import re
from typing import Any

from image_search.metadata.generators.generation import Generation, as_name, as_text, fill_gaps, read_settings
from image_search.metadata.text import Fields, load_object

_NAME = "InvokeAI"
_NEGATIVE = re.compile(r"\[([^\[\]]*)\]")  # until version 2 the negative prompt stood in brackets inside the prompt
_DREAM = re.compile(r'\s*"((?:\\.|[^"\\])*)"(.*)', re.DOTALL)
_SWITCH = re.compile(r"-(\w)\s*(\S+)")
_SWITCHES = {"s": "steps", "S": "seed", "W": "width", "H": "height", "C": "cfg_scale", "A": "sampler"}


def read_invokeai(fields: Fields) -> Generation | None:
    """The newest form that is there."""
    if settings := load_object(fields.get("invokeai_metadata")):
        return fill_gaps(_read_metadata(settings), _read_graph(load_object(fields.get("invokeai_graph"))))
    if settings := load_object(fields.get("sd-metadata")):
        return _read_sd_metadata(settings)
    if settings := load_object(fields.get("invokeai")):
        return _read_nodes(settings)
    if graph := load_object(fields.get("invokeai_graph")):
        return _read_graph(graph)
    dream = fields.get("Dream") or fields.get("dream")
    return _read_dream(dream) if isinstance(dream, str) else None


def _read_metadata(settings: dict[str, Any]) -> Generation:
    style = as_text(settings.get("positive_style_prompt"))
    extra = [("Style prompt", style)] if style and style != settings.get("positive_prompt") else []
    loras = settings.get("loras")
    for lora in loras[:50] if isinstance(loras, list) else []:
        if isinstance(lora, dict) and (name := as_name(lora.get("model") or lora.get("lora"))):
            extra.append(("Lora", name))
    return read_settings(_NAME, settings, extra=tuple(extra))


def _read_sd_metadata(settings: dict[str, Any]) -> Generation:
    image = settings.get("image")
    image = image if isinstance(image, dict) else {}
    prompt, negative = _split_prompt(as_text(image.get("prompt")) or "")
    model = as_name(settings.get("model_weights")) or as_name(settings.get("model"))
    return read_settings(_NAME, image, prompt=prompt, negative_prompt=negative, model=model)


def _read_nodes(settings: dict[str, Any]) -> Generation:
    node = settings.get("node")
    values = {**settings, **node} if isinstance(node, dict) else settings
    return read_settings(
        _NAME,
        values,
        prompt=as_text(values.get("positive_conditioning")),
        negative_prompt=as_text(values.get("negative_conditioning")),
    )


def _read_graph(graph: dict[str, Any] | None) -> Generation | None:
    """The node that collects the metadata, where its values were typed in and not linked from other nodes."""
    nodes = graph.get("nodes") if graph else None
    for node in list(nodes.values())[:2000] if isinstance(nodes, dict) else []:
        if isinstance(node, dict) and "core_metadata" in str(node.get("type")):
            return _read_metadata(node)
    return Generation(_NAME) if nodes else None


def _read_dream(command: str) -> Generation:
    match = _DREAM.match(command)
    words, switches = (match[1], match[2]) if match else (command, "")
    prompt, negative = _split_prompt(words)
    values = {_SWITCHES[key]: value for key, value in _SWITCH.findall(switches[:4096]) if key in _SWITCHES}
    return read_settings(_NAME, values, prompt=prompt, negative_prompt=negative)


def _split_prompt(words: str) -> tuple[str, str | None]:
    negative = ", ".join(part.strip(" ,") for part in _NEGATIVE.findall(words) if part.strip(" ,"))
    return _NEGATIVE.sub("", words).strip(" ,"), negative or None
