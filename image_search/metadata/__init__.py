"""Metadata embedded in images and lying beside them: prompts, captions, keywords, dates and cameras.

Two stages that never mix: containers (where the text is) and generators, photographs (what it means).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from image_search.metadata import imagefolder
from image_search.metadata.containers import Extracted, find_texts
from image_search.metadata.containers.stealth import read_stealth
from image_search.metadata.generators import detect_generator
from image_search.metadata.generators.generation import Generation
from image_search.metadata.photo import is_caption, read_photograph
from image_search.metadata.sidecars import is_marked
from image_search.metadata.text import MAX_DESCRIPTION_CHARACTERS, MAX_KEPT_CHARACTERS, clean_text, cut_text
from image_search.records import ImageText

# From a file's bytes to ImageText: containers find, generators and photographs understand, the rest stays unparsed.

MAX_KEPT_TOTAL = 1 << 20  # characters of all raw texts together

# PNG chunks that are language. Everything else (names with a namespace, notes of encoders, JSON) stays in raw.
_LANGUAGE = re.compile(
    r"(?:title|description|caption|comments?|subject|headline|abstract|text|label|story|note|keywords?|tags?"
    r"|author|artist)(?: \(\d+\))?",
    re.IGNORECASE,
)
# Of unknown programs: any words, in either script, and not one long code.
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
    if generation is None and (hidden := read_stealth(data)):
        found.add_text("stealth", hidden)
        generation = detect_generator(found)
    written = generation.write() if generation else None
    photograph = read_photograph(found, bool(written), file_name, read_people)
    captions = [photograph.pop("description", None), None if written else _list_unparsed(found)]
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


def _list_unparsed(found: Extracted) -> str | None:
    """The text chunks of unknown meaning, a line for each."""
    chunks = ((name, text.strip()) for name, text in found.texts.items() if ":" not in name)
    kept = (f"{name}: {text}" for name, text in chunks if _is_language(name, text) and is_caption(text))
    return "\n".join(kept) or None


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


# Files beside a picture that speak about it: cat.txt or cat.png.txt, cat.json, cat.xmp.

_SUFFIXES = (".txt", ".caption", ".json", ".xmp")


def find_sidecars(path: Path) -> dict[str, bytes]:
    """Name to content of the files beside an image, each up to a bound; {} when there are none or they cannot be read.

    A file of the full name (cat.png.txt) comes before one that images of several formats would share (cat.txt).
    Suffixes in capitals count, and the names of Google Takeout (cat.jpg.supplemental-metadata.json, cut or not). Last
    comes what a metadata.jsonl says of the image.
    """
    found: dict[str, bytes] = {}
    for suffix in _SUFFIXES:
        for candidate, is_certain in _list_candidates(path, suffix):
            try:
                if not candidate.is_file():  # a named pipe would wait for its writer
                    continue
                with candidate.open("rb") as file:
                    content = file.read(4 * MAX_KEPT_CHARACTERS)
            except (OSError, ValueError):
                continue
            if not is_certain and b"photoTakenTime" not in content:
                continue
            found[candidate.name] = content
            if not is_marked(found[candidate.name]):
                break  # our sidecar does not replace another program's
    if caption := imagefolder.find_caption(path):
        found[imagefolder.NAME] = caption
    return found


# A copy that Google Photos made has only the file of the original: IMG_1-edited.jpg, in any language and cut.
_EDITED = re.compile(r"(.+)-([^\d().-]{1,30})(\(\d+\))?(\.\w+)")
_NUMBERED = re.compile(r"(.+)(\(\d+\))(\.\w+)")
_FILM_OF_PHOTO = {".mp4", ".mov", ".mp"}
_PHOTOS = (".HEIC", ".heic", ".JPG", ".jpg", ".JPEG", ".jpeg")


def _list_candidates(path: Path, suffix: str) -> Iterator[tuple[Path, bool]]:
    """Paths beside an image, and whether the name alone says that they are its."""
    for written in (suffix, suffix.upper(), f".{suffix[1:].title()}"):
        yield path.with_name(path.name + written), True
        yield path.with_suffix(written), True
    if suffix == ".json":
        # Takeout cuts the name before .json at 46 characters; "(1)" of a second file of one name moves to the end.
        names = [(path.name, "", True)]
        if number := _NUMBERED.fullmatch(path.name):
            names.append((number[1] + number[3], number[2], True))
        if edited := _EDITED.fullmatch(path.name):
            original = edited[1] + edited[4]
            names.append((original, edited[3] or "", False))
            if not edited[3] and (number := _NUMBERED.fullmatch(original)):
                names.append((number[1] + number[3], number[2], False))
        if path.suffix.lower() in _FILM_OF_PHOTO:  # of a live photograph
            names += [(path.stem + kind, "", False) for kind in _PHOTOS]
        for name, count, is_certain in names:
            whole = f"{name}.supplemental-metadata"
            for end in range(min(len(whole), 46), min(len(name), 46) - 1, -1):
                yield path.with_name(f"{whole[:end]}{count}.json"), is_certain
