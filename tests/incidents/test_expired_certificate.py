"""A certificate expires: refused at the start, never put in place of a good one, and renewed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from incidents.conftest import Host, eventually
from support.tls import Authority


@pytest.mark.slow
def test_an_expired_certificate_is_refused_and_a_new_one_taken_without_a_restart(
    host: Host,
) -> None:
    authority = Authority()
    directory = host.directory
    certificate, key = directory / "server.crt", directory / "server.key"

    def put(expire_time: datetime) -> None:
        pair = authority.issue(expire_time=expire_time)
        key.write_bytes(pair.key)
        certificate.write_bytes(pair.certificate)

    now = datetime.now(UTC)
    socket = f"unix:{directory}/keyfence.sock"
    tls = {
        "KEYFENCE_LISTEN": f"{socket},127.0.0.1:0",
        "KEYFENCE_TLS_CERT_FILE": str(certificate),
        "KEYFENCE_TLS_KEY_FILE": str(key),
        "KEYFENCE_TLS_RELOAD_SECONDS": "0.2",
    }
    put(now - timedelta(days=1))
    assert "a certificate in it expired at" in host.run("serve", more=tls, expect=5).stderr

    put(now + timedelta(days=7))
    server = host.start(tls, target=socket)
    assert '"days_left": 6' in server.wait_for("certificate_expires_soon")
    before = expiry(server.get("/metrics")[1])
    put(now - timedelta(days=1))
    server.wait_for("certificate_not_replaced")
    assert expiry(server.get("/metrics")[1]) == before
    put(now + timedelta(days=90))
    server.wait_for("certificate_renewed")
    eventually(lambda: expiry(server.get("/metrics")[1]) > before, "the new date in the metrics")


def expiry(metrics: str) -> float:
    name = "keyfence_certificate_expire_timestamp_seconds "
    (line,) = [line for line in metrics.splitlines() if line.startswith(name)]
    return float(line.removeprefix(name))
