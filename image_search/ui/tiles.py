"""An image as the grid shows it, and everything known of it for the viewer's panel, with the changes made there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any, NamedTuple
from urllib.parse import urlencode

from image_search.images import make_printable
from image_search.records import ImageRecord, ImageText, SearchHit
from image_search.registration.films import set_edits
from image_search.search.searcher import FoundHit
from image_search.search.tagging import Tag
from image_search.stores.base import ImageStore
from image_search.stores.text import get_folder, trim_model_name
from image_search.ui.messages import Language, translate
from image_search.ui.rendering import render

# Types every browser of the last years can draw; any other is offered as a download.
DRAWABLE_TYPES = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/avif", "image/bmp")
_MAX_ALT = 250  # characters


def get_version(image: ImageRecord) -> str:
    """A short name of the image's content, which makes the address of its preview immutable."""
    return f"{image.content_sha256[:16]}-{image.recipe}"


def make_tile(hit: SearchHit, moments: int = 0) -> dict[str, Any]:
    """A hit as the page's script takes it, ready for JSON. Values that are None are unknown.

    relevance: 0 to 1, 0.5 is the line. text: whether text was recognised in it. month: of the time it was taken,
    "2024-05". moments: other frames of the same film that the tile stands for.
    """
    image = hit.image
    taken_at = image.text.taken_at
    return {
        "id": image.image_id,
        "name": image.file_name,
        "version": get_version(image),
        "width": image.width,
        "height": image.height,
        "color": image.dominant_color,
        "alt": _describe(image),
        "rating": image.rating,
        "month": f"{taken_at:%Y-%m}" if taken_at else None,
        "frame_ms": image.frame.frame_ms if image.frame else None,
        "moments": moments,
        "original": image.frame is None and image.file_type in DRAWABLE_TYPES,
        "size": image.byte_size,
        "distance": None if hit.distance is None else round(hit.distance, 6),
        "relevance": None if not isinstance(hit, FoundHit) or hit.relevance is None else round(hit.relevance, 3),
        "found_by": hit.found_by if isinstance(hit, FoundHit) else None,
        "found_in_text": isinstance(hit, FoundHit) and hit.found_in_text,
        "text": bool(image.recognized_text),
    }


def find_cutoff(hits: Sequence[FoundHit]) -> int:
    """How many hits from the first on are relevant on the whole; all of them where it cannot be told.

    Where the sum of the evidence for and against relevance is largest: one stray hit further down moves nothing.
    """
    if any(hit.relevance is None for hit in hits):
        return len(hits)
    sums = list(accumulate((hit.relevance or 0) - 0.5 for hit in hits))
    best = max(range(len(sums)), key=lambda place: (sums[place], place), default=-1)
    return best + 1 if sums and sums[best] >= 0 else 0


def _describe(image: ImageRecord) -> str:
    text = image.description or image.text.prompt or image.text.generation_prompt or image.file_name
    return " ".join(text.split())[:_MAX_ALT]


EDITABLE = ("description", "keywords", "rating")


class Fact(NamedTuple):
    """One line of the panel. href: of the search for it, "" for none."""

    label: str
    value: str
    href: str = ""


def describe_image(image: ImageRecord, tags: Sequence[Tag], language: Language) -> dict[str, Any]:
    """{html, tile, edits} for the viewer."""
    text = image.text
    folder = get_folder(image.file_path) if image.file_path else ""
    html = render(
        "facts.html",
        language,
        image=image,
        version=get_version(image),
        drawable=image.file_type in DRAWABLE_TYPES,
        prompt=text.prompt or text.generation_prompt or "",
        generation=_list_generation(text, language),
        photo=_list_photo(text, language),
        file=_list_file(image, language),
        folder=make_printable(folder),
        folder_href=_search(folder=folder),
        tags=[
            (word := tag.japanese if language == "ja" else tag.english, tag.probability, _search(q=word))
            for tag in tags
        ],
    )
    return {"html": html, "tile": make_tile(SearchHit(image)), "edits": describe_edits(image)}


def describe_edits(image: ImageRecord) -> dict[str, Any]:
    """The effective values a person can change, and which of them the person has said."""
    edited = [name for name in EDITABLE if getattr(image.edits, name) is not None]
    return {
        "description": image.description or "",
        "keywords": list(image.keywords),
        "rating": image.rating or 0,
        "edited": edited,
    }


