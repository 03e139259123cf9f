"""What a server needs of its own before it can start: a directory, a pepper, a credential.

All of it is made at the first start where that is safe, and nothing is made twice: a
second pepper would make every key unknown, and a second credential would be a back door.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog
from pydantic import SecretStr

from keyfence_server.adapters.files.high_water import HighWaterFile
from keyfence_server.adapters.files.lock import AlreadyLocked, FileLock
from keyfence_server.adapters.files.private import (
    create_private_file,
    is_readable_by_others,
    make_private_directory,
)
from keyfence_server.adapters.files.secret_lines import (
    generate_versioned_secret,
    parse_import_secrets,
    parse_peppers,
    parse_versioned_secrets,
)
from keyfence_server.adapters.keyspace_files.reading import read_keyspace_file
from keyfence_server.adapters.keyspace_files.source_text import InvalidKeyspaceFile
from keyfence_server.adapters.session_tokens import SEED_SIZE, SessionKeys
from keyfence_server.adapters.sql.urls import InvalidDatabaseUrl, parse_database_url
from keyfence_server.application.apply_keyspace import require_applicable
from keyfence_server.application.first_start import new_root_credential, read_root_credential
from keyfence_server.config import Settings
from keyfence_server.domain.declarations import KeyspaceDeclaration
from keyfence_server.domain.errors import DomainError, InvalidInput
from keyfence_server.domain.secrets import MINIMUM_PEPPER_SIZE, Peppers, Plaintext

ROOT_KEY_FILE: Final = "root.key"
PEPPER_FILE: Final = "pepper"
SESSION_KEY_FILE: Final = "session.key"
LOCK_FILE: Final = "lock"
HIGH_WATER_FILE: Final = "high-water"
_DATA_DIR: Final = "KEYFENCE_DATA_DIR"
_MAKE_A_PEPPER: Final = 'make one with: echo "1:$(openssl rand -base64 32)"'

_log = structlog.get_logger("keyfence")


class CannotStart(Exception):
    """The server cannot start, and why, and what to do about it."""


@contextmanager
def cannot_start(about: object, *kinds: type[Exception], advice: str = "") -> Iterator[None]:
    """Refuses the start for errors of these kinds.

    Args:
        about: the setting or the file that they are about.
        advice: what goes behind the error's own words.
    """
    try:
        yield
    except kinds as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise CannotStart(f"{about}: {said}{advice}") from None


def warn_of_separate_counts(settings: Settings, *, processes: int) -> None:
    """Says so where several processes count by themselves, and a limit is several limits."""
    if processes > 1 and settings.rate_limit_url is None:
        _log.warning(
            "rate_limits_counted_separately",
            processes=processes,
            advice="set KEYFENCE_RATE_LIMIT_URL, so that all processes count together",
        )


def embedded_database(settings: Settings) -> Path | None:
    """The file of the embedded database; None if the store is a PostgreSQL server. Raises
    `CannotStart` if no store can be at the address."""
    with cannot_start("KEYFENCE_DATABASE_URL", InvalidDatabaseUrl):
        url = parse_database_url(settings.store_url())
    return Path(url.path) if url.is_sqlite else None


def describe_store(settings: Settings) -> str:
    """Where the store is and which setting says so, without a password. Raises `InvalidDatabaseUrl`
    if no store can be at the address."""
    variable = _DATA_DIR if settings.database_url is None else "KEYFENCE_DATABASE_URL"
    return f"{variable}, {parse_database_url(settings.store_url()).place}"


def lock_database(settings: Settings, database: Path) -> FileLock:
    """Makes the database's directory, if need be, and keeps other servers away from it. Raises
    `CannotStart` if another server has it, the directory cannot be had, or the database is missing
    because a restore was killed."""
    require_no_cut_exchange(database)
    _make_data_directory(settings)
    directory = database.parent
    # In the directory of our own, one lock is for all that is in it.
    ours = directory.resolve() == settings.data_dir.resolve()
    variable = _DATA_DIR if ours else "KEYFENCE_DATABASE_URL"
    with (
        cannot_start(f"{variable}: {directory}", OSError),
        cannot_start(
            f"another server uses {database}",
            AlreadyLocked,
            advice=". Stop it, or give this one another KEYFENCE_DATA_DIR",
        ),
    ):
        return FileLock(directory / (LOCK_FILE if ours else f"{database.name}.{LOCK_FILE}"))


def restoring_directory(database: Path) -> Path:
    """Where `keyfence restore` works until it puts the result in place of the database."""
    return database.with_name(f"{database.name}.restoring")


def replaced_database(database: Path, moment: str) -> Path:
    """Where `keyfence restore` keeps the database that it has replaced."""
    return database.with_name(f"{database.name}.before-restore-{moment}")


def require_no_cut_exchange(database: Path) -> None:
    """Returns unless a restore was killed after it had moved the old database away, and before the
    restored one was in its place. A new, empty database must not take that place: `CannotStart`
    says how to go on."""
    if database.exists() or not restoring_directory(database).exists():
        return
    start = replaced_database(database, "").name
    kept = [path for path in database.parent.iterdir() if path.name.startswith(start)]
    databases = sorted(path for path in kept if not path.name.endswith(("-wal", "-shm")))
    if databases:
        last = databases[-1]
        raise CannotStart(
            f"{database} is missing: `keyfence restore` was stopped while it exchanged the files. "
            f"Rename {last} to {database}, and {last}-wal to {database}-wal, if it exists. Then "
            "restore again"
        )


def _make_data_directory(settings: Settings) -> None:
    with cannot_start(f"{_DATA_DIR}: {settings.data_dir}", OSError):
        make_private_directory(settings.data_dir)


def high_water_file(settings: Settings) -> HighWaterFile | None:
    """Where the position of the store is kept. None if there is no data directory, as for a
    server on PostgreSQL that keeps nothing on its own disk."""
    if not settings.data_dir.is_dir():
        return None
    return HighWaterFile(settings.data_dir / HIGH_WATER_FILE)


def provide_peppers(settings: Settings, database: Path | None) -> Peppers:
    """The peppers that were given, or for an embedded database those in its directory. Raises
    `CannotStart` if there are none and none may be made, or they are malformed, or the secrets of
    imported keys are."""
    import_secrets = read_import_secrets(settings)
    given = _given_secret("KEYFENCE_PEPPER", settings.pepper, settings.pepper_file)
    if given is not None:
        variable, text = given
        with cannot_start(variable, ValueError, advice=f"; {_MAKE_A_PEPPER}"):
            return parse_peppers(text, import_secrets)
    if database is None:
        raise CannotStart(
            "with PostgreSQL a pepper must be given, in KEYFENCE_PEPPER_FILE or KEYFENCE_PEPPER, "
            f"and kept apart from the database's backups; {_MAKE_A_PEPPER}"
        )
    path = settings.data_dir / PEPPER_FILE
    if not path.exists():
        if database.exists():
            raise CannotStart(
                f"{path} is missing, but the database {database} exists: without that pepper no "
                "key in it can be recognised. Restore the file from a backup"
            )
        _create_secret(path, generate_versioned_secret(MINIMUM_PEPPER_SIZE))
        _log.info("pepper_created", file=str(path), advice="back it up, apart from the database")
    with cannot_start(path, ValueError):
        return parse_peppers(_read_secret(path, _DATA_DIR), import_secrets)


def read_import_secrets(settings: Settings) -> Mapping[str, Sequence[bytes]]:
    """The secrets of other programs, by keyspace. Raises `CannotStart`."""
    if settings.import_secret_file is None:
        return {}
    variable = "KEYFENCE_IMPORT_SECRET_FILE"
    with cannot_start(variable, ValueError):
        return parse_import_secrets(_read_secret(settings.import_secret_file, variable))


def source_of_peppers(settings: Settings) -> str:
    """Where `provide_peppers` has them from, as it is called for people."""
    if settings.pepper is not None:
        return "KEYFENCE_PEPPER"
    if settings.pepper_file is not None:
        return f"KEYFENCE_PEPPER_FILE, {settings.pepper_file}"
    return str(settings.data_dir / PEPPER_FILE)


def provide_session_keys(settings: Settings, database: Path | None) -> SessionKeys | None:
    """The keys that sign sessions, or for an embedded database those in its directory, which
    are made where there are none: to lose them ends the sessions, and nothing else. None if none
    were given, and other servers could not know one that was made here. Raises `CannotStart` if
    they are malformed."""
    given = _given_secret("KEYFENCE_SESSION_KEY", settings.session_key, settings.session_key_file)
    if given is not None:
        variable, text = given
        with cannot_start(variable, ValueError, advice=f"; {_MAKE_A_PEPPER}"):
            return SessionKeys(parse_versioned_secrets(text))
    if database is None:
        return None
    path = settings.data_dir / SESSION_KEY_FILE
    if not path.exists():
        _create_secret(path, generate_versioned_secret(SEED_SIZE))
    with cannot_start(path, ValueError):
        return SessionKeys(parse_versioned_secrets(_read_secret(path, _DATA_DIR)))


def given_root_credential(settings: Settings) -> Plaintext | None:
    """The first credential that was given; None if none was. Raises `CannotStart` if it does not
    have the form of one."""
    if settings.root_key is None:
        return None
    try:
        return read_root_credential(settings.root_key.get_secret_value())
    except InvalidInput as error:
        raise CannotStart(str(error)) from None


def root_key_file(settings: Settings) -> Path:
    """Where the first credential is, if none was given."""
    return settings.data_dir / ROOT_KEY_FILE


def make_root_credential(settings: Settings) -> Plaintext:
    """A first credential, in a file that only its owner can read.

    It is in the file before it is in the store. A start that was cut off in between goes on with
    the credential in the file, so that there is never a credential in the store whose plaintext is
    lost. Raises `CannotStart` if the file cannot be written, or holds something else.
    """
    path = root_key_file(settings)
    try:
        if path.exists():
            return read_root_credential(_read_secret(path, _DATA_DIR).strip())
        credential = new_root_credential()
        _make_data_directory(settings)
        _create_secret(path, f"{credential.reveal()}\n")
    except InvalidInput:
        raise CannotStart(
            f"{path} has no operator credential in it; remove the file, and the server makes a new "
            "one"
        ) from None
    return credential


def first_keyspaces(settings: Settings) -> list[KeyspaceDeclaration]:
    """The keyspaces that are to be applied at the first start. Raises `CannotStart` if a file
    cannot be read, or is not a keyspace that can be applied; every fault is shown at its line."""
    variable = "KEYFENCE_BOOTSTRAP_KEYSPACES"
    found = []
    for path in settings.bootstrap_keyspaces:
        try:
            with cannot_start(f"{variable}: {path}", OSError, DomainError):
                found.append(read_keyspace_file(path).declaration)
                require_applicable(found[-1])
        except InvalidKeyspaceFile as error:
            raise CannotStart(f"{variable}:\n{error}") from None
    return found


def _create_secret(path: Path, content: str) -> None:
    with cannot_start(f"{_DATA_DIR}: {path}", OSError):
        create_private_file(path, content)


def _given_secret(
    variable: str, value: SecretStr | None, file: Path | None
) -> tuple[str, str] | None:
    """The variable that gives a secret, and the secret; None if neither it nor its file is set."""
    if value is not None:
        return variable, value.get_secret_value()
    if file is not None:
        return f"{variable}_FILE", _read_secret(file, f"{variable}_FILE")
    return None


def _read_secret(path: Path, variable: str) -> str:
    try:
        if is_readable_by_others(path):
            _log.warning("secret_readable_by_others", file=str(path), advice="chmod it to 0600")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise CannotStart(f"{variable}: {path}: {reason}") from None
