"""The three scripts, for a clone: their options, and what each of them runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from image_search.cli import Exit, library, run
from image_search.cli.options import (
    add_answer_options,
    add_model_options,
    add_oracle_options,
    add_register_options,
    load_settings,
)
from image_search.cli.recognition import print_text, read_texts
from image_search.cli.register import change_oracle, copy, list_models, register, remove_model
from image_search.cli.search import add_query_options, print_tags, search
from image_search.settings import SAMPLES, Settings
from image_search.stores import open_store
from image_search.stores.base import ImageStore

# ImageSearch.py


def search_or_serve(arguments: Sequence[str] | None, description: str | None) -> Exit:
    """Serve the page without arguments, else search or check."""
    options = parse_search_options(arguments, description)
    return run("ImageSearch.py", lambda: _search_or_serve(load_settings(), options))


def _search_or_serve(settings: Settings, options: argparse.Namespace) -> Exit:
    if options.check:
        from image_search.cli.health import check

        return check(settings, options)
    if options.read:
        return print_text(settings, options.read, as_json=options.json)
    if options == parse_search_options([]):
        from image_search.cli.serve import serve_page

        serve_page(settings)
    return print_tags(settings, options.tags) if options.tags else search(settings, options)


def parse_search_options(arguments: Sequence[str] | None, description: str | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s [options] [words ...]",
    )
    add_query_options(parser)
    add_answer_options(parser)
    others = parser.add_argument_group("instead of a search")
    others.add_argument("--tags", type=Path, metavar="FILE", help="print the likeliest tags of an image")
    others.add_argument("--read", type=Path, metavar="FILE", help="print the text inside an image")
    others.add_argument("--check", action="store_true", help="check database, model, disk and port")
    others.add_argument("--deep", action="store_true", help="with --check: read every original and preview")
    others.add_argument("--repair", action="store_true", help="with --check: repair lost and orphaned originals")
    options = parser.parse_args(arguments)
    if (options.deep or options.repair) and not options.check:
        parser.error("--deep and --repair belong to --check")
    return options


# register_images.py


def register_or_maintain(arguments: Sequence[str] | None, description: str | None) -> Exit:
    """Register the paths, or do what the options ask for instead."""
    options = parse_register_options(arguments, description)
    return run("register_images.py", lambda: _register_or_maintain(load_settings(options.model), options))


def _register_or_maintain(settings: Settings, options: argparse.Namespace) -> Exit:
    if options.create_schema or options.migrate or options.vector_index:
        return change_oracle(settings, options)
    with open_store(settings) as store:
        if options.list_models:
            return list_models(store)
        if options.remove_model:
            return remove_model(store, options.remove_model)
        if options.copy_from:
            return copy(store, settings, options.copy_from, options.originals_from)
        if options.read_text:
            return read_texts(store, settings, options)
        done = _maintain(store, options)
        if done is not None:
            return done
        return register(store, settings, options)


def _maintain(store: ImageStore, options: argparse.Namespace) -> Exit | None:
    if options.prune:
        return library.prune(store, options.paths or [SAMPLES], options.yes)
    if options.list_trash:
        return library.list_trash(store)
    if options.restore:
        return library.restore(store, options.restore)
    if options.empty_trash:
        return library.empty_trash(store)
    if options.forget_deleted:
        return library.forget_deleted(store)
    if options.remove_samples:
        return library.remove_samples(store, SAMPLES)
    if options.write_sidecars:
        return library.save_sidecars(store, options.paths)
    return None


def parse_register_options(arguments: Sequence[str] | None, description: str | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s [options] [PATH ...]",
    )
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="folders and files (default: images/)")
    add_register_options(parser)
    parser.add_argument("--read-text", action="store_true", help="read the text inside registered images")
    models = parser.add_argument_group("models")
    add_model_options(models)
    models.add_argument("--list-models", action="store_true", help="list the models of the library")
    models.add_argument("--remove-model", metavar="ID", type=int, help="remove a model's embeddings, see --list-models")
    pruning = parser.add_argument_group("clearing up")
    pruning.add_argument("--prune", action="store_true", help="list images below PATH whose file no longer exists")
    pruning.add_argument("--yes", action="store_true", help="with --prune: move them to the trash")
    pruning.add_argument("--remove-samples", action="store_true", help="move the samples of images/ to the trash")
    pruning.add_argument("--list-trash", action="store_true", help="list the images in the trash")
    pruning.add_argument("--restore", metavar="ID", type=int, nargs="+", help="restore images from the trash")
    pruning.add_argument("--empty-trash", action="store_true", help="remove the images in the trash for good")
    pruning.add_argument("--forget-deleted", action="store_true", help="allow deleted images to be registered again")
    moving = parser.add_argument_group("moving")
    moving.add_argument(
        "--write-sidecars",
        action="store_true",
        help="write your captions, keywords and ratings beside the files below PATH (default: of all images)",
    )
    moving.add_argument("--copy-from", metavar="URL", help="copy the library of this DATABASE_URL into the one set")
    moving.add_argument("--originals-from", metavar="URL", default="", help="its ORIGINALS_URL, if it had one")
    add_oracle_options(parser.add_argument_group("Oracle Database"))
    return parser.parse_args(arguments)


# update_description_by_extracted_text_chunk.py


def refresh_metadata(arguments: Sequence[str] | None, description: str | None) -> Exit:
    """Read the metadata of the files again."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path, default=[SAMPLES], help="files and folders (default: images)")
    options = parser.parse_args(arguments)

    def refresh() -> Exit:
        settings = load_settings()
        with open_store(settings) as store:
            return library.refresh_metadata(store, settings, options)

    return run("update_description_by_extracted_text_chunk.py", refresh)
