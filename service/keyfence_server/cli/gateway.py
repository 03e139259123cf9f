"""`keyfence gateway`: REST, gRPC-Web and OpenAPI, by Envoy."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from keyfence_server.cli.exits import ExitCode
from keyfence_server.cli.failures import failing
from keyfence_server.cli.output import say


def gateway(
    print_config: Annotated[
        bool,
        typer.Option(
            "--print-config",
            help="Print Envoy's configuration as JSON and end, for an Envoy that you run yourself.",
        ),
    ] = False,
) -> None:
    """Serve the API over REST and gRPC-Web, in front of a server.

    It is Envoy, from the extra `keyfence-server[gateway]`, with a configuration made from the
    settings and checked before it starts. Every setting is a variable: KEYFENCE_GATEWAY_LISTEN,
    KEYFENCE_GATEWAY_TARGET and so on. The documentation of the gateway lists them. The gateway
    holds no credential. Callers send their own, and the server decides.
    """
    from keyfence_server.config import InvalidSettings, read_settings
    from keyfence_server.gateway.binary import CannotStartEnvoy
    from keyfence_server.gateway.configuration import gateway_config
    from keyfence_server.gateway.process import run_gateway
    from keyfence_server.gateway.settings import GatewaySettings

    with failing(ExitCode.WRONG_INPUT, InvalidSettings):
        settings = read_settings(GatewaySettings)
    if print_config:
        say(json.dumps(gateway_config(settings), indent=2))
        return
    with failing(ExitCode.CONFLICT, CannotStartEnvoy):
        code = run_gateway(settings)
    if code:
        raise typer.Exit(code)
