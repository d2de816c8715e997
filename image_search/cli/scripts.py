"""The three scripts: what each of them runs, and their options, which the commands of image-search share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from image_search.cli import Exit, library
from image_search.cli.console import prepare_output, run
from image_search.cli.recognition import forget_recognized, print_text, read_texts
from image_search.cli.register import change_oracle, copy, list_models, register, remove_model
from image_search.cli.search import add_query_options, print_tags, search
from image_search.settings import SAMPLES, Settings
from image_search.stores import open_store
from image_search.stores.base import ImageStore

# ImageSearch.py


def search_or_serve(arguments: Sequence[str] | None, description: str | None) -> Exit:
    """Serve the page without arguments, else search or check."""
    prepare_output()
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
    prepare_output()
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
        if options.forget_text:
            return forget_recognized(store)
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
    parser.add_argument("--forget-text", action="store_true", help="forget the text that was read inside images")
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
    prepare_output()
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path, default=[SAMPLES], help="files and folders (default: images)")
    options = parser.parse_args(arguments)

    def refresh() -> Exit:
        settings = load_settings()
        with open_store(settings) as store:
            return library.refresh_metadata(store, settings, options)

    return run("update_description_by_extracted_text_chunk.py", refresh)


# Options that the scripts share with the commands of image-search.


def add_answer_options(parser: argparse.ArgumentParser) -> None:
    """How the results of a search are given."""
    answers = parser.add_argument_group("answers")
    answers.add_argument("--json", action="store_true", help="one JSON object a line")
    answers.add_argument("--out", type=Path, metavar="DIR", help="copy what was found into a new folder below DIR")


def add_register_options(parser: argparse.ArgumentParser) -> None:
    """How files are registered."""
    add_json_option(parser)
    parser.add_argument("--batch-size", type=_parse_batch_size, metavar="N", help="images given to the model at once")
    parser.add_argument(
        "--include-deleted", action="store_true", help="also register images deleted from the library earlier"
    )
    parser.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="PATTERN",
        help="skip files and folders that match, as in .gitignore; may be repeated; see .imagesearchignore in the docs",
    )
    parser.add_argument("--watch", action="store_true", help="keep running and register new files, until Ctrl-C")
    add_shard_option(parser)


def add_json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the summary as one JSON object")


def add_shard_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--shard",
        type=_parse_shard,
        default=(1, 1),
        metavar="I/N",
        help="do share I of N, when N machines divide the work",
    )


def add_model_options(group: argparse._ActionsContainer) -> None:
    """With which model images are registered."""
    group.add_argument("--model", metavar="MODEL", help="use this folder or model id instead of EMBEDDING_MODEL")
    group.add_argument("--make-current", action="store_true", help="search with this model from now on")
    group.add_argument(
        "--repair", action="store_true", help="remake previews and embeddings of an older version of the program"
    )


def add_oracle_options(group: argparse._ActionsContainer) -> None:
    """Tables and vector index of an Oracle Database."""
    group.add_argument("--create-schema", action="store_true", help="create the tables, or add what they lack")
    group.add_argument("--print", action="store_true", help="with --create-schema: print the SQL and run nothing")
    group.add_argument("--migrate", action="store_true", help="convert the tables of the original application")
    group.add_argument("--dry-run", action="store_true", help="with --migrate: report the changes and make none")
    group.add_argument(
        "--adopt", action="store_true", help="with --migrate: keep the existing embeddings as EMBEDDING_MODEL's"
    )
    group.add_argument(
        "--vector-index", choices=("auto", "ivf", "hnsw", "none"), help="create, rebuild or drop the vector index"
    )


def load_settings(model: str | None = None) -> Settings:
    """Settings of this run, with the model of --model. Raises SettingsError."""
    settings = Settings.load()
    return replace(settings, embedding_model=model, embedding_model_revision="") if model else settings


def _parse_batch_size(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 4096:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 4096")
    return int(text)


def _parse_shard(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    if not (number.isascii() and number.isdigit() and count.isascii() and count.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 2/3")
    if not 1 <= int(number) <= int(count):
        raise argparse.ArgumentTypeError(f"{text!r}: the first number is from 1 to the second")
    return int(number), int(count)
