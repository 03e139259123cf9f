"""Sitequest: an API for servers and domains, with scopes of its own for each and a rate limit.

People make keys in a dashboard, with a preset or with scopes that they pick. The keyspace,
examples/keyspaces/sitequest.yaml, declares the keys, the scopes, the limit of 60 requests a
minute, and what a denial looks like. The guard adds the headers of the limit to every answer about
a good key.
"""

import itertools
from typing import Annotated

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from examples.products.panel import signed_in
from keyfence import AsyncClient, Cache, Principal
from keyfence.fastapi import Guard

CODES = {
    400: "INVALID_REQUEST",
    401: "UNAUTHORIZED",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    429: "RATE_LIMITED",
    500: "INTERNAL_ERROR",
    503: "UNAVAILABLE",
}

# KEYFENCE_TARGET and KEYFENCE_TOKEN in the environment say where Keyfence is.
guard = Guard(AsyncClient(cache=Cache()), keyspace="sitequest", codes=CODES)
app = FastAPI(title="Sitequest", lifespan=guard.lifespan, openapi_url=None)
guard.install(app)

servers: dict[tuple[str, str], dict[str, str]] = {}
domains: dict[tuple[str, str], dict[str, str]] = {}
numbers = itertools.count(1)


class NewServer(BaseModel):
    name: str


class Domain(BaseModel):
    name: str
    record: str = ""


def own(things: dict[tuple[str, str], dict[str, str]], caller: Principal) -> list[dict[str, str]]:
    return [thing for (account, _), thing in things.items() if account == caller.account_id]


@app.get("/v1/servers")
async def list_servers(
    caller: Annotated[Principal, guard.requires("vps:read")],
) -> list[dict[str, str]]:
    return own(servers, caller)


@app.post("/v1/servers/reboot")
async def reboot(caller: Annotated[Principal, guard.requires("vps:write")]) -> dict[str, int]:
    return {"rebooted": len(own(servers, caller))}


@app.post("/v1/servers", status_code=201)
async def create_server(
    wanted: NewServer, caller: Annotated[Principal, guard.requires("vps:manage")]
) -> dict[str, str]:
    server = {"id": f"srv_{next(numbers)}", "name": wanted.name, "status": "running"}
    servers[caller.account_id, server["id"]] = server
    return server


@app.get("/v1/domains")
async def list_domains(
    caller: Annotated[Principal, guard.requires("domains:read")],
) -> list[dict[str, str]]:
    return own(domains, caller)


@app.put("/v1/domains")
async def edit_record(
    domain: Domain, caller: Annotated[Principal, guard.requires("domains:write")]
) -> dict[str, str]:
    if (caller.account_id, domain.name) not in domains:
        raise HTTPException(404, "No such domain")
    domains[caller.account_id, domain.name] = domain.model_dump()
    return domain.model_dump()


@app.post("/v1/domains", status_code=201)
async def register_domain(
    domain: Domain, caller: Annotated[Principal, guard.requires("domains:manage")]
) -> dict[str, str]:
    domains[caller.account_id, domain.name] = domain.model_dump()
    return domain.model_dump()


@app.get("/v1/overview")
async def overview(
    caller: Annotated[Principal, guard.requires("vps:read", "domains:read")],
) -> dict[str, list[dict[str, str]]]:
    return {"servers": own(servers, caller), "domains": own(domains, caller)}


# Dashboard, Settings > API / MCP.
app.include_router(
    guard.key_routes(
        "/dashboard/api-keys",
        owner=signed_in(guard),
        takes={
            "name": "display_name",
            "expiresAt": "expire_time",
            "preset": "preset",
            "scopes": "scopes",
        },
        required=["name"],
        shows={
            "id": "key_id",
            "name": "display_name",
            "expiresAt": "expire_time",
            "scopes": "effective_scopes",
            "prefix": "display_prefix",
        },
        plaintext="key",
    )
)
