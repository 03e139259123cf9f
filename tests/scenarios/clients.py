"""The clients that run the scenarios, behind one call."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from keyfence import Batching, Cache, Client, ScopeCheck, errors
from keyfence.results import Authentication, CheckResult, FailedCheck, Identity


class Caller(Protocol):
    """A client that is open."""

    def __call__(self, do: str, /, **arguments: Any) -> dict[str, Any]:
        """What the client answers, or `error`."""
        ...

    def close(self) -> None:
        """Ends it."""
        ...


class Program:
    """A client of another language: a line of JSON in, a line of JSON out."""

    def __init__(self, command: Sequence[str], target: str, token: str, mode: str) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self("open", target=target, token=token, mode=mode)

    def __call__(self, do: str, /, **arguments: Any) -> dict[str, Any]:
        """See `Caller`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()
        reply: dict[str, Any] = json.loads(self._process.stdout.readline())
        return reply

    def close(self) -> None:
        """See `Caller`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


class PythonClient:
    """The synchronous client of this process."""

    def __init__(self, target: str, token: str, mode: str) -> None:
        cache = Cache() if mode == "cached" else None
        batching = Batching() if mode == "batched" else None
        self._client = Client(target, token=token, cache=cache, batching=batching)

    def __call__(self, do: str, /, **arguments: Any) -> dict[str, Any]:
        """See `Caller`."""
        try:
            match do:
                case "check":
                    api_key, scopes = arguments.pop("api_key"), arguments.pop("scopes")
                    return _told(self._client.check_scope(api_key, *scopes, **_kept(arguments)))
                case "authenticate":
                    return _told(
                        self._client.authenticate(arguments.pop("api_key"), **_kept(arguments))
                    )
                case "batch":
                    checks = [
                        ScopeCheck(required_scopes=tuple(one.pop("scopes")), **_kept(one))
                        for one in arguments["checks"]
                    ]
                    return {
                        "results": [_told(one) for one in self._client.batch_check_scope(checks)]
                    }
                case "together":
                    with ThreadPoolExecutor(len(arguments["checks"])) as threads:
                        asked = [
                            threads.submit(self, "check", **one) for one in arguments["checks"]
                        ]
                    return {"results": [one.result() for one in asked]}
                case "who_am_i":
                    return _told(self._client.who_am_i(**_kept(arguments)))
                case "status":
                    status = self._client.cache_status()
                    return {} if status is None else {"live": status.is_live, "hits": status.hits}
                case _:
                    raise AssertionError(f"there is no command {do}")
        except errors.CallFailed as error:
            return {"error": _failure(error)}

    def close(self) -> None:
        """See `Caller`."""
        self._client.close()


def _kept(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value != ""} | {
        name: "" for name in ("api_key",) if arguments.get(name) == ""
    }


def _told(result: Authentication | CheckResult | FailedCheck | Identity) -> dict[str, Any]:
    if isinstance(result, FailedCheck):
        return {"error": _failure(result.error)}
    principal = result.principal
    told: dict[str, Any] = {}
    if principal is not None:
        told |= {"key_id": principal.key_id, "account_id": principal.account_id}
    if isinstance(result, Identity):
        return told
    told |= {"allowed": bool(result), "reason": result.reason.name}
    if isinstance(result, CheckResult):
        told["missing_scopes"] = list(result.missing_scopes)
        if result.explanation is not None:
            told["sufficient_grants"] = list(result.explanation.sufficient_grants)
    return told


def _failure(error: errors.CallFailed) -> dict[str, Any]:
    return {
        "status": error.status,
        "reason": error.reason,
        "metadata": dict(error.metadata),
        "fields": [violation.field for violation in error.violations],
        "has_request_id": bool(error.request_id),
    }
