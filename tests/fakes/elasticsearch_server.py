"""An Elasticsearch server for the tests: the one of ELASTICSEARCH_TEST_URL, or one that stands in for it."""

from __future__ import annotations

import itertools
import os
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from elasticsearch import Elasticsearch

from image_search.settings import Settings
from tests.fakes.elasticsearch_stand_in import ElasticsearchStandIn

_numbers = itertools.count(1)


@cache
def start_stand_in() -> ElasticsearchStandIn:
    """No package brings the real one."""
    return ElasticsearchStandIn()


@cache
def find_server() -> str:
    """The URL of a server in which these tests may make and remove indexes."""
    url = os.environ.get("ELASTICSEARCH_TEST_URL")
    return url.rstrip("/") if url else f"elasticsearch://127.0.0.1:{start_stand_in().server_address[1]}"


def make_library(folder: Path) -> Settings:
    """An empty library with its originals in a folder."""
    url = f"{find_server()}/test-{os.getpid()}-{next(_numbers)}"
    return Settings(database_url=url, originals_url=str(folder))


def connect(settings: Settings) -> tuple[Elasticsearch, str]:
    """A client of the server itself, and the index of a library."""
    parts = urlsplit(settings.database_url)
    client: Any = Elasticsearch(f"http://{parts.hostname}:{parts.port or 9200}")
    return client, parts.path.strip("/")


def remove_library(settings: Settings) -> None:
    """Remove what make_library made."""
    client, index = connect(settings)
    for name in (index, f"{index}-images", f"{index}-deleted", f"{index}-library"):
        client.options(ignore_status=404).indices.delete(index=name)
    client.close()
