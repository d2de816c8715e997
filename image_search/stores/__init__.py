"""Databases that hold a library. open_store(settings) is the entry point; it imports the chosen engine only."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from image_search.errors import SettingsError

if TYPE_CHECKING:
    from image_search.settings import Settings
    from image_search.stores.base import ImageStore

# scheme of DATABASE_URL: the class that serves it, and what to install when its driver is not there
ENGINES = {
    "sqlite": ("image_search.stores.sqlite:SqliteStore", "requirements.txt"),
    "oracle": ("image_search.stores.oracle:OracleStore", "requirements.txt"),
    "postgresql": ("image_search.stores.postgres:PostgresStore", "requirements-postgres.txt"),
    "milvus": ("image_search.stores.milvus:MilvusStore", "requirements-milvus.txt"),
    "redis": ("image_search.stores.redis:RedisStore", "requirements-redis.txt"),
    "rediss": ("image_search.stores.redis:RedisStore", "requirements-redis.txt"),
    "elasticsearch": ("image_search.stores.elasticsearch:ElasticsearchStore", "requirements-elasticsearch.txt"),
    "elasticsearch+https": ("image_search.stores.elasticsearch:ElasticsearchStore", "requirements-elasticsearch.txt"),
}


def open_store(settings: Settings) -> ImageStore:
    """The store these settings choose. Does not connect yet, so it works while the database is unavailable."""
    scheme = "oracle" if settings.uses_oracle else urlsplit(settings.database_url).scheme or "sqlite"
    if scheme not in ENGINES:
        raise SettingsError(f"DATABASE_URL begins with {scheme!r}. It may begin with: {', '.join(ENGINES)}.")
    place, requirements = ENGINES[scheme]
    module, name = place.split(":")
    try:
        engine = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("image_search"):
            raise
        raise SettingsError(
            f"{scheme} needs the Python package {error.name}. Install it: pip install -r {requirements}"
        ) from error
    store: ImageStore = engine.open(settings)
    return store
