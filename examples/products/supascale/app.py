"""Supascale: projects and backups behind keys with None, Read or Write for each resource.

People make keys under Settings > API Keys. The keyspace, examples/keyspaces/supascale.yaml,
declares the five resources with their levels, of which Write includes Read, and what a denial
looks like.
"""

import itertools
from collections import defaultdict
from typing import Annotated

from fastapi import APIRouter, FastAPI, HTTPException
from pydantic import BaseModel

from examples.products.panel import signed_in
from keyfence import AsyncClient, Cache, Principal
from keyfence.fastapi import Guard

RESOURCES = ("projects", "backups", "tasks", "cloud-storage", "system")

# KEYFENCE_TARGET and KEYFENCE_TOKEN in the environment say where Keyfence is.
guard = Guard(AsyncClient(cache=Cache()), keyspace="supascale")
app = FastAPI(title="Supascale", lifespan=guard.lifespan, openapi_url=None)
guard.install(app)

Things = defaultdict[str, dict[str, dict[str, str]]]
numbers = itertools.count(1)


class Wanted(BaseModel):
    name: str


def routes_of(resource: str) -> APIRouter:
    """What every resource has: read it, create, update and delete in it."""
    router = APIRouter(prefix=f"/api/v1/{resource}")
    things: Things = defaultdict(dict)
    reads, writes = guard.requires(f"{resource}:read"), guard.requires(f"{resource}:write")

    @router.get("")
    async def list_all(caller: Annotated[Principal, reads]) -> list[dict[str, str]]:
        return list(things[caller.account_id].values())

    @router.post("", status_code=201)
    async def create(wanted: Wanted, caller: Annotated[Principal, writes]) -> dict[str, str]:
        made = {"id": str(next(numbers)), "name": wanted.name}
        things[caller.account_id][made["id"]] = made
        return made

    @router.put("/{thing_id}")
    async def update(
        thing_id: str, wanted: Wanted, caller: Annotated[Principal, writes]
    ) -> dict[str, str]:
        if thing_id not in things[caller.account_id]:
            raise HTTPException(404, f"Nothing in {resource} has this id")
        things[caller.account_id][thing_id]["name"] = wanted.name
        return things[caller.account_id][thing_id]

    @router.delete("/{thing_id}", status_code=204)
    async def delete(thing_id: str, caller: Annotated[Principal, writes]) -> None:
        if things[caller.account_id].pop(thing_id, None) is None:
            raise HTTPException(404, f"Nothing in {resource} has this id")

    return router


for resource in RESOURCES:
    app.include_router(routes_of(resource))

# Settings > API Keys. A permission is a resource and a level: "projects:read".
app.include_router(
    guard.key_routes(
        "/settings/api-keys",
        owner=signed_in(guard),
        takes={"name": "display_name", "expiresAt": "expire_time", "permissions": "scopes"},
        required=["name", "permissions"],
        shows={
            "id": "key_id",
            "name": "display_name",
            "createdAt": "create_time",
            "expiresAt": "expire_time",
            "permissions": "granted_scopes",
        },
        plaintext="key",
    )
)
