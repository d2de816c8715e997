"""Civitai's own generator: a graph of ComfyUI with the user's settings in "extraMetadata"."""

from __future__ import annotations

from dataclasses import replace

from image_search.metadata.generators.automatic1111 import read_automatic1111
from image_search.metadata.generators.comfyui import find_graph, read_graph
from image_search.metadata.generators.generation import Generation, as_name, as_text, fill_gaps, read_settings
from image_search.metadata.text import Fields, load_object


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


# SwarmUI (and StableSwarmUI): the object "sui_image_params".


def read_swarmui(fields: Fields) -> Generation | None:
    """From a PNG's "parameters" or from UserComment; early versions put the object into the EXIF tag Model."""
    settings = load_object(fields.get("sui_image_params"))
    if settings is None:
        return None
    scheduler = as_text(settings.get("scheduler"))
    return read_settings(
        "SwarmUI",
        settings,
        sampler=as_text(settings.get("sampler")) or as_text(settings.get("comfyuisampler")),
        extra=(("Schedule type", scheduler),) if scheduler else (),
    )


# TensorArt: its own object "generation_data" beside a graph of ComfyUI.


def read_tensorart(fields: Fields) -> Generation | None:
    """Words and model from its object, where models have readable names; settings from the graph that was run."""
    text = fields.get("generation_data")
    settings = load_object(text.rstrip("\x00") if isinstance(text, str) else text)
    if settings is None:
        return None
    found = read_settings("TensorArt", settings, model=as_name(settings.get("baseModel")))
    return fill_gaps(found, read_graph(load_object(fields.get("prompt"))))


# Stability Matrix: a graph of ComfyUI, and the same settings as an object and as a text of AUTOMATIC1111.


def read_stability_matrix(fields: Fields) -> Generation | None:
    """Known by its project file in a chunk, or by the object's chunk."""
    if "smproj" not in fields and "parameters-json" not in fields:
        return None
    settings = load_object(fields.get("parameters-json")) or {}
    found = fill_gaps(read_settings("Stability Matrix", settings), read_automatic1111(fields))
    return fill_gaps(found, read_graph(find_graph(fields)))
