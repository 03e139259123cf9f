"""QuantumSafe: an API that scans keys for weak algorithms, with the page's own accounts and keys.

Keyfence keeps the accounts, sessions and keys; this file gives them QuantumSafe's paths and field
names. The keyspace, examples/keyspaces/quantumsafe.yaml, declares what a denial looks like.
"""

from datetime import datetime
from typing import Annotated

from fastapi import FastAPI, Request
from pydantic import BaseModel

from keyfence import AsyncClient, Cache, Principal
from keyfence.asgi import rfc3339
from keyfence.fastapi import Guard

CODES = {
    400: "INVALID_REQUEST",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    429: "RATE_LIMITED",
    503: "UNAVAILABLE",
}

CODES_BY_REASON = {"LOG_IN_FAILED": "AUTH_001", "EMAIL_TAKEN": "ACCOUNT_EXISTS"}

# KEYFENCE_TARGET and KEYFENCE_TOKEN in the environment say where Keyfence is.
guard = Guard(
    AsyncClient(cache=Cache()),
    keyspace="quantumsafe",
    codes=CODES,
    codes_by_reason=CODES_BY_REASON,
)
app = FastAPI(title="QuantumSafe", lifespan=guard.lifespan, openapi_url=None)
guard.install(app)

Public = Annotated[AsyncClient, guard.public(names={"display_name": "name"})]


class Registration(BaseModel):
    email: str
    password: str
    name: str = ""


class LogIn(BaseModel):
    email: str
    password: str


def shown(time: datetime | None) -> str | None:
    return rfc3339(time) if time is not None else None


@app.post("/v1/auth/register", status_code=201)
async def register(asked: Registration, keyfence: Public, request: Request) -> dict[str, object]:
    made = await keyfence.register_account(
        guard.keyspace, asked.email, asked.password, display_name=asked.name
    )
    account = made.account
    return {
        "data": {
            "id": account.account_id,
            "email": account.email,
            "name": account.display_name or None,
            "plan": account.plan,
            "createdAt": shown(account.create_time),
        },
        "meta": {
            "requestId": guard.request_in(request.scope).request_id,
            "timestamp": shown(account.create_time),
        },
    }


@app.post("/v1/auth/login")
async def log_in(asked: LogIn, keyfence: Public) -> dict[str, object]:
    begun = await keyfence.log_in(guard.keyspace, asked.email, asked.password)
    account = begun.account
    return {
        "data": {
            "token": begun.session_token,
            "expiresAt": shown(begun.session.expire_time),
            "user": {"id": account.account_id, "email": account.email, "plan": account.plan},
        }
    }


# A session or a secret key makes, lists and deletes keys: Keyfence decides which may.
KEY = {
    "id": "key_id",
    "name": "display_name",
    "type": "key_type",
    "environment": "environment",
    "createdAt": "create_time",
}
app.include_router(
    guard.key_routes(
        "/v1/auth/api-keys",
        takes={"name": "display_name", "type": "key_type", "environment": "environment"},
        required=["name", "type", "environment"],
        shows=KEY,
        plaintext="key",
        lists={
            **KEY,
            "prefix": lambda key: f"{key.display_prefix}...",
            "lastUsedAt": "last_used_time",
        },
        envelope="data",
    )
)


@app.post("/v1/scan")
async def scan(caller: Annotated[Principal, guard.requires()]) -> dict[str, object]:
    """What the keys are for. The page says nothing of it; any key of the account will do."""
    return {"data": {"environment": caller.environment, "weakAlgorithms": ["RSA-2048"]}}
