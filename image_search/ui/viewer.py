"""Everything known of an image for the viewer: its facts, the text inside it, and the changes made in the panel."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.parse import urlencode

from image_search.images import make_printable
from image_search.recognition import is_sure
from image_search.records import Edits, ImageRecord, ImageText, RecognizedText, SearchHit
from image_search.registration.films import edit_image
from image_search.search.tagging import Tag
from image_search.stores.base import ImageStore
from image_search.stores.text import get_folder, trim_model_name
from image_search.stores.tokens import is_unspaced, join_recognized, normalise_text
from image_search.ui import render
from image_search.ui.messages import Language, translate
from image_search.ui.results import DRAWABLE_TYPES, get_version, make_tile

_EDITABLE = ("description", "keywords", "rating")


class _Fact(NamedTuple):
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
    edited = [name for name in _EDITABLE if getattr(image.edits, name) is not None]
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
    rating: int | None = None,
    add_keywords: Sequence[str] = (),
    remove_keywords: Sequence[str] = (),
    revert: Collection[str] = (),
) -> ImageRecord:
    """Keep what a person said; None leaves a value, revert names those that go back to the file's first.

    A value that is what the file says is no edit. Returns the image as it is now. Raises ImageNotFound, StoreError.
    """

    def change(image: ImageRecord) -> Edits:
        edits = replace(image.edits, **{name: None for name in _EDITABLE if name in revert})
        if description is not None:
            said = description.strip()
            edits = replace(edits, description=None if said == (image.text.description or "").strip() else said)
        if rating is not None:
            edits = replace(edits, rating=None if rating == (image.text.rating or 0) else rating)
        if add_keywords or remove_keywords:
            edits = merge_keywords(replace(image, edits=edits), add_keywords, remove_keywords)
        return edits

    return edit_image(store, image_id, change)


def merge_keywords(image: ImageRecord, add: Iterable[str], remove: Iterable[str]) -> Edits:
    """The person's layer with keywords added behind those the image has, each once, and with others taken off."""
    unwanted = set(remove)  # as they are: those of a file may begin with a blank
    words = dict.fromkeys((*image.keywords, *(word for keyword in add if (word := keyword.strip()))))
    said = tuple(word for word in words if word not in unwanted)
    return replace(image.edits, keywords=None if said == image.text.keywords else said)


def describe_size(image: ImageRecord) -> str:
    """Pixels, weight and type of an image."""
    size = image.byte_size / 1024
    weight = f"{size:,.0f} KB" if size < 1024 else f"{size / 1024:,.1f} MB"
    # Types of films have odd names, as video/x-msvideo for AVI.
    kind = image.file_name.rpartition(".")[2] if image.frame else image.file_type.removeprefix("image/")
    return f"{image.width:,} × {image.height:,} px · {weight} · {kind.upper()}"


def _search(**parameters: str) -> str:
    return "?" + urlencode(parameters, errors="replace")


def _list_generation(text: ImageText, language: Language) -> list[_Fact]:
    facts = []
    if text.generation_model:
        name = trim_model_name(text.generation_model)
        facts.append(_Fact("generation_model", name, _search(model=name)))
    facts += [_Fact("lora", trim_model_name(lora), _search(lora=trim_model_name(lora))) for lora in text.loras]
    if text.sampler:
        facts.append(_Fact("sampler", text.sampler, _search(q=f'"{text.sampler}"')))
    if text.seed:
        facts.append(_Fact("seed", text.seed, _search(q=text.seed)))
    facts += [_Fact("steps", str(text.steps))] if text.steps is not None else []
    facts += [_Fact("cfg", f"{text.cfg:g}")] if text.cfg is not None else []
    facts += [_Fact("generated_size", text.generated_size)] if text.generated_size else []
    facts += [_Fact("generator", text.generator, _search(generator=text.generator))] if text.generator else []
    return [fact._replace(label=translate(language, fact.label)) for fact in facts]


