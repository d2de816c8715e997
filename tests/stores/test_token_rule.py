"""A library whose tokens are of an older rule: opened by a program that is killed, or where nothing can be written."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from image_search.errors import SchemaError
from image_search.records import Hits, ImageText
from image_search.settings import ROOT, Settings
from image_search.stores import open_store, tokens
from image_search.stores.sqlite import database
from image_search.stores.tokens import (
    _FOLDED,
    BEGUN,
    TOKEN_RULE,
    TOKEN_SETTING,
    has_old_tokens,
    make_index_tokens,
    split_text,
    tokenize_document,
)
from tests.fakes import make_embeddings, make_image
from tests.fakes.engines import each_engine, new_library

NEW = {TOKEN_SETTING: str(TOKEN_RULE)}
COUNT = 450  # several batches

OPEN_AND_DIE = """
import os, signal, sys
from image_search.settings import Settings
from image_search.stores import open_store, tokens
count, last, normalise_text = 0, int(sys.argv[3]), tokens.normalise_text
def die(given):
    global count
    count += 1
    if count == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return normalise_text(given)
tokens.normalise_text = die
with open_store(Settings(database_url=sys.argv[1], originals_url=sys.argv[2])) as store:
    store.count_images()
"""


def fill(settings: Settings, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Images whose tokens are of another rule."""
    images = [make_image(f"{n}.png", ImageText(description=f"Łódź {n}")) for n in range(count)]
    with open_store(settings) as store, monkeypatch.context() as older:
        older.setattr(tokens, "normalise_text", str.casefold)
        model = store.get_or_create_model("fake", "1", 16)
        store.add_images(model.model_id, images, make_embeddings(count))
        store.set_setting(TOKEN_SETTING, "1")


def find_release(engine: str, settings: Settings) -> Callable[[], object]:
    """As if the lease of a killed program had run out."""
    if engine == "redis":
        from tests.fakes import redis_server

        client, prefix = redis_server.connect(settings)
        return lambda: client.delete(f"{prefix}:writer")
    if engine == "elasticsearch":
        from tests.fakes import elasticsearch_server

        cluster, index = elasticsearch_server.connect(settings)
        return lambda: cluster.options(ignore_status=404).delete(index=f"{index}-library", id="writer")
    if engine == "milvus":
        from tests.fakes import milvus_server

        return lambda: milvus_server.release(settings)
    return lambda: None


@each_engine
@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_program_killed_while_it_makes_tokens_again_leaves_them_to_the_next(engine, tmp_path, monkeypatch):
    with new_library(engine, tmp_path / "library") as settings:
        fill(settings, monkeypatch, COUNT)
        release = find_release(engine, settings)
        for last in (5, COUNT + 5, 2 * COUNT):  # of two for each image
            command = [sys.executable, "-c", OPEN_AND_DIE, settings.database_url, settings.originals_url, str(last)]
            assert subprocess.run(command, check=False, cwd=ROOT).returncode == -signal.SIGKILL
            release()
        with open_store(settings) as store:
            assert store.list_images(["lodz"]).total == COUNT
            assert store.list_images(["łódź 7"]).total == 1
            assert store.list_settings(TOKEN_SETTING) == NEW
            store.delete_images([hit.image_id for hit in store.list_images(["lodz 7"])])
            assert store.list_images(["lodz 7"]) == Hits()
            assert store.list_images(["lodz"]).total == COUNT - 1


@pytest.fixture
def sqlite_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    settings = Settings(database_url=f"sqlite:///{tmp_path}/library.db")
    fill(settings, monkeypatch, 3)
    return settings


@pytest.mark.engine("sqlite")
def test_library_on_a_read_only_disk_keeps_its_tokens(sqlite_library, monkeypatch):
    with monkeypatch.context() as mounted:
        mounted.setattr(database.os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))
        with open_store(sqlite_library) as store:
            assert store.list_images(["png"]).total == 3
            assert store.list_settings(TOKEN_SETTING) == {TOKEN_SETTING: "1"}
    with open_store(sqlite_library) as store:
        assert store.list_settings(TOKEN_SETTING) == NEW


@pytest.mark.engine("sqlite")
def test_tokens_of_an_older_rule_are_read_until_all_are_of_the_new_one(sqlite_library):
    with open_store(sqlite_library) as store:
        store.count_images()
        store.set_setting(TOKEN_SETTING, "1")
        with store.snapshot():
            assert store.list_images(["png"]).total == 3
            with open_store(sqlite_library) as other:
                assert other.list_settings(TOKEN_SETTING) == NEW
            assert store.list_settings(TOKEN_SETTING) == {TOKEN_SETTING: "1"}
            assert store.list_images(["png"]).total == 3
        assert store.list_settings(TOKEN_SETTING) == NEW


def test_kept_token_rule_says_whether_tokens_are_made_again():
    assert has_old_tokens(None, "x") and has_old_tokens("1", "x") and has_old_tokens(BEGUN, "x")
    assert not has_old_tokens(str(TOKEN_RULE), "x")
    for newer in (f"{TOKEN_RULE + 1}", f"{TOKEN_RULE + 1} begun"):
        with pytest.raises(SchemaError, match=f"x are indexed by rule {TOKEN_RULE + 1}; .* Update the program"):
            has_old_tokens(newer, "x")


def test_change_of_the_tokens_is_a_new_version_of_their_rule():
    sample = (
        "Łódź – 市ヶ谷・髙橋, (long_hair:1.2) c++ fate \\(series\\) 👍🏽 أَحمد ﾊﾟﾘ no no cat01 \ue0ff "
        "ж don’t 10〜20 हिन्दी กิน ½ q\u0301"
    )
    made = [
        repr(sorted(_FOLDED.items())),
        make_index_tokens([sample]),
        tokenize_document([sample]),
        str(split_text(sample)),
    ]
    digest = hashlib.sha256("\n".join(made).encode()).hexdigest()[:16]
    assert (TOKEN_RULE, digest) == (2, "8b810649168db020"), "Raise TOKEN_RULE: libraries must be indexed again."
