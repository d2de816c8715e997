"""The meaning of an image's texts: readers of generators, tried in order.

Those known by one object or a few keys are here, each in its own section.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from image_search.metadata.containers import Extracted
from image_search.metadata.generators.comfyui import find_graph, read_comfyui, read_graph
from image_search.metadata.generators.generation import (
    Generation,
    as_name,
    as_text,
    fill_gaps,
    read_automatic1111,
    read_infotext,
    read_settings,
    split_infotext,
)
from image_search.metadata.text import Fields, load_object, make_fields

# Civitai's own generator: a graph of ComfyUI with the user's settings in "extraMetadata".


def _read_civitai(fields: Fields) -> Generation | None:
    """The graph first, because it is what was run; an upscaled image's graph has no words, the user's settings do."""
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


def _read_swarmui(fields: Fields) -> Generation | None:
    """Read a PNG's "parameters" or UserComment; early versions put the object into the EXIF tag Model."""
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


def _read_tensorart(fields: Fields) -> Generation | None:
    """Words and model from its object, where models have readable names; settings from the graph that was run."""
    text = fields.get("generation_data")
    settings = load_object(text.rstrip("\x00") if isinstance(text, str) else text)
    if settings is None:
        return None
    found = read_settings("TensorArt", settings, model=as_name(settings.get("baseModel")))
    return fill_gaps(found, read_graph(load_object(fields.get("prompt"))))


# Stability Matrix: a graph of ComfyUI, and the same settings as an object and as a text of AUTOMATIC1111.


def _read_stability_matrix(fields: Fields) -> Generation | None:
    """Known by its project file in a chunk, or by the object's chunk."""
    settings = load_object(fields.get("parameters-json")) or {}
    found = fill_gaps(read_settings("Stability Matrix", settings), read_automatic1111(fields))
    return fill_gaps(found, read_graph(find_graph(fields)))


# NovelAI: a JSON object in "Comment", from text chunks or from the hidden bits.

_NOVELAI_KEYS = {"uc", "v4_prompt", "noise_schedule", "uncond_scale", "n_samples"}


def _read_novelai(fields: Fields) -> Generation | None:
    """Known by Software, or by settings no other program writes, when that chunk was dropped."""
    settings = load_object(fields.get("Comment")) or fields
    software = fields.get("Software")
    is_named = isinstance(software, str) and software.startswith("NovelAI")
    if not is_named and len(_NOVELAI_KEYS & settings.keys()) < 2:
        return None
    characters = [
        (f"{label} {number}", words)
        for label, key in (("Character", "v4_prompt"), ("Character negative prompt", "v4_negative_prompt"))
        for number, words in enumerate(_read_characters(settings.get(key)), 1)
        if words
    ]
    return read_settings(
        "NovelAI",
        settings,
        prompt=_read_caption(settings.get("v4_prompt"))
        or as_text(settings.get("prompt"))
        or as_text(fields.get("Description")),
        negative_prompt=_read_caption(settings.get("v4_negative_prompt")),
        model=as_text(fields.get("Source")),
        extra=(*characters, *(("Schedule type", name) for name in [as_text(settings.get("noise_schedule"))] if name)),
    )


def _read_caption(prompt: Any) -> str | None:
    caption = prompt.get("caption") if isinstance(prompt, dict) else None
    return as_text(caption.get("base_caption")) if isinstance(caption, dict) else None


def _read_characters(prompt: Any) -> list[str]:
    caption = prompt.get("caption") if isinstance(prompt, dict) else None
    entries = caption.get("char_captions") if isinstance(caption, dict) else None
    if not isinstance(entries, list):
        return []
    return [as_text(entry.get("char_caption")) or "" for entry in entries[:50] if isinstance(entry, dict)]


# Fooocus and its forks: one JSON object, with keys by their name (MRE, Ruined Fooocus) or their label (SimpleSDXL).


def _read_fooocus(fields: Fields) -> Generation | None:
    """Known by its scheme chunk, by the software it names, or by a base model beside a prompt."""
    has_scheme = "fooocus_scheme" in fields or fields.get("MakerNote") in ("fooocus", "a1111", "simple")
    is_named = any(
        "fooocus" in str(fields.get(key, ""))[:100].lower() for key in ("Software", "software", "Version", "version")
    )
    for settings in fields.get("objects", ()):
        keys = {str(key).lower().replace(" ", "_") for key in settings}
        if has_scheme or is_named or {"prompt", "base_model"} <= keys or {"prompt", "performance"} <= keys:
            return _read_object(settings)
    text = fields.get("parameters")
    if (has_scheme or is_named) and isinstance(text, str) and not text.lstrip().startswith("{"):
        return read_infotext(text, "Fooocus")
    return None