def _list_photo(text: ImageText, language: Language) -> list[_Fact]:
    facts = []
    if text.taken_at:
        formats = {"second": "%Y-%m-%d %H:%M", "day": "%Y-%m-%d", "month": "%Y-%m", "year": "%Y"}
        day = text.taken_at.strftime(
            "%Y-%m-%d" if text.taken_precision in ("second", "day") else formats[text.taken_precision]
        )
        href = "?" + urlencode({"date": "taken", "from": day, "to": day})
        facts.append(_Fact("taken_at", text.taken_at.strftime(formats[text.taken_precision]), href))
    facts += [_Fact("camera", text.camera, _search(camera=text.camera))] if text.camera else []
    facts += [_Fact("lens", text.lens, _search(lens=text.lens))] if text.lens else []
    exposure = [
        translate(language, "seconds", value=text.exposure) if text.exposure else "",
        f"f/{text.aperture:g}" if text.aperture else "",
        f"ISO {text.iso}" if text.iso else "",
        f"{text.focal_length:g} mm" if text.focal_length else "",
    ]
    facts += [_Fact("exposure", " · ".join(filter(None, exposure)))] if any(exposure) else []
    return [fact._replace(label=translate(language, fact.label)) for fact in facts]


def _list_file(image: ImageRecord, language: Language) -> list[_Fact]:
    facts = [_Fact(translate(language, "size"), describe_size(image))]
    if image.frame:
        length = replace(image.frame, frame_ms=image.frame.duration_ms).position
        facts.append(_Fact(translate(language, "moment"), f"{image.frame.position} / {length}"))
    if image.is_incomplete:
        facts.append(_Fact("", translate(language, "incomplete")))
    return facts


# Text inside an image: where each line stands, and which of its words were asked for.

# A character with the marks that follow it: normalisation makes one of ﾃ and ﾞ.
_UNITS = re.compile("\\s+|\\S[\u0300-\u036f\u3099-\u309c\uff9e\uff9f]*")


class _Letter(NamedTuple):
    """One normalised letter, and the part of a line it was made of; line -1: the blank between two lines."""

    letter: str
    line: int
    start: int = 0
    end: int = 0


def describe_lines(recognized: RecognizedText | None, terms: Sequence[str]) -> list[dict[str, Any]]:
    """The lines that are shown: {box, pieces}. box: left, top, right, bottom, 0 to 1; pieces: [text, is asked for]."""
    lines = [line for line in recognized.lines if is_sure(line)] if recognized else []
    texts = [line.text for line in lines]
    marked = _find_marks(texts, terms)
    return [
        {"box": line.box, "pieces": _cut(line.text, [index in places for index in range(len(line.text))])}
        for line, places in zip(lines, marked, strict=True)
    ]


def _find_marks(lines: Sequence[str], terms: Sequence[str]) -> list[set[int]]:
    """The characters of each line that belong to a term; a term may go on over the end of a line."""
    letters = list(_join(_list_letters(lines)))
    text = "".join(letter.letter for letter in letters)
    marked: list[set[int]] = [set() for _ in lines]
    for term in terms:
        wanted = join_recognized(normalise_text(term))
        for match in re.finditer(re.escape(wanted), text) if wanted else ():
            if match.start() and _is_one_run(text[match.start() - 1], wanted[0]):
                continue  # letters and digits are found from the beginning of a run only
            for letter in letters[match.start() : match.end()]:
                if letter.line >= 0:
                    marked[letter.line].update(range(letter.start, letter.end))
    return marked


def _list_letters(lines: Sequence[str]) -> Iterator[_Letter]:
    for number, line in enumerate(lines):
        if number:
            yield _Letter(" ", -1)
        for unit in _UNITS.finditer(line):
            letters = " " if unit.group().isspace() else normalise_text(unit.group())
            yield from (_Letter(letter, number, unit.start(), unit.end()) for letter in letters)


def _join(letters: Iterator[_Letter]) -> Iterator[_Letter]:
    """Leave out the blanks that join_recognized takes out."""
    before: _Letter | None = None
    blank: _Letter | None = None
    for letter in letters:
        if letter.letter == " ":
            blank = blank or letter
            continue
        if blank and before and not (is_unspaced(before.letter) and is_unspaced(letter.letter)):
            yield blank
        blank, before = None, letter
        yield letter


def _is_one_run(before: str, first: str) -> bool:
    """Whether two neighbours belong to one run of letters or of digits."""
    if is_unspaced(before) or is_unspaced(first):
        return False
    return (before.isalpha() and first.isalpha()) or (before.isdigit() and first.isdigit())


def _cut(text: str, is_marked: Sequence[bool]) -> list[tuple[str, bool]]:
    pieces: list[tuple[str, bool]] = []
    for letter, mark in zip(text, is_marked, strict=True):
        if pieces and pieces[-1][1] == mark:
            pieces[-1] = pieces[-1][0] + letter, mark
        else:
            pieces.append((letter, mark))
    return pieces
