"""--check: what is installed, what the library holds, whether the model loads, and what to do where something is amiss.

Every look is taken for itself, so that one fault does not hide the others. Nothing is changed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Iterable, Iterator
from dataclasses import asdict

from image_search.errors import StoreError
from image_search.records import EmbeddingModel, Finding, StoreStatus
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.stores.base import ImageStore
from image_search.terminal.checking_model import check_model
from image_search.terminal.checking_program import check_page, check_program


def check_everything(settings: Settings) -> Iterator[Finding]:
    """Look at everything a search needs. Raises SettingsError when the settings choose what is not installed."""
    yield from check_program()
    with open_store(settings) as store:
        status = yield from check_library(store)
        yield from check_model(settings, status)
    yield check_page(settings)


def check_library(store: ImageStore) -> Generator[Finding, None, StoreStatus | None]:
    """What the library holds, a search in it, and what its engine has to say. Returns the status if there is one."""
    status = None
    try:
        status = store.get_status()
        contents = list(_check_contents(store, status))
    except StoreError as error:
        contents = [Finding("library", False, "cannot be used", str(error))]
    details = list(_ask_engine(store, is_reachable=status is not None))
    # An engine that knows better why it cannot be used says so itself.
    if status is not None or all(finding.ok for finding in details):
        yield from contents
    yield from details
    return status


def print_findings(findings: Iterable[Finding], as_json: bool) -> bool:
    """A line for each finding as it is made, its remedy below it. Returns whether all is well."""
    faults = 0
    for finding in findings:
        faults += not finding.ok
        if as_json:
            print(json.dumps(asdict(finding), ensure_ascii=False), flush=True)
            continue
        print(f"{'ok' if finding.ok else 'FAULT':<5}  {finding.name:<14}  {finding.what}", flush=True)
        if finding.remedy:
            print(f"{'':<5}  {'':<14}  -> {finding.remedy}", flush=True)
    print("All is well." if not faults else f"{faults} to look after, see FAULT above.", file=sys.stderr)
    return not faults


def _check_contents(store: ImageStore, status: StoreStatus) -> Iterator[Finding]:
    what = f"{status.image_count:,} images in {status.engine}, {status.location}"
    yield Finding("library", True, what if status.image_count else f"{what}; register_images.py FOLDER brings some in")
    for model, count in status.models:
        yield _check_embeddings(status, model, count)
    current = next((model for model, count in status.models if model.is_current and count), None)
    if status.image_count:
        yield from _try_image(store, current)


def _check_embeddings(status: StoreStatus, model: EmbeddingModel, count: int) -> Finding:
    what = f"{model.name} ({model.version}), {model.dimension} dimensions: {count:,} of {status.image_count:,} images"
    if not model.is_current:
        return Finding(f"model {model.model_id}", True, what)
    if count < status.image_count:
        remedy = f"Run: python register_images.py --model {model.name}"
        return Finding(f"model {model.model_id}", False, f"{what}, the current one; the others are not found", remedy)
    return Finding(f"model {model.model_id}", True, f"{what}, the current one")


def _try_image(store: ImageStore, model: EmbeddingModel | None) -> Iterator[Finding]:
    """Read the newest image whole, and search with its embedding."""
    [newest] = store.find_latest(1)
    try:
        size = len(store.read_original(newest.image_id)) + len(store.read_preview(newest.image_id))
        yield Finding("newest image", True, f"{newest.image.file_name}, {size / 2**10:,.0f} KiB read")
    except StoreError as error:
        yield Finding("newest image", False, f"{newest.image.file_name} cannot be read", str(error))
    if model is None:
        return
    sample = store.sample_embeddings(model.model_id, 1)
    hits = store.search_embedding(model.model_id, sample[0], 1)
    if hits and hits[0].distance is not None and hits[0].distance < -0.99:
        yield Finding("search", True, "finds an image by its own embedding")
    else:
        remedy = f"Embed the images anew: python register_images.py --model {model.name}"
        yield Finding("search", False, "does not find an image by its own embedding", remedy)


def _ask_engine(store: ImageStore, is_reachable: bool) -> Iterator[Finding]:
    try:
        yield from store.check()
    except StoreError as error:
        if is_reachable:  # else it has been said
            yield Finding("engine", False, "cannot be looked at", str(error))
