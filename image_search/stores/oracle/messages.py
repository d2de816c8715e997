"""Messages for the errors of Oracle Database and its driver. Source of the codes: python-oracledb, errors.py."""

from __future__ import annotations

import re

import oracledb

from image_search.errors import EmbeddingRefused, SchemaError, StoreError, StoreFull, StoreUnavailable

OracleError = (oracledb.Error, OSError)  # an unknown host is an OSError and not the driver's

_CREATE = "Run: python register_images.py --create-schema"
_CHECK = "python ImageSearch.py --check says more."
_INDEX = "Searching goes on without it."
_NO_SERVICE = (
    "The database server does not know the service in DB_DSN, or is still starting. Check the name after the port "
    "(FREEPDB1 on Oracle Free), or try again in a minute."
)
_WALLET = (
    "The encrypted connection to DB_DSN could not be made. For a wallet check DB_WALLET_LOCATION (the folder of "
    "ewallet.pem) and DB_WALLET_PASSWORD; for TLS without a wallet leave both empty."
)
_ENCRYPTION = (
    "The database server demands native network encryption, which only Oracle's client speaks. Set DB_CLIENT_LIB_DIR "
    "to the folder of Oracle Instant Client, or use a TCPS address in DB_DSN, or ask the administrator for "
    "SQLNET.ENCRYPTION_SERVER = ACCEPTED."
)
_ENDED = (
    "The server at DB_DSN answers and ends the connection before the login. It may demand native network encryption "
    "(set DB_CLIENT_LIB_DIR) or TLS (tcps:// in DB_DSN), or not be an Oracle listener. Check host and port."
)
_NO_ANSWER = (
    "Oracle Database does not answer at DB_DSN. Check host and port, and that the database and its listener run."
)
_FORM = "Write host:port/service, such as host:1521/FREEPDB1; jdbc: and host:port:SID are not taken"
_LOST = "The connection to Oracle Database was lost. Try again when it is back."