def _read_object(settings: dict[str, Any]) -> Generation:
    is_ruined = "ruined" in str(settings.get("software", settings.get("Software", ""))).lower()
    plain = {str(key).lower().replace(" ", "_"): value for key, value in settings.items()}
    return read_settings(
        "Ruined Fooocus" if is_ruined else "Fooocus",
        settings,
        prompt=_strip(plain.get("prompt") or plain.get("full_prompt")),
        negative_prompt=_strip(plain.get("negative_prompt") or plain.get("negative")),
        model=as_name(plain.get("base_model_name")) or as_name(plain.get("base_model")),
        sampler=as_name(plain.get("sampler")) or as_name(plain.get("sampler_name")),
        extra=tuple((label, value) for label, key in _EXTRA if (value := as_text(plain.get(key)))),
    )


def _strip(value: Any) -> str | None:
    words = as_text(value)
    return words.strip() if words else None


_EXTRA = (("Schedule type", "scheduler"), ("Styles", "styles"), ("Performance", "performance"), ("Version", "version"))


# Draw Things: XMP, with a JSON object in exif:UserComment and a text for people in dc:description.

_NEGATIVE_LINE = re.compile(r"\n-")


def _read_draw_things(fields: Fields) -> Generation | None:
    """Known by its name as creator tool, or by the keys of its object."""
    tool = fields.get("CreatorTool")
    is_named = isinstance(tool, str) and tool.startswith("Draw Things")
    settings = next((found for found in fields.get("objects", ()) if {"c", "uc"} <= found.keys()), None)
    written = fields.get("parameters")
    described = _read_description(written) if isinstance(written, str) and is_named else None
    if settings is None:
        return described or (Generation("Draw Things") if is_named else None)
    found = read_settings(
        "Draw Things",
        settings,
        prompt=(as_text(settings["c"]) or "").strip(),
        negative_prompt=(as_text(settings["uc"]) or "").strip(),
    )
    return fill_gaps(found, described)


def _read_description(text: str) -> Generation:
    parts = split_infotext(text)
    words = _NEGATIVE_LINE.split(parts.prompt, maxsplit=1)
    return read_settings(
        "Draw Things",
        parts.settings,
        prompt=words[0].strip(),
        negative_prompt=words[1].strip() if len(words) > 1 else parts.negative_prompt,
    )


# Spaces on Hugging Face that save a diffusers pipeline's arguments as one JSON object (Animagine XL and its like).


def _read_hugging_face(fields: Fields) -> Generation | None:
    """Known by diffusers' names for the settings beside "Model" and "resolution"."""
    for settings in fields.get("objects", ()):
        if "Model" in settings and ("resolution" in settings or "num_inference_steps" in settings):
            return read_settings("Hugging Face Space", settings)
    return None


# Programs around Stable Diffusion 3 that write each argument into a text chunk: "prompt" beside "prompt_3".


def _read_stability(fields: Fields) -> Generation | None:
    """Stable Diffusion 3 takes up to three prompts, one for each of its text encoders; equal ones are said once."""
    if "prompt" not in fields:
        return None

    def join(*keys: str) -> str | None:
        words = (as_text(fields.get(key)) for key in keys)
        return "\n".join(dict.fromkeys(word for word in words if word)) or None

    return read_settings(
        "Stability",
        fields,
        prompt=join("prompt", "prompt_2", "prompt_3"),
        negative_prompt=join("negative_prompt", "negative_prompt_2", "negative_prompt_3"),
    )


# Easy Diffusion: a text chunk for each setting, or one JSON object, by its name or its label.

_EASY_DIFFUSION_KEYS = ("use_stable_diffusion_model", "Stable Diffusion model", "negative_prompt", "Negative Prompt")


def _read_easy_diffusion(fields: Fields) -> Generation | None:
    """Known by the name of its model setting, or by a negative prompt in a chunk of its own with a guidance scale."""
    has_model = any(sign in fields for sign in _EASY_DIFFUSION_KEYS[:2])
    has_settings = any(sign in fields for sign in _EASY_DIFFUSION_KEYS[2:]) and (
        "Guidance Scale" in fields or "num_inference_steps" in fields
    )
    if not has_model and not (has_settings and ("sampler_name" in fields or "Sampler" in fields)):
        return None
    return read_settings("Easy Diffusion", fields)


# Midjourney: the command as it was typed, with its job's number, in "Description".

_JOB = re.compile(r"Job ID: *[0-9a-f-]{8,40}", re.IGNORECASE)
_SWITCH = re.compile(r"\s--([a-z]+)(?:\s+(?!--)([^\n]*?))?(?=\s--|\s*$)")


