"""What the driver itself does with our settings and with a database that is not there; no stand-in here."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import oracledb
import pytest

from image_search.errors import EmbeddingRefused, SchemaError, SettingsError, StoreError, StoreFull, StoreUnavailable
from image_search.settings import Settings
from image_search.stores.oracle import OracleStore
from image_search.stores.oracle.connection import list_parameters
from image_search.stores.oracle.errors import _SENTENCES, describe, get_code, is_clash, is_lost
from image_search.stores.oracle.schema import create_schema
from tests.oracle.stand_in import make_error

PASSWORD = "Never_Shown_1"
SETTINGS = Settings(db_user="imgsearch", db_password=PASSWORD, db_dsn="127.0.0.1:1/FREEPDB1")


@contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A listener on this computer that answers every connection in its own way. Yields a DSN."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    client.recv(4096)
                    answer(client)

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}/FREEPDB1"


def refuse(code: int) -> Callable[[socket.socket], None]:
    """The packet with which a listener refuses, telling why."""

    def answer(client: socket.socket) -> None:
        reason = f"(DESCRIPTION=(TMP=)(VSNNUM=0)(ERR={code})(ERROR_STACK=(ERROR=(CODE={code})(EMFI=4))))".encode()
        body = struct.pack(">BBH", 4, 0, len(reason)) + reason
        client.sendall(struct.pack(">HHBBH", 8 + len(body), 0, 4, 0, 0) + body)

    return answer


def find_message(settings: Settings) -> str:
    with OracleStore.open(settings) as store, pytest.raises(StoreUnavailable) as caught:
        store.count_images()
    return str(caught.value)


# --- a database that is not there ---


def test_opening_a_store_asks_nothing_of_the_network() -> None:
    OracleStore.open(replace(SETTINGS, db_dsn="no.such.host.invalid:1521/X")).close()


def test_a_refused_connection_names_the_setting() -> None:
    assert "DB_DSN" in find_message(SETTINGS)
    assert "DPY-6005" in find_message(SETTINGS)


def test_an_unknown_host_is_told_as_such() -> None:
    assert "host in DB_DSN" in find_message(replace(SETTINGS, db_dsn="no.such.host.invalid:1521/FREEPDB1"))


def test_an_unknown_service_is_told_as_such() -> None:
    with listening(refuse(12514)) as dsn:
        assert "does not know the service" in find_message(replace(SETTINGS, db_dsn=dsn))


def test_an_unknown_sid_is_told_as_such() -> None:
    with listening(refuse(12505)) as dsn:
        assert "does not know the SID" in find_message(replace(SETTINGS, db_dsn=dsn))


def test_a_server_that_hangs_up_is_unavailable() -> None:
    with listening(lambda _: None) as dsn:
        assert "DPY-" in find_message(replace(SETTINGS, db_dsn=dsn))


def test_a_server_that_is_no_oracle_database_is_unavailable() -> None:
    with listening(lambda client: client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as dsn:
        assert find_message(replace(SETTINGS, db_dsn=dsn))


def test_the_same_store_works_again_when_the_database_is_back() -> None:
    with listening(refuse(12514)) as dsn:
        store = OracleStore.open(replace(SETTINGS, db_dsn=dsn))
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                store.list_models()


def test_making_the_schema_tells_the_same() -> None:
    with pytest.raises(StoreUnavailable, match="DPY-6005"):
        list(create_schema(SETTINGS))


# --- settings ---


@pytest.mark.parametrize(
    ("dsn", "setting"),
    [
        ("myalias", "DB_CONFIG_DIR"),
        ("(DESCRIPTION=(", "host:1521"),
        ("scott/tiger@host/service", "host:1521"),
    ],
)
def test_a_dsn_that_cannot_be_read_is_told_with_the_remedy(dsn: str, setting: str) -> None:
    assert setting in find_message(replace(SETTINGS, db_dsn=dsn))


def test_an_alias_is_looked_up_in_the_folder_of_the_wallet(tmp_path: Path) -> None:
    (tmp_path / "ewallet.pem").write_text("")
    (tmp_path / "tnsnames.ora").write_text("other = (DESCRIPTION=(ADDRESS=(PROTOCOL=tcp)(HOST=h)(PORT=1)))\n")
    message = find_message(replace(SETTINGS, db_dsn="mydb_high", db_wallet_location=str(tmp_path)))
    assert "tnsnames.ora" in message


def test_an_alias_leads_to_its_address(tmp_path: Path) -> None:
    with listening(refuse(12514)) as dsn:
        port = dsn.partition(":")[2].partition("/")[0]
        (tmp_path / "tnsnames.ora").write_text(
            f"mydb = (DESCRIPTION=(ADDRESS=(PROTOCOL=tcp)(HOST=127.0.0.1)(PORT={port}))"
            "(CONNECT_DATA=(SERVICE_NAME=FREEPDB1)))\n"
        )
        message = find_message(replace(SETTINGS, db_dsn="mydb", db_config_dir=str(tmp_path)))
    assert "does not know the service" in message


def test_a_wallet_that_is_not_there_is_named(tmp_path: Path) -> None:
    settings = replace(SETTINGS, db_wallet_location=str(tmp_path))
    with pytest.raises(SettingsError, match=r"DB_WALLET_LOCATION.*ewallet\.pem"):
        OracleStore.open(settings).count_images()


@pytest.mark.parametrize(
    "dsn",
    [
        "db.example:1521/FREEPDB1",
        "db.example/FREEPDB1",
        "db.example:1521/FREEPDB1?transport_connect_timeout=5&retry_count=2",
        "tcps://adb.example:1522/x_high.adb.oraclecloud.com",
        "(DESCRIPTION=(ADDRESS=(PROTOCOL=tcps)(HOST=adb.example)(PORT=1522))(CONNECT_DATA=(SERVICE_NAME=x)))",
    ],
)
def test_the_driver_accepts_every_form_of_dsn_the_documents_show(dsn: str) -> None:
    parameters = list_parameters(replace(SETTINGS, db_dsn=dsn))
    pool = oracledb.create_pool(**parameters, min=0, max=4)
    assert (pool.dsn, pool.username, pool.opened) == (dsn, "imgsearch", 0)
    pool.close()


def test_wallet_and_folder_reach_the_driver(tmp_path: Path) -> None:
    (tmp_path / "ewallet.pem").write_text("")
    parameters = list_parameters(replace(SETTINGS, db_wallet_location=str(tmp_path), db_wallet_password="w"))
    assert (parameters["wallet_location"], parameters["config_dir"]) == (str(tmp_path), str(tmp_path))
    assert parameters["wallet_password"] == "w"
    elsewhere = list_parameters(replace(SETTINGS, db_config_dir="/etc/oracle"))
    assert elsewhere["config_dir"] == "/etc/oracle"
    assert "wallet_location" not in elsewhere


# --- errors ---


@pytest.mark.parametrize("code", sorted(_SENTENCES))
def test_every_code_becomes_one_sentence_that_says_what_to_do(code: str) -> None:
    kind, _ = _SENTENCES[code]
    described = describe(make_error(code, f"detail with {PASSWORD}"))
    assert isinstance(described, kind)
    assert code in str(described)
    assert PASSWORD not in str(described)
    assert "\n" not in str(described)
    assert len(str(described)) > 40


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ORA-01017", StoreUnavailable),
        ("ORA-00942", SchemaError),
        ("ORA-12954", StoreFull),
        ("ORA-51803", EmbeddingRefused),
        ("ORA-12345", StoreError),
    ],
)
def test_errors_are_of_the_kind_the_rest_of_the_program_knows(code: str, kind: type[StoreError]) -> None:
    assert type(describe(make_error(code))) is kind


def test_an_unknown_error_is_told_in_the_words_of_the_database() -> None:
    assert "ORA-99999: strange" in str(describe(make_error("ORA-99999", "strange")))


@pytest.mark.parametrize("code", ["ORA-03113", "ORA-03114", "ORA-12537", "ORA-00028", "ORA-01089", "DPY-4011"])
def test_a_lost_connection_is_recognised_whatever_it_is_called(code: str) -> None:
    error = make_error(code)
    assert is_lost(error)
    assert isinstance(describe(error), StoreUnavailable)


def test_a_wrong_password_is_no_lost_connection() -> None:
    assert not is_lost(make_error("ORA-01017"))
    assert not is_clash(make_error("ORA-01017"))


def test_codes_of_oracle_text_are_shown_too() -> None:
    described = describe(make_error("ORA-29902", "error\nORA-20000: Oracle Text error:\nDRG-50901: text query parser"))
    assert "DRG-50901" in str(described)


def test_an_error_of_the_operating_system_has_no_code() -> None:
    assert get_code(OSError("x")) == ""


def test_no_password_is_in_any_representation() -> None:
    store = OracleStore.open(SETTINGS)
    assert PASSWORD not in repr(SETTINGS) + repr(store) + store.location
    assert "tiger" not in OracleStore.open(replace(SETTINGS, db_dsn="scott/tiger@host/service")).location
