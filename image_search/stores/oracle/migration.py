"""Turn the tables of the original application into those of create_all_tables.sql, keeping images and embeddings.

The tables stay where they are: columns are added, filled and then made mandatory. Duplicates in the way of the unique
keys are counted first; a dry run ends there. Each step may be run again, so an interrupted migration is simply
started again. Only duplicates and orphaned rows are deleted.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor

from image_search.errors import SchemaError, UnreadableImage
from image_search.records import NewImage
from image_search.settings import Settings
from image_search.stores.oracle.connection import Row, Session, connect
from image_search.stores.oracle.schema import (
    check_release,
    create_schema,
    find_indexes,
    find_version,
    read_statements,
    read_tables,
    rewrite_texts,
    run_statements,
    set_vector_index,
)
from image_search.stores.reads import SCHEMA_VERSION

# Statements that turn the tables of the original application into those of create_all_tables.sql.
#
# Definitions of columns and constraints are not written here: they are read from that file. Everything may be run
# again.

FIND_COLUMNS = """
SELECT c.table_name, c.column_name, c.nullable, c.data_default_vc, c.char_length, c.char_used
FROM user_tab_columns c
ORDER BY c.table_name, c.column_id"""

FIND_CONSTRAINTS = """
SELECT c.table_name, c.constraint_name, c.constraint_type, c.delete_rule
FROM user_constraints c
WHERE c.constraint_type IN ('P', 'R', 'U', 'C')"""

# The original application's word indexes know no Japanese; one over all texts takes their place.
FIND_OLD_INDEXES = """
SELECT x.index_name, x.index_type
FROM user_indexes x
WHERE x.index_type = 'DOMAIN' AND x.index_name IN ('IDX_IMAGE_PROMPT', 'IDX_IMAGE_DESCRIPTION')"""

# --- duplicates and orphans: counted before anything is changed ---

COUNT_PROBLEMS = {
    "models that are listed twice": """
SELECT COUNT(*)
FROM embedding_models m
WHERE m.model_id > (SELECT MIN(f.model_id) FROM embedding_models f
                    WHERE f.model_name = m.model_name AND f.model_version = m.model_version)""",
    "models that are marked as current beside another": """
SELECT COUNT(*)
FROM embedding_models m
WHERE m.is_current = 'Y'
  AND m.model_id > (SELECT MIN(f.model_id) FROM embedding_models f WHERE f.is_current = 'Y')""",
    "embeddings that are stored twice": """
SELECT COUNT(*)
FROM image_embeddings e
WHERE e.embedding_id < (SELECT MAX(l.embedding_id) FROM image_embeddings l
                        WHERE l.image_id = e.image_id AND l.model_id = e.model_id AND l.embedding IS NOT NULL)""",
    "embeddings that are empty or belong to nothing": """
SELECT COUNT(*)
FROM image_embeddings e
WHERE e.image_id IS NULL OR e.model_id IS NULL OR e.embedding IS NULL""",
    "descriptions beside a newer one of the same image": """
SELECT COUNT(*)
FROM image_descriptions d
WHERE d.description_id < (SELECT MAX(l.description_id) FROM image_descriptions l
                          WHERE l.image_id = d.image_id AND l.description IS NOT NULL)""",
    "descriptions that are empty or belong to nothing": """
SELECT COUNT(*)
FROM image_descriptions d
WHERE d.image_id IS NULL OR d.description IS NULL""",
}

# These cannot be repaired here: the right value is unknown.
COUNT_OBSTACLES = {
    "models have no name, version or dimension. Fill in EMBEDDING_MODELS": """
SELECT COUNT(*)
FROM embedding_models m
WHERE m.model_name IS NULL OR m.model_version IS NULL OR m.vector_dimension IS NULL""",
    "embeddings have another dimension than their model says. Correct VECTOR_DIMENSION or delete them": """
SELECT COUNT(*)
FROM image_embeddings e
JOIN embedding_models m ON m.model_id = e.model_id
WHERE VECTOR_DIMENSION_COUNT(e.embedding) <> m.vector_dimension""",
    "images have no bytes. Delete them": """
SELECT COUNT(*)
FROM images i
WHERE i.image_data IS NULL""",
}

# Distances are only right for vectors of length 1; these go on working, and are better embedded again.
COUNT_UNNORMALISED = """
SELECT COUNT(*)
FROM image_embeddings e
WHERE ABS(VECTOR_NORM(e.embedding) - 1) > 0.01"""

# --- repairs, in this order ---

REPAIRS = (
    """
UPDATE image_embeddings e
SET e.model_id = (SELECT MIN(f.model_id)
                  FROM embedding_models f
                  JOIN embedding_models m ON m.model_name = f.model_name AND m.model_version = f.model_version
                  WHERE m.model_id = e.model_id)
