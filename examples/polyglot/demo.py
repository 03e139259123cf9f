"""Three services in three languages call one another. A key is revoked: when do they refuse it?

    make demo-polyglot

Each service is asked by a thread of this process, over and over, while the key is revoked. So
all times are of one clock.
"""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from examples.embedded import Embedded, running_keyfence
from examples.polyglot.build import Built, build, missing_tool

HERE = Path(__file__).parent
START_SECONDS = 60
BEFORE_SECONDS = 2.0
AFTER_SECONDS = 1.0
PAUSE_SECONDS = 0.001
ORDER = "order_1"


@dataclass
class Watched:
    """What a service answered, and when.

    Attributes:
        accepts: when each call began that was answered.
        refusals: when each call was refused.
        from_memory: how many checks the service has answered from its cache in all.
    """

    service: str
    accepts: list[float] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)
    from_memory: int = 0


@dataclass
class Report:
    """What came of the revocation. Times are in seconds, of `time.monotonic`.

    Attributes:
        handled_by: the services that worked on an order before the revocation.
        chain_refused: whether the same order was refused afterwards.
        began, answered: when RevokeKey was called, and when it had returned.
    """

    handled_by: list[str]
    chain_refused: bool
    began: float
    answered: float
    watched: list[Watched]


@dataclass(frozen=True)
class Shop:
    """The services, as they are called.

    Attributes:
        place_order: makes all of them work on an order.
        leaves: for each service, a call that it answers alone.
    """

    place_order: Callable[[str], Any]
    leaves: dict[str, Callable[[str], Any]]


def main() -> None:
    """Builds, shows, and prints."""
    if tool := missing_tool():
        sys.exit(f"the services cannot be built: there is no {tool}")
    print("Building the services ...", flush=True)
    report = show(build())
    print(f"\nAn order was handled by: {' -> '.join(report.handled_by)}")
    print("The same order afterwards:", "refused" if report.chain_refused else "ACCEPTED")
    took = (report.answered - report.began) * 1000
    print(f"\nRevokeKey took {took:.1f} ms. Its answer came at 0 ms:\n")
    titles = ("accepted", "last began", "first refusal", "began after", "from memory")
    print(f"{'':24}" + "".join(f"{title:>16}" for title in titles))
    for one in report.watched:
        cells = (
            f"{len(one.accepts):,}",
            f"{(max(one.accepts) - report.answered) * 1000:+.1f} ms",
            f"{(min(one.refusals) - report.answered) * 1000:+.1f} ms",
            str(sum(began >= report.answered for began in one.accepts)),
            f"{one.from_memory:,}",
        )
        print(f"{one.service:24}" + "".join(f"{cell:>16}" for cell in cells))


def show(built: Built) -> Report:
    """Starts Keyfence and the services, asks them, and revokes the key meanwhile."""
    sys.path.insert(0, str(built.python))
    with running_keyfence(HERE / "shop.yaml") as keyfence:
        made = keyfence.operator.create_key(keyspace="shop", account_id="buyer", preset="buyer")
        with _running_shop(built, keyfence) as (shop, ended):
            for ask in shop.leaves.values():
                _wait_for(ask, made.api_key)
            handled_by = list(shop.place_order(made.api_key).handled_by)
            watched = [Watched(service) for service in shop.leaves]
            stop = threading.Event()
            threads = [
                threading.Thread(target=_watch, args=(ask, made.api_key, one, stop))
                for ask, one in zip(shop.leaves.values(), watched, strict=True)
            ]
            for thread in threads:
                thread.start()
            time.sleep(BEFORE_SECONDS)
            began = time.monotonic()
            keyfence.operator.revoke_key(made.key.key_id)
            answered = time.monotonic()
            time.sleep(AFTER_SECONDS)
            stop.set()
            for thread in threads:
                thread.join()
            chain_refused = _is_refused(shop.place_order, made.api_key)
        for one, from_memory in zip(watched, ended, strict=True):
            one.from_memory = from_memory
    return Report(handled_by, chain_refused, began, answered, watched)


@contextlib.contextmanager
def _running_shop(built: Built, keyfence: Embedded) -> Iterator[tuple[Shop, list[int]]]:
    """The services, and a list that has their hits when they have ended."""
    targets = {
        name: f"unix:{keyfence.directory / name}.sock" for name in ("orders", "stock", "deliveries")
    }
    token = keyfence.operator.create_key(
        keyspace="system",
        account_id="shop",
        scopes=["replication:sync"],
        bound_keyspaces=["shop"],
    ).api_key
    environment = {
        **os.environ,
        "KEYFENCE_TARGET": keyfence.target,
        "KEYFENCE_TOKEN": token,
        "PYTHONPATH": str(built.python),
        "SHOP_DESCRIPTORS": str(built.descriptors),
        **{f"{name.upper()}_TARGET": target for name, target in targets.items()},
    }
    hits: list[int] = []
    with contextlib.ExitStack() as stack:
        services = []
        for name in targets:
            service = subprocess.Popen(
                getattr(built, name),
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            services.append(stack.enter_context(service))
            stack.callback(service.kill)
        with contextlib.ExitStack() as open_channels:
            channels = {
                name: open_channels.enter_context(grpc.insecure_channel(target))
                for name, target in targets.items()
            }
            yield _shop(channels), hits
        for service in services:
            output, _ = service.communicate(timeout=START_SECONDS)
            hits.append(int(output))


def _shop(channels: dict[str, grpc.Channel]) -> Shop:
    # They were generated a moment ago.
    from polyglot.v1 import (  # noqa: PLC0415
        deliveries_pb2,
        deliveries_pb2_grpc,
        orders_pb2,
        orders_pb2_grpc,
        stock_pb2,
        stock_pb2_grpc,
    )

    orders = orders_pb2_grpc.OrderServiceStub(channels["orders"])
    stock = stock_pb2_grpc.StockServiceStub(channels["stock"])
    deliveries = deliveries_pb2_grpc.DeliveryServiceStub(channels["deliveries"])
    return Shop(
        place_order=_asking(orders.PlaceOrder, orders_pb2.PlaceOrderRequest),
        leaves={
            "orders (Go)": _asking(orders.GetOrder, orders_pb2.GetOrderRequest),
            "stock (Python)": _asking(stock.GetItem, stock_pb2.GetItemRequest),
            "deliveries (TypeScript)": _asking(
                deliveries.GetDelivery, deliveries_pb2.GetDeliveryRequest
            ),
        },
    )


def _asking(method: Any, request: Any) -> Callable[[str], Any]:
    def ask(api_key: str) -> Any:
        metadata = [("authorization", f"Bearer {api_key}")]
        return method(request(order_id=ORDER), metadata=metadata, timeout=START_SECONDS)

    return ask


def _wait_for(ask: Callable[[str], Any], api_key: str) -> None:
    """Waits until a service answers. Its cache begins with its first checks."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            ask(api_key)
        except grpc.RpcError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _watch(
    ask: Callable[[str], Any], api_key: str, watched: Watched, stop: threading.Event
) -> None:
    while not stop.wait(PAUSE_SECONDS):
        began = time.monotonic()
        if _is_refused(ask, api_key):
            watched.refusals.append(time.monotonic())
        else:
            watched.accepts.append(began)


def _is_refused(ask: Callable[[str], Any], api_key: str) -> bool:
    try:
        ask(api_key)
    except grpc.RpcError as error:
        # Anything else is no verdict on the key.
        if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
            raise
        return True
    return False


if __name__ == "__main__":
    main()
