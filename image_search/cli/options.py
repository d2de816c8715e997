"""Options that the scripts and the commands of image-search share; importing it loads no model and no driver."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from image_search.settings import Settings


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