def _read_midjourney(fields: Fields) -> Generation | None:
    """Known by the job's number behind the prompt."""
    text = fields.get("Description") or fields.get("parameters")
    if not isinstance(text, str) or not _JOB.search(text[-8192:]):
        return None
    command = _JOB.sub(" ", text[:4096]).strip()
    switches = dict(_SWITCH.findall(command))
    return read_settings(
        "Midjourney",
        {"seed": switches.get("seed")},
        prompt=_SWITCH.sub("", command).strip(),
        negative_prompt=switches.get("no"),
        model=f"{'niji' if 'niji' in switches else 'v'} {switches.get('niji') or switches.get('v') or ''}".strip()
        if {"niji", "v"} & switches.keys()
        else None,
        written=command,
    )


# InvokeAI in its forms: Dream (a command line), sd-metadata, invokeai (nodes), invokeai_metadata, invokeai_graph.

_INVOKEAI = "InvokeAI"
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")  # until version 2 the negative prompt stood in brackets inside the prompt
_DREAM = re.compile(r'\s*"((?:\\.|[^"\\])*)"(.*)', re.DOTALL)
_DREAM_SWITCH = re.compile(r"-(\w)\s*(\S+)")
_DREAM_KEYS = {"s": "steps", "S": "seed", "W": "width", "H": "height", "C": "cfg_scale", "A": "sampler"}


def _read_invokeai(fields: Fields) -> Generation | None:
    """The newest form that is there."""
    if settings := load_object(fields.get("invokeai_metadata")):
        return fill_gaps(
            _read_invokeai_metadata(settings), _read_invokeai_graph(load_object(fields.get("invokeai_graph")))
        )
    if settings := load_object(fields.get("sd-metadata")):
        return _read_sd_metadata(settings)
    if settings := load_object(fields.get("invokeai")):
        return _read_invokeai_nodes(settings)
    if graph := load_object(fields.get("invokeai_graph")):
        return _read_invokeai_graph(graph)
    dream = fields.get("Dream") or fields.get("dream")
    return _read_dream(dream) if isinstance(dream, str) else None


def _read_invokeai_metadata(settings: dict[str, Any]) -> Generation:
    style = as_text(settings.get("positive_style_prompt"))
    extra = [("Style prompt", style)] if style and style != settings.get("positive_prompt") else []
    return read_settings(_INVOKEAI, settings, extra=tuple(extra))


def _read_sd_metadata(settings: dict[str, Any]) -> Generation:
    image = settings.get("image")
    image = image if isinstance(image, dict) else {}
    prompt, negative = _split_prompt(as_text(image.get("prompt")) or "")
    model = as_name(settings.get("model_weights")) or as_name(settings.get("model"))
    return read_settings(_INVOKEAI, image, prompt=prompt, negative_prompt=negative, model=model)


def _read_invokeai_nodes(settings: dict[str, Any]) -> Generation:
    node = settings.get("node")
    values = {**settings, **node} if isinstance(node, dict) else settings
    return read_settings(
        _INVOKEAI,
        values,
        prompt=as_text(values.get("positive_conditioning")),
        negative_prompt=as_text(values.get("negative_conditioning")),
    )


def _read_invokeai_graph(graph: dict[str, Any] | None) -> Generation | None:
    """The node that collects the metadata, where its values were typed in and not linked from other nodes."""
    nodes = graph.get("nodes") if graph else None
    for node in list(nodes.values())[:2000] if isinstance(nodes, dict) else []:
        if isinstance(node, dict) and "core_metadata" in str(node.get("type")):
            return _read_invokeai_metadata(node)
    return Generation(_INVOKEAI) if nodes else None


def _read_dream(command: str) -> Generation:
    match = _DREAM.match(command)
    words, switches = (match[1], match[2]) if match else (command, "")
    prompt, negative = _split_prompt(words)
    values = {_DREAM_KEYS[key]: value for key, value in _DREAM_SWITCH.findall(switches[:4096]) if key in _DREAM_KEYS}
    return read_settings(_INVOKEAI, values, prompt=prompt, negative_prompt=negative)


def _split_prompt(words: str) -> tuple[str, str | None]:
    negative = ", ".join(part.strip(" ,") for part in _BRACKETS.findall(words) if part.strip(" ,"))
    return _BRACKETS.sub("", words).strip(" ,"), negative or None


# Services that sign their images with Content Credentials (C2PA) and write no settings: only who made it is known.
#
# A manifest store is nested boxes of CBOR, of which two text values are wanted: they lie uncompressed behind their
# keys, and are read from there, without a CBOR decoder and without verifying the signature. A camera's manifest names
# no generator.
#

