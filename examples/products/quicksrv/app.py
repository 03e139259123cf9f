"""quicksrv: an API for virtual servers, with scopes that imply one another.

People make keys in a panel; programs use them as a bearer token or in X-API-Key. The keyspace,
examples/keyspaces/quicksrv.yaml, declares the keys, the scopes and what a denial looks like.
"""

import itertools
from collections import defaultdict
from typing import Annotated

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from examples.products.panel import signed_in
from keyfence import AsyncClient, Cache, Principal
from keyfence.asgi import rfc3339
from keyfence.fastapi import Guard

# KEYFENCE_TARGET and KEYFENCE_TOKEN in the environment say where Keyfence is.
guard = Guard(AsyncClient(cache=Cache()), keyspace="quicksrv")
app = FastAPI(title="quicksrv", lifespan=guard.lifespan, openapi_url=None)
guard.install(app)

Reader = Annotated[Principal, guard.requires("vps:read")]
Writer = Annotated[Principal, guard.requires("vps:write")]
Creator = Annotated[Principal, guard.requires("vps:create")]
AnyKey = Annotated[Principal, guard.requires()]

instances: defaultdict[str, dict[str, dict[str, object]]] = defaultdict(dict)
numbers = itertools.count(1)


class Order(BaseModel):
    plan: str
    name: str


@app.get("/api/v1/instances")
async def list_instances(caller: Reader) -> dict[str, object]:
    return {"instances": list(instances[caller.account_id].values())}


@app.post("/api/v1/instances", status_code=201)
async def deploy(order: Order, caller: Creator) -> dict[str, object]:
    instance = {"id": f"i-{next(numbers)}", "status": "running", **order.model_dump()}
    instances[caller.account_id][str(instance["id"])] = instance
    return {"instance": instance}


@app.post("/api/v1/instances/{instance_id}/{action}")
async def manage(instance_id: str, action: str, caller: Writer) -> dict[str, object]:
    instance = instances[caller.account_id].get(instance_id)
    statuses = {"start": "running", "stop": "stopped", "reinstall": "installing"}
    if instance is None or action not in statuses:
        raise HTTPException(404, "No such instance or action")
    instance["status"] = statuses[action]
    return {"instance": instance}


@app.get("/api/v1/whoami")
async def who_am_i(caller: AnyKey) -> dict[str, object]:
    return {
        "account": caller.account_id,
        "key": {"id": caller.key_id, "name": caller.display_name, "prefix": caller.display_prefix},
        "scopes": caller.effective_scopes,
        "expires_at": rfc3339(caller.expire_time) if caller.expire_time else None,
    }


# Account → API keys, in the panel.
app.include_router(
    guard.key_routes(
        "/panel/api-keys",
        owner=signed_in(guard),
        takes={"name": "display_name", "scopes": "scopes", "expires_at": "expire_time"},
        required=["name", "scopes"],
        shows={
            "id": "key_id",
            "name": "display_name",
            "prefix": "display_prefix",
            "scopes": "granted_scopes",
            "expires_at": "expire_time",
        },
        plaintext="key",
    )
)
