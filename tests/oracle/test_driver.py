"""The driver itself with our settings and with a database that is not there; no stand-in here."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import oracledb
import pytest
from oracledb import errors

from image_search.errors import EmbeddingRefused, SchemaError, SettingsError, StoreError, StoreFull, StoreUnavailable
from image_search.settings import ROOT, Settings
from image_search.stores.oracle import OracleStore
from image_search.stores.oracle import connection as connection_module
from image_search.stores.oracle.connection import list_parameters
from image_search.stores.oracle.messages import _SENTENCES, get_code
from image_search.stores.oracle.schema import create_schema
from tests.oracle.wire.faults import Cut, Delay, Refuse
from tests.oracle.wire.server import PASSWORD, Server
from tests.oracle.wired import make_settings, serve

SETTINGS = Settings(db_user="imgsearch", db_password=PASSWORD, db_dsn="127.0.0.1:1/FREEPDB1")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serve(tmp_path / "oracle.db") as server:
        yield server


@contextmanager
def listening(answer: Callable[[socket.socket], object]) -> Iterator[str]:
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


def find_message(settings: Settings) -> str:
    with OracleStore.open(settings) as store, pytest.raises(StoreUnavailable) as caught:
        store.count_images()
    return str(caught.value)


# --- a database that is not there ---


def test_opening_a_store_asks_nothing_of_the_network() -> None:
    OracleStore.open(replace(SETTINGS, db_dsn="no.such.host.invalid:1521/X")).close()


def test_refused_connection_names_the_setting() -> None:
    assert "DB_DSN" in find_message(SETTINGS)
    assert "DPY-6005" in find_message(SETTINGS)


def test_unknown_host_is_told_as_such() -> None:
    assert "host in DB_DSN" in find_message(replace(SETTINGS, db_dsn="no.such.host.invalid:1521/FREEPDB1"))


def test_server_that_hangs_up_is_unavailable() -> None:
    with listening(lambda _: None) as dsn:
        message = find_message(replace(SETTINGS, db_dsn=dsn))
        assert "before the login" in message
        assert "DPY-6005" in message


def test_server_that_is_no_oracle_database_is_unavailable() -> None:
    with listening(lambda client: client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as dsn:
        assert find_message(replace(SETTINGS, db_dsn=dsn))


@contextmanager
def staying_silent() -> Iterator[str]:
    """A host that accepts every connection and says nothing, until the end. Yields a DSN."""
    over = threading.Event()
    with listening(lambda _: over.wait(60)) as dsn:
        yield dsn
        over.set()


def test_host_that_accepts_and_stays_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "_LOGIN_SECONDS", 0.5)
    began = time.monotonic()
    with staying_silent() as dsn:
        settings = replace(SETTINGS, db_dsn=dsn)
        with OracleStore.open(settings) as store, ThreadPoolExecutor(3) as readers:
            asked = [readers.submit(store.list_models) for _ in range(3)]
            for reader in asked:
                with pytest.raises(StoreUnavailable, match="does not answer at DB_DSN"):
                    reader.result()
        with pytest.raises(StoreUnavailable, match="does not answer at DB_DSN"):
            list(create_schema(settings))
    assert time.monotonic() - began < 5  # the readers did not wait one after the other


def test_silent_host_keeps_no_program_from_ending() -> None:
    """In a process of its own, which ends while the driver still waits."""
    with staying_silent() as dsn:
        program = (
            "from image_search.settings import Settings\n"
            "from image_search.stores.oracle import OracleStore, connection\n"
            "connection._LOGIN_SECONDS = 0.5\n"
            f"with OracleStore.open(Settings(db_user='u', db_password='p', db_dsn={dsn!r})) as store:\n"
            "    store.list_models()"
        )
        ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert "does not answer at DB_DSN" in ended.stderr.splitlines()[-1]


def test_pool_without_any_connection_is_not_called_busy_and_closes_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "_WAIT_MS", 300)
    monkeypatch.setattr(connection_module, "_CLOSE_SECONDS", 0.5)
    monkeypatch.setattr(connection_module, "_log_in", lambda _: None)  # it answered then
    with staying_silent() as dsn:
        began = time.monotonic()
        assert "does not answer at DB_DSN" in find_message(replace(SETTINGS, db_dsn=dsn))
        assert time.monotonic() - began < 5


def test_same_store_works_again_when_the_database_is_back(server: Server) -> None:
    server.faults.add(Refuse(12514), "connect", times=99)
    with OracleStore.open(make_settings(server)) as store:
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                store.list_models()
        server.faults.clear()
        assert store.list_models() == []


def test_making_the_schema_tells_the_same() -> None:
    with pytest.raises(StoreUnavailable, match="DPY-6005"):
        list(create_schema(SETTINGS))


# --- settings ---


@pytest.mark.parametrize(
    ("dsn", "setting"),
    [
        ("myalias", "DB_CONFIG_DIR"),
        ("127.0.0.1:abc/X", "host:1521/FREEPDB1"),
        ("localhost:1521:XE", "host:port:SID are not taken"),
        ("jdbc:oracle:thin:@//localhost:1521/X", "jdbc: and"),
        ("(DESCRIPTION=(", "host:1521"),
        ("scott/tiger@host/service", "host:1521"),
    ],
)
def test_dsn_that_cannot_be_read_is_told_with_the_remedy(dsn: str, setting: str) -> None:
    assert setting in find_message(replace(SETTINGS, db_dsn=dsn))


def test_alias_is_looked_up_in_the_folder_of_the_wallet(tmp_path: Path) -> None:
    (tmp_path / "ewallet.pem").write_text("")
    (tmp_path / "tnsnames.ora").write_text("other = (DESCRIPTION=(ADDRESS=(PROTOCOL=tcp)(HOST=h)(PORT=1)))\n")
    message = find_message(replace(SETTINGS, db_dsn="mydb_high", db_wallet_location=str(tmp_path)))
    assert "tnsnames.ora" in message


def test_alias_leads_to_its_address(server: Server, tmp_path: Path) -> None:
    port = re.search(r":(\d+)/", server.dsn)
    assert port
    (tmp_path / "tnsnames.ora").write_text(
        f"mydb = (DESCRIPTION=(ADDRESS=(PROTOCOL=tcp)(HOST=127.0.0.1)(PORT={port[1]}))"
        "(CONNECT_DATA=(SERVICE_NAME=FREEPDB1)))\n"
    )
    with OracleStore.open(make_settings(server, db_dsn="mydb", db_config_dir=str(tmp_path))) as store:
        assert store.count_images() == 0


def test_wallet_that_is_not_there_is_named(tmp_path: Path) -> None:
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
def test_driver_accepts_every_form_of_dsn_the_documents_show(dsn: str) -> None:
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


# --- Oracle's client, for native network encryption ---


def test_client_libraries_that_are_missing_are_told_with_the_setting(tmp_path: Path) -> None:
    """In a process of its own: the driver chooses its mode once."""
    program = (
        "from image_search.settings import Settings\n"
        "from image_search.stores.oracle import OracleStore\n"
        f"settings = Settings(db_user='u', db_password='{PASSWORD}', db_dsn='127.0.0.1:1/X',"
        f" db_client_lib_dir={str(tmp_path)!r})\n"
        "OracleStore.open(settings).count_images()"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    last = ended.stderr.strip().splitlines()[-1]
    assert "StoreUnavailable: Oracle's client libraries cannot be loaded from DB_CLIENT_LIB_DIR" in last
    assert last.endswith("(DPI-1047)")
    assert PASSWORD not in ended.stderr


def test_client_libraries_are_loaded_before_any_connection(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[dict[str, Any]] = []

    def load(**parameters: Any) -> None:
        assert server.events == []
        loaded.append(parameters)

    monkeypatch.setattr(oracledb, "init_oracle_client", load)
    settings = make_settings(server, db_client_lib_dir="/opt/instantclient", db_config_dir="/etc/oracle")
    with OracleStore.open(settings) as store:
        store.count_images()
    assert loaded == [{"lib_dir": "/opt/instantclient", "config_dir": "/etc/oracle"}]
    server.events.clear()
    list(create_schema(settings))
    assert len(loaded) == 2


def test_no_client_is_loaded_unless_it_is_asked_for(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracledb, "init_oracle_client", lambda **_: pytest.fail("loaded"))
    with OracleStore.open(make_settings(server)) as store:
        store.count_images()


# --- the table of errors: each is produced as it comes about, by the server or by the driver itself ---


def provoke(server: Server, settings: Settings) -> StoreError:
    """The message for a person."""
    with OracleStore.open(settings) as store, pytest.raises(StoreError) as caught:
        store.count_images()
    server.faults.clear()
    return caught.value


def refuse_connection(number: int) -> Callable[[Server, Path], StoreError]:
    """The listener refuses."""

    def produce(server: Server, _: Path) -> StoreError:
        server.faults.add(Refuse(number), "connect", times=9)
        return provoke(server, make_settings(server))

    return produce


def change(**settings: str) -> Callable[[Server, Path], StoreError]:
    """A setting is wrong."""
    return lambda server, _: provoke(server, make_settings(server, **settings))


def demand_encryption(server: Server, _: Path) -> StoreError:
    server.accept_flags = bytes([0x10])  # TNS_NSI_NA_REQUIRED
    return provoke(server, make_settings(server))


def lack_an_alias(server: Server, folder: Path) -> StoreError:
    (folder / "tnsnames.ora").write_text("other = (DESCRIPTION=(ADDRESS=(PROTOCOL=tcp)(HOST=h)(PORT=1)))\n")
    return provoke(server, make_settings(server, db_dsn="mydb", db_config_dir=str(folder)))


def lack_tnsnames(server: Server, folder: Path) -> StoreError:
    return provoke(server, make_settings(server, db_dsn="mydb", db_config_dir=str(folder / "empty")))


def close_the_port(server: Server, _: Path) -> StoreError:
    server.close()
    return provoke(server, make_settings(server))


def speak_an_old_protocol(server: Server, _: Path) -> StoreError:
    server.protocol_version = 312
    return provoke(server, make_settings(server))


def keep_an_old_password(server: Server, _: Path) -> StoreError:
    server.verifier_type = 0x939  # of 10g
    return provoke(server, make_settings(server))


def empty_the_pool(server: Server, _: Path) -> StoreError:
    with OracleStore.open(make_settings(server)) as store:
        kept = [store._connections._acquire(is_checked=False) for _ in range(connection_module.POOL_SIZE)]
        store._connections._get_pool().wait_timeout = 50
        with pytest.raises(StoreError) as caught:
            store.count_images()
        for connection in kept:
            connection.close()
    return caught.value


def answer_late(server: Server, _: Path) -> StoreError:
    with OracleStore.open(make_settings(server)) as store:
        store.count_images()
        pool = store._connections._get_pool()
        connection = pool.acquire()
        connection.call_timeout = 100
        connection.close()
        server.faults.add(Delay(2), "execute")
        with pytest.raises(StoreError) as caught:
            store.count_images()
    return caught.value


def cut_twice(server: Server, _: Path) -> StoreError:
    server.faults.add(Cut("before"), "execute", times=2)
    return provoke(server, make_settings(server))


def use_a_closed_connection(server: Server, _: Path) -> StoreError:
    with OracleStore.open(make_settings(server)) as store, pytest.raises(StoreError) as caught:
        store._read(lambda session: session.connection.close() or session.query("SELECT 1 FROM dual"))
    return caught.value


def load_a_client_late(server: Server, folder: Path) -> StoreError:
    oracledb.connect(user="imgsearch", password=PASSWORD, dsn=server.dsn).close()
    return provoke(server, make_settings(server, db_client_lib_dir=str(folder)))


def load_no_client(server: Server, folder: Path) -> StoreError:
    with pytest.MonkeyPatch.context() as patch:  # the real one: test_client_libraries_that_are_missing_...
        detail = errors._Error(message="DPI-1047: Cannot locate a 64-bit Oracle Client library")
        patch.setattr(oracledb, "init_oracle_client", lambda **_: (_ for _ in ()).throw(detail.exc_type(detail)))
        return provoke(server, make_settings(server, db_client_lib_dir=str(folder)))


PRODUCERS: dict[str, Callable[[Server, Path], StoreError]] = {
    **{f"ORA-{number}": refuse_connection(number) for number in (12506, 12516, 12518, 12519, 12520, 12521)},
    **{f"ORA-{number}": refuse_connection(number) for number in (12505, 12514, 12526, 12527, 12528, 12660)},
    "DPI-1047": load_no_client,
    "DPY-1001": use_a_closed_connection,
    "DPY-2019": load_a_client_late,
    "DPY-3001": demand_encryption,
    "DPY-3010": speak_an_old_protocol,
    "DPY-3015": keep_an_old_password,
    "DPY-4000": lack_an_alias,
    "DPY-4005": empty_the_pool,
    "DPY-4011": cut_twice,
    "DPY-4017": change(db_dsn="(DESCRIPTION=("),
    "DPY-4018": change(db_dsn="scott/tiger@host/service"),
    "DPY-4024": answer_late,
    "DPY-4026": lack_tnsnames,
    "DPY-4027": change(db_dsn="mydb"),
    "DPY-6000": refuse_connection(12564),
    "DPY-6005": close_the_port,
}
LOGINS = ("ORA-01017", "ORA-01033", "ORA-01034", "ORA-01045", "ORA-01109", "ORA-28000", "ORA-28001", "ORA-00018")


def produce(code: str, server: Server, folder: Path) -> StoreError:
    if code in PRODUCERS:
        return PRODUCERS[code](server, folder)
    assert code.startswith("ORA-"), f"no way is known to provoke {code}"
    text = f"detail with {PASSWORD}\nin a second line"
    if code in LOGINS:
        server.faults.add(Refuse(int(code[4:]), text), "login", times=99)
    else:
        server.faults.add(Refuse(int(code[4:]), text), "execute", "COUNT(*)", times=99)
    return provoke(server, make_settings(server))


@pytest.mark.parametrize("code", sorted(_SENTENCES.keys() - {"DPY-6001", "DPY-6003"}))
def test_every_code_becomes_one_sentence_that_says_what_to_do(code: str, server: Server, tmp_path: Path) -> None:
    kind, sentence = _SENTENCES[code]
    told = produce(code, server, tmp_path)
    assert isinstance(told, kind)
    assert code in str(told)
    assert code == "DPY-3001" or sentence in str(told)  # which depends on what it needs the client for
    assert PASSWORD not in str(told)
    assert "\n" not in str(told)
    assert len(str(told)) > 40


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("ORA-12660", "DB_CLIENT_LIB_DIR"),
        ("DPY-3001", "SQLNET.ENCRYPTION_SERVER"),
        ("ORA-12506", "access control list"),
        ("ORA-12514", "does not know the service"),
        ("ORA-12505", "does not know the SID"),
        ("DPY-6000", "refuses connections"),
        ("ORA-12519", "PROCESSES"),
    ],
)
def test_each_refusal_names_its_own_remedy(code: str, words: str, server: Server, tmp_path: Path) -> None:
    assert words in str(produce(code, server, tmp_path))


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ORA-01017", StoreUnavailable),
        ("ORA-00904", SchemaError),
        ("ORA-12954", StoreFull),
        ("ORA-51803", EmbeddingRefused),
        ("ORA-12345", StoreError),
    ],
)
def test_errors_are_of_the_kind_the_rest_of_the_program_knows(
    code: str, kind: type[StoreError], server: Server, tmp_path: Path
) -> None:
    assert type(produce(code, server, tmp_path)) is kind


def test_wrong_password_is_told_by_the_server_itself(server: Server) -> None:
    assert "ORA-01017" in str(provoke(server, make_settings(server, db_password="another")))


def test_unknown_error_is_told_in_the_words_of_the_database(server: Server) -> None:
    server.faults.add(Refuse(99999, "strange"), "execute")
    assert "ORA-99999: strange" in str(provoke(server, make_settings(server)))


@pytest.mark.parametrize("number", [28, 1089, 2396, 3113, 3114, 3135, 12537])
def test_session_that_is_killed_is_a_lost_connection_whatever_it_is_called(number: int, server: Server) -> None:
    with OracleStore.open(make_settings(server)) as store:
        store.count_images()
        server.faults.add(Refuse(number), "execute")
        assert store.count_images() == 0  # on another connection
        server.faults.add(Refuse(number), "execute", times=2)
        with pytest.raises(StoreUnavailable, match="lost"):
            store.count_images()


def test_codes_of_oracle_text_are_shown_too(server: Server) -> None:
    server.faults.add(Refuse(29902, "error\nORA-20000: Oracle Text error:\nDRG-50901: parser"), "execute", times=9)
    assert "DRG-50901" in str(provoke(server, make_settings(server)))


def test_error_of_the_operating_system_has_no_code() -> None:
    assert get_code(OSError("x")) == ""


def test_no_password_is_in_any_representation() -> None:
    store = OracleStore.open(SETTINGS)
    assert PASSWORD not in repr(SETTINGS) + repr(store) + store.location
    assert "tiger" not in OracleStore.open(replace(SETTINGS, db_dsn="scott/tiger@host/service")).location