WHERE e.model_id IN (SELECT m.model_id
                     FROM embedding_models m
                     WHERE m.model_id > (SELECT MIN(f.model_id) FROM embedding_models f
                                         WHERE f.model_name = m.model_name AND f.model_version = m.model_version))""",
    """
UPDATE embedding_models m
SET m.is_current = 'Y'
WHERE m.model_id IN (SELECT MIN(f.model_id)
                     FROM embedding_models f
                     JOIN embedding_models c ON c.model_name = f.model_name AND c.model_version = f.model_version
                     WHERE c.is_current = 'Y'
                     GROUP BY f.model_name, f.model_version)""",
    """
DELETE FROM embedding_models m
WHERE m.model_id > (SELECT MIN(f.model_id) FROM embedding_models f
                    WHERE f.model_name = m.model_name AND f.model_version = m.model_version)""",
    """
UPDATE embedding_models m
SET m.is_current = 'N'
WHERE m.is_current IS NULL
   OR m.is_current = 'Y'
  AND m.model_id > (SELECT MIN(f.model_id) FROM embedding_models f WHERE f.is_current = 'Y')""",
    """
DELETE FROM image_embeddings e
WHERE e.image_id IS NULL OR e.model_id IS NULL OR e.embedding IS NULL
   OR e.embedding_id < (SELECT MAX(l.embedding_id) FROM image_embeddings l
                        WHERE l.image_id = e.image_id AND l.model_id = e.model_id AND l.embedding IS NOT NULL)""",
    """
DELETE FROM image_descriptions d
WHERE d.image_id IS NULL OR d.description IS NULL
   OR d.description_id < (SELECT MAX(l.description_id) FROM image_descriptions l
                          WHERE l.image_id = d.image_id AND l.description IS NOT NULL)""",
    """
UPDATE images i
SET i.file_name = COALESCE(i.file_name, 'image' || i.image_id),
    i.upload_date = COALESCE(i.upload_date, SYS_EXTRACT_UTC(SYSTIMESTAMP))
WHERE i.file_name IS NULL OR i.upload_date IS NULL""",
)

# --- images, one after another: what SQL cannot know is read from the bytes ---

# Described by a migration that broke off.
LIST_DESCRIBED = """
SELECT i.image_id, i.content_sha256
FROM images i
WHERE i.content_sha256 IS NOT NULL
ORDER BY i.image_id"""

COUNT_IMAGES = """
SELECT COUNT(*)
FROM images i"""

READ_IMAGES = """
SELECT i.image_id, i.file_name, i.image_data
FROM images i
WHERE i.image_id > :after_id
ORDER BY i.image_id
FETCH FIRST :max_rows ROWS ONLY"""

DESCRIBE_IMAGE = """
UPDATE images
SET content_sha256 = :sha256,
    file_type = :file_type,
    byte_size = :byte_size,
    width = :width,
    height = :height,
    preview = :preview
WHERE image_id = :image_id"""

# Of two images with the same bytes the older one stays, and takes over what it lacks.
MERGE_IMAGES = (
    """
UPDATE image_embeddings e
SET e.image_id = :kept
WHERE e.image_id = :removed
  AND NOT EXISTS (SELECT 1 FROM image_embeddings k WHERE k.image_id = :kept AND k.model_id = e.model_id)""",
    """
DELETE FROM image_embeddings
WHERE image_id = :removed""",
    """
UPDATE image_descriptions d
SET d.image_id = :kept
WHERE d.image_id = :removed
  AND NOT EXISTS (SELECT 1 FROM image_descriptions k WHERE k.image_id = :kept)""",
    """
DELETE FROM image_descriptions
WHERE image_id = :removed""",
    """
UPDATE images i
SET i.generation_prompt = (SELECT o.generation_prompt FROM images o WHERE o.image_id = :removed)
WHERE i.image_id = :kept AND i.generation_prompt IS NULL""",
    """