_MADE_BY_MODEL = re.compile(
    rb"digitalsourcetype/(?:compositeWithTrainedAlgorithmicMedia|trainedAlgorithmicMedia|compositeSynthetic)"
)
_KEYS = re.compile(rb"claim_generator_info|claim_generator|softwareAgent")
_NAME_KEY = b"dname"  # CBOR for the key "name": text of four bytes
_WINDOW = 256  # bytes between a key and its object's name
_MAX_KEYS = 200

# The first of these that a claim names; a service before the company whose library signs for it.
_SERVICES = (
    ("dall", "DALL-E"),
    ("chatgpt", "ChatGPT"),
    ("gpt-", "ChatGPT"),
    ("openai", "ChatGPT"),
    ("firefly", "Firefly"),
    ("adobe", "Firefly"),
    ("designer", "Microsoft Designer"),
    ("bing", "Microsoft Designer"),
    ("microsoft", "Microsoft Designer"),
    ("google", "Gemini"),
    ("gemini", "Gemini"),
    ("imagen", "Gemini"),
    ("midjourney", "Midjourney"),
    ("stability", "Stability"),
    ("black forest", "Flux"),
)


def _read_content_credentials(found: Extracted) -> Generation | None:
    """The service by its claim, or by what its XMP says of the source; None unless a model made the image."""
    credit = " ".join(found.xmp.get("Credit", [])).lower()
    source = " ".join(found.xmp.get("DigitalSourceType", []))
    if "google ai" in credit:
        return Generation("Gemini")
    if found.c2pa and _MADE_BY_MODEL.search(found.c2pa):
        names = _read_claims(found.c2pa)
    elif "rainedAlgorithmicMedia" in source:
        names = " ".join((*found.xmp.get("CreatorTool", []), credit)).lower()
    else:
        return None
    service = next((name for sign, name in _SERVICES if sign in names), None)
    return Generation(service or "Content Credentials")


def _read_claims(manifest: bytes) -> str:
    """The values of the wanted keys, in lower case."""
    names = []
    for number, key in enumerate(_KEYS.finditer(manifest)):
        if number >= _MAX_KEYS:
            break
        value = _read_cbor(manifest, key.end())
        if value is None:  # an object: its name
            place = manifest.find(_NAME_KEY, key.end(), key.end() + _WINDOW)
            value = _read_cbor(manifest, place + len(_NAME_KEY)) if place >= 0 else None
        if value:
            names.append(value)
    return " ".join(names).lower()


def _read_cbor(manifest: bytes, position: int) -> str | None:
    """A CBOR text of up to 64 KiB at this position, or None."""
    first = manifest[position] if position < len(manifest) else 0
    if not 0x60 <= first <= 0x79:
        return None
    width = {0x78: 1, 0x79: 2}.get(first, 0)
    size = int.from_bytes(manifest[position + 1 : position + 1 + width]) if width else first - 0x60
    start = position + 1 + width
    return manifest[start : start + size].decode("utf-8", "replace")


# Readers, each behind the keys of which it needs at least one. Programs built on ComfyUI keep its graph beside their
# own settings, so they come before it; those that borrow AUTOMATIC1111's text come before that.
_READERS: tuple[tuple[set[str], Callable[[Fields], Generation | None]], ...] = (
    ({"sui_image_params"}, _read_swarmui),
    ({"invokeai_metadata", "invokeai_graph", "sd-metadata", "invokeai", "Dream", "dream"}, _read_invokeai),
    ({"generation_data"}, _read_tensorart),
    ({"smproj", "parameters-json"}, _read_stability_matrix),
    ({"extraMetadata", "prompt", "objects"}, _read_civitai),
    ({"Comment", "Software", *_NOVELAI_KEYS}, _read_novelai),
    ({"CreatorTool", "objects"}, _read_draw_things),
    ({"objects"}, _read_hugging_face),
    ({"parameters", "objects"}, _read_fooocus),
    ({*_EASY_DIFFUSION_KEYS}, _read_easy_diffusion),
    ({"prompt", "workflow", "objects"}, read_comfyui),
    ({"prompt_2", "prompt_3"}, _read_stability),
    ({"parameters"}, read_automatic1111),
    ({"Description", "parameters"}, _read_midjourney),
)


def detect_generator(found: Extracted) -> Generation | None:
    """The result of the first reader that recognises these texts; else the signer of the image; else None."""
    fields = make_fields(found.texts)
    for keys, read in _READERS:
        if not keys.isdisjoint(fields) and (generation := read(fields)):
            return generation
    return _read_content_credentials(found)
