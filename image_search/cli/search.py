"""Search from the command line: the options of a query, the query they make, its answer, and the folder of --out."""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, get_args

from image_search.cli import Exit, write_json, write_line
from image_search.errors import (
    ImageSearchError,
    ModelUnavailable,
    SettingsError,
    StoreError,
    StoreUnavailable,
    TextNotSupported,
)
from image_search.images import make_printable
from image_search.records import Kind, Orientation, SearchFilter
from image_search.search.exporting import MAX_SHEET_IMAGES, draw_contact_sheet, make_safe_name
from image_search.search.query import IMAGE_WEIGHT, normalise_folder, parse_date
from image_search.settings import Settings
from image_search.stores.text import sanitize

if TYPE_CHECKING:
    from PIL import Image

    from image_search.search import Searcher, SearchResult
    from image_search.search.query import Query
    from image_search.search.ranking import FoundHit
    from image_search.stores.base import ImageStore


_SHORT_TYPES = {"jpg": "jpeg", "tif": "tiff", "svg": "svg+xml"}


def add_query_options(parser: argparse.ArgumentParser) -> None:
    """Options of a query: what to look for, conditions, and the page."""
    parser.add_argument(
        "words",
        nargs="*",
        help='what the images should show; -dog moves away from it, "red hat" must occur; '
        "- reads queries from stdin, one a line",
    )
    parser.add_argument("--image", type=Path, metavar="FILE", help="find images like this one")
    parser.add_argument("--like", type=int, metavar="ID", help="find images like the registered one with this image_id")
    parser.add_argument("--exclude", default="", metavar="WORDS", help="what the images should not show")
    parser.add_argument("--exclude-image", type=Path, metavar="FILE", help="an image they should not be like")
    parser.add_argument(
        "--weight",
        type=_parse_share,
        default=IMAGE_WEIGHT,
        metavar="0..1",
        help=f"weight of the image against the words when both are given (default {IMAGE_WEIGHT})",
    )
    parser.add_argument("--limit", type=_parse_limit, default=16, metavar="N", help="number of results (default 16)")
    parser.add_argument("--offset", type=_parse_offset, default=0, metavar="N", help="number of results to skip")
    parser.add_argument(
        "--min-relevance",
        type=_parse_share,
        metavar="0..1",
        help="drop less relevant results; 0.5 is the line between relevant and irrelevant ones",
    )
    _add_filters(
        parser.add_argument_group("only images", "A DATE is 2024, 2024-05, 2024-05-01, 20240501 or 2024年5月1日.")
    )


def make_query(options: argparse.Namespace, settings: Settings) -> Query:
    """The query that the options ask for, its images opened. Raises UnreadableImage."""
    from image_search.images import open_image
    from image_search.search.query import Query

    def open_if_given(file: Path | None) -> Image.Image | None:
        return open_image(file, settings.max_image_pixels) if file else None

    return Query(
        " ".join(options.words),
        open_if_given(options.image),
        excluded_text=options.exclude,
        excluded_image=open_if_given(options.exclude_image),
        like=options.like,
        image_weight=options.weight,
        filter=make_filter(options),
    )


def make_filter(options: argparse.Namespace) -> SearchFilter:
    """Conditions on the images: each option is the field of the same name."""
    names = [name for name in SearchFilter.__slots__ if name in options and name not in ("words", "file_types")]
    return SearchFilter(file_types=tuple(options.file_type), **{name: getattr(options, name) for name in names})


