"""Stability Matrix: a graph of ComfyUI, and the same settings as an object and as a text of AUTOMATIC1111."""

from __future__ import annotations

from image_search.metadata.fields import Fields, load_object
from image_search.metadata.generators.automatic1111 import read_automatic1111
from image_search.metadata.generators.comfyui import find_graph, read_graph
from image_search.metadata.generators.generation import Generation, fill_gaps, read_settings


def read_stability_matrix(fields: Fields) -> Generation | None:
    """Known by its project file in a chunk, or by the object's chunk."""
    if "smproj" not in fields and "parameters-json" not in fields:
        return None
    settings = load_object(fields.get("parameters-json")) or {}
    found = fill_gaps(read_settings("Stability Matrix", settings), read_automatic1111(fields))
    return fill_gaps(found, read_graph(find_graph(fields)))
