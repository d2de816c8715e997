"""Look after what is registered: models, lost files, another library."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from image_search.copying import CopyReport, copy_library
from image_search.errors import SettingsError
from image_search.registration import find_gone
from image_search.settings import Settings, mask_url
from image_search.stores import open_store
from image_search.stores.base import ImageStore
from image_search.terminal import Exit


def list_models(store: ImageStore) -> Exit:
    """model_id, name, version, dimension, number of embeddings and "current", a line for each model."""
    for model, count in store.get_status().models:
        mark = "current" if model.is_current else ""
        print(model.model_id, model.name, model.version, model.dimension, count, mark, sep="\t")
    return Exit.EVERYTHING_IS_IN


def remove_model(store: ImageStore, model_id: int) -> Exit:
    """Remove a model that is not the current one, with its embeddings."""
    store.remove_model(model_id)
    print(f"Model {model_id} and its embeddings are removed.", file=sys.stderr)
    return Exit.EVERYTHING_IS_IN


def prune(store: ImageStore, folders: Sequence[Path], remove: bool) -> Exit:
    """List, and remove if asked to, the images whose file below these folders is gone."""
    gone = [record for folder in folders for record in find_gone(store, folder)]
    for record in gone:
        print(record.image_id, record.file_path, sep="\t")
    if remove:
        removed = store.delete_images([record.image_id for record in gone])
        print(f"{removed} images removed.", file=sys.stderr)
    elif gone:
        print(f"{len(gone)} images have lost their file; --prune --yes removes them for good.", file=sys.stderr)
    return Exit.EVERYTHING_IS_IN


def copy(store: ImageStore, settings: Settings, url: str, originals_url: str) -> Exit:
    """Copy another library into this one; run it again after an interruption."""
    source_settings = choose_source(settings, url, originals_url)

    def show_progress(report: CopyReport) -> None:
        done = report.added_embeddings + report.embeddings_already_there
        print(f"{done} embeddings of {report.images} images", file=sys.stderr, flush=True)

    with open_store(source_settings) as source:
        if not source.list_models():
            raise SettingsError(f"There is no library to copy at {mask_url(url)}. Check --copy-from.")
        report = copy_library(source, store, show_progress)
    for sentence in report.failures:
        print(sentence, file=sys.stderr)
    print(
        f"copied {report.added_images} images and {report.added_embeddings} embeddings, "
        f"already there {report.embeddings_already_there} embeddings, failed {len(report.failures)}"
    )
    if report.images_without_embedding:
        print(f"{report.images_without_embedding} images of no model stay behind; register them.", file=sys.stderr)
    return Exit.SOME_FAILED if report.failures or report.images_without_embedding else Exit.EVERYTHING_IS_IN


def choose_source(settings: Settings, url: str, originals_url: str) -> Settings:
    """Settings of the library to copy from; oracle:// stands for DB_USER, DB_PASSWORD and DB_DSN."""
    source = replace(settings, database_url=url, originals_url=originals_url, db_user="", db_password="", db_dsn="")
    parts = urlsplit(url)
    if parts.scheme == "oracle":
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        dsn = parts.netloc.rpartition("@")[2] + parts.path
        source = replace(source, database_url="", db_user=user, db_password=password, db_dsn=dsn)
    if (source.database_url, source.db_user, source.db_dsn) == (
        settings.database_url,
        settings.db_user,
        settings.db_dsn,
    ):
        raise SettingsError("--copy-from names the library that is set already. Name the one to copy from.")
    return source
