"""Settings: what is wrong is refused, and secrets are not repeated."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from keyfence_server.adapters.sql.urls import parse_database_url
from keyfence_server.config import (
    InvalidSettings,
    Settings,
    load_settings,
    read_settings,
)
from keyfence_server.gateway.settings import GatewaySettings
from keyfence_server.rpc.listen_addresses import parse_listen_address, parse_listen_addresses

CANARY = "hunter2hunter2hunter2"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("KEYFENCE_"):
            monkeypatch.delenv(name)


def problems(monkeypatch: pytest.MonkeyPatch, **variables: str) -> tuple[str, ...]:
    """What is said against these variables."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSettings) as caught:
        load_settings()
    return caught.value.problems


def test_without_any_variable_it_serves_on_loopback_and_nothing_else() -> None:
    settings = load_settings()
    assert settings.listen == "127.0.0.1:50051"
    assert settings.data_dir == Path(".keyfence")
    assert settings.metrics_listen is None
    assert not settings.insecure_plaintext


def test_a_misspelt_variable_is_refused_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was meant to do something: perhaps to ask clients for certificates."""
    said = problems(monkeypatch, KEYFENCE_TLS_CLIENTCA_FILE="/x", KEYFENCE_QQQQQQ="1")
    assert said[0] == "KEYFENCE_QQQQQQ: there is no such setting"
    assert said[1].endswith("no such setting; did you mean KEYFENCE_TLS_CLIENT_CA_FILE?")


def test_variables_of_clients_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KEYFENCE_TARGET", "KEYFENCE_TOKEN"):
        monkeypatch.setenv(name, "x")
    load_settings()


@pytest.mark.parametrize("service", ["", "GATEWAY_", "HEADLESS_", "METRICS_", "POSTGRESQL_"])
def test_variables_that_kubernetes_sets_for_a_service_are_ignored(
    monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    """They are in every container of a namespace with a Service whose name begins with
    "keyfence", such as keyfence-postgresql."""
    for name, value in {
        "SERVICE_HOST": "10.0.0.7",
        "SERVICE_PORT": "5432",
        "SERVICE_PORT_GRPC": "5432",
        "PORT": "tcp://10.0.0.7:5432",
        "PORT_5432_TCP": "tcp://10.0.0.7:5432",
        "PORT_5432_TCP_PROTO": "tcp",
        "PORT_5432_TCP_PORT": "5432",
        "PORT_5432_TCP_ADDR": "10.0.0.7",
    }.items():
        monkeypatch.setenv(f"KEYFENCE_{service}{name}", value)
    load_settings()
    read_settings(GatewaySettings)


def test_a_port_that_kubernetes_did_not_set_is_a_misspelt_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (problem,) = problems(monkeypatch, KEYFENCE_LISTEN_PORT="50051")
    assert problem.startswith("KEYFENCE_LISTEN_PORT: there is no such setting")


@pytest.mark.parametrize(
    "name",
    [
        "KEYFENCE_ROOT_KEY",
        "KEYFENCE_PEPPER",
        "KEYFENCE_DATABASE_URL",
        "KEYFENCE_TLS_CLIENT_CA_FILE",
    ],
)
def test_a_secret_or_a_door_that_is_empty_is_a_mistake(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert problems(monkeypatch, **{name: ""}) == (
        f"{name}: is set, but empty; unset it, or give it a value",
    )


def test_no_problem_repeats_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save for addresses, which are not secret and easier to mend when one sees them."""
    names = [
        f"KEYFENCE_{name.upper()}"
        for name, field in Settings.model_fields.items()
        if not name.endswith("listen")
    ]
    said = problems(monkeypatch, **dict.fromkeys(names, CANARY))
    assert len(said) > 10
    assert CANARY not in " ".join(said)


def test_no_setting_shows_a_secret() -> None:
    settings = Settings(
        root_key=SecretStr(CANARY),
        pepper=SecretStr(CANARY),
        database_url=SecretStr(f"postgresql://a:{CANARY}@h/d"),
    )
    assert CANARY not in repr(settings)
    assert CANARY not in str(settings.model_dump())
    assert settings.store_url() == f"postgresql://a:{CANARY}@h/d"


@pytest.mark.parametrize(
    ("variable", "secret"),
    [
        ("KEYFENCE_PEPPER_FILE", "1:3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs="),
        ("KEYFENCE_SESSION_KEY_FILE", "2:3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxg/ZGhs="),
        ("KEYFENCE_IMPORT_SECRET_FILE", "shop:3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs="),
        ("KEYFENCE_UPSTREAM_TOKEN_FILE", "kfop_7Hq2mXcV0bN4pLw9ZtR1yKfUoEaGsDjB0Zk3Tq"),
        ("KEYFENCE_TLS_KEY_FILE", "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA\n"),
    ],
)
def test_a_secret_in_place_of_its_file_is_not_said_back(
    monkeypatch: pytest.MonkeyPatch, variable: str, secret: str
) -> None:
    said = str(problems(monkeypatch, **{variable: secret}))
    assert "must be the path of a file" in said
    assert variable in said
    assert secret[4:20] not in said


