"""Asks a server for its health, as load balancers and container engines do.

It knows `grpc.health.v1` and nothing of Keyfence's own API, and sends no credential.
"""

from __future__ import annotations

import os

import grpc
from grpc_health.v1 import health_pb2

# Health is asked over the connection that the client would use: one rule for TLS.
from keyfence.connection import Connection
from keyfence_server.cli.targets import ConnectionOptions, tls_of


def ask_health(options: ConnectionOptions, service: str, *, timeout_seconds: float) -> str:
    """The status in the protocol's own words, such as "SERVING"; "UNREACHABLE" for none.

    Raises:
        keyfence.ConfigurationError: the options make no connection.
    """
    connection = Connection.resolve(
        options.target,
        token=None,
        tls=tls_of(options),
        insecure_plaintext=options.plaintext,
        check_timeout_seconds=timeout_seconds,
        timeout_seconds=timeout_seconds,
        environment=os.environ,
    )
    request = health_pb2.HealthCheckRequest(service=service)
    with _channel(connection) as channel:
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


def _channel(connection: Connection) -> grpc.Channel:
    if connection.tls is None:
        return grpc.insecure_channel(connection.target, options=connection.options())
    credentials = connection.tls.credentials()
    return grpc.secure_channel(connection.target, credentials, options=connection.options())
