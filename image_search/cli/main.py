"""image-search, or python -m image_search: everything the three scripts do, as commands."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from image_search import __version__
from image_search.cli import Exit, library
from image_search.cli.console import prepare_output, run, write_line
from image_search.cli.recognition import forget_recognized, print_text, read_texts
from image_search.cli.register import change_oracle, copy, list_models, register, remove_model
from image_search.cli.scripts import (
    add_answer_options,
    add_json_option,
    add_model_options,
    add_oracle_options,
    add_register_options,
    add_shard_option,
    load_settings,
)
from image_search.cli.search import add_query_options, print_tags, search
from image_search.settings import SAMPLES, Settings
from image_search.stores import open_store
from image_search.stores.base import ImageStore

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
    from image_search.cli.backup import back_up

    write_line(back_up(settings, options.file))
    return Exit.OK


def _restore(settings: Settings, options: argparse.Namespace) -> Exit:
    from image_search.cli.backup import restore_backup

    write_line(restore_backup(settings, options.file))
    return Exit.OK
