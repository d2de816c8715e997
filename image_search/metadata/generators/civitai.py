"""Civitai's own generator: a graph of ComfyUI with the user's settings in "extraMetadata"."""

from __future__ import annotations

from dataclasses import replace

from image_search.metadata.fields import Fields, load_object
from image_search.metadata.generators.comfyui import find_graph, read_graph
from image_search.metadata.generators.generation import Generation, fill_gaps, read_settings


def read_civitai(fields: Fields) -> Generation | None:
    """The graph first, because it is what was run; an upscaled picture's graph has no words, the user's settings do."""
    graph = find_graph(fields)
    settings = load_object(fields.get("extraMetadata"))
    if settings is None and graph:
        settings = load_object(graph.get("extraMetadata"))
    if settings is None:
        return None
    asked = read_settings("Civitai", settings)
    run = read_graph(graph)
    return asked if run is None else fill_gaps(replace(run, generator="Civitai"), asked)
