"""Register pictures: every file below the folders named becomes searchable, each picture once.

    python register_images.py                         the samples in images/
    python register_images.py ~/Pictures scan.tif     folders and files
    python register_images.py --model MODEL           embed what is registered with another model, too
    python register_images.py --copy-from URL         take over a whole library of another engine, without any model
    python register_images.py --write-sidecars        write captions, keywords and ratings of yours beside the files

Exit code: 0 every file is in, 1 some could not be read, 2 it could not run, 130 ended by Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from image_search.cli import Exit
from image_search.errors import ImageSearchError
from image_search.settings import ROOT, Settings

if TYPE_CHECKING:
    from image_search.stores.base import ImageStore

SAMPLES = ROOT / "images"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Returns the exit code."""
    options = parse_arguments(arguments)
    try:
        settings = Settings.load()
        if options.model:
            settings = replace(settings, embedding_model=options.model, embedding_model_revision="")
        return run_command(settings, options)
    except ImageSearchError as error:
        print(f"register_images.py: {error}", file=sys.stderr)
        return Exit.COULD_NOT_RUN
    except KeyboardInterrupt:
        return Exit.INTERRUPTED


def run_command(settings: Settings, options: argparse.Namespace) -> Exit:
    """Do what the options ask for. Drivers and models are imported by the commands that need them."""
    if options.create_schema or options.migrate or options.vector_index:
        from image_search.cli.register import change_oracle

        return change_oracle(settings, options)

    from image_search.cli.register import copy, list_models, register, remove_model
    from image_search.stores import open_store

    with open_store(settings) as store:
        if options.list_models:
            return list_models(store)
        if options.remove_model:
            return remove_model(store, options.remove_model)
        if options.copy_from:
            return copy(store, settings, options.copy_from, options.originals_from)
        if options.read_text:
            from image_search.cli.recognition import read_texts

            return read_texts(store, settings, options)
        done = look_after(store, options)
        if done is not None:
            return done
        # With another model the registered images are what is asked for; their folder need not be there.
        return register(store, settings, options.paths or ([] if options.model else [SAMPLES]), options)


def look_after(store: ImageStore, options: argparse.Namespace) -> Exit | None:
    """Prune, empty the trash and so on; None when none of it is asked for."""
    from image_search.cli import library

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


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Register pictures, each once; run it again as often as you like.")
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="folders and files (default: images/)")
    parser.add_argument("--json", action="store_true", help="print the summary as one JSON object")
    parser.add_argument("--batch-size", type=_parse_batch_size, metavar="N", help="pictures given to the model at once")
    parser.add_argument(
        "--include-deleted", action="store_true", help="take in what was deleted from the library earlier, too"
    )
    parser.add_argument("--watch", action="store_true", help="go on, and register what is new, until Ctrl-C")
    parser.add_argument(
        "--shard",
        type=_parse_shard,
        default=(1, 1),
        metavar="I/N",
        help="of N machines that share the work this is number I",
    )
    models = parser.add_argument_group("models")
    models.add_argument("--model", metavar="MODEL", help="instead of EMBEDDING_MODEL: a folder or a model id")
    models.add_argument("--make-current", action="store_true", help="search with this model from now on")
    models.add_argument(
        "--repair", action="store_true", help="make previews and embeddings of an older version of the program again"
    )
    models.add_argument("--list-models", action="store_true", help="list the models of the library")
    models.add_argument("--remove-model", metavar="ID", type=int, help="remove a model's embeddings, see --list-models")
    parser.add_argument("--read-text", action="store_true", help="read the text inside registered images, see docs")
    pruning = parser.add_argument_group("clearing up")
    pruning.add_argument("--prune", action="store_true", help="list the images below PATH whose file is gone")
    pruning.add_argument("--yes", action="store_true", help="with --prune: move them to the trash")
    pruning.add_argument("--remove-samples", action="store_true", help="move the samples of images/ to the trash")
    pruning.add_argument("--list-trash", action="store_true", help="list the images in the trash")
    pruning.add_argument("--restore", metavar="ID", type=int, nargs="+", help="bring images back from the trash")
    pruning.add_argument("--empty-trash", action="store_true", help="remove what is in the trash for good")
    pruning.add_argument(
        "--forget-deleted", action="store_true", help="forget what was deleted, so that it may be registered again"
    )
    moving = parser.add_argument_group("moving")
    moving.add_argument(
        "--write-sidecars",
        action="store_true",
        help="write captions, keywords and ratings of yours beside the files below PATH (default: of all images)",
    )
    moving.add_argument("--copy-from", metavar="URL", help="copy the library of this DATABASE_URL into the one set")
    moving.add_argument("--originals-from", metavar="URL", default="", help="its ORIGINALS_URL, where it had one")
    oracle = parser.add_argument_group("Oracle Database")
    oracle.add_argument("--create-schema", action="store_true", help="make the tables, or add what they lack")
    oracle.add_argument("--print", action="store_true", help="with --create-schema: print the SQL and run nothing")
    oracle.add_argument("--migrate", action="store_true", help="turn the original application's tables into ours")
    oracle.add_argument("--dry-run", action="store_true", help="with --migrate: say what would be done")
    oracle.add_argument(
        "--adopt", action="store_true", help="with --migrate: the embeddings that are there are EMBEDDING_MODEL's"
    )
    oracle.add_argument(
        "--vector-index", choices=("auto", "ivf", "hnsw", "none"), help="make, rebuild or drop the vector index"
    )
    return parser.parse_args(arguments)


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


if __name__ == "__main__":
    sys.exit(main())
