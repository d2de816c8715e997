"""Register images; list and remove models; copy a library; create and migrate Oracle's tables."""

from __future__ import annotations

import argparse
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

from image_search.cli import Console, Exit, finishing_on_interrupt, write_json, write_line
from image_search.encoders import LazyEncoder, open_encoder
from image_search.errors import SettingsError, StoreError
from image_search.library import choose_model, remember_folder, replace_empty_model, switch_model
from image_search.records import EmbeddingModel
from image_search.registration import Registrar, RegistrationReport
from image_search.registration.files import describe_unread, find_files, suggest_packages
from image_search.registration.folders import watch_folders
from image_search.registration.pipeline import make_reader
from image_search.registration.rereading import BackgroundReading
from image_search.settings import SAMPLES, Settings, lower_scheme, mask_url, resolve_url, split_url
from image_search.stores import open_store
from image_search.stores.base import ImageStore
from image_search.stores.copy import CopyReport, copy_library

# Register files, and embed registered images.


def register(store: ImageStore, settings: Settings, options: argparse.Namespace) -> Exit:
    """Embed what lacks an embedding of this model, then register options.paths, and go on with options.watch.

    Without paths the samples, and with options.model none: then only what is registered gets its embeddings.
    """
    paths = options.paths or ([] if options.model else [SAMPLES])
    settings = choose_model(settings, store)
    encoder = open_encoder(settings)
    console = Console()
    stop = threading.Event()
    registrar = Registrar(
        store,
        encoder,
        batch_size=lambda: choose_batch_size(encoder, options.batch_size, console.say),
        reader=make_reader(settings),
        on_progress=console.show_progress,
        on_message=console.say,
        stop=stop,
        include_deleted=options.include_deleted,
    )
    model = registrar.model  # a missing model or database is reported before any file is read
    texts = BackgroundReading(store, console.say, settings.max_image_pixels) if settings.read_text else None
    with finishing_on_interrupt(stop):
        try:
            if texts:
                texts.start()
            registrar.embed_missing(options.shard, options.repair)
            if options.watch:
                watch_folders(paths, registrar, stop, console.say, shard=options.shard, exclude=options.exclude)
            else:
                registrar.register(find_files(paths, options.shard, options.exclude))
            if texts:
                texts.finish()
                texts.wait()
        finally:
            if texts:
                texts.stop()
            console.close()
            print_summary(registrar.report, as_json=options.json)
    if stop.is_set():
        return Exit.INTERRUPTED
    remember_folder(store, settings.model)
    announce_model(store, model, settings.model, options.make_current)
    return Exit.SOME_FAILED if registrar.report.failed else Exit.OK


def choose_batch_size(encoder: LazyEncoder, wanted: int | None, say: Callable[[str], None]) -> int:
    """Load the model, and report its device and batch size."""
    size = wanted or encoder.batch_size
    say(f"Model {encoder.name} ({encoder.version}) on {encoder.device} in {encoder.precision}, batches of {size}.")
    return size


def announce_model(store: ImageStore, model: EmbeddingModel, name: str, make_current: bool) -> None:
    """Switch searches to this model, or say that they use another one. name: what opens it."""
    current = store.find_current_model()
    if current and current.model_id == model.model_id:
        return
    if make_current:
        switch_model(store, model, name)
    if make_current or replace_empty_model(store, model, name):
        write_line(f"Searches use {model.name} ({model.version}) from now on.", to_stderr=True)
        write_line("Where EMBEDDING_MODEL is set, name it there, too.", to_stderr=True)
    elif current:
        write_line(f"Searches still use {current.name}; --make-current switches to {model.name}.", to_stderr=True)


def print_summary(report: RegistrationReport, as_json: bool) -> None:
    if as_json:
        counts = {name: getattr(report, name) for name in ("registered", "updated", "failed", "moved", "embedded")}
        counts |= {"already_known": report.known, "deleted_earlier": report.deleted}
        counts |= {"films": report.films, "frames": report.frames, "films_left_out": report.left_out}
        facts = {"not_read": report.unread, "failures": report.failures}
        write_json(counts | facts)
        return
    parts = [f"registered {report.registered}", f"already known {report.known}", f"failed {report.failed}"]
    others = {"updated": report.updated, "moved": report.moved, "embedded": report.embedded}
    others |= {"deleted earlier": report.deleted, "films": report.films, "frames": report.frames}
    others["films left out"] = report.left_out
    parts += [f"{name} {count}" for name, count in others.items() if count]
    write_line(", ".join(parts))
    if report.unread:
        total, kinds = describe_unread(report.unread)
        write_line(f"not read: {total} file{'s' if total > 1 else ''} ({kinds})")
        if packages := suggest_packages(report.unread):
            write_line(packages, to_stderr=True)
    if report.deleted:
        write_line("What was deleted from the library stays out of it; --include-deleted takes it in.", to_stderr=True)


