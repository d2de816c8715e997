"""Settings are read once, checked, and never leak."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from image_search.cli.serve import format_address
from image_search.errors import SettingsError, StoreError
from image_search.settings import ROOT, Settings, list_setting_names, mask_url
from image_search.stores import open_store


def load(tmp_path: Path, text: str = "", **environ: str) -> Settings:
    env_file = tmp_path / ".env"
    env_file.write_text(text, encoding="utf-8")
    return Settings.load(env_file, environ)


def test_defaults_are_the_embedded_store_and_the_demo_model(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert not settings.uses_oracle
    assert settings.database_url == "sqlite:///data/image_search.db"
    assert (settings.embedding_model, settings.model) == ("", "demo/model")
    assert settings.app_host == "127.0.0.1"
    assert settings.app_port == 8899


def test_defaults_hold_without_a_file() -> None:
    assert Settings.load(None, {}) == Settings.load(Path("no such file"), {})


def test_oracle_is_chosen_by_user_password_and_dsn(tmp_path: Path) -> None:
    settings = load(tmp_path, "DB_USER=scott\nDB_PASSWORD=tiger\nDB_DSN=localhost/FREEPDB1\n")
    assert settings.uses_oracle
    assert settings.database_url == ""


def test_scheme_may_be_written_in_capitals(tmp_path: Path) -> None:
    settings = load(tmp_path, f"DATABASE_URL=SQLite:///{tmp_path}/My.db\n")
    assert settings.database_url == f"sqlite:///{tmp_path}/My.db"
    with open_store(settings) as store:
        assert store.get_status().location == str(tmp_path / "My.db")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_place_that_is_no_file_is_said_with_the_setting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    for path, sentence in (
        (tmp_path, f"{tmp_path} is a folder. Name a file in DATABASE_URL, for example {tmp_path}/library.db."),
        (tmp_path / "pipe", f"{tmp_path}/pipe is no ordinary file. Name another one in DATABASE_URL."),
        (tmp_path / "file" / "x.db", f"{tmp_path}/file is a file, and no folder. Correct DATABASE_URL."),
        ("/dev/null", "/dev/null is no ordinary file. Name another one in DATABASE_URL."),
        ("/proc/x.db", "The file /proc/x.db cannot be made (No such file or directory). Check the rights"),
    ):
        with open_store(Settings(database_url=f"sqlite:///{path}")) as store, pytest.raises(StoreError) as caught:
            store.count_images()
        assert str(caught.value).startswith(sentence)


def test_environment_wins_over_the_file(tmp_path: Path) -> None:
    assert load(tmp_path, "APP_PORT=9000\n", APP_PORT="9001").app_port == 9001


def test_empty_value_means_the_default(tmp_path: Path) -> None:
    assert load(tmp_path, "EMBEDDING_MODEL=\n").model == "demo/model"


def test_value_may_hold_any_character(tmp_path: Path) -> None:
    text = "DB_USER=u\nDB_PASSWORD='p@$s ${HOME} #1'\nDB_DSN=h/s\n"
    assert load(tmp_path, text).db_password == "p@$s ${HOME} #1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("DEVICE=gpu\n", ["DEVICE", "auto, cpu, cuda"]),
        ("PRECISION=int4\n", ["PRECISION", "auto, float32, bfloat16, float16"]),
        ("APP_PORT=http\n", ["APP_PORT", "1 to 65535"]),
        ("APP_PORT=70000\n", ["APP_PORT", "1 to 65535"]),
        ("READ_GPS=maybe\n", ["READ_GPS", "1 or 0"]),
        ("MAX_IMAGE_PIXELS=-1\n", ["MAX_IMAGE_PIXELS"]),
        ("DATABASE_URL=mysql://localhost/x\n", ["DATABASE_URL", "mysql", "sqlite://"]),
        ("DATABASE_URL=pictures.db\n", ["DATABASE_URL", "sqlite://"]),
        ("DB_USER=scott\n", ["DB_PASSWORD", "DB_DSN"]),
        ("DB_USER=u\nDB_PASSWORD=p\nDB_DSN=d\nDATABASE_URL=sqlite:///x.db\n", ["DATABASE_URL", "DB_DSN", "both"]),
        ("EMBEDING_MODEL=x\n", ["EMBEDING_MODEL", "EMBEDDING_MODEL"]),
    ],
)
def test_wrong_setting_is_named_with_what_it_may_be(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text)
    for word in words:
        assert word in str(caught.value)


def test_file_that_is_not_text_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"APP_PORT=\xff\xfe\x00")
    with pytest.raises(SettingsError, match="UTF-8"):
        Settings.load(tmp_path / ".env", {})


def test_settings_of_other_programs_may_share_the_file(tmp_path: Path) -> None:
    assert load(tmp_path, "ORACLE_PASSWORD=x\nCOMPOSE_PROJECT_NAME=y\n").app_port == 8899


def test_secrets_are_not_in_repr(tmp_path: Path) -> None:
    settings = load(tmp_path, "DB_USER=u\nDB_PASSWORD=p4ss\nDB_DSN=d\nHF_TOKEN=hf_x1\nDB_WALLET_PASSWORD=w4l\n")
    for secret in ("p4ss", "hf_x1", "w4l"):
        assert secret not in repr(settings)


def test_wrong_url_is_not_shown_with_its_password(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, "DATABASE_URL=mysql://scott:tiger@localhost/x\n")
    assert "tiger" not in str(caught.value)


def test_password_is_masked_in_a_url() -> None:
    assert mask_url("postgresql://scott:ti@ger@db/x") == "postgresql://scott:***@db/x"
    assert mask_url("postgresql://db/x?user=a&password=ti/ger&x=1") == "postgresql://db/x?user=a&password=***&x=1"
    assert mask_url("sqlite:///data/x.db") == "sqlite:///data/x.db"


def test_env_example_lists_every_setting_and_nothing_else() -> None:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    named = [line.partition("=")[0] for line in lines if line and not line.startswith("#")]
    assert sorted(named) == sorted(list_setting_names())


def test_env_example_is_a_valid_env_file_with_the_defaults() -> None:
    assert Settings.load(ROOT / ".env.example", {}) == Settings.load(None, {})


def test_home_folder_is_written_out_wherever_a_folder_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    text = "ORIGINALS_URL=~/o\nEMBEDDING_MODEL=~/m\nLIBRARY_ROOTS=~\nDB_CONFIG_DIR=~/c\nDATABASE_URL=sqlite:///~/x.db\n"
    settings = load(tmp_path, text)
    assert (settings.originals_url, settings.embedding_model) == (f"{tmp_path}/o", f"{tmp_path}/m")
    assert (settings.library_roots, settings.db_config_dir) == ((tmp_path.resolve(),), f"{tmp_path}/c")
    with open_store(settings) as store:
        store.get_or_create_model("model", "1", 4)
    assert (tmp_path / "x.db").is_file()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("DATABASE_URL", "sqlite:///mine.db", "sqlite:///{folder}/mine.db"),
        ("DATABASE_URL", "sqlite:////SRV/mine.db", "sqlite:////SRV/mine.db"),
        ("DATABASE_URL", "milvus:///data/m.db", "milvus:///{folder}/data/m.db"),
        ("DATABASE_URL", "sqlite:////srv/mine.db", "sqlite:////srv/mine.db"),
        ("DATABASE_URL", "sqlite:///data/image_search.db", "sqlite:///data/image_search.db"),  # below the clone
        ("DATABASE_URL", "postgresql://u:p@h/d", "postgresql://u:p@h/d"),
        ("ORIGINALS_URL", "data/originals", "{folder}/data/originals"),
        ("ORIGINALS_URL", "/srv/originals", "/srv/originals"),
        ("ORIGINALS_URL", "s3://bucket/prefix", "s3://bucket/prefix"),
        ("ORIGINALS_URL", "Reference", "Reference"),
        ("ORIGINALS_URL", "database", ""),
        ("DB_WALLET_LOCATION", "wallet", "{folder}/wallet"),
        ("EMBEDDING_MODEL", "somebody/clip", "somebody/clip"),
    ],
)
def test_relative_path_in_the_file_begins_at_its_folder_and_one_of_the_environment_at_the_current(
    tmp_path: Path, name: str, value: str, expected: str
) -> None:
    settings = load(tmp_path, f"{name}={value}\n")
    assert getattr(settings, name.lower()) == expected.format(folder=tmp_path)
    environ = {name: value}
    given = "" if value == "database" else value
    assert getattr(load(tmp_path, f"{name}=other\n", **environ), name.lower()) == given


def test_scheme_in_capitals_and_a_misspelt_word_are_seen_in_the_file_too(tmp_path: Path) -> None:
    assert load(tmp_path, "DATABASE_URL=SQLITE:///Mine.db\n").database_url == f"sqlite:///{tmp_path}/Mine.db"
    with pytest.raises(SettingsError, match=r"ORIGINALS_URL is 'refrence'\. Did you mean reference\?"):
        load(tmp_path, "ORIGINALS_URL=refrence\n")
    assert load(tmp_path, "ORIGINALS_URL=./refrence\n").originals_url == f"{tmp_path}/./refrence"


def test_program_that_is_started_in_its_folder_finds_the_same_library_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with open_store(Settings(database_url="sqlite:///mine.db", originals_url="originals")) as store:
        before = store.get_status().location
        store.get_or_create_model("model", "1", 4)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with open_store(load(tmp_path, "DATABASE_URL=sqlite:///mine.db\nORIGINALS_URL=originals\n")) as store:
        assert store.get_status().location == before
        assert len(store.list_models()) == 1
        assert str(store.originals) == str(tmp_path / "originals")


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:7860"),
        ("::1", "http://[::1]:7860"),
        ("[::1]", "http://[::1]:7860"),
        ("::", "http://localhost:7860"),
        ("0:0:0:0:0:0:0:0", "http://localhost:7860"),
        ("0.0.0.0", "http://localhost:7860"),
        ("fe80::1%eth0", "http://[fe80::1%25eth0]:7860"),
        ("nas.local", "http://nas.local:7860"),
    ],
)
def test_address_of_the_page_is_one_that_browsers_take(tmp_path: Path, host: str, address: str) -> None:
    settings = load(tmp_path, f"APP_HOST={host}\nAPP_PORT=7860\n")
    assert format_address(settings.app_host, settings.app_port) == address
