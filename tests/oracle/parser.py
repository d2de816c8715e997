"""A parser of Oracle's SQL that runs anywhere: sqlfluff, which knows the grammar up to 21c.

Additions of 23ai are respelt first: a missing comma or bracket is noticed everywhere but inside the respelt words
themselves.
"""

from __future__ import annotations

import re

from sqlfluff.core import FluffConfig, Linter

from image_search.stores.oracle.schema import write_for_script

RESPELLINGS = [
    (r"\bIF (NOT )?EXISTS\b", ""),
    (r"\bVECTOR\([\d*]+, FLOAT32\)", "BLOB"),
    (r"\bIS JSON\b", "IS NOT NULL"),
    (r"\bCREATE VECTOR INDEX\b", "CREATE INDEX"),
    (r"\bORGANIZATION (NEIGHBOR PARTITIONS|INMEMORY NEIGHBOR GRAPH)\s+DISTANCE DOT\s+WITH TARGET ACCURACY \d+", ""),
    (r"\s+PARAMETERS \(TYPE HNSW, NEIGHBORS \d+, EFCONSTRUCTION \d+\)", ""),
    (r"\bOFFSET :\w+ ROWS FETCH NEXT\b", "FETCH FIRST"),
    (r"\bFETCH APPROX FIRST\b", "FETCH FIRST"),
    (r"\bROWS ONLY WITH TARGET ACCURACY \d+", "ROWS ONLY"),
    (r'^(DROP INDEX "\w+") FORCE$', r"\1"),
    (r"\bv\$", "v_"),
    (r"\(CASE WHEN is_current = 'Y' THEN 1 END\)", "(is_current)"),
    (r"\bDBMS_ASSERT\.SIMPLE_SQL_NAME\('&app_user'\)", "'app_user'"),
    (r'"&app_password"', '"app_password"'),
]


def make_linter() -> Linter:
    """A parser; making one takes a moment."""
    return Linter(config=FluffConfig(overrides={"dialect": "oracle", "large_file_skip_byte_limit": 0}))


def find_faults(linter: Linter, statement: str) -> list[str]:
    """The faults of a statement, [] for none."""
    for pattern, replacement in RESPELLINGS:
        statement = re.sub(pattern, replacement, statement, flags=re.MULTILINE)
    return [str(fault) for fault in linter.parse_string(write_for_script(statement.strip()) + "\n").violations]