DELETE FROM images
WHERE image_id = :removed""",
)

# The model the embeddings were made with goes on under the name this program gives it.
ADOPT_MODEL = """
UPDATE embedding_models
SET model_name = :model_name, model_version = :model_version
WHERE is_current = 'Y' AND vector_dimension = :dimension"""


ReadImage = Callable[[bytes, str], NewImage]

_BATCH = 20  # originals in memory at once
_READERS = os.cpu_count() or 1  # decoding releases the interpreter
_REPORT_SECONDS = 30.0


def migrate(
    settings: Settings, read_image: ReadImage, dry_run: bool = False, adopt: tuple[str, str, int] | None = None
) -> Iterator[str]:
    """Migrate the schema of DB_USER. Yields a sentence for everything that was found and done.

    read_image: decodes the bytes of an image with this file name; raises UnreadableImage.
    adopt: name, version and dimension of the model that made the embeddings marked as current, so that searches use
    them; without it they are kept under the name they have.
    Raises SchemaError when something has to be put right by hand first, StoreError when the database fails.
    """
    with connect(settings) as session:
        check_release(session)
        version = find_version(session)
        if version is not None:
            if version >= SCHEMA_VERSION:
                yield f"The schema is up to date (version {version}). Nothing was changed."
            elif dry_run:
                yield f"The schema has version {version} and would become version {SCHEMA_VERSION}."
            else:
                yield from (statement.splitlines()[0] for statement in create_schema(settings))
                yield f"The schema now has version {SCHEMA_VERSION}."
            return
        yield "Stop the original application before its tables change: its inserts fail afterwards (ORA-01400)."
        yield from _find_problems(session)
        if dry_run:
            doubles = yield from _examine_images(session, read_image, is_stored=False)
            yield f"{len(doubles)} images have the same bytes as an older one. Nothing was changed."
            return
        session.execute("ALTER SESSION SET DDL_LOCK_TIMEOUT = 30")
        yield from _drop_old_indexes(session)
        yield from _add_columns(session)
        for statement in REPAIRS:
            session.execute(statement)
        session.connection.commit()
        doubles = yield from _examine_images(session, read_image, is_stored=True)
        _merge_doubles(session, doubles)
        yield f"{len(doubles)} images with the same bytes as an older one were merged into it."
        if adopt is not None:
            name, version_name, dimension = adopt
            binds = {"model_name": name, "model_version": version_name, "dimension": dimension}
            adopted = session.execute(ADOPT_MODEL, binds)
            relation = "now belong to" if adopted else "are of another dimension than"
            yield f"The embeddings {relation} {name} ({version_name})."
        session.connection.commit()
        # Before the script makes its indexes: a column under an index of DESC or of words cannot be modified.
        tables = [statement for statement in read_statements() if statement.startswith("CREATE TABLE")]
        for _ in run_statements(session, tables):
            pass
        rewrite_texts(session)
        yield from _tighten(session)
        has_vector_index = find_indexes(session).vector_name is not None
    for statement in create_schema(settings):
        yield statement.splitlines()[0]
    if has_vector_index:  # that of the original application was built on an empty table
        yield set_vector_index(settings, "auto")
    yield "The schema is migrated. Columns this program does not know were left as they are."


def _find_problems(session: Session) -> Iterator[str]:
    tables = {row[0] for row in session.query(FIND_COLUMNS)}
    missing = {"IMAGES", "EMBEDDING_MODELS", "IMAGE_EMBEDDINGS", "IMAGE_DESCRIPTIONS"} - tables
    if missing:
        raise SchemaError(
            f"There is nothing to migrate: the schema of DB_USER has no table {', '.join(sorted(missing))}. "
            "Run: python register_images.py --create-schema"
        )
    for what, statement in COUNT_OBSTACLES.items():
        if count := session.query(statement)[0][0]:
            raise SchemaError(f"{count} {what}, then run --migrate again.")
    for what, statement in COUNT_PROBLEMS.items():
        yield f"{session.query(statement)[0][0]} {what}."
    if count := session.query(COUNT_UNNORMALISED)[0][0]:
        yield f"{count} embeddings are not of length 1: their distances are wrong until they are embedded again."


def _drop_old_indexes(session: Session) -> Iterator[str]:
    for name, kind in session.query(FIND_OLD_INDEXES):
        session.execute(f'DROP INDEX "{name}"{" FORCE" if kind == "DOMAIN" else ""}')
        yield f"Index {name} dropped."


def _add_columns(session: Session) -> Iterator[str]:
    present = {row[:2] for row in session.query(FIND_COLUMNS)}
    old_tables = {table for table, _ in present}
    for table in read_tables().values():
        for column, definition in table.columns.items():
            if table.name in old_tables and (table.name, column) not in present:
                session.execute(f"ALTER TABLE {table.name} ADD ({definition.removesuffix(' NOT NULL')})")
                yield f"Column {table.name}.{column} added."


def _examine_images(
    session: Session, read_image: ReadImage, is_stored: bool
) -> Generator[str, None, list[tuple[int, int]]]:
    """Read every image, several at once. Returns pairs of image_ids with the same bytes, the older one first.

    is_stored: also store what was read. Raises SchemaError at the end when an image could not be read.
    """

    def examine(row: Row) -> NewImage | UnreadableImage:
        image_id, file_name, data = row
        if not data:
            return UnreadableImage("IMAGE_DATA is an EMPTY_BLOB(): the picture was never stored.")
        try:
            return read_image(data, file_name or f"image{image_id}")
        except UnreadableImage as error:
            return error

    columns = {row[:2] for row in session.query(FIND_COLUMNS)}
    described: dict[int, str] = {}
    if ("IMAGES", "CONTENT_SHA256") in columns:
        described = {image_id: sha256.hex() for image_id, sha256 in session.query(LIST_DESCRIBED)}
    first: dict[str, int] = {}
    for image_id, sha256 in described.items():
        first.setdefault(sha256, image_id)
    doubles = [(first[sha256], image_id) for image_id, sha256 in described.items() if first[sha256] != image_id]
    unreadable: list[int] = []
    total = session.query(COUNT_IMAGES)[0][0]
    progress = _Progress(total - len(described))
    with ThreadPoolExecutor(_READERS) as readers:
        for rows in _iterate(session, READ_IMAGES):
            new = [row for row in rows if row[0] not in described]
            binds = []
            for row, image in zip(new, readers.map(examine, new), strict=True):
                image_id = row[0]
                if isinstance(image, UnreadableImage):
                    unreadable.append(image_id)
                    yield f"Image {image_id}: {image}"
                    continue
                kept = first.setdefault(image.content_sha256, image_id)
                if kept != image_id:
                    doubles.append((kept, image_id))
                binds.append(_bind_description(image_id, image))
            if is_stored:  # each batch for itself: previews of a large library are a large transaction
                session.execute_many(DESCRIBE_IMAGE, binds)
                session.connection.commit()
            yield from progress.report(len(new))
    if unreadable:
        ids = ", ".join(map(str, unreadable[:20]))
        raise SchemaError(
            f"{len(unreadable)} pictures cannot be read, among them image_id {ids}. "
            "Replace their IMAGE_DATA or delete the rows, then run --migrate again."
        )
    return doubles


class _Progress:
    """How far the reading of images is, a sentence twice a minute."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        self._started = self._reported = time.monotonic()

    def report(self, count: int) -> Iterator[str]:
        self._done += count
        now = time.monotonic()
        if now - self._reported >= _REPORT_SECONDS:
            self._reported = now
            left = (now - self._started) / self._done * (self._total - self._done) if self._done else 0
            yield f"{self._done} of {self._total} pictures read, about {left / 60:.0f} minutes left."