def save_edits(
    store: ImageStore,
    image_id: int,
    description: str | None = None,
    keywords: Sequence[str] | None = None,
    rating: int | None = None,
    revert: Collection[str] = (),
) -> ImageRecord:
    """Keep what a person said; None leaves a value, revert names those that go back to the file's.

    A value that is what the file says is no edit. Returns the image as it is now. Raises ImageNotFound, StoreError.
    """
    image = store.get_image(image_id)
    edits = replace(image.edits, **{name: None for name in EDITABLE if name in revert})
    if description is not None:
        said = description.strip()
        edits = replace(edits, description=None if said == (image.text.description or "").strip() else said)
    if keywords is not None:
        words = tuple(dict.fromkeys(word for keyword in keywords if (word := keyword.strip())))
        edits = replace(edits, keywords=None if words == image.text.keywords else words)
    if rating is not None:
        edits = replace(edits, rating=None if rating == (image.text.rating or 0) else rating)
    if edits != image.edits:
        set_edits(store, image, edits)
    return store.get_image(image_id)


def describe_size(image: ImageRecord) -> str:
    """Pixels, weight and type of an image."""
    size = image.byte_size / 1024
    weight = f"{size:,.0f} KB" if size < 1024 else f"{size / 1024:,.1f} MB"
    return f"{image.width:,} × {image.height:,} px · {weight} · {image.file_type.removeprefix('image/').upper()}"


def _search(**parameters: str) -> str:
    return "?" + urlencode(parameters, errors="replace")


def _list_generation(text: ImageText, language: Language) -> list[Fact]:
    facts = []
    if text.generation_model:
        name = trim_model_name(text.generation_model)
        facts.append(Fact("generation_model", name, _search(model=name)))
    facts += [Fact("lora", trim_model_name(lora), _search(lora=trim_model_name(lora))) for lora in text.loras]
    if text.sampler:
        facts.append(Fact("sampler", text.sampler, _search(q=f'"{text.sampler}"')))
    if text.seed:
        facts.append(Fact("seed", text.seed, _search(q=text.seed)))
    facts += [Fact("steps", str(text.steps))] if text.steps is not None else []
    facts += [Fact("cfg", f"{text.cfg:g}")] if text.cfg is not None else []
    facts += [Fact("generated_size", text.generated_size)] if text.generated_size else []
    facts += [Fact("generator", text.generator, _search(generator=text.generator))] if text.generator else []
    return [fact._replace(label=translate(language, fact.label)) for fact in facts]


def _list_photo(text: ImageText, language: Language) -> list[Fact]:
    facts = []
    if text.taken_at:
        formats = {"second": "%Y-%m-%d %H:%M", "day": "%Y-%m-%d", "month": "%Y-%m", "year": "%Y"}
        day = text.taken_at.strftime(
            "%Y-%m-%d" if text.taken_precision in ("second", "day") else formats[text.taken_precision]
        )
        href = "?" + urlencode({"date": "taken", "from": day, "to": day})
        facts.append(Fact("taken_at", text.taken_at.strftime(formats[text.taken_precision]), href))
    facts += [Fact("camera", text.camera, _search(camera=text.camera))] if text.camera else []
    facts += [Fact("lens", text.lens, _search(lens=text.lens))] if text.lens else []
    exposure = [
        translate(language, "seconds", value=text.exposure) if text.exposure else "",
        f"f/{text.aperture:g}" if text.aperture else "",
        f"ISO {text.iso}" if text.iso else "",
        f"{text.focal_length:g} mm" if text.focal_length else "",
    ]
    facts += [Fact("exposure", " · ".join(filter(None, exposure)))] if any(exposure) else []
    return [fact._replace(label=translate(language, fact.label)) for fact in facts]


def _list_file(image: ImageRecord, language: Language) -> list[Fact]:
    facts = [Fact(translate(language, "size"), describe_size(image))]
    if image.frame:
        length = replace(image.frame, frame_ms=image.frame.duration_ms).position
        facts.append(Fact(translate(language, "moment"), f"{image.frame.position} / {length}"))
    if image.is_incomplete:
        facts.append(Fact("", translate(language, "incomplete")))
    return facts
