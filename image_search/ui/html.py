"""One picture in the dialog: large, with everything known of it, what can be changed and what can be done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from itertools import accumulate
from pathlib import PurePath

from image_search.images import make_printable
from image_search.records import ImageRecord, ImageText
from image_search.search.duplicates import DuplicateGroup
from image_search.search.searcher import FoundBy, FoundHit
from image_search.search.tagging import Tag
from image_search.ui.messages import Language, translate

# Records to HTML. Everything that came from a file or a person is escaped here.

DEMO_MODEL = "demo/model"
# What every browser of the last years can draw; anything else is offered as a download.
DRAWABLE_TYPES = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/avif", "image/bmp")


@dataclass(frozen=True)
class Tile:
    """What a session remembers of a hit it shows: enough to draw it again, no texts and no bytes."""

    image_id: int
    file_name: str
    version: str  # of the picture's content: makes its preview's address immutable
    distance: float | None = None
    found_by: FoundBy | None = None
    relevance: float | None = None  # 0 to 1, as in FoundHit

    @classmethod
    def of(cls, hit: FoundHit) -> Tile:
        image = hit.image
        return cls(image.image_id, image.file_name, get_version(image), hit.distance, hit.found_by, hit.relevance)

    @classmethod
    def of_image(cls, image: ImageRecord) -> Tile:
        return cls(image.image_id, image.file_name, get_version(image))


def get_version(image: ImageRecord) -> str:
    """A short name of the picture's content."""
    return image.content_sha256[:16]


def render_heading(language: Language, model_name: str) -> str:
    """Title and tagline, and with the demo model what it cannot do."""
    lines = ["tagline", "demo_model"] if model_name == DEMO_MODEL else ["tagline"]
    paragraphs = "".join(f"<p>{escape(translate(language, line))}</p>" for line in lines)
    lost = escape(translate(language, "connection_lost"))
    return f'<h1 data-lost="{lost}">{escape(translate(language, "title"))}</h1>{paragraphs}'


def render_tiles(tiles: Sequence[Tile], language: Language) -> str:
    """The grid, best at the top left."""
    # How an image was found is worth a word only where there is more than one way.
    named = any(tile.found_by in ("words", "both") for tile in tiles)
    label = escape(translate(language, "gallery"))
    items = [f"<li>{render_tile(tile, named, language)}</li>" for tile in tiles]
    place = find_cutoff(tiles)
    if 0 < place < len(tiles):
        items.insert(place, f'<li class="line">{escape(translate(language, "line"))}</li>')
    return f'<ul class="tiles" aria-label="{label}">{"".join(items)}</ul>'


def find_cutoff(tiles: Sequence[Tile]) -> int:
    """How many tiles from the first on are relevant on the whole; all of them where it cannot be told.

    Where the sum of what speaks for and against relevance is largest: one stray hit further down moves nothing.
    """
    if any(tile.relevance is None for tile in tiles):
        return len(tiles)
    sums = list(accumulate((tile.relevance or 0) - 0.5 for tile in tiles))
    best = max(range(len(sums)), key=lambda place: (sums[place], place), default=-1)
    return best + 1 if sums and sums[best] >= 0 else 0


def render_tile(tile: Tile, named: bool, language: Language) -> str:
    """The inside of one place of the grid. named: whether to say how the picture was found."""
    name = escape(tile.file_name)
    label, facts = name, ""
    if tile.distance is not None:
        label += f"、{translate(language, 'distance_short')} {tile.distance:.4f}"
        facts += f'<span class="distance">{tile.distance:.4f}</span>'
    if tile.relevance is not None:
        label += f"、{translate(language, 'relevance')} {tile.relevance:.0%}"
    if named and tile.found_by:
        found_by = escape(translate(language, f"found_by_{tile.found_by}"))
        label += f"、{found_by}"
        facts += f'<span class="badge {tile.found_by}">{found_by}</span>'
    facts += "" if tile.relevance is None else render_bar(tile.relevance)
    similar = escape(translate(language, "show_similar"))
    preview = f"images/{tile.image_id}/preview?v={tile.version}"
    return (
        f'<button type="button" class="tile" data-image="{tile.image_id}" aria-label="{label}">'
        f'<img src="{preview}&amp;small=1" srcset="{preview} 2x" alt="" loading="lazy" decoding="async">'
        f'<span class="label"><span class="name">{name}</span>{facts}</span></button>'
        f'<button type="button" class="similar" tabindex="-1" title="{similar}" aria-label="{similar}">≈</button>'
    )


def render_bar(relevance: float) -> str:
    """A bar as long as the relevance; pale below the line."""
    kind = "bar" if relevance >= 0.5 else "bar low"
    return f'<span class="{kind}"><i style="width:{relevance:.0%}"></i></span>'