def _add_filters(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--taken-from", type=_parse_first, metavar="DATE", help="taken on or after DATE")
    group.add_argument("--taken-to", type=_parse_last, metavar="DATE", help="taken on or before DATE")
    group.add_argument("--registered-from", type=_parse_first, metavar="DATE", help="registered on or after DATE (UTC)")
    group.add_argument("--registered-to", type=_parse_last, metavar="DATE", help="registered on or before DATE (UTC)")
    group.add_argument("--folder", type=_parse_folder, metavar="FOLDER", help="below this folder, at any depth")
    group.add_argument(
        "--file-type",
        type=_parse_file_type,
        action="append",
        default=[],
        metavar="TYPE",
        help="of this type: jpeg, png, image/webp; may be repeated",
    )
    group.add_argument("--orientation", choices=get_args(Orientation), help="of this shape")
    group.add_argument("--min-pixels", type=_parse_count, metavar="N", help="of at least N pixels")
    group.add_argument("--generator", metavar="NAME", help="made by this program, for example ComfyUI")
    group.add_argument("--generation-model", metavar="NAME", help="made with this model")
    group.add_argument("--lora", metavar="NAME", help="made with this LoRA")
    group.add_argument("--camera", metavar="NAME", help="taken with this camera")
    group.add_argument("--lens", metavar="NAME", help="taken with this lens")
    group.add_argument("--keyword", metavar="WORD", help="with this keyword")
    group.add_argument("--min-rating", type=int, choices=range(1, 6), metavar="1..5", help="of at least this rating")
    group.add_argument("--kind", choices=get_args(Kind), help="images that are files, or frames of films")
    prompt = group.add_mutually_exclusive_group()
    prompt.add_argument("--has-prompt", dest="has_prompt", action="store_true", default=None, help="with a prompt")
    prompt.add_argument("--no-prompt", dest="has_prompt", action="store_false", help="without a prompt")
    text = group.add_mutually_exclusive_group()
    text.add_argument("--has-text", dest="has_text", action="store_true", default=None, help="with text inside")
    text.add_argument("--no-text", dest="has_text", action="store_false", help="without text inside, or not read yet")


def _parse_limit(text: str) -> int:
    return _parse_number(text, 1, 10_000)


def _parse_offset(text: str) -> int:
    return _parse_number(text, 0, 10**9)


def _parse_count(text: str) -> int:
    return _parse_number(text, 1, 10**18)


def _parse_number(text: str, low: int, high: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18 or not low <= int(text) <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {low} to {high}")
    return int(text)


def _parse_share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:  # so is what is not a number
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return share


def _parse_first(text: str) -> datetime:
    return _parse_day(text, last=False)


def _parse_last(text: str) -> datetime:
    return _parse_day(text, last=True)


def _parse_day(text: str, last: bool) -> datetime:
    day = parse_date(text, last)
    if day is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no date: write 2024, 2024-05 or 2024-05-01")
    return day


def _parse_folder(text: str) -> str:
    folder = normalise_folder(text)
    is_absolute = PurePosixPath(folder).is_absolute() or PureWindowsPath(folder).is_absolute()
    return folder if is_absolute else os.path.abspath(folder)


def _parse_file_type(text: str) -> str:
    text = text.lower().removeprefix(".")
    return text if "/" in text else f"image/{_SHORT_TYPES.get(text, text)}"


# Search and print what was found: one query, or one after the other with the model loaded once.

FROM_INPUT = ["-"]


def open_searcher(settings: Settings) -> Searcher:
    """The search over the store and the model that the settings choose. Connects and loads nothing yet."""
    from image_search.encoders import open_encoder
    from image_search.library import choose_model_if_reachable
    from image_search.search import Searcher
    from image_search.stores import open_store

    store = open_store(settings)
    return Searcher(store, open_encoder(choose_model_if_reachable(settings, store)))


def search(settings: Settings, options: argparse.Namespace) -> Exit:
    """Answer the query of the options, or every line of stdin. Returns NOTHING_FOUND when one of them found nothing."""
    query = make_query(options, settings)
    searcher = open_searcher(settings)
    with searcher.store:
        answer = _answer_lines if options.words == FROM_INPUT else _answer
        return Exit.OK if answer(searcher, query, options, settings) else Exit.NOTHING_FOUND


def print_tags(settings: Settings, file: Path) -> Exit:
    """probability, Japanese and English of the likeliest tags of an image, a line for each."""
    from image_search.encoders import open_encoder
    from image_search.images import open_image
    from image_search.search.tagging import Tagger

    image = open_image(file, settings.max_image_pixels)
    encoder = open_encoder(settings)
    tags = Tagger(encoder).classify_image(encoder.encode_images([image])[0])
    for tag in tags:
        write_line(f"{tag.probability:.3f}", tag.japanese, tag.english, sep="\t")
    return Exit.OK if tags else Exit.NOTHING_FOUND


def _answer_lines(searcher: Searcher, query: Query, options: argparse.Namespace, settings: Settings) -> bool:
    """A line that is no query is one message; the others are still answered."""
    all_found = True
    for number, line in enumerate(sys.stdin.buffer, start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            if text:
                all_found &= _answer(searcher, replace(query, text=text), options, settings)
        except UnicodeDecodeError:
            write_line(f"Line {number} is not UTF-8 text and was skipped.", to_stderr=True)
            all_found = False
        except (ModelUnavailable, StoreUnavailable):  # every other line would fail, too
            raise
        except ImageSearchError as error:
            write_line(f"Line {number}: {error}", to_stderr=True)
            all_found = False
    return all_found


def _answer(searcher: Searcher, query: Query, options: argparse.Namespace, settings: Settings) -> bool:
    if options.min_relevance is not None:
        with suppress(TextNotSupported):  # images alone are judged by the library itself
            searcher.tagger.prepare()
    result = _search(searcher, query, options)
    for note in result.notes:
        write_line(note, to_stderr=True)
    _print_result(result, query, options)
    if options.out:
        folder = _export_result(options.out, result, query, options, settings, searcher)
        write_line(f"{folder} holds the pictures, query.json, results.jsonl and a contact sheet.", to_stderr=True)
    return bool(result.hits)


def _search(searcher: Searcher, query: Query, options: argparse.Namespace) -> SearchResult:
    """The hits that were asked for, without those of lower relevance."""
    plan = searcher.plan(query)
    result = searcher.rank(plan, options.limit, options.offset)
    least = options.min_relevance
    if least is None:
        return result
    if any(hit.relevance is None for hit in result.hits):
        write_line("The relevance of these is unknown, so none is dropped.", to_stderr=True)
    kept, offset, page = _keep(result, least), options.offset, result
    while len(kept) < options.limit and page.has_more and page.relevance_left >= least:
        offset += len(page.hits)
        page = searcher.rank(plan, options.limit, offset)
        kept += _keep(page, least)
    return replace(result, hits=tuple(kept[: options.limit]))


def _keep(page: SearchResult, least: float) -> list[FoundHit]:
    return [hit for hit in page.hits if hit.relevance is None or hit.relevance >= least]


def _print_result(result: SearchResult, query: Query, options: argparse.Namespace) -> None:
    is_one_of_many = options.words == FROM_INPUT
    if is_one_of_many and not options.json:
        write_line(f"# {query.text}")
    for rank, hit in enumerate(result.hits, start=options.offset + 1):
        if options.json:
            asked = {"query": query.text} if is_one_of_many else {}
            write_json(asked | _describe_hit(rank, hit))
        else:
            distance = "" if hit.distance is None else f"{hit.distance:.6f}"
            moment = f" @ {hit.image.frame.position}" if hit.image.frame else ""
            write_line(distance, hit.image_id, f"{make_printable(hit.image.file_name)}{moment}", sep="\t")
    if result.is_text_cut:
        write_line("The words are longer than the model takes: only their beginning was searched for.", to_stderr=True)
    name = f"{query.text}: " if is_one_of_many else ""
    write_line(f"{name}{len(result.hits)} of {result.total} images", to_stderr=True)


# --out: a dated folder with what was asked, what was found, the images themselves and a contact sheet of them.


def _describe_hit(rank: int, hit: FoundHit) -> dict[str, Any]:
    """A hit as JSON tells it. similarity: 1 is the same image. relevance: 0.5 is the line; None: not known.

    Of a film: its hash, the best moment and its length in milliseconds, and how many other moments qualify.
    """
    frame = hit.image.frame
    film = {**asdict(frame), "position": frame.position, "moments": hit.moments} if frame else {}
    distance = None if hit.distance is None else round(hit.distance, 6)
    return {
        "rank": rank,
        "image_id": hit.image_id,
        "file_name": hit.image.file_name,
        "file_path": None if hit.image.file_path is None else sanitize(hit.image.file_path),
        "description": hit.image.description,
        "keywords": list(hit.image.keywords),
        "rating": hit.image.rating,
        "edits": {name: value for name, value in asdict(hit.image.edits).items() if value is not None},
        "distance": distance,
        "similarity": None if distance is None else -distance,
        "relevance": None if hit.relevance is None else round(hit.relevance, 4),
        "found_by": hit.found_by,
        "found_in_text": hit.found_in_text,
        "recognized_text": hit.image.recognized_text,
        **film,
    }


def _export_result(
    parent: Path,
    result: SearchResult,
    query: Query,
    options: argparse.Namespace,
    settings: Settings,
    searcher: Searcher,
) -> Path:
    """Write a new folder below parent and return it. An original that cannot be read is one sentence on stderr.

    Raises SettingsError when the folder cannot be written.
    """
    store = searcher.store
    asked = _describe_query(result, query, options, settings, searcher)
    try:
        folder = _make_folder(parent)
        _write_json(folder / "query.json", asked)
        with (folder / "results.jsonl").open("x", encoding="utf-8") as file:
            for rank, hit in enumerate(result.hits, start=options.offset + 1):
                copy = _copy_original(store, folder, rank, hit)
                file.write(json.dumps({**_describe_hit(rank, hit), "copy": copy}, ensure_ascii=False) + "\n")
        if result.hits:
            captions = {
                hit.image_id: f"{rank}" + ("" if hit.distance is None else f"   {-hit.distance:.3f}")
                for rank, hit in enumerate(result.hits[:MAX_SHEET_IMAGES], start=options.offset + 1)
            }
            (folder / "contact_sheet.jpg").write_bytes(draw_contact_sheet(store, captions))
        return folder
    except OSError as error:
        raise SettingsError(
            f"The result cannot be written to {parent} ({error.strerror or error}). Name another folder for --out."
        ) from error


_NO_QUERY = ("words", "json", "out", "check", "deep", "repair")


def _describe_query(
    result: SearchResult, query: Query, options: argparse.Namespace, settings: Settings, searcher: Searcher
) -> dict[str, Any]:
    # Settings by name, never all of them: a new one may be a secret.
    status = searcher.store.get_status()
    given = {name: value for name, value in vars(options).items() if name not in _NO_QUERY}
    return {
        "asked_at": datetime.now().astimezone().isoformat(timespec="seconds"),
        "query": {"text": query.text, **{name: value for name, value in given.items() if value not in (None, "", [])}},
        "total": result.total,
        "settings": {
            "embedding_model": settings.model,
            "embedding_model_revision": settings.embedding_model_revision,
            "device": settings.device,
            "precision": settings.precision,
            "model": f"{searcher.encoder.name} ({searcher.encoder.version})",
            "engine": status.engine,
            "library": status.location,
            "images": status.image_count,
        },
    }


def _make_folder(parent: Path) -> Path:
    name = datetime.now().strftime("%Y-%m-%d_%H%M%S")
    parent.mkdir(parents=True, exist_ok=True)
    for number in range(1, 10_000):
        folder = parent / (name if number == 1 else f"{name}_{number}")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            continue
    raise SettingsError(f"{parent} holds too many results of this second. Name another folder for --out.")


def _write_json(path: Path, content: object) -> None:
    text = json.dumps(content, ensure_ascii=False, indent=2, default=_write_value)
    path.write_text(text + "\n", encoding="utf-8")


def _write_value(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _copy_original(store: ImageStore, folder: Path, rank: int, hit: FoundHit) -> str | None:
    frame = hit.image.frame
    try:
        data = store.read_preview(hit.image_id) if frame else store.read_original(hit.image_id)
    except StoreError as error:
        write_line(f"{hit.image.file_name} is not copied: {error}", to_stderr=True)
        return None
    moment = f"_{frame.position.replace(':', '-')}.webp" if frame else ""
    name = f"{rank:04d}_{make_safe_name(hit.image.file_name)}{moment}"
    with (folder / name).open("xb") as file:
        file.write(data)
    return name
