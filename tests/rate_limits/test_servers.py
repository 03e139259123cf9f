"""What several server processes on one store make of a limit, with a Redis and without."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from keyfence import Client, RateLimit
from keyfence.results import RateLimitCount
from support.redis import RedisServer
from support.served import Served

pytestmark = pytest.mark.postgres

LIMIT: Final = 20
EXAMPLES: Final = Path(__file__).parents[2] / "examples" / "keyspaces"
SEPARATE_COUNTS: Final = "rate_limits_counted_separately"


@contextmanager
def two_servers(url: str, more: Mapping[str, str]) -> Iterator[tuple[list[Client], list[Served]]]:
    """Two processes on one database, and a client of each. The first was there first."""
    settings = {
        "KEYFENCE_DATABASE_URL": url,
        "KEYFENCE_PEPPER": "1:" + "A" * 44,
        "KEYFENCE_BOOTSTRAP_KEYSPACES": str(EXAMPLES / "demo.yaml"),
        **more,
    }
    with ExitStack() as running:
        servers, clients = [], []
        for _ in range(2):
            # A socket's path must be short, and pytest's directories are not.
            directory = Path(running.enter_context(TemporaryDirectory(prefix="kf")))
            server = Served(directory, settings)
            running.callback(server.stop)
            servers.append(server)
            token = servers[0].root_key
            clients.append(running.enter_context(Client(server.target, token=token)))
        yield clients, servers


def passed(clients: list[Client], checks_each: int) -> tuple[int, Counter[RateLimitCount]]:
    """How many checks of a limited key pass, asked of the servers in turn, and what each
    answer says that its numbers rest on."""
    made = clients[0].create_key(
        keyspace="demo", account_id="a", rate_limit=RateLimit(LIMIT, timedelta(days=1))
    )
    answers = [client.authenticate(made.api_key) for _ in range(checks_each) for client in clients]
    statuses = [answer.rate_limit for answer in answers]
    return (
        sum(answer.authenticated for answer in answers),
        Counter(status.count for status in statuses if status is not None),
    )


def test_without_a_shared_counter_each_counts_by_itself_and_says_so(postgres_url: str) -> None:
    """In every answer, and in the log of every process but the first."""
    with two_servers(postgres_url, {}) as (clients, (first, second)):
        assert passed(clients, LIMIT + 5) == (
            2 * LIMIT,
            {RateLimitCount.LOCAL: 2 * (LIMIT + 5)},
        )
        assert SEPARATE_COUNTS in second.output
        assert SEPARATE_COUNTS not in first.output


def test_with_a_shared_counter_there_is_one_count_and_it_is_exact(
    postgres_url: str, redis: RedisServer
) -> None:
    # On a busy machine Redis may need longer than the usual quarter of a second.
    settings = {"KEYFENCE_RATE_LIMIT_URL": redis.url, "KEYFENCE_RATE_LIMIT_TIMEOUT_SECONDS": "20"}
    with two_servers(postgres_url, settings) as (clients, servers):
        assert passed(clients, LIMIT + 5) == (LIMIT, {RateLimitCount.WHOLE: 2 * (LIMIT + 5)})
        assert all(SEPARATE_COUNTS not in server.output for server in servers)