_BY_KIND: dict[type[StoreError], dict[str, str]] = {
    StoreUnavailable: {
        # reaching the database
        "DPY-6005": _NO_ANSWER,
        "DPY-6000": (
            "The listener at DB_DSN refuses connections: the database is starting, closed or full. "
            "Try again in a minute."
        ),
        "DPY-6001 ORA-12514": _NO_SERVICE,
        "DPY-6003 ORA-12505": "The database server does not know the SID in DB_DSN. Correct it.",
        "ORA-12506": (
            "The address of this computer is not in the access control list of the database. Add it there (Autonomous "
            "Database: Network, Access control list)."
        ),
        "ORA-12516 ORA-12518 ORA-12519 ORA-12520": (
            "The database has no free server process for a connection. Try again in a moment; if it stays, ask the "
            "administrator to raise PROCESSES."
        ),
        "ORA-12521": "The listener does not know the instance in DB_DSN. Correct its name.",
        "ORA-12526 ORA-12527 ORA-12528": (
            "The database is starting, stopping or restricted. Try again in a minute, or ask the administrator."
        ),
        "ORA-12660": _ENCRYPTION,
        "ORA-01033": "Oracle Database is starting or stopping. Try again in a minute.",
        "ORA-01034": "Oracle Database is not started. Ask the administrator to start it.",
        "ORA-01109": "The pluggable database is not open. Ask the administrator to open it.",
        "DPY-4027": (
            f"DB_DSN is no address of a database. {_FORM}. "
            "For an alias of tnsnames.ora, set DB_CONFIG_DIR to the folder of that file."
        ),
        "DPY-4026": f"DB_CONFIG_DIR holds no tnsnames.ora, and DB_DSN is no address. Correct one of them. {_FORM}.",
        "DPY-4000": f"DB_DSN is neither an address nor an alias in tnsnames.ora of DB_CONFIG_DIR. {_FORM}.",
        "DPY-4017": "DB_DSN is not a connect descriptor. Write host:1521/FREEPDB1 for example.",
        "DPY-4018": "DB_DSN cannot be read. Write host:1521/FREEPDB1 for example, without user.",
        "DPI-1047": (
            "Oracle's client libraries cannot be loaded from DB_CLIENT_LIB_DIR. Name the folder of Oracle Instant "
            "Client (Basic, for this processor), or leave the setting empty."
        ),
        "DPY-2019": "DB_CLIENT_LIB_DIR was set after this program had connected without it. Start the program again.",
        "DPY-3001": "DB_USER, DB_PASSWORD or DB_DSN asks for something that needs Oracle's client.",
        "DPY-3010": "The database is older than 12.1. Oracle Database 23ai or 26ai is needed.",
        "DPY-3015": "The password of DB_USER is stored in an old form. Set the password again.",
        # the user
        "ORA-01017": "Oracle Database refuses DB_USER with this DB_PASSWORD. Correct the two settings.",
        "ORA-28000": "The account of DB_USER is locked. Ask the administrator to unlock it.",
        "ORA-28001": "The password of DB_USER has expired. Change it in the database and DB_PASSWORD.",
        "ORA-01045": "DB_USER may not log in. Ask the administrator for GRANT CREATE SESSION.",
        # time and load
        "DPY-4005 ORA-00018 ORA-00020": "All connections to Oracle Database are busy. Try again in a moment.",
        "ORA-02391": "DB_USER has as many connections as its profile allows. " + _CHECK,
        "DPY-4024": "Oracle Database took too long to answer. Try again; if it stays, " + _CHECK,
        "DPY-4011 DPY-1001": _LOST,
        "ORA-00060 ORA-00054": "Another program is changing the same rows. Try again.",
        # vectors
        "ORA-51815": "The vector index is being changed. Try again.",
    },
    SchemaError: {
        "ORA-01031": "DB_USER lacks a privilege for this. create_user.sql lists what is needed. " + _CHECK,
        "ORA-00942": "A table is missing in the schema of DB_USER. " + _CREATE,
        "ORA-00904": "A table in the schema of DB_USER lacks a column. " + _CHECK,
        "ORA-00902": "The database has no VECTOR type. Oracle Database 23ai (23.4) or later is needed.",
        "ORA-43853": (
            "VECTOR columns cannot live in the default tablespace of DB_USER. Use one with automatic segment space "
            "management, as create_user.sql does."
        ),
        "ORA-20001": (
            "The tables in the schema of DB_USER have another shape. Run: python register_images.py --migrate --dry-run"
        ),
        "ORA-51902": (
            "A vector index needs embeddings of one dimension. "
            "Remove the other models: register_images.py --remove-model"
        ),
        "ORA-51934": "A vector index needs one number format in all rows. Embed the images again.",
        "ORA-29855": "The word index could not be built. " + _CHECK,
        "ORA-29861": "The word index is marked as broken. " + _CREATE,
        "ORA-29902": "The word index cannot answer. " + _CHECK,
        "ORA-20000": "Oracle Text cannot answer. " + _CHECK,
    },
    StoreError: {
        "ORA-00001": "Another program stored the same at the same time. Run again: nothing is stored twice.",
        "ORA-02291": "An image or a model was removed meanwhile. Run again.",
        "ORA-02292": "Another program added embeddings of this model meanwhile. Run again.",
        "ORA-02290": "A value is outside of what the schema allows. " + _CHECK,
        "ORA-01400": "A value that the schema demands is missing. " + _CHECK,
        "ORA-12899": "A text is longer than its column. " + _CHECK,
        "ORA-51950": (
            "VECTOR_MEMORY_SIZE can only be set in the server parameter file of the root. Ask the administrator."
        ),
        "ORA-51928": (
            "This release allows no changes while there is an HNSW index (23.6 does). "
            "Run: python register_images.py --vector-index ivf"
        ),
    },
    StoreFull: {
        "ORA-01536 ORA-01653 ORA-01654 ORA-01658 ORA-01691": (
            "The tablespace of DB_USER is full. Ask the administrator for more room, or delete images."
        ),
        "ORA-01652": "The temporary tablespace is full. Ask the administrator for more room, and try again.",
        "ORA-30036": (
            "The undo tablespace is full. Ask the administrator for more room, or try again when other work has ended."
        ),
        "ORA-01950": (
            "DB_USER has no quota on its tablespace. Ask the administrator: ALTER USER ... QUOTA UNLIMITED ON USERS"
        ),
        "ORA-12954": (
            "Oracle Free holds 12 GB at most, and they are used up. Delete images, or keep originals in ORIGINALS_URL."
        ),
        "ORA-12953": "Oracle Free holds 12 GB at most, and they are used up. Delete images.",
        "ORA-51908": "There is no room to build the vector index. " + _INDEX,
        "ORA-51961 ORA-51962": "The vector memory is too small for an HNSW index. Use ivf. " + _INDEX,
        "ORA-51996": "The vector memory cannot grow any more. Use an ivf index. " + _INDEX,
    },
    EmbeddingRefused: {
        "ORA-51803": "The column EMBEDDING wants another dimension than this model has. " + _CHECK,
        "ORA-51808": "Embeddings of different dimensions were compared. " + _CHECK,
        "ORA-51805 ORA-51807": "An embedding is not a list of finite numbers: the model's output is damaged.",
        "ORA-51932": (
            "The vector index holds embeddings of another dimension. Run: python register_images.py --vector-index none"
        ),
        "ORA-51935": "The vector index holds another number format. Embed the images again.",
    },
}
_SENTENCES = {
    code: (kind, sentence)
    for kind, sentences in _BY_KIND.items()
    for codes, sentence in sentences.items()
    for code in codes.split()
}