def _bind_description(image_id: int, image: NewImage) -> dict[str, object]:
    return {
        "image_id": image_id,
        "sha256": bytes.fromhex(image.content_sha256),
        "file_type": image.file_type,
        "byte_size": image.byte_size,
        "width": image.width,
        "height": image.height,
        "preview": image.preview,
    }


def _merge_doubles(session: Session, doubles: list[tuple[int, int]]) -> None:
    for kept, removed in doubles:
        for statement in MERGE_IMAGES:
            binds = {"kept": kept, "removed": removed}
            session.execute(statement, {name: value for name, value in binds.items() if f":{name}" in statement})
        session.connection.commit()


def _tighten(session: Session) -> Iterator[str]:
    """Add the constraints of create_all_tables.sql that are missing, and give its columns length, default and NOT NULL.

    Columns and constraints that are right already are left alone.
    """
    present = {row[:2]: row[2:] for row in session.query(FIND_COLUMNS)}
    tables = read_tables()
    old_tables = {table for table, _ in present}
    names, with_key = set(), set()
    for table, name, kind, delete_rule in session.query(FIND_CONSTRAINTS):
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
            if (table.name, column) in present:
                changes = _list_changes(definition, *present[table.name, column])
                if changes:
                    session.execute(f"ALTER TABLE {table.name} MODIFY ({column} {changes})")


def _list_changes(
    definition: str, nullable: str, old_default: str | None, char_length: int | None, char_used: str | None
) -> str:
    """The clauses of ALTER TABLE MODIFY: lengths in characters, default, NOT NULL. "" for none.

    Numbers keep their type: Oracle narrows none that has rows. Identities and vectors cannot be modified at all.
    """
    if "IDENTITY" in definition:
        return ""
    length = re.search(r"VARCHAR2\((\d+) (CHAR|BYTE)\)", definition)
    has_length = length and (char_length, char_used) == (int(length[1]), length[2][0])
    default = re.search(r"DEFAULT (.+?)(?= NOT NULL|$)", definition)
    has_default = default and (old_default or "").strip() == default[1]
    mandatory = definition.endswith(" NOT NULL") and nullable == "Y"
    parts = [
        length[0] if length and not has_length else "",
        default[0] if default and not has_default else "",
        "NOT NULL" if mandatory else "",
    ]
    return " ".join(part for part in parts if part)


def _iterate(session: Session, statement: str) -> Iterator[list[Row]]:
    after_id = 0
    while rows := session.query(statement, {"after_id": after_id, "max_rows": _BATCH}):
        yield rows
        after_id = rows[-1][0]
