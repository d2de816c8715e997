"""Turn the tables of the original application into those of create_all_tables.sql, keeping images and embeddings.

The tables stay where they are: columns are added, filled and then made mandatory. What stands in the way of the unique
keys is counted first; a dry run ends there. Each step may be run again, so an interrupted migration is
simply started once more. Nothing is ever deleted but doubles and rows that belong to nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator

from image_search.errors import SchemaError, UnreadableImage
from image_search.records import NewImage
from image_search.settings import Settings
from image_search.stores import oracle_migration_sql as sql
from image_search.stores.oracle_connection import Row, Session, connect
from image_search.stores.oracle_schema import check_release, create_schema, read_tables
from image_search.stores.oracle_words import make_search_text

ReadImage = Callable[[bytes, str], NewImage]

_BATCH = 20  # originals in memory at once


def migrate(
    settings: Settings, read_image: ReadImage, dry_run: bool = False, adopt: tuple[str, str, int] | None = None
) -> Iterator[str]:
    """Migrate the schema of DB_USER. Yields a sentence for everything that was found and done.

    read_image: decodes the bytes of a picture with this file name; raises UnreadableImage.
    adopt: name, version and dimension of the model that made the embeddings marked as current, so that searches use
    them; without it they are kept under the name they have.
    Raises SchemaError when something has to be put right by hand first, StoreError when the database fails.
    """
    with connect(settings) as session:
        check_release(session)
        yield from _find_problems(session)
        if dry_run:
            doubles = yield from _examine_images(session, read_image, is_stored=False)
            yield f"{len(doubles)} images have the same bytes as an older one. Nothing was changed."
            return
        session.execute("ALTER SESSION SET DDL_LOCK_TIMEOUT = 30")
        yield from _drop_old_indexes(session)
        yield from _add_columns(session)
        for statement in sql.REPAIRS:
            session.execute(statement)
        session.connection.commit()
        doubles = yield from _examine_images(session, read_image, is_stored=True)
        _merge_doubles(session, doubles)
        yield f"{len(doubles)} images with the same bytes as an older one were merged into it."
        _fill_search_texts(session)
        if adopt is not None:
            name, version, dimension = adopt
            binds = {"model_name": name, "model_version": version, "dimension": dimension}
            adopted = session.execute(sql.ADOPT_MODEL, binds)
            relation = "now belong to" if adopted else "are of another dimension than"
            yield f"The embeddings {relation} {name} ({version})."
        session.connection.commit()
        yield from _tighten(session)
    for statement in create_schema(settings):
        yield statement.splitlines()[0]
    yield "The schema is migrated. Columns this program does not know were left as they are."


def _find_problems(session: Session) -> Iterator[str]:
    tables = {row[0] for row in session.query(sql.FIND_COLUMNS)}
    missing = {"IMAGES", "EMBEDDING_MODELS", "IMAGE_EMBEDDINGS", "IMAGE_DESCRIPTIONS"} - tables
    if missing:
        raise SchemaError(
            f"There is nothing to migrate: the schema of DB_USER has no table {', '.join(sorted(missing))}. "
            "Run: python register_images.py --create-schema"
        )
    for what, statement in sql.COUNT_OBSTACLES.items():
        if count := session.query(statement)[0][0]:
            raise SchemaError(f"{count} {what}, then run --migrate again.")
    for what, statement in sql.COUNT_PROBLEMS.items():
        yield f"{session.query(statement)[0][0]} {what}."
    if count := session.query(sql.COUNT_UNNORMALISED)[0][0]:
        yield f"{count} embeddings are not of length 1: their distances are wrong until they are embedded again."


def _drop_old_indexes(session: Session) -> Iterator[str]:
    for name, kind in session.query(sql.FIND_OLD_INDEXES):
        session.execute(f'DROP INDEX "{name}"{" FORCE" if kind == "DOMAIN" else ""}')
        yield f"Index {name} dropped."


def _add_columns(session: Session) -> Iterator[str]:
    present = {(table, column) for table, column, _ in session.query(sql.FIND_COLUMNS)}
    old_tables = {table for table, _ in present}
    for table in read_tables().values():
        for column, definition in table.columns.items():
            if table.name in old_tables and (table.name, column) not in present:
                session.execute(f"ALTER TABLE {table.name} ADD ({definition.removesuffix(' NOT NULL')})")
                yield f"Column {table.name}.{column} added."


def _examine_images(
    session: Session, read_image: ReadImage, is_stored: bool
) -> Generator[str, None, list[tuple[int, int]]]:
    """Read every picture. Returns pairs of image_ids with the same bytes, the older one first.

    is_stored: also store what was read. Raises SchemaError at the end when a picture could not be read.
    """
    first: dict[str, int] = {}
    doubles: list[tuple[int, int]] = []
    unreadable: list[int] = []
    for image_id, file_name, data in _iterate(session, sql.READ_IMAGES):
        try:
            image = read_image(data, file_name or f"image{image_id}")
        except UnreadableImage as error:
            unreadable.append(image_id)
            yield f"Image {image_id}: {error}"
            continue
        kept = first.setdefault(image.content_sha256, image_id)
        if kept != image_id:
            doubles.append((kept, image_id))
        if is_stored:
            session.execute(sql.DESCRIBE_IMAGE, _bind_description(image_id, image))
            session.connection.commit()  # each for itself: previews of a large library are a large transaction
    if unreadable:
        ids = ", ".join(map(str, unreadable[:20]))
        raise SchemaError(
            f"{len(unreadable)} pictures cannot be read, among them image_id {ids}. "
            "Replace their IMAGE_DATA or delete the rows, then run --migrate again."
        )
    return doubles


def _bind_description(image_id: int, image: NewImage) -> dict[str, object]:
    return {
        "image_id": image_id,
        "sha256": bytes.fromhex(image.content_sha256),
        "file_type": image.file_type,
        "byte_size": len(image.data),
        "width": image.width,
        "height": image.height,
        "preview": image.preview,
    }


def _merge_doubles(session: Session, doubles: list[tuple[int, int]]) -> None:
    for kept, removed in doubles:
        for statement in sql.MERGE_IMAGES:
            binds = {"kept": kept, "removed": removed}
            session.execute(statement, {name: value for name, value in binds.items() if f":{name}" in statement})
        session.connection.commit()


def _fill_search_texts(session: Session) -> None:
    for image_id, *fields in _iterate(session, sql.READ_TEXTS):
        session.execute(sql.SET_SEARCH_TEXT, {"image_id": image_id, "search_text": make_search_text(fields)})


def _tighten(session: Session) -> Iterator[str]:
    """Add the constraints of create_all_tables.sql that are missing, and make its mandatory columns mandatory."""
    nullable = {(table, column) for table, column, flag in session.query(sql.FIND_COLUMNS) if flag == "Y"}
    tables = read_tables()
    old_tables = {row[0] for row in session.query(sql.FIND_COLUMNS)}
    names, with_key = set(), set()
    for table, name, kind, delete_rule in session.query(sql.FIND_CONSTRAINTS):
        wanted = tables[table].constraints.get(name, "") if table in tables else ""
        if "ON DELETE CASCADE" in wanted and delete_rule != "CASCADE":
            session.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
            continue
        names.add(name)
        if kind == "P":
            with_key.add(table)
    for table in tables.values():
        for name, definition in table.constraints.items():
            is_second_key = " PRIMARY KEY " in definition and table.name in with_key
            if table.name in old_tables and name not in names and not is_second_key:
                session.execute(f"ALTER TABLE {table.name} ADD {definition}")
                yield f"Constraint {name} added."
        for column, definition in table.columns.items():
            changes = _list_changes(definition, (table.name, column) in nullable)
            if table.name in old_tables and changes:
                session.execute(f"ALTER TABLE {table.name} MODIFY ({column} {changes})")


def _list_changes(definition: str, is_nullable: bool) -> str:
    """What ALTER TABLE MODIFY has to say: lengths in characters, default, NOT NULL. "" for nothing.

    Numbers keep their type: Oracle narrows none that has rows. Identities and vectors cannot be modified at all.
    """
    if "IDENTITY" in definition:
        return ""
    length = re.search(r"VARCHAR2\(\d+ (CHAR|BYTE)\)", definition)
    default = re.search(r"DEFAULT (.+?)(?= NOT NULL|$)", definition)
    mandatory = definition.endswith(" NOT NULL") and is_nullable
    kept = [length[0] if length else "", default[0] if default else "", "NOT NULL" if mandatory else ""]
    return " ".join(part for part in kept if part)


def _iterate(session: Session, statement: str) -> Iterator[Row]:
    after_id = 0
    while rows := session.query(statement, {"after_id": after_id, "max_rows": _BATCH}):
        yield from rows
        after_id = rows[-1][0]
