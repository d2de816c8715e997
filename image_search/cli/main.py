"""image-search, or python -m image_search: everything the three scripts do, as commands."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from image_search import __version__
from image_search.cli import Exit, library, prepare_output, run, write_line
from image_search.cli.library import forget_recognized, print_text, read_texts
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
    """Options for the output of a search."""
    answers = parser.add_argument_group("answers")
    answers.add_argument("--json", action="store_true", help="one JSON object a line")
    answers.add_argument("--out", type=Path, metavar="DIR", help="copy what was found into a new folder below DIR")


def add_register_options(parser: argparse.ArgumentParser) -> None:
    """Options for registering files."""
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
    """Options for the model that images are registered with."""
    group.add_argument("--model", metavar="MODEL", help="use this folder or model id instead of EMBEDDING_MODEL")
    group.add_argument("--make-current", action="store_true", help="search with this model from now on")
    group.add_argument(
        "--repair", action="store_true", help="remake previews and embeddings of an older version of the program"
    )


def add_oracle_options(group: argparse._ActionsContainer) -> None:
    """Options for the tables and the vector index of an Oracle Database."""
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


_EPILOG = """\
examples:
  image-search register ~/Pictures        make the images of a folder searchable
  image-search search 夕焼けの海          search by words, by an image, or by both
  image-search search --image cat.jpg     the images most like this one
  image-search serve                      the page, http://127.0.0.1:8899
  image-search check                      find problems and suggest fixes

Settings come from the environment and from .env. An installed program looks for .env, and keeps data/, in the current
folder; a clone uses its own folder. Every command has its own --help.

exit codes:
  0 done, 1 nothing was found or some files failed, 2 it could not run, 130 ended by Ctrl-C
"""

Command = Callable[[Settings, argparse.Namespace], Exit]


def main(arguments: Sequence[str] | None = None) -> Exit:
    """Run one command. Returns the exit code."""
    prepare_output()
    options = build_parser().parse_args(arguments)
    command: Command = options.run
    return run(
        f"image-search {options.command}", lambda: command(load_settings(getattr(options, "model", None)), options)
    )


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each sets the function that runs it as `run`."""
    parser = argparse.ArgumentParser(
        prog="image-search",
        description="類似画像検索: an image search you run yourself.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")

    def add(name: str, command: Command, summary: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        added.set_defaults(run=command)
        return added

    add("serve", _serve, "serve the page, the REST API and MCP until Ctrl-C; APP_HOST and APP_PORT set the address")
    command = add("search", search, "search by words, by an image, or by both")
    add_query_options(command)
    add_answer_options(command)
    command = add("tags", lambda settings, given: print_tags(settings, given.file), "print an image's likeliest tags")
    command.add_argument("file", type=Path, metavar="FILE")
    command = add("text", _text, "print the text inside an image, or read that of all registered images")
    command.add_argument("file", type=Path, metavar="FILE", nargs="?", help="default: every image not read yet")
    command.add_argument("--forget", action="store_true", help="forget the text of all registered images")
    add_json_option(command)
    add_shard_option(command)
    command = add("check", _check, "find problems and suggest fixes")
    command.add_argument("--json", action="store_true", help="one JSON object a line")
    command.add_argument("--deep", action="store_true", help="read every original and preview")
    command.add_argument("--repair", action="store_true", help="repair lost and orphaned originals")

    command = add("register", _in_library(register), "register images and films, each once; safe to run again")
    command.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="folders and files (default: the samples)")
    add_register_options(command)
    add_model_options(command)
    command = add("refresh", _in_library(library.refresh_metadata), "read metadata of registered images again")
    command.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="files and folders")
    command = add(
        "sidecars",
        _in_library(lambda store, _, given: library.save_sidecars(store, given.paths)),
        "write your captions, keywords and ratings into XMP files beside the images",
    )
    command.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="only below these (default: all images)")
    command = add(
        "models",
        _in_library(
            lambda store, _, given: list_models(store) if given.remove is None else remove_model(store, given.remove)
        ),
        "list the models of the library, or remove one",
    )
    command.add_argument("--remove", metavar="ID", type=int, help="remove a model and its embeddings")
    command = add(
        "prune",
        _in_library(lambda store, _, given: library.prune(store, given.paths, given.yes)),
        "list images whose file no longer exists, or move them to the trash",
    )
    command.add_argument("paths", nargs="+", type=Path, metavar="FOLDER")
    command.add_argument("--yes", action="store_true", help="move them to the trash")
    command = add("trash", _in_library(_trash), "list the trash, restore images from it, or empty it")
    choice = command.add_mutually_exclusive_group()
    choice.add_argument("--restore", metavar="ID", type=int, nargs="+", help="restore these images")
    choice.add_argument("--empty", action="store_true", help="remove the images in the trash for good")
    choice.add_argument("--forget-deleted", action="store_true", help="allow deleted images to be registered again")
    choice.add_argument("--samples", action="store_true", help="move the sample images to the trash")

    command = add(
        "copy",
        _in_library(lambda store, settings, given: copy(store, settings, given.url, given.originals_from)),
        "copy another library into this one, without any model",
    )
    command.add_argument("url", metavar="URL", help="its DATABASE_URL; oracle://USER:PASSWORD@DSN for Oracle Database")
    command.add_argument("--originals-from", metavar="URL", default="", help="its ORIGINALS_URL, if it had one")
    command = add("oracle", change_oracle, "create or migrate the tables of an Oracle Database, or its vector index")
    add_oracle_options(command)
    command = add("backup", _backup, "copy the database of a SQLite library to a file; it may be in use meanwhile")
    command.add_argument("file", type=Path, metavar="FILE")
    command = add("restore", _restore, "replace a SQLite library, which must not be in use, by a backup")
    command.add_argument("file", type=Path, metavar="FILE")
    return parser


def _in_library(work: Callable[[ImageStore, Settings, argparse.Namespace], Exit]) -> Command:
    """A command that runs with the library open."""

    def command(settings: Settings, options: argparse.Namespace) -> Exit:
        with open_store(settings) as store:
            return work(store, settings, options)

    return command


def _text(settings: Settings, options: argparse.Namespace) -> Exit:
    if options.file:
        return print_text(settings, options.file, as_json=options.json)
    if options.forget:
        return _in_library(lambda store, *_: forget_recognized(store))(settings, options)
    return _in_library(read_texts)(settings, options)


def _trash(store: ImageStore, _: Settings, options: argparse.Namespace) -> Exit:
    if options.restore:
        return library.restore(store, options.restore)
    if options.empty:
        return library.empty_trash(store)
    if options.forget_deleted:
        return library.forget_deleted(store)
    return library.remove_samples(store, SAMPLES) if options.samples else library.list_trash(store)


# These import their modules late: --help would wait for Gradio, FAISS or a driver.


def _serve(settings: Settings, _: argparse.Namespace) -> Exit:
    from image_search.cli.serve import serve_page

    serve_page(settings)


def _check(settings: Settings, options: argparse.Namespace) -> Exit:
    from image_search.cli.health import check

    return check(settings, options)


def _backup(settings: Settings, options: argparse.Namespace) -> Exit:
    from image_search.cli.library import back_up

    write_line(back_up(settings, options.file))
    return Exit.OK


def _restore(settings: Settings, options: argparse.Namespace) -> Exit:
    from image_search.cli.library import restore_backup

    write_line(restore_backup(settings, options.file))
    return Exit.OK