# The transaction was rolled back, and doing all of it again meets another state: another program stored the same
# (unique key), waited for us while we waited for them (deadlock), or removed what we referred to, or referred to what
# we remove.
_CLASHES = {"ORA-00001", "ORA-00060", "ORA-02291", "ORA-02292"}
# ORA-01460, ORA-01461: a text query longer than this database's strings.
_TEXT = {"ORA-29902", "ORA-29861", "ORA-20000", "ORA-29833", "ORA-01460", "ORA-01461"}


def describe(error: Exception, doing: str = "") -> StoreError:
    """The error as one sentence. doing: what was tried, put before a sentence that would not say it."""
    if not isinstance(error, oracledb.Error):
        reason = getattr(error, "strerror", None) or type(error).__name__
        return StoreUnavailable(f"The host in DB_DSN cannot be reached ({reason}). Check its name and the network.")
    code = _find_code(error)
    kind: type[StoreError]
    if code == "DPY-6005" and re.search(r"ssl|certificate|wallet", str(error), re.IGNORECASE):
        kind, sentence = StoreUnavailable, _WALLET
    elif code == "DPY-6005" and "DPY-4011" in str(error):
        kind, sentence = StoreUnavailable, _ENDED
    elif code == "DPY-3001" and "Encryption" in str(error):
        kind, sentence = StoreUnavailable, _ENCRYPTION
    elif code in _SENTENCES:
        kind, sentence = _SENTENCES[code]
    elif is_lost(error):
        kind, sentence = StoreUnavailable, _LOST
    else:
        first_line = str(error).splitlines()[0] if str(error) else "no message"
        kind, sentence = StoreError, f"Oracle Database refused: {first_line}. {_CHECK}"
    numbers = [code, *re.findall(r"DRG-\d{5}", str(error))[:1]]
    return kind(f"{doing}{': ' if doing else ''}{sentence} ({', '.join(filter(None, numbers))})")


def no_answer(seconds: float) -> StoreUnavailable:
    """For a database that accepts connections and stays silent."""
    return StoreUnavailable(f"{_NO_ANSWER} (no answer in {seconds:.0f} s)")


def _find_code(error: oracledb.Error) -> str:
    """The most specific code. The driver puts the reason it knows into the lines below, the listener's behind that."""
    code = get_code(error)
    if code not in ("DPY-6005", "DPY-6000"):
        return code
    reasons = re.findall(r"Similar to (ORA-\d{5})", str(error))
    reasons += re.findall(r"^(?!DPY-6005|DPY-4011)[A-Z]{3}-\d+", str(error), re.MULTILINE)
    return next((reason for reason in reasons if reason in _SENTENCES), code)


def get_code(error: BaseException) -> str:
    """ORA-00942, DPY-6005, ...; "" when the error has none."""
    detail = error.args[0] if error.args else None
    return str(getattr(detail, "full_code", "") or "")


def is_lost(error: BaseException) -> bool:
    """Whether the connection is gone, so that a new one may succeed."""
    detail = error.args[0] if error.args else None
    return get_code(error) in ("DPY-4011", "DPY-1001") or bool(getattr(detail, "isrecoverable", False))


def is_clash(error: BaseException) -> bool:
    """Whether another writer came first, so that the whole transaction may be done again."""
    return get_code(error) in _CLASHES


def is_text_failure(error: BaseException) -> bool:
    """Whether Oracle Text could not answer, so that words must be found without it."""
    return get_code(error) in _TEXT or "DRG-" in str(error)
