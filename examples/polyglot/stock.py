"""The shop's service of stock. It calls the deliveries with its caller's key."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from polyglot.v1 import deliveries_pb2, deliveries_pb2_grpc, stock_pb2, stock_pb2_grpc

from keyfence import Cache, Client
from keyfence.guard import Guard

NAME = "stock (Python)"


class Stock:
    def __init__(self, deliveries: Any) -> None:
        self.deliveries = deliveries

    def ReserveItem(self, request: Any, context: Any) -> Any:  # noqa: N802
        # The guard has made sure that there is exactly one.
        key = [one for one in context.invocation_metadata() if one[0] == "authorization"]
        try:
            planned = self.deliveries.PlanDelivery(
                deliveries_pb2.PlanDeliveryRequest(order_id=request.order_id),
                metadata=key,
                timeout=context.time_remaining(),
            )
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())
        return stock_pb2.ReserveItemResponse(handled_by=[NAME, *planned.handled_by])

    def GetItem(self, request: Any, context: Any) -> Any:  # noqa: N802
        return stock_pb2.GetItemResponse(handled_by=[NAME])


def main() -> None:
    with (
        Client(cache=Cache()) as client,
        grpc.insecure_channel(os.environ["DELIVERIES_TARGET"]) as channel,
    ):
        guard = Guard(client, keyspace="shop")
        server = grpc.server(ThreadPoolExecutor(), interceptors=[guard])
        stub = deliveries_pb2_grpc.DeliveryServiceStub(channel)
        stock_pb2_grpc.add_StockServiceServicer_to_server(Stock(stub), server)
        server.add_insecure_port(os.environ["STOCK_TARGET"])
        server.start()
        sys.stdin.read()  # the end of the input ends the service
        server.stop(None).wait()
        status = client.cache_status()
        print(status.hits if status else 0)  # noqa: T201


if __name__ == "__main__":
    main()
