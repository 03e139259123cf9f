"""Making sure that the peppers are those that the store's keys were made under.

Under another pepper every key is unknown, and what is made meanwhile is unknown once the
right one is back. Nothing of that would show at the start, so it is looked for there.
"""

from __future__ import annotations

from keyfence_server.application.ports import Clock, SetUp
from keyfence_server.domain.plurals import counted
from keyfence_server.domain.secrets import Peppers


class WrongPeppers(Exception):
    """With these peppers some keys could not be recognised. Says which, and what to do."""


async def require_known_peppers(set_up: SetUp, peppers: Peppers, clock: Clock) -> int:
    """Returns if every key in the store can be recognised under these peppers.

    A version that the store does not know yet is written down first, so that of several
    servers that start at once with different peppers all but one are refused.

    Returns:
        How many accounts have a password that cannot be verified: a password can be set
        anew, which a key cannot.

    Raises:
        WrongPeppers: a version is not the pepper that it was, or is missing while keys
            that can still be used were made under it.
        StoreUnavailable: the store does not answer.
    """
    given = peppers.fingerprints()
    known = await set_up.register_peppers(given)
    changed = sorted(version for version in given if known[version] != given[version])
    if changed:
        raise WrongPeppers(
            f"version {changed[0]} differs from the pepper that this database was used with "
            "under that number, so keys made with the old one would not be recognised. "
            "Restore the old line; give a new pepper a version of its own"
        )
    missing = sorted(known.keys() - given.keys())
    if not missing:
        return 0
    uses = await set_up.count_uses_of_peppers(missing, clock.now())
    if uses.keys:
        versions = ", ".join(map(str, missing))
        raise WrongPeppers(
            f"version {versions} is missing, and {counted(uses.keys, 'key')} that can still "
            "be used would not be recognised without it. Restore its line until they are "
            "rotated or revoked"
        )
    return uses.passwords