def render_message(title: str, hint: str = "", kind: str = "empty") -> str:
    """A sentence where pictures would be. kind: empty, notice or problem."""
    role = "alert" if kind == "problem" else "status"
    more = f"<p>{escape(hint)}</p>" if hint else ""
    return f'<div class="message {kind}" role="{role}"><strong>{escape(title)}</strong>{more}</div>'


def render_progress(title: str, done: int, count: int, hint: str = "") -> str:
    """A sentence with a bar that says how far it is."""
    more = f"<p>{escape(hint)}</p>" if hint else ""
    return (
        f'<div class="message notice" role="status"><strong>{escape(title)}</strong>'
        f'<progress value="{done}" max="{max(count, 1)}"></progress>{more}</div>'
    )


def render_summary(title: str, detail: str, filtered: str, address: str) -> str:
    """The line above the grid. address: of this search, for the browser's address bar and its history."""
    badge = f'<span class="badge">{escape(filtered)}</span>' if filtered else ""
    return (
        f'<h2 data-address="{escape(address)}">{escape(title)}</h2>{badge}'
        f'<span class="timing" role="status">{escape(detail)}</span>'
    )


_MAX_DRAWN = 8_000_000  # bytes; a larger original waits for its link, the preview is shown


def render_details(
    image: ImageRecord, tile: Tile | None, tags: Sequence[Tag], language: Language, said: str = ""
) -> str:
    """The inside of the dialog. tile: how the picture was found; said: what was just done, "" for nothing."""
    original = f"images/{image.image_id}/original?v={get_version(image)}"
    name = _render_fact("file_name", image.file_name, language)
    facts = "".join(
        (*_render_search(tile, language), *_render_tags(tags, language), *_render_generation(image.text, language))
    )
    return (
        f"{_render_stage(image, original, language)}"
        f'<div class="facts" data-image="{image.image_id}"><dl>{name}</dl>'
        f'<p class="actions"><button type="button" class="similar">{_say(language, "show_similar")}</button>'
        f'<a href="{original}" target="_blank" rel="noopener">{_say(language, "original")}</a></p>'
        f"<dl>{facts}</dl>{_render_form(image, language, said)}"
        f"<dl>{''.join(_render_file(image, language))}</dl>{_render_delete(language)}</div>"
        f'<button type="button" class="close" aria-label="{_say(language, "close")}">×</button>'
    )


def parse_keywords(text: str) -> tuple[str, ...]:
    """Keywords as typed, one a line, whatever other characters they have; each once, in their order."""
    words = (line.strip() for line in text.split("\n"))
    return tuple(dict.fromkeys(word for word in words if word))


def _render_stage(image: ImageRecord, original: str, language: Language) -> str:
    drawn = image.file_type in DRAWABLE_TYPES and image.byte_size <= _MAX_DRAWN
    upgrade = f'data-original="{original}" ' if drawn else ""
    return (
        f'<div class="stage"><img src="images/{image.image_id}/preview?v={get_version(image)}" {upgrade}'
        f'alt="{escape(image.file_name)}" width="{image.width}" height="{image.height}">'
        f'<button type="button" class="step previous" aria-label="{_say(language, "previous")}">‹</button>'
        f'<button type="button" class="step next" aria-label="{_say(language, "next")}">›</button></div>'
    )


def _render_search(tile: Tile | None, language: Language) -> Iterator[str]:
    distance = tile.distance if tile else None
    yield _render_fact("distance", "—" if distance is None else f"{distance:.6f}", language)
    if tile and tile.relevance is not None:
        name = _say(language, "relevance")
        value = f'{render_bar(tile.relevance)}<span class="percent">{tile.relevance:.0%}</span>'
        yield f'<div class="relevance"><dt>{name}</dt><dd>{value}</dd></div>'
    if tile and tile.found_by:
        yield _render_fact("found_by", translate(language, f"found_by_{tile.found_by}"), language)


def _render_tags(tags: Sequence[Tag], language: Language) -> Iterator[str]:
    if tags:
        chips = []
        for tag in tags:
            word = escape(tag.japanese if language == "ja" else tag.english)
            chips.append(f'<button type="button" class="tag" data-words="{word}">{word} {tag.probability:.0%}</button>')
        yield f'<div class="tags"><dt>{_say(language, "tags")}</dt><dd>{"".join(chips)}</dd></div>'


