"""The panel of a product whose keys people make by hand: who is signed in there.

A real product has its own log-in. This one is as small as it can be: one user, whose session is the
value of the cookie `panel_session`, from the environment's PANEL_SESSION.
"""

import os
import secrets
from typing import Annotated, Any

from fastapi import Cookie, Depends, HTTPException

from keyfence.fastapi import Guard, KeyOwner

SESSIONS = {os.environ.get("PANEL_SESSION") or secrets.token_urlsafe(): "acct_demo"}


def signed_in(guard: Guard) -> Any:
    """A dependency: whose keys the panel manages. Keyfence is asked with the product's own
    credential, and for this account alone."""

    def owner(panel_session: Annotated[str, Cookie()] = "") -> KeyOwner:
        account = SESSIONS.get(panel_session)
        if account is None:
            raise HTTPException(401, "Sign in to the panel")
        return KeyOwner(guard.client, account_id=account)

    return Depends(owner)