def test_a_path_may_look_like_anything_that_is_no_secret(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    named = tmp_path / "pepper-7Hq2mXcV0bN4pLw9ZtR1yKfUoEaGsDjB"
    monkeypatch.setenv("KEYFENCE_PEPPER_FILE", str(named))
    assert load_settings().pepper_file == named


@pytest.mark.parametrize("listen", ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "127.0.0.1:1,10.0.0.1:1"])
def test_plaintext_for_other_machines_is_refused_unless_asked_for_by_name(
    monkeypatch: pytest.MonkeyPatch, listen: str
) -> None:
    (said,) = problems(monkeypatch, KEYFENCE_LISTEN=listen)
    assert "KEYFENCE_INSECURE_PLAINTEXT=true" in said
    monkeypatch.setenv("KEYFENCE_INSECURE_PLAINTEXT", "true")
    assert load_settings().exposed_in_plaintext()


@pytest.mark.parametrize("listen", ["0.0.0.0:1", "[::]:1", "192.0.2.1:1"])
@pytest.mark.parametrize("plaintext", ["true", "false"])
def test_metrics_for_other_machines_are_refused_unless_asked_for_by_name(
    monkeypatch: pytest.MonkeyPatch, listen: str, plaintext: str
) -> None:
    """Permission to serve keys in the clear is no permission to serve metrics so."""
    monkeypatch.setenv("KEYFENCE_INSECURE_PLAINTEXT", plaintext)
    (said,) = problems(monkeypatch, KEYFENCE_METRICS_LISTEN=listen)
    assert "KEYFENCE_METRICS_INSECURE_PLAINTEXT=true" in said
    monkeypatch.setenv("KEYFENCE_METRICS_INSECURE_PLAINTEXT", "true")
    assert load_settings().metrics_address()


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "[::1]:1", "unix:/tmp/s", "localhost:1"])
def test_plaintext_for_this_machine_alone_is_fine(
    monkeypatch: pytest.MonkeyPatch, listen: str
) -> None:
    monkeypatch.setenv("KEYFENCE_LISTEN", listen)
    settings = load_settings()
    assert settings.exposed_in_plaintext() == ()
    assert settings.serves_reflection()


def test_reflection_is_for_this_machine_unless_asked_for() -> None:
    exposed = Settings(listen="0.0.0.0:1", insecure_plaintext=True)
    assert not exposed.serves_reflection()
    assert Settings(
        listen="0.0.0.0:1", insecure_plaintext=True, reflection="on"
    ).serves_reflection()
    assert not Settings(reflection="off").serves_reflection()


@pytest.mark.parametrize(
    ("variables", "part"),
    [
        ({"TLS_CERT_FILE": "/c"}, "go together"),
        ({"TLS_CLIENT_CA_FILE": "/c"}, "needs KEYFENCE_TLS_CERT_FILE"),
        ({"PEPPER": "1:x", "PEPPER_FILE": "/p"}, "set one of them"),
        ({"UNIX_SOCKET_MODE": "0666"}, "KEYFENCE_UNIX_SOCKET_MODE"),
        ({"METRICS_LISTEN": "unix:/m"}, "KEYFENCE_METRICS_LISTEN"),
        ({"MAX_CONCURRENT_CALLS": "0"}, "KEYFENCE_MAX_CONCURRENT_CALLS"),
        ({"DRAIN_SECONDS": "-1"}, "KEYFENCE_DRAIN_SECONDS"),
        ({"LISTEN": "keyfence.example:443"}, "not an IP address"),
        ({"LISTEN": "50051"}, "HOST:PORT"),
        ({"LISTEN": ","}, "at least one address"),
        ({"LISTEN": "127.0.0.1:1,127.0.0.1:1"}, "twice"),
        ({"LISTEN": "unix:relative"}, 'must start with "/"'),
        ({"LISTEN": "unix:/" + "x" * 120}, "at most 107 bytes"),
        ({"LISTEN": "127.0.0.1:70000"}, "HOST:PORT"),
        ({"LISTEN": "unix:/s", "WORKERS": "2"}, "several workers cannot share unix:/s"),
    ],
)
def test_what_cannot_be_is_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], part: str
) -> None:
    named = {f"KEYFENCE_{name}": value for name, value in variables.items()}
    assert part in " ".join(problems(monkeypatch, **named))


def test_addresses_are_written_as_they_are_read() -> None:
    for text in ("127.0.0.1:50051", "[::1]:50051", "unix:/run/keyfence.sock"):
        assert str(parse_listen_address(text)) == text
    assert str(parse_listen_address("localhost:1")) == "127.0.0.1:1"
    assert str(parse_listen_address("unix:///run/s")) == "unix:/run/s"
    assert len(parse_listen_addresses("127.0.0.1:0, 127.0.0.1:0")) == 2


def test_several_files_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYFENCE_BOOTSTRAP_KEYSPACES", "a.yaml, b.yaml")
    assert load_settings().bootstrap_keyspaces == (Path("a.yaml"), Path("b.yaml"))
    monkeypatch.setenv("KEYFENCE_BOOTSTRAP_KEYSPACES", "")
    assert load_settings().bootstrap_keyspaces == ()


def test_a_strange_directory_still_makes_a_url(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "a b%20?#")
    assert settings.store_url().endswith("a%20b%2520%3F%23/keyfence.db")


def test_a_data_directory_need_not_have_a_name_in_utf_8(tmp_path: Path) -> None:
    directory = tmp_path / os.fsdecode(b"d\xe9j\xe0")
    url = parse_database_url(Settings(data_dir=directory).store_url())
    assert Path(url.path).parent == directory