def list_models(store: ImageStore) -> Exit:
    """model_id, name, version, dimension, number of embeddings and "current", a line for each model."""
    for model, count in store.get_status().models:
        mark = "current" if model.is_current else ""
        write_line(model.model_id, model.name, model.version, model.dimension, count, mark, sep="\t")
    return Exit.OK


def remove_model(store: ImageStore, model_id: int) -> Exit:
    """Remove a model that is not the current one, with its embeddings."""
    store.remove_model(model_id)
    write_line(f"Model {model_id} and its embeddings are removed.", to_stderr=True)
    return Exit.OK


def copy(store: ImageStore, settings: Settings, url: str, originals_url: str) -> Exit:
    """Copy another library into this one; run it again after an interruption."""
    source_settings = choose_source(settings, url, originals_url)

    def show_progress(report: CopyReport) -> None:
        done = report.added_embeddings + report.embeddings_already_there
        write_line(f"{done} embeddings of {report.images} images", to_stderr=True)

    with _open_source(source_settings, url) as source:
        report = copy_library(source, store, show_progress)
    for sentence in report.failures:
        write_line(sentence, to_stderr=True)
    write_line(
        f"copied {report.added_images} images and {report.added_embeddings} embeddings, "
        f"already there {report.embeddings_already_there} embeddings, failed {len(report.failures)}"
    )
    if report.images_deleted_there:
        write_line(
            f"{report.images_deleted_there} images were deleted in this library for good and stay so.", to_stderr=True
        )
    if report.images_without_embedding:
        write_line(f"{report.images_without_embedding} images of no model stay behind; register them.", to_stderr=True)
    return Exit.SOME_FAILED if report.failures or report.images_without_embedding else Exit.OK


def choose_source(settings: Settings, url: str, originals_url: str) -> Settings:
    """Settings of the library to copy from; oracle:// stands for DB_USER, DB_PASSWORD and DB_DSN."""
    url = lower_scheme(url.strip())
    if not url:
        raise SettingsError("The address of the library to copy is empty. Write sqlite:///path/library.db for example.")
    source = replace(settings, database_url=url, originals_url=originals_url, db_user="", db_password="", db_dsn="")
    parts = split_url(url, "The address of the library to copy")
    if parts.scheme == "oracle":
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        dsn = parts.netloc.rpartition("@")[2] + parts.path
        source = replace(source, database_url="", db_user=user, db_password=password, db_dsn=dsn)
    addresses = [resolve_url(either.database_url, Path.cwd()) for either in (source, settings)]
    if (addresses[0], source.db_user, source.db_dsn) == (addresses[1], settings.db_user, settings.db_dsn):
        raise SettingsError("This is the address of the library that is set already. Name the one to copy from.")
    return source


def _open_source(settings: Settings, url: str) -> ImageStore:
    """Open the library to copy. Errors name its address, where those of the stores name the settings."""
    source = None
    try:
        source = open_store(settings)
        path = getattr(source, "path", None)  # of a SQLite library, which would be made
        if (isinstance(path, Path) and not path.exists()) or not source.list_models():
            raise SettingsError(f"There is no library to copy at {mask_url(url)}. Check this address.")
    except (SettingsError, StoreError) as error:
        if source is not None:
            source.close()
        sentence = re.sub(r"\b(DATABASE_URL|DB_DSN)\b", "the address of the library to copy", str(error))
        raise type(error)(sentence[:1].upper() + sentence[1:]) from error
    return source


# Make, migrate and index the tables of an Oracle Database.


def change_oracle(settings: Settings, options: argparse.Namespace) -> Exit:
    """Create or migrate the tables of an Oracle Database, or its vector index; other engines do so when opened."""
    from image_search.stores.oracle.health import check_word_index
    from image_search.stores.oracle.migration import migrate
    from image_search.stores.oracle.schema import create_schema, set_vector_index

    if not (options.create_schema or options.migrate or options.vector_index):
        raise SettingsError("Nothing to do. Name --create-schema, --migrate or --vector-index.")
    if not settings.uses_oracle and not options.print:
        raise SettingsError("This is for Oracle Database. Set DB_USER, DB_PASSWORD and DB_DSN, see .env.example.")
    if options.create_schema:
        for statement in create_schema(settings, options.print):
            write_line(statement if options.print else statement.splitlines()[0])
        if not options.print:
            found = check_word_index(settings)
            write_line(f"Word index: {found.what}. {found.remedy}".rstrip())
    if options.migrate:
        read_image = make_reader(settings).read_bytes
        adopted = find_identity(settings) if options.adopt else None
        for sentence in migrate(settings, read_image, options.dry_run, adopted):
            write_line(sentence)
    if options.vector_index:
        write_line(set_vector_index(settings, options.vector_index))
    return Exit.OK


def find_identity(settings: Settings) -> tuple[str, str, int]:
    """Name, version and dimension of EMBEDDING_MODEL."""
    encoder = open_encoder(settings)
    return encoder.name, encoder.version, encoder.dimension
