"""Metadata embedded in images and lying beside them: prompts, captions, keywords, dates and cameras.

Two stages that never mix: containers (where the text is) and generators, photographs (what it means).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from image_search.metadata.containers import Extracted, find_texts
from image_search.metadata.containers.stealth import read_stealth
from image_search.metadata.generators import detect_generator
from image_search.metadata.generators.generation import Generation
from image_search.metadata.photo import is_caption, read_photograph
from image_search.metadata.text import MAX_DESCRIPTION_CHARACTERS, MAX_KEPT_CHARACTERS, clean_text, cut_text
from image_search.records import ImageText

# From a file's bytes to ImageText: containers find, generators and photographs understand, the rest stays unparsed.

MAX_KEPT_TOTAL = 1 << 20  # characters of all raw texts together

# PNG chunks that hold prose. Everything else (names with a namespace, notes of encoders, JSON) stays in raw.
_LANGUAGE = re.compile(
    r"(?:title|description|caption|comments?|subject|headline|abstract|text|label|story|note|keywords?|tags?"
    r"|author|artist)(?: \(\d+\))?",
    re.IGNORECASE,
)
# Those whose text is a caption, which reads as such without the name.
_CAPTION = re.compile(r"(?:title|headline|description|caption|comments?)(?: \(\d+\))?", re.IGNORECASE)
# Text of an unknown program is shown if it holds a word in either script, and is not one long code.
_WORDS = re.compile(r"(?:^|\s)[^\W\d_]{2,30}(?:[\s,.;:!?]|$)|[぀-ヿ一-鿿]{2,}")
_TECHNICAL = re.compile(
    r"software|source|creation time|generation time|disclaimer|warning|create-?date|modify-?date|signature|dpi"
    r"|copyright|.*profile.*|.*hash.*|.*version.*|.*uuid.*|.*url.*|workflow",
    re.DOTALL | re.IGNORECASE,
)


def read_image_text(
    data: bytes,
    *,
    sidecars: Mapping[str, bytes] | None = None,
    read_gps: bool = False,
    read_people: bool = False,
    file_name: str = "",
) -> ImageText:
    """The file's layer of an image, out of the bytes of its file, the files beside it (name to content) and its name.

    Never raises because of what the bytes are, and takes bounded time and memory; an empty ImageText when nothing is
    there. Pixels are decoded only for text hidden in their lowest bits, when its magic word may be there. latitude and
    longitude are read only with read_gps, names of people (as keywords) only with read_people.
    """
    found = find_texts(data, sidecars or {}, read_gps)
    generation = detect_generator(found)
    if generation is None and found.keeps_low_bits and (hidden := read_stealth(data)):
        found.add_text("stealth", hidden)
        generation = detect_generator(found)
    written = generation.write() if generation else None
    photograph = read_photograph(found, bool(written), file_name, read_people)
    caption = photograph.pop("description", None) or ""
    captions = [caption, *([] if written else _list_unparsed(found, caption))]
    described = clean_text("\n".join(text for text in captions if text)).strip()
    description = cut_text(described, MAX_DESCRIPTION_CHARACTERS) or None
    return ImageText(description=description, raw=_keep_raw(found), **photograph, **_make_values(generation, written))


_LORA = re.compile(r"<(?:lora|lyco):([^:<>\n]{1,200})[:>]")


def _plain_model_name(name: str) -> str:
    """The name of a model file without its folder and suffix: X and X.safetensors are one model."""
    return re.sub(
        r"\.(?:safetensors|ckpt|pt|pth|bin|gguf)$", "", re.split(r"[/\\]", name.strip())[-1], flags=re.IGNORECASE
    )


def _make_values(generation: Generation | None, written: str | None) -> dict[str, Any]:
    if generation is None:
        return {}
    values = {
        "generation_prompt": written,
        "generator": generation.generator,
        "prompt": generation.prompt,
        "negative_prompt": generation.negative_prompt,
        "generation_model": generation.model,
        "sampler": generation.sampler,
    }
    cleaned = {name: cut_text(clean_text(text)) for name, text in values.items() if text}
    loras = [name for key, name in generation.extra if key == "Lora"]
    loras += _LORA.findall(f"{generation.prompt or ''} {written or ''}"[:MAX_KEPT_CHARACTERS])
    return {
        **cleaned,
        "loras": tuple(dict.fromkeys(_plain_model_name(name) for name in loras if name.strip()))[:50],
        "seed": generation.seed,
        "steps": generation.steps,
        "cfg": generation.cfg,
        "generated_size": generation.size,
    }


def _list_unparsed(found: Extracted, caption: str) -> list[str]:
    """The text chunks of unknown meaning behind their names, and captions in chunks that are not in the one known."""
    chunks = ((name, text.strip()) for name, text in found.texts.items() if ":" not in name)
    kept = [(name, text) for name, text in chunks if _is_language(name, text) and is_caption(text)]
    lines = (text if _CAPTION.fullmatch(name) else f"{name}: {text}" for name, text in kept)
    return [line for line in dict.fromkeys(lines) if line not in caption]


def _is_language(name: str, text: str) -> bool:
    return bool(_LANGUAGE.fullmatch(name)) or (not _TECHNICAL.fullmatch(name) and bool(_WORDS.search(text[:2000])))


def _keep_raw(found: Extracted) -> dict[str, str]:
    kept: dict[str, str] = {}
    left = MAX_KEPT_TOTAL
    for name, text in found.texts.items():
        if left <= 0:
            break
        kept[name] = cut_text(text, min(left, MAX_KEPT_CHARACTERS))
        left -= len(kept[name])
    return kept
