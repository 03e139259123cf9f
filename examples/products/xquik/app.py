"""Xquik: an API whose keys make further keys, by cookie, by header or as a bearer token.

The keyspace, examples/keyspaces/xquik.yaml, declares the three places. A credential in any of them
is a key or a session of Keyfence: the page's "OAuth bearer token for the same account" is a
session's token here. A trusted issuer of tokens would stand where `guard.key_routes` takes an
`owner`: its dependency would verify the issuer's token and name the account.
"""

from typing import Annotated

from fastapi import FastAPI

from keyfence import AsyncClient, Cache, Principal
from keyfence.fastapi import Guard

# KEYFENCE_TARGET and KEYFENCE_TOKEN in the environment say where Keyfence is.
guard = Guard(AsyncClient(cache=Cache()), keyspace="xquik")
app = FastAPI(title="Xquik", lifespan=guard.lifespan, openapi_url=None)
guard.install(app)

# Create API key, List API Keys, Revoke API Key. "name" may be left out: the keyspace has a default.
app.include_router(
    guard.key_routes(
        "/api/v1/api-keys",
        takes={"name": "display_name"},
        shows={
            "id": "key_id",
            "prefix": "display_prefix",
            "name": "display_name",
            "createdAt": "create_time",
        },
        plaintext="fullKey",
        timespec="milliseconds",
    )
)


@app.get("/api/v1/account")
async def account(caller: Annotated[Principal, guard.requires()]) -> dict[str, object]:
    """What the keys are for. The page says nothing of it; any key of the account will do."""
    return {"id": caller.account_id, "credits": 100}
