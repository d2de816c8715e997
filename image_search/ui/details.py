"""One picture in the dialog: large, with everything known of it, what can be changed and what can be done."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from html import escape
from pathlib import PurePath

from image_search.records import ImageRecord, ImageText
from image_search.search_tags import Tag
from image_search.ui.render import DRAWABLE_TYPES, Tile, get_version, render_bar
from image_search.ui.words import Language, say

_LARGEST_DRAWN = 8_000_000  # bytes; a larger original waits for its link, the preview is shown
_LONGEST_KEYWORD, _MOST_KEYWORDS = 100, 100


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
        f"<dl>{facts}</dl>{_render_form(image.text, language, said)}"
        f"<dl>{''.join(_render_file(image, language))}</dl>{_render_delete(language)}</div>"
        f'<button type="button" class="close" aria-label="{_say(language, "close")}">×</button>'
    )


def parse_keywords(text: str) -> tuple[str, ...]:
    """Keywords as typed, separated by commas (of either language) or line ends; each once, in their order."""
    words = (" ".join(word.split())[:_LONGEST_KEYWORD] for word in re.split(r"[,、，;；\n]", text))
    return tuple(dict.fromkeys(word for word in words if word))[:_MOST_KEYWORDS]


def _render_stage(image: ImageRecord, original: str, language: Language) -> str:
    drawn = image.file_type in DRAWABLE_TYPES and image.byte_size <= _LARGEST_DRAWN
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
        yield _render_fact("found_by", say(language, f"found_by_{tile.found_by}"), language)


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


def _render_form(text: ImageText, language: Language, said: str) -> str:
    keywords = escape("、".join(text.keywords) if language == "ja" else ", ".join(text.keywords))
    done = f'<span class="said" role="status">{escape(said)}</span>' if said else ""
    return (
        f'<form class="texts"><label>{_say(language, "caption")}'
        f'<textarea name="description" rows="3">{escape(text.description or "")}</textarea></label>'
        f'<label>{_say(language, "keywords")}<input name="keywords" autocomplete="off" value="{keywords}" '
        f'placeholder="{_say(language, "keywords_placeholder")}"></label>'
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
        yield _render_fact("folder", str(PurePath(image.file_path).parent), language)


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


def _describe_time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M")


def _say(language: Language, key: str) -> str:
    return escape(say(language, key))
