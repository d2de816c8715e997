"""--out: a dated folder with what was asked, what was found, the pictures themselves and a contact sheet of them."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from image_search.cli.console import write_line
from image_search.errors import SettingsError, StoreError
from image_search.search.exporting import ON_SHEET, draw_contact_sheet, make_safe_name
from image_search.settings import Settings
from image_search.stores.text import sanitize

if TYPE_CHECKING:
    from image_search.search.searcher import FoundHit, Query, Searcher, SearchResult
    from image_search.stores.base import ImageStore


def describe_hit(rank: int, hit: FoundHit) -> dict[str, Any]:
    """A hit as JSON tells it. similarity: 1 is the same picture. relevance: 0.5 is the line; None: not known.

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


def export_result(
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
                file.write(json.dumps({**describe_hit(rank, hit), "copy": copy}, ensure_ascii=False) + "\n")
        if result.hits:
            captions = {
                hit.image_id: f"{rank}" + ("" if hit.distance is None else f"   {-hit.distance:.3f}")
                for rank, hit in enumerate(result.hits[:ON_SHEET], start=options.offset + 1)
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
