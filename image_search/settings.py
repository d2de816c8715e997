"""Every setting, read once from the environment and from .env; the only reader of os.environ.

The environment wins over .env. Relative paths in .env begin at its folder, those in the environment at the current one.
.env.example lists every setting with its meaning; a test keeps the two equal.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from dotenv import dotenv_values

from image_search.errors import SettingsError

_PACKAGE = Path(__file__).resolve().parent
IS_INSTALLED = not (_PACKAGE.parent / "create_all_tables.sql").is_file()
# Where .env and data/ are: the clone, or for an installed program the current folder.
ROOT = Path.cwd() if IS_INSTALLED else _PACKAGE.parent
# Where demo/model, images/ and create_all_tables.sql are: the clone, or a folder of the installed package.
BUNDLED = _PACKAGE / "bundled" if IS_INSTALLED else ROOT
SAMPLES = BUNDLED / "images"
DEFAULT_DATABASE_URL = "sqlite:///data/image_search.db"
DEFAULT_ORIGINALS = ROOT / "data" / "originals"  # where the engine has no better place
DEFAULT_MODEL = "demo/model"
DATABASE_SCHEMES = ("sqlite", "postgresql", "milvus", "redis", "rediss", "elasticsearch", "elasticsearch+https")
DEVICES = ("auto", "cpu", "cuda")
LOG_LEVELS = ("debug", "info", "warning", "error")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Settings:
    """All settings, checked. Secrets are left out of repr."""

    db_user: str = ""
    db_password: str = field(default="", repr=False)
    db_dsn: str = ""
    db_config_dir: str = ""
    db_client_lib_dir: str = ""
    db_wallet_location: str = ""
    db_wallet_password: str = field(default="", repr=False)
    database_url: str = field(default="", repr=False)  # may hold a password
    originals_url: str = field(default="", repr=False)  # likewise; "": where the engine keeps them by itself
    s3_endpoint_url: str = ""
    embedding_model: str = ""  # "": the one chosen on the page, else DEFAULT_MODEL
    embedding_model_revision: str = ""
    device: str = "auto"
    precision: str = "auto"
    hf_token: str = field(default="", repr=False)
    trust_remote_code: bool = False
    max_image_pixels: int = 100_000_000
    read_gps: bool = False
    read_people: bool = False
    read_text: bool = False
    video_frames: int = 300
    trash_days: int = 30
    app_host: str = "127.0.0.1"
    app_port: int = 8899
    app_password: str = field(default="", repr=False)
    app_insecure: bool = False
    app_allowed_hosts: str = ""
    app_root_path: str = ""  # begins with a slash and does not end with one; "" for the root
    app_rate_limit: int = 600
    app_mcp: bool = False
    app_extract_roots: tuple[Path, ...] = ()  # without links
    library_roots: tuple[Path, ...] = ()  # likewise
    log_level: str = "INFO"

    @property
    def uses_oracle(self) -> bool:
        """Whether DB_USER, DB_PASSWORD and DB_DSN choose Oracle Database."""
        return bool(self.db_dsn)

    @property
    def model(self) -> str:
        """EMBEDDING_MODEL, or the bundled model. A choice made on the page: library.choose_model."""
        return self.embedding_model or DEFAULT_MODEL

    @classmethod
    def load(cls, env_file: Path | None = ROOT / ".env", environ: Mapping[str, str] | None = None) -> Settings:
        """Read and check all settings. Raises SettingsError naming the setting and what it may be."""
        from_file = _read_env_file(env_file)
        _refuse_misspelt(from_file, env_file)
        given = {**from_file, **(os.environ if environ is None else environ)}
        values: dict[str, object] = {}
        for item in fields(cls):
            text = given.get(item.name.upper(), "").strip()
            if text:
                parse = _PARSERS.get(item.name)
                values[item.name] = parse(text) if parse else text
        settings = cls(**values)  # type: ignore[arg-type]
        _check_database(settings)
        if not settings.uses_oracle and not settings.database_url:
            return replace(settings, database_url=DEFAULT_DATABASE_URL)
        return settings


def list_setting_names() -> list[str]:
    """Names of all settings as they are written in .env."""
    return [item.name.upper() for item in fields(Settings)]


def mask_url(url: str) -> str:
    """The same URL without its password, fit for a message."""
    masked = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", url)
    return re.sub(r"([?&](?:ssl)?(?:password|api_key|token)=)[^&]*", r"\1***", masked, flags=re.IGNORECASE)


def _read_env_file(env_file: Path | None) -> dict[str, str]:
    if env_file is None or not env_file.is_file():
        return {}
    try:
        values = dotenv_values(env_file, interpolate=False)
        folder = env_file.absolute().parent
        return {name: _resolve(name, (value or "").strip(), folder) for name, value in values.items()}
    except (OSError, ValueError) as error:
        raise SettingsError(f"{env_file} cannot be read ({error}). Save it as UTF-8 text, see .env.example.") from error


def resolve_url(url: str, folder: Path) -> str:
    """The address of a database, of a file with its whole path: relative ones begin at this folder.

    The default stays as it is, because it is below ROOT wherever it comes from.
    """
    scheme, is_file, name = url.partition(":///")
    if not is_file or scheme not in ("sqlite", "milvus") or not name or name.startswith("~"):
        return url
    return url if url == DEFAULT_DATABASE_URL else f"{scheme}:///{os.path.join(folder, name)}"


def _resolve(name: str, text: str, folder: Path) -> str:
    """A value of .env, whose relative paths begin at its folder."""
    if name == "DATABASE_URL":
        return resolve_url(lower_scheme(text), folder)
    is_folder = name in ("DB_CONFIG_DIR", "DB_CLIENT_LIB_DIR", "DB_WALLET_LOCATION")
    if name == "ORIGINALS_URL":
        is_address = re.match(r"[a-z][\w+.-]+:", text, re.IGNORECASE)  # one letter is a Windows drive
        is_folder = not is_address and _find_meant(text) is None
    return os.path.join(folder, os.path.expanduser(text)) if is_folder and text else text


def _refuse_misspelt(from_file: Mapping[str, str], env_file: Path | None) -> None:
    # Other programs may share the file (compose's passwords), so only a near miss of one of our names is an error.
    known = list_setting_names()
    for name in from_file:
        near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.85)
        if near and name not in known:
            raise SettingsError(f"{env_file} has a setting {name} that is not known. Did you mean {near[0]}?")


def _check_database(settings: Settings) -> None:
    oracle = {name: getattr(settings, name.lower()) for name in ("DB_USER", "DB_PASSWORD", "DB_DSN")}
    missing = [name for name, value in oracle.items() if not value]
    if len(missing) < len(oracle):
        if missing:
            raise SettingsError(f"Oracle Database needs DB_USER, DB_PASSWORD and DB_DSN; set {', '.join(missing)} too.")
        if settings.database_url:
            raise SettingsError(
                "DATABASE_URL and DB_USER, DB_PASSWORD, DB_DSN are both set. Keep DB_* for Oracle Database, "
                "or DATABASE_URL for another engine, and remove the other."
            )
    if settings.database_url:
        scheme = split_url(settings.database_url, "DATABASE_URL").scheme
        if scheme not in DATABASE_SCHEMES:
            raise SettingsError(
                f"DATABASE_URL begins with {scheme!r}, an engine that is not known. "
                f"It may begin with: {', '.join(name + '://' for name in DATABASE_SCHEMES)}."
            )


def lower_scheme(url: str) -> str:
    """The same address with its scheme in small letters, which engines compare."""
    scheme, mark, rest = url.partition("://")
    return f"{scheme.lower()}{mark}{rest}" if mark else url


def split_url(url: str, name: str) -> SplitResult:
    """The parts of the address of a database. name: where it comes from. Raises SettingsError without the password."""
    try:
        return urlsplit(url)
    except ValueError:  # its message may hold the password
        raise SettingsError(
            f"{name} cannot be read as an address. In a user name or password, write [ as %5B, ] as %5D, "
            "@ as %40, / as %2F, # as %23 and % as %25."
        ) from None


def _parse_flag(name: str, text: str) -> bool:
    flags = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.lower() not in flags:
        raise SettingsError(f"{name} is {text!r}. It may be 1 or 0.")
    return flags[text.lower()]


def _parse_number(name: str, text: str, low: int, high: int) -> int:
    if not re.fullmatch(r"\d{1,18}", text, re.ASCII) or not low <= int(text) <= high:
        raise SettingsError(f"{name} is {text!r}. It may be a whole number from {low} to {high}.")
    return int(text)


def _parse_choice(name: str, text: str, choices: tuple[str, ...]) -> str:
    if text.lower() not in choices:
        raise SettingsError(f"{name} is {text!r}. It may be: {', '.join(choices)}.")
    return text.lower()


def _parse_folders(name: str, text: str) -> tuple[Path, ...]:
    folders = tuple(Path(os.path.expanduser(part.strip())) for part in text.split(",") if part.strip())
    for folder in folders:
        if not folder.is_absolute() or not folder.is_dir():
            raise SettingsError(
                f"{name} has {str(folder)!r}, which is no folder. Write whole paths, with commas between."
            )
    return tuple(folder.resolve() for folder in folders)


def _find_meant(text: str) -> str | None:
    """The word that a place of originals is, or may be meant to be: a misspelt one would silently become a folder."""
    near = difflib.get_close_matches(text.lower(), ("reference", "database"), n=1, cutoff=0.75)
    return near[0] if near and re.fullmatch(r"[\w-]+", text) else None


def _parse_originals(name: str, text: str) -> str:
    meant = _find_meant(text)
    if meant and text.lower() != meant:
        raise SettingsError(f"{name} is {text!r}. Did you mean {meant}? A folder of that name is written ./{text}.")
    return "" if meant == "database" else os.path.expanduser(text)


def _parse_root_path(name: str, text: str) -> str:
    path = f"/{text.strip('/')}" if text.strip("/") else ""
    if not re.fullmatch(r"(/[\w.~-]+)*", path, re.ASCII):
        raise SettingsError(
            f"{name} is {text!r}. It may be a path such as /images, of letters, digits, '-', '_' and '.'."
        )
    return path


def _parse_address(name: str, text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/@?#]+/?", text):
        raise SettingsError(f"{name} is not the address of a server. Write http://localhost:9000 for example.")
    return text.rstrip("/")


_PARSERS: dict[str, Callable[[str], object]] = {
    "database_url": lower_scheme,
    "originals_url": lambda text: _parse_originals("ORIGINALS_URL", text),
    **dict.fromkeys(("db_config_dir", "db_client_lib_dir", "db_wallet_location"), os.path.expanduser),
    "embedding_model": os.path.expanduser,
    "app_host": lambda text: text.removeprefix("[").removesuffix("]"),
    "s3_endpoint_url": lambda text: _parse_address("S3_ENDPOINT_URL", text),
    "device": lambda text: _parse_choice("DEVICE", text, DEVICES),
    "precision": lambda text: _parse_choice("PRECISION", text, PRECISIONS),
    "trust_remote_code": lambda text: _parse_flag("TRUST_REMOTE_CODE", text),
    "read_gps": lambda text: _parse_flag("READ_GPS", text),
    "read_people": lambda text: _parse_flag("READ_PEOPLE", text),
    "read_text": lambda text: _parse_flag("READ_TEXT", text),
    "max_image_pixels": lambda text: _parse_number("MAX_IMAGE_PIXELS", text, 1, 10**10),
    "video_frames": lambda text: _parse_number("VIDEO_FRAMES", text, 1, 10_000),
    "trash_days": lambda text: _parse_number("TRASH_DAYS", text, 0, 36_500),
    "app_port": lambda text: _parse_number("APP_PORT", text, 1, 65535),
    "app_insecure": lambda text: _parse_flag("APP_INSECURE", text),
    "app_rate_limit": lambda text: _parse_number("APP_RATE_LIMIT", text, 0, 10**9),
    "app_mcp": lambda text: _parse_flag("APP_MCP", text),
    "app_root_path": lambda text: _parse_root_path("APP_ROOT_PATH", text),
    "app_extract_roots": lambda text: _parse_folders("APP_EXTRACT_ROOTS", text),
    "library_roots": lambda text: _parse_folders("LIBRARY_ROOTS", text),
    "log_level": lambda text: _parse_choice("LOG_LEVEL", text, LOG_LEVELS).upper(),
}
