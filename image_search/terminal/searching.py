"""Search and print what was found: one query, or one after the other with the model loaded once."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from image_search.errors import ImageSearchError, ModelUnavailable, StoreUnavailable, TextNotSupported
from image_search.settings import Settings
from image_search.terminal.asking import make_query
from image_search.terminal.exporting import describe_hit, export_result

if TYPE_CHECKING:
    from image_search.search import Query, Searcher, SearchResult

FROM_INPUT = ["-"]


def open_searcher(settings: Settings) -> Searcher:
    """The search over the store and the model that the settings choose. Connects and loads nothing yet."""
    from image_search.encoders import open_encoder
    from image_search.search import Searcher
    from image_search.stores import open_store

    return Searcher(open_store(settings), open_encoder(settings))


def search(settings: Settings, options: argparse.Namespace) -> bool:
    """Answer the query of the options, or every line of standard input. Returns whether each found something."""
    query = make_query(options, settings)
    searcher = open_searcher(settings)
    with searcher.store:
        if options.words != FROM_INPUT:
            return _answer(searcher, query, options, settings)
        return _answer_lines(searcher, query, options, settings)


def print_tags(settings: Settings, file: Path) -> int:
    """probability, Japanese and English of the likeliest tags of a picture. Returns how many there are."""
    from image_search.encoders import open_encoder
    from image_search.image_files import open_picture
    from image_search.search_tags import Tagger

    image = open_picture(file, settings.max_image_pixels)
    encoder = open_encoder(settings)
    tags = Tagger(encoder).name_picture(encoder.encode_images([image])[0])
    for tag in tags:
        print(f"{tag.probability:.3f}", tag.japanese, tag.english, sep="\t")
    return len(tags)


def _answer_lines(searcher: Searcher, query: Query, options: argparse.Namespace, settings: Settings) -> bool:
    """A line that cannot be asked is one sentence, and the others are asked all the same."""
    all_found = True
    for number, line in enumerate(sys.stdin.buffer, start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            if text:
                all_found &= _answer(searcher, replace(query, text=text), options, settings)
        except UnicodeDecodeError:
            print(f"Line {number} is not UTF-8 text and was passed over.", file=sys.stderr)
            all_found = False
        except (ModelUnavailable, StoreUnavailable):  # so it would be for every other line
            raise
        except ImageSearchError as error:
            print(f"Line {number}: {error}", file=sys.stderr)
            all_found = False
    return all_found


def _answer(searcher: Searcher, query: Query, options: argparse.Namespace, settings: Settings) -> bool:
    if options.min_relevance is not None:
        with suppress(TextNotSupported):  # pictures alone are judged by the library itself
            searcher.tagger.prepare()
    result = searcher.search(query, options.limit, options.offset)
    if options.min_relevance is not None:
        result = _leave_out(result, options.min_relevance)
    _print_result(result, query, options)
    if options.out:
        folder = export_result(options.out, result, query, options, settings, searcher)
        print(f"{folder} holds the pictures, query.json, results.jsonl and a contact sheet.", file=sys.stderr)
    return bool(result.hits)


def _leave_out(result: SearchResult, least: float) -> SearchResult:
    """Without the hits that are known to be less relevant."""
    if any(hit.relevance is None for hit in result.hits):
        print("How relevant these are cannot be told, so none is left out.", file=sys.stderr)
    kept = tuple(hit for hit in result.hits if hit.relevance is None or hit.relevance >= least)
    return replace(result, hits=kept)


def _print_result(result: SearchResult, query: Query, options: argparse.Namespace) -> None:
    is_one_of_many = options.words == FROM_INPUT
    for line in _write_lines(result, query, options, is_one_of_many):
        print(line)
    sys.stdout.flush()
    name = f"{query.text}: " if is_one_of_many else ""
    print(f"{name}{len(result.hits)} of {result.total} images", file=sys.stderr)


def _write_lines(
    result: SearchResult, query: Query, options: argparse.Namespace, is_one_of_many: bool
) -> Iterator[str]:
    if is_one_of_many and not options.json:
        yield f"# {query.text}"
    for rank, hit in enumerate(result.hits, start=options.offset + 1):
        if options.json:
            asked = {"query": query.text} if is_one_of_many else {}
            yield json.dumps(asked | describe_hit(rank, hit), ensure_ascii=False)
        else:
            distance = "" if hit.distance is None else f"{hit.distance:.6f}"
            yield f"{distance}\t{hit.image_id}\t{hit.image.file_name}"
