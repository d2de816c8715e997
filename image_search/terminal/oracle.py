"""Make, migrate and index the tables of an Oracle Database."""

from __future__ import annotations

import argparse

from image_search.encoders import open_encoder
from image_search.errors import SettingsError
from image_search.registration import ImageReader
from image_search.settings import Settings
from image_search.stores.oracle_migration import migrate
from image_search.stores.oracle_schema import create_schema
from image_search.stores.oracle_vector_index import set_vector_index
from image_search.terminal import Exit


def change_oracle(settings: Settings, options: argparse.Namespace) -> Exit:
    """Make or migrate the tables of an Oracle Database, or its vector index; other engines look after theirs."""
    if not settings.uses_oracle and not options.print:
        raise SettingsError("This is for Oracle Database. Set DB_USER, DB_PASSWORD and DB_DSN, see .env.example.")
    if options.create_schema:
        for statement in create_schema(settings, options.print):
            print(statement if options.print else statement.splitlines()[0], flush=True)
    if options.migrate:
        read_image = ImageReader(settings.max_image_pixels, settings.read_gps).read_bytes
        adopted = find_identity(settings) if options.adopt else None
        for sentence in migrate(settings, read_image, options.dry_run, adopted):
            print(sentence, flush=True)
    if options.vector_index:
        print(set_vector_index(settings, options.vector_index))
    return Exit.EVERYTHING_IS_IN


def find_identity(settings: Settings) -> tuple[str, str, int]:
    """Name, version and dimension of EMBEDDING_MODEL."""
    encoder = open_encoder(settings)
    return encoder.name, encoder.version, encoder.dimension
