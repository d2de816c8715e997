"""Originals in an S3 bucket, or in anything that speaks S3 (MinIO, Ceph, R2), each under the SHA-256 of its content.

Credentials and region come from where every S3 program reads them: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_DEFAULT_REGION and so on, or the files in ~/.aws. The address of another server than Amazon's is S3_ENDPOINT_URL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import urlsplit

import s3fs
from botocore.exceptions import BotoCoreError

from image_search.errors import SettingsError, StoreError, StoreUnavailable

T = TypeVar("T")

_REQUEST_CONCURRENCY = 8


class S3Originals:
    """Originals in a bucket: s3://bucket/prefix. An object appears whole or not at all."""

    def __init__(self, url: str, endpoint_url: str = "") -> None:
        parts = urlsplit(url)
        if not parts.netloc or parts.query:
            raise SettingsError("ORIGINALS_URL names no bucket. Write s3://bucket or s3://bucket/prefix.")
        self.url = f"s3://{parts.netloc}{parts.path}".rstrip("/")
        # No listing is cached: another program may change the bucket at any time.
        self._files: Any = s3fs.S3FileSystem(
            endpoint_url=endpoint_url or None, use_listings_cache=False, skip_instance_cache=True
        )

    def __str__(self) -> str:
        return self.url

    def write(self, contents: Mapping[str, bytes]) -> None:
        # The client sends a checksum along, and the server refuses what does not arrive as it was sent.
        self._request(lambda item: self._write_object(*item), contents.items())

    def read(self, sha256: str, paths: Sequence[str] = ()) -> bytes:
        [data] = self._request(self._files.cat_file, [self._find_key(sha256)])
        return bytes(data)

    def delete(self, hashes: Iterable[str]) -> None:
        self._request(self._files.rm_file, [self._find_key(sha256) for sha256 in hashes])

    def _write_object(self, sha256: str, data: bytes) -> None:
        key = self._find_key(sha256)
        try:
            if self._files.info(key)["size"] == len(data):
                return
        except FileNotFoundError:
            pass
        self._files.pipe_file(key, data)

    def _find_key(self, sha256: str) -> str:
        return f"{self.url.removeprefix('s3://')}/{sha256[:2]}/{sha256}"

    def _request(self, ask: Callable[[Any], T], items: Iterable[Any]) -> list[T]:
        try:
            with ThreadPoolExecutor(_REQUEST_CONCURRENCY) as pool:
                return list(pool.map(ask, items))
        except FileNotFoundError as error:
            raise StoreError(f"{self.url} has no {error}. Check the bucket and ORIGINALS_URL.") from error
        except PermissionError as error:
            raise StoreError(f"{self.url} may not be used ({error}). Check the AWS credentials.") from error
        except (BotoCoreError, OSError) as error:
            raise StoreUnavailable(f"{self.url} cannot be reached just now ({error}).") from error
