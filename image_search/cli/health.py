"""--check: what is installed, what the library holds, whether the model loads, and what to do about each problem.

Every check runs on its own, so that one fault does not hide the others. Nothing is changed without --repair.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import logging
import os
import platform
import re
import shutil
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

import image_search
from image_search.cli import Exit, name_commands, write_json, write_line
from image_search.cli.serve import check_page
from image_search.encoders import LazyEncoder, open_encoder
from image_search.encoders.checkpoint import KNOWN_MODELS, find_folder, refuse_missing_folder
from image_search.encoders.hub import find_cached
from image_search.errors import (
    EncoderError,
    ImageSearchError,
    OriginalMissing,
    RecognizerUnavailable,
    SettingsError,
    StoreError,
)
from image_search.images import RECIPE, make_printable, read_file
from image_search.library import choose_model_if_reachable, find_kept_folder
from image_search.originals import FolderOriginals, ReferencedOriginals
from image_search.recognition import RECOGNIZER, check_packages, open_recognizer
from image_search.records import EmbeddingModel, Finding, ImageRecord, StoreStatus
from image_search.registration.rereading import find_unread
from image_search.settings import DEFAULT_MODEL, IS_INSTALLED, ROOT, Settings
from image_search.stores import open_store
from image_search.stores.base import DEEP_CHECK, ImageStore
from image_search.stores.tokens import TOKEN_SETTING, has_old_tokens

_log = logging.getLogger(__name__)

# --check: the model of the settings, and whether it is the one that the library was embedded with.


def check_model(settings: Settings, status: StoreStatus | None) -> Iterator[Finding]:
    """Load the model and embed with it, and compare it with the library. Downloads nothing."""
    model = settings.model
    encoder = open_encoder(settings)
    try:
        folder = find_folder(model)
        if folder is None:
            refuse_missing_folder(model)
            folder = find_cached(model, _find_revision(settings))
        if folder is None:
            remedy = "The first search or registration downloads it. A gated model needs HF_TOKEN."
            yield Finding("model", False, f"{model} is not on this machine yet", remedy)
            return
        yield Finding("model", True, f"{encoder.name} ({encoder.version}), {encoder.dimension} dimensions, {folder}")
        yield _try_encoder(encoder, settings)
    except EncoderError as error:
        yield Finding("model", False, f"{model} does not load", str(error))
        return
    if status is not None:
        yield _compare(encoder, settings, status)


def _find_revision(settings: Settings) -> str:
    known = KNOWN_MODELS.get(settings.model)
    return settings.embedding_model_revision or (known.revision if known else "")


def _try_encoder(encoder: LazyEncoder, settings: Settings) -> Finding:
    embeddings = [encoder.encode_images([Image.new("RGB", (64, 64))])]
    if encoder.supports_text:
        embeddings.append(encoder.encode_texts(["猫"]))
    what = (
        f"{encoder.device} in {encoder.precision} (DEVICE {settings.device}, PRECISION {settings.precision}), "
        f"pictures {'and words' if encoder.supports_text else 'only'}"
    )
    if any(embedding.shape != (1, encoder.dimension) or not np.isfinite(embedding).all() for embedding in embeddings):
        return Finding("device", False, f"{what}, embeddings are damaged", "Set PRECISION to float32.")
    return Finding("device", True, what)


def _compare(encoder: LazyEncoder, settings: Settings, status: StoreStatus) -> Finding:
    current = next((model for model, _ in status.models if model.is_current), None)
    if current is None:
        return Finding("model in use", True, "the library has none yet: the first one used becomes the current one")
    if (current.name, current.version) == (encoder.name, encoder.version):
        return Finding("model in use", True, "the library's current one")
    count = next((n for model, n in status.models if (model.name, model.version) == (encoder.name, encoder.version)), 0)
    has_changed = current.name == encoder.name
    other = "another version of it" if has_changed else current.name
    is_alternative = "/" in current.name and not has_changed and (current, 0) not in status.models
    return Finding(
        "model in use",
        False,
        f"{encoder.name} ({encoder.version}) has embedded {count:,} of {status.image_count:,} images; "
        f"the library's current model is {other} ({current.version})",
        f"Run: python register_images.py --model {settings.model} --make-current"
        + (f"; or set EMBEDDING_MODEL to {current.name}" if is_alternative else ""),
    )


# --check: the program itself, what is installed for it, and the address it serves the page at.

_PIN = re.compile(r"^([\w.-]+)==([\w.]+)", re.MULTILINE)


def check_program() -> Iterator[Finding]:
    """Versions of the program, of Python and of every package that the program requires."""
    what = f"image-search {image_search.__version__}, Python {platform.python_version()}, {ROOT}"
    yield Finding("program", True, what)
    if IS_INSTALLED:
        # Without the extras: each is told where it is needed.
        required = "\n".join(line for line in requires("image-search") or [] if "extra ==" not in line)
    else:
        required = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    pins = _PIN.findall(required)
    installed = {name: _find_version(name) for name, _ in pins}
    missing = [name for name, found in installed.items() if found is None]
    what = ", ".join(
        f"{name} {found}" + ("" if found is None or found.partition("+")[0] == pin else f" (tested with {pin})")
        for name, pin in pins
        if (found := installed[name])
    )
    if missing:
        what = f"missing: {', '.join(missing)}; installed: {what}"
        yield Finding("packages", False, what, "Run: pip install -r requirements.txt")
    else:
        yield Finding("packages", True, what)


def _find_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def check_everything(settings: Settings, deep: bool = False, repair: bool = False) -> Iterator[Finding]:
    """Check everything a search needs. Raises SettingsError when the settings choose an engine that is not installed.

    deep: read every original and preview, too. repair: repair originals, see integrity.py.
    """
    yield from _guard("program", _run(check_program()))
    with open_store(settings) as store:
        status = yield from _guard("library", check_library(store, repair))
        if status is not None and status.image_count:
            yield from _guard("files", _run(check_files(store, deep, repair)))
        settings = choose_model_if_reachable(settings, store)
        yield from _guard("model", _run(check_model(settings, status)))
        if status is not None:
            yield from _guard("text", _run(check_text(store, settings, status) for _ in range(1)))
    yield from _guard("page", _run(check_page(settings) for _ in range(1)))


def check_served(store: ImageStore) -> Iterator[Finding]:
    """Check program, library and files of a served library, whose model is loaded and in use already."""
    yield from _guard("program", _run(check_program()))
    status = yield from _guard("library", check_library(store))
    if status is not None and status.image_count:
        yield from _guard("files", _run(check_files(store)))


T = TypeVar("T")


def _run(findings: Iterable[Finding]) -> Generator[Finding, None, None]:
    yield from findings


def _guard(name: str, findings: Generator[Finding, None, T]) -> Generator[Finding, None, T | None]:
    """The findings; an error of the check itself becomes one, so that the other checks still run."""
    try:
        return (yield from findings)
    except SettingsError:
        raise
    except ImageSearchError as error:
        yield Finding(name, False, "cannot be checked", str(error))
    except Exception as error:
        _log.debug("The check of %s failed", name, exc_info=True)
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        yield Finding(name, False, f"the check itself failed ({reason})", "Report this; the rest was checked.")
    return None


def check_library(store: ImageStore, repair: bool = False) -> Generator[Finding, None, StoreStatus | None]:
    """Contents of the library, a search in it, and the checks of its engine. Returns the status if there is one."""
    status = None
    try:
        status = store.get_status()
        contents = list(_check_contents(store, status, repair))
    except StoreError as error:
        contents = [Finding("library", False, "cannot be used", str(error))]
    details = list(_ask_engine(store, is_reachable=status is not None))
    # Engines report more exactly why they cannot be used.
    if status is not None or all(finding.ok for finding in details):
        yield from contents
    yield from details
    return status


def check(settings: Settings, options: argparse.Namespace) -> Exit:
    """Check everything, and print each finding. Returns SOME_FAILED when there are problems."""
    is_well = print_findings(check_everything(settings, options.deep, options.repair), options.json)
    return Exit.OK if is_well else Exit.SOME_FAILED


def check_text(store: ImageStore, settings: Settings, status: StoreStatus) -> Finding:
    """Whether the recogniser of text starts, and how many images this version of it has read."""
    try:
        check_packages()
    except RecognizerUnavailable as error:
        return Finding("text", not settings.read_text, "words inside pictures are not read (optional)", str(error))
    unread = len(find_unread(store))
    what = f"{RECOGNIZER} has read {status.image_count - unread:,} of {status.image_count:,} images"
    try:
        open_recognizer()
    except RecognizerUnavailable as error:
        return Finding("text", False, what, str(error))
    return Finding("text", True, f"{what}; register_images.py --read-text reads the others" if unread else what)


def print_findings(findings: Iterable[Finding], as_json: bool) -> bool:
    """A line for each finding as it is made, its remedy below it. Returns whether all is well."""
    faults = 0
    for finding in findings:
        finding = replace(finding, what=name_commands(finding.what), remedy=name_commands(finding.remedy))
        faults += not finding.ok
        if as_json:
            write_json(asdict(finding))
            continue
        write_line(f"{'ok' if finding.ok else 'FAULT':<5}  {finding.name:<14}  {finding.what}")
        if finding.remedy:
            write_line(f"{'':<5}  {'':<14}  -> {finding.remedy}")
    write_line(
        "All is well." if not faults else f"{faults} problem{'s' * (faults > 1)} found, see FAULT above.",
        to_stderr=True,
    )
    return not faults


def _check_contents(store: ImageStore, status: StoreStatus, repair: bool) -> Iterator[Finding]:
    what = f"{status.image_count:,} images in {status.engine}, {status.location}"
    yield Finding("library", True, what if status.image_count else f"{what}; register_images.py FOLDER brings some in")
    for model, count in status.models:
        yield _check_embeddings(status, model, find_kept_folder(store, model.name) or model.name, count)
    current = next((model for model, count in status.models if model.is_current and count), None)
    if status.image_count:
        yield from _check_recipes(store, status)
        yield from _check_words(store, status)
        yield from _try_image(store, current, repair)


def _check_recipes(store: ImageStore, status: StoreStatus) -> Iterator[Finding]:
    """How many previews and embeddings were made by an older way of decoding; nothing when there are none."""
    old = [(_count_pages(lambda last: store.find_images_of_old_recipe(RECIPE, last)), "previews")]
    for model, count in status.models:
        if model.is_current:
            find = store.find_images_without_embedding
            missing = status.image_count - count
            outdated = _count_pages(lambda last: find(model.model_id, last, min_recipe=RECIPE)) - missing  # noqa: B023
            old.append((max(outdated, 0), "embeddings"))
    if any(count for count, _ in old):
        what = " and ".join(f"{count:,} {name}" for count, name in old)
        remedy = "Run: python register_images.py --repair"
        yield Finding("older version", True, f"{what} were made by an older version of the program", remedy)


def _check_words(store: ImageStore, status: StoreStatus) -> Iterator[Finding]:
    """Whether words are indexed by an older rule, as they stay where the library cannot be written."""
    if has_old_tokens(store.list_settings(TOKEN_SETTING).get(TOKEN_SETTING), status.location):
        remedy = "Open the library once with the right to write into it, which indexes them again."
        yield Finding("words", False, "indexed by an older version of the program: some are not found", remedy)


def _count_pages(find: Callable[[int], Sequence[int]]) -> int:
    """Count ids page by page; find is given the last id of the page before."""
    count = last = 0
    while page := find(last):
        count += len(page)
        last = page[-1]
    return count


def _check_embeddings(status: StoreStatus, model: EmbeddingModel, name: str, count: int) -> Finding:
    what = f"{model.name} ({model.version}), {model.dimension} dimensions: {count:,} of {status.image_count:,} images"
    if not model.is_current:
        return Finding(f"model {model.model_id}", True, what)
    if count < status.image_count:
        remedy = f"Run: python register_images.py --model {name}"
        remedy += "" if count else f"; if it cannot be loaded, --model {DEFAULT_MODEL} replaces it"
        return Finding(f"model {model.model_id}", False, f"{what}, the current one; the others are not found", remedy)
    return Finding(f"model {model.model_id}", True, f"{what}, the current one")


def _try_image(store: ImageStore, model: EmbeddingModel | None, repair: bool) -> Iterator[Finding]:
    """Read the newest image whole, and search with its embedding."""
    [newest] = store.list_images(limit=1)
    if repair and not newest.image.frame:
        _heal(store, newest.image)  # before it is found missing
    name = make_printable(newest.image.file_name)
    try:
        original = b"" if newest.image.frame else store.read_original(newest.image_id)  # a film is no file of ours
        size = len(original) + len(store.read_preview(newest.image_id))
        yield Finding("newest image", True, f"{name}, {size / 2**10:,.0f} KiB read")
    except StoreError as error:
        yield Finding("newest image", False, f"{name} cannot be read", str(error))
    if model is None:
        return
    sample = store.sample_embeddings(model.model_id, 1)
    hits = store.search_embedding(model.model_id, sample[0], 1)
    if hits and hits[0].distance is not None and hits[0].distance < -0.99:
        yield Finding("search", True, "finds an image by its own embedding")
    else:
        remedy = f"Embed the images again: python register_images.py --model {model.name}"
        yield Finding("search", False, "does not find an image by its own embedding", remedy)


def _ask_engine(store: ImageStore, is_reachable: bool) -> Iterator[Finding]:
    try:
        yield from store.check()
    except StoreError as error:
        if is_reachable:  # else it was reported
            yield Finding("engine", False, "cannot be checked", str(error))


# --check of every image: whether its original and preview are there, and with --deep whether they are undamaged.

_BATCH = 500
_SHOWN = 5  # file names in a finding
_YOUNG = 3600.0  # seconds; a younger original may belong to a batch that is being written
_PROGRESS_SECONDS = 5.0


def check_files(store: ImageStore, deep: bool = False, repair: bool = False) -> Iterator[Finding]:
    """Compare the records with the files kept for them. May raise StoreError.

    deep: read every original and preview; an interrupted run goes on where it was. repair: write lost and damaged
    originals again from the files they were registered from, and set files without a record aside.
    """
    if isinstance(store.originals, FolderOriginals):
        kept = store.originals.list_hashes()
        records = [(r.content_sha256, r) for r in _list_records(store) if r.frame is None]
        by_reference = isinstance(store.originals, ReferencedOriginals)
        missing = [
            r
            for sha256, r in records
            if sha256 not in kept and not (by_reference and any(map(os.path.exists, r.paths)))
        ]
        if missing and repair and not deep:
            missing = [record for record in missing if not _heal(store, record)]
        if not deep:
            remedy = _advise(missing, repair)
            yield _describe_images(
                "files", f"originals of {len(records):,} images are there", "missing", missing, remedy
            )
        known = {sha256 for sha256, _ in records}
        yield _check_orphans(store.originals, [file for sha256, file in kept.items() if sha256 not in known], repair)
    if deep:
        yield from _read_everything(store, repair)


def _read_everything(store: ImageStore, repair: bool) -> Iterator[Finding]:
    start = int(store.list_settings(DEEP_CHECK).get(DEEP_CHECK, "0"))
    if start:
        write_line(f"Going on behind image {start:,}, where the last --deep ended.", to_stderr=True)
    total, count, shown_at = store.get_status().image_count, 0, time.monotonic()
    bad_originals: list[ImageRecord] = []
    bad_previews: list[ImageRecord] = []
    for records in _list_batches(store, start):
        previews = store.read_previews([record.image_id for record in records])
        for record in records:
            count += 1
            if record.frame is None and not _is_whole(store, record) and not (repair and _heal(store, record)):
                bad_originals.append(record)
            if not _is_preview(previews.get(record.image_id, b"")):
                bad_previews.append(record)
        # The next run looks at faults again, so that no finding is lost.
        if not bad_originals and not bad_previews:
            _remember_place(store, str(records[-1].image_id))
        if time.monotonic() - shown_at > _PROGRESS_SECONDS:
            shown_at = time.monotonic()
            write_line(f"{count:,} of about {total:,} images read", to_stderr=True)
    _remember_place(store, None)
    remedy = _advise(bad_originals, repair)
    yield _describe_images("originals read", f"{count:,} read, undamaged", "missing or damaged", bad_originals, remedy)
    remedy = (
        "Run: python register_images.py FOLDER for the folder of these images; delete and register them if it stays."
    )
    yield _describe_images("previews read", f"{count:,} read, undamaged", "missing or damaged", bad_previews, remedy)


def _remember_place(store: ImageStore, value: str | None) -> None:
    with suppress(StoreError):  # a library that can be read only is checked from the beginning
        store.set_setting(DEEP_CHECK, value)


def _list_batches(store: ImageStore, after_id: int = 0) -> Iterator[list[ImageRecord]]:
    while image_ids := store.list_image_ids(after_id, _BATCH):
        with suppress(ImageSearchError):  # an image was deleted between the two queries: read one by one
            yield store.get_images(image_ids)
            after_id = image_ids[-1]
            continue
        found = []
        for image_id in image_ids:
            with suppress(ImageSearchError):
                found.append(store.get_image(image_id))
        if found:
            yield found
        after_id = image_ids[-1]


def _list_records(store: ImageStore) -> Iterator[ImageRecord]:
    """Live images and those in the trash."""
    for batch in _list_batches(store):
        yield from batch
    yield from store.iterate_trash()


def _is_whole(store: ImageStore, record: ImageRecord) -> bool:
    try:
        return hashlib.sha256(store.read_original(record.image_id)).hexdigest() == record.content_sha256
    except OriginalMissing:
        return False


def _is_preview(preview: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(preview), formats=["WEBP"]) as image:
            image.load()
    except Exception:  # decoders answer damaged files with many kinds of errors
        return False
    return True


def _heal(store: ImageStore, record: ImageRecord) -> bool:
    """Write an original again from a file it was registered from. Returns whether it is whole now."""
    for path in record.paths:
        with suppress(ImageSearchError):
            data = read_file(path)
            if hashlib.sha256(data).hexdigest() == record.content_sha256:
                store.heal_original(record.image_id, data)
                return True
    return False


def _advise(records: Sequence[ImageRecord], is_repaired: bool) -> str:
    """Advice for lost and damaged originals: to repair, unless that was done or their files have moved."""
    if not is_repaired and any(os.path.exists(path) for record in records for path in record.paths):
        return (
            "Run ImageSearch.py --check --deep --repair, which takes them from where they were registered; send the "
            "others again, or restore the folder of originals from a backup."
        )
    return (
        "Register the folder that they are in now: python register_images.py FOLDER. Send the others again, or restore "
        "them from a backup."
    )


def _describe_images(name: str, good: str, bad: str, records: Sequence[ImageRecord], remedy: str) -> Finding:
    if not records:
        return Finding(name, True, good)
    names = ", ".join(make_printable(record.file_name) for record in records[:_SHOWN])
    what = f"{bad}: {len(records):,} ({names}{' ...' if len(records) > _SHOWN else ''})"
    return Finding(name, False, what, remedy)


def _check_orphans(originals: FolderOriginals, files: Sequence[Path], repair: bool) -> Finding:
    """Originals without a record: a batch that was killed leaves them."""
    old = [file for file in files if _measure_age(file) > _YOUNG]
    if not old:
        return Finding("orphans", True, "no original without a record")
    aside = originals.folder.with_name(f"{originals.folder.name}.orphans")
    if not repair:
        remedy = f"Run ImageSearch.py --check --repair: it moves them to {aside}. Register that folder to keep them."
        return Finding("orphans", False, f"{len(old):,} originals without a record", remedy)
    aside.mkdir(0o700, exist_ok=True)
    for file in old:
        shutil.move(file, aside / file.name)
    return Finding("orphans", True, f"{len(old):,} originals without a record were moved to {aside}")


def _measure_age(file: Path) -> float:
    with suppress(OSError):
        return time.time() - file.stat().st_mtime
    return 0.0
