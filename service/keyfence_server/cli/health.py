"""Asks a server for its health, as load balancers and container engines do.

It knows `grpc.health.v1` and nothing of Keyfence's own API, and sends no credential.
"""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2

from keyfence_server.cli.targets import ConnectionOptions, connection_to


def ask_health(options: ConnectionOptions, service: str, *, timeout_seconds: float) -> str:
    """The status in the protocol's own words, such as "SERVING"; "UNREACHABLE" for none.

    Raises:
        keyfence.ConfigurationError: the options make no connection.
    """
    request = health_pb2.HealthCheckRequest(service=service)
    # One rule for TLS: that of the client.
    with connection_to(options).channel() as channel:
        try:
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            status = check(request, timeout=timeout_seconds).status
        except grpc.RpcError as error:
            # A server that says it knows no such service has been reached all the same.
            unknown = error.code() is grpc.StatusCode.NOT_FOUND
            return "SERVICE_UNKNOWN" if unknown else "UNREACHABLE"
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(status))