def _render_generation(text: ImageText, language: Language) -> Iterator[str]:
    shown = text.prompt or text.generation_prompt or ""
    yield _render_fact("prompt", shown, language, kind="long", copied=bool(shown))
    if text.negative_prompt:
        yield _render_fact("negative_prompt", text.negative_prompt, language, kind="long")
    settings = [
        text.generator,
        text.generation_model,
        text.sampler,
        f"{text.steps} steps" if text.steps is not None else None,
        f"CFG {text.cfg:g}" if text.cfg is not None else None,
        f"seed {text.seed}" if text.seed else None,
        text.generated_size,
    ]
    if any(settings):
        yield _render_fact("generation", " · ".join(filter(None, settings)), language)
    if text.prompt and text.generation_prompt:
        whole = escape(text.generation_prompt)
        yield f"<details><summary>{_say(language, 'whole_prompt')}</summary><pre>{whole}</pre></details>"


def _render_form(image: ImageRecord, language: Language, said: str) -> str:
    keywords = escape("\n".join(image.keywords))
    rows = min(len(image.keywords) + 1, 6)
    done = f'<span class="said" role="status">{escape(said)}</span>' if said else ""
    return (
        f'<form class="texts"><label>{_say(language, "caption")}'
        f'<textarea name="description" rows="3">{escape(image.description or "")}</textarea></label>'
        f'<label>{_say(language, "keywords")}<textarea name="keywords" rows="{rows}" autocomplete="off" '
        f'placeholder="{_say(language, "keywords_placeholder")}">\n{keywords}</textarea></label>'
        f'<button type="submit">{_say(language, "save")}</button>{done}</form>'
    )


def _render_file(image: ImageRecord, language: Language) -> Iterator[str]:
    text = image.text
    yield _render_fact("size", describe_size(image), language)
    if text.taken_at:
        yield _render_fact("taken_at", _describe_time(text.taken_at), language)
    if text.camera or text.lens:
        yield _render_fact("camera", " · ".join(filter(None, (text.camera, text.lens))), language)
    yield _render_fact("registered_at", f"{_describe_time(image.upload_date)} UTC", language)
    if image.file_path:
        yield _render_fact("folder", _describe_folder(image.file_path), language)


def _render_delete(language: Language) -> str:
    return (
        f'<details class="delete"><summary>{_say(language, "delete")}</summary>'
        f"<p>{_say(language, 'delete_question')}</p>"
        f'<button type="button" class="delete-now">{_say(language, "delete_now")}</button></details>'
    )


def _render_fact(key: str, value: str, language: Language, kind: str = "", copied: bool = False) -> str:
    shown = escape(value) if value.strip() else f'<span class="none">{_say(language, "none")}</span>'
    copy = f'<button type="button" class="copy">{_say(language, "copy")}</button>' if copied else ""
    return f'<div class="{key} {kind}"><dt>{_say(language, key)}{copy}</dt><dd>{shown}</dd></div>'


def describe_size(image: ImageRecord) -> str:
    """Pixels, weight and kind of an image."""
    size = image.byte_size / 1024
    weight = f"{size:,.0f} KB" if size < 1024 else f"{size / 1024:,.1f} MB"
    return f"{image.width:,} × {image.height:,} px · {weight} · {image.file_type.removeprefix('image/').upper()}"


def _describe_folder(file_path: str) -> str:
    return make_printable(str(PurePath(file_path).parent))


def _describe_time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M")


def _say(language: Language, key: str) -> str:
    return escape(translate(language, key))


# Groups of pictures that are the same picture, to choose from: the best stays, nothing goes without a click.


def render_duplicates(groups: Sequence[DuplicateGroup], language: Language) -> str:
    """One row a group, every picture but the first marked; a button moves what is marked to the trash."""
    if not groups:
        return render_message(translate(language, "no_duplicates"))
    rows = "".join(_render_group(group, language) for group in groups)
    title, question, delete = (
        escape(translate(language, key)) for key in ("delete_marked", "delete_question", "delete_now")
    )
    return (
        f'<form class="duplicates">{rows}<details class="delete"><summary>{title}</summary><p>{question}</p>'
        f'<button type="submit">{delete}</button></details></form>'
    )


def _render_group(group: DuplicateGroup, language: Language) -> str:
    items = []
    for place, (image, date) in enumerate(zip(group.images, group.dates, strict=True)):
        facts = [describe_size(image), f"{date:%Y-%m-%d}"]
        facts += [_describe_folder(image.file_path)] if image.file_path else []
        facts += [] if place else [translate(language, f"kept_{group.kept_because}")]
        shown = "<br>".join(map(escape, facts))
        mark = (
            f'<label><input type="checkbox" name="image" value="{image.image_id}"{" checked" if place else ""}>'
            f"{escape(translate(language, 'mark_for_deletion'))}</label><small>{shown}</small>"
        )
        items.append(f"<li>{render_tile(Tile.of_image(image), False, language)}{mark}</li>")
    image_ids = ",".join(str(image.image_id) for image in group.images)
    keep = f'<button type="button" class="keep" data-images="{image_ids}">{_say(language, "keep_all")}</button>'
    return f'<ul class="tiles">{"".join(items)}</ul><p>{keep}</p>'
