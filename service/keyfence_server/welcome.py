"""What the first start prints: commands to paste that show what a server is for."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.x509 import (
    Certificate,
    DNSName,
    ExtensionNotFound,
    IPAddress,
    SubjectAlternativeName,
    load_pem_x509_certificate,
)

from keyfence_server.domain.keyspaces import Keyspace
from keyfence_server.rpc.certificates import CertificateFiles
from keyfence_server.rpc.listen_addresses import ListenAddress, TcpAddress, UnixAddress

_DEFAULT_TARGET: Final = "127.0.0.1:50051"
_PROGRAM: Final = "keyfence"


@dataclass(frozen=True, slots=True)
class Example:
    """Scopes that make a good example of a keyspace.

    Attributes:
        granted: a scope to grant.
        implied: one that comes with it, or itself.
        denied: one that does not come with it; None if there is none.
    """

    keyspace: str
    granted: str
    implied: str
    denied: str | None


def find_example(keyspaces: Sequence[Keyspace]) -> Example | None:
    """An example from the first keyspace that has scopes: if it can be, a scope that
    brings another one, and that a third one brings."""
    for keyspace in keyspaces:
        examples = [_example(keyspace, scope) for scope in _in_declared_order(keyspace)]
        if examples:
            return max(examples, key=lambda one: (one.implied != one.granted) + bool(one.denied))
    return None


def _example(keyspace: Keyspace, granted: str) -> Example:
    catalog = keyspace.catalog
    below = next(iter(catalog.implied_directly(granted)), None)
    above = {path.granted for path in catalog.implying(granted)}
    brought = {path.scope for path in catalog.implied_by(granted)}
    others = [
        scope for scope in _in_declared_order(keyspace) if scope != granted and scope not in brought
    ]
    denied = next((scope for scope in others if scope in above), next(iter(others), None))
    return Example(keyspace.name, granted, below or granted, denied)


def _in_declared_order(keyspace: Keyspace) -> list[str]:
    declared = [scope.name for scope in keyspace.declaration.scopes]
    return list(dict.fromkeys([*declared, *keyspace.catalog.names]))


def welcome(
    addresses: Sequence[ListenAddress],
    root_key_file: Path | None,
    example: Example | None,
    tls: CertificateFiles | None,
) -> str:
    """The text for the terminal. It holds no secret: the commands read it from the file.

    Args:
        addresses: where the server listens. The commands go to the first one, or with TLS
            to a Unix socket, if there is one, since that asks for no certificate.
        root_key_file: where the first credential is; None if it was given by KEYFENCE_ROOT_KEY.
        tls: the certificate of all that is no Unix socket; None for plaintext.
    """
    place, token = "the one that was given in KEYFENCE_ROOT_KEY", '"$KEYFENCE_ROOT_KEY"'
    if root_key_file is not None:
        place = f"in {root_key_file}, and nowhere else"
        token = f"$(cat {shlex.quote(str(root_key_file))})"
    lines = [
        f"Keyfence listens on {addresses[0]}. This is its first start.",
        "",
        f"The operator credential is {place}.",
        "To try it out, paste this into another terminal, in this directory:",
        "",
        f"  export KEYFENCE_TOKEN={token}",
    ]
    sockets = [address for address in addresses if isinstance(address, UnixAddress)]
    address = sockets[0] if tls is not None and sockets else addresses[0]
    if str(address) != _DEFAULT_TARGET:
        lines.append(f"  export KEYFENCE_TARGET={shlex.quote(_target(address))}")
    first, program = _program()
    if tls is not None and isinstance(address, TcpAddress):
        program = " ".join([program, *_options_for_tls(tls, address)])
    lines += [f"  {command}" for command in [*first, *_commands(program, example)]]
    return "\n".join([*lines, ""])


def _options_for_tls(tls: CertificateFiles, address: TcpAddress) -> list[str]:
    """What the command needs to know of the certificate. It trusts that one by itself, so
    that its issuer need not be known here."""
    options = ["--ca-file", shlex.quote(str(tls.certificate))]
    certificate = load_pem_x509_certificate(tls.certificate.read_bytes())
    name = _name_to_expect(certificate, _target(address).rpartition(":")[0].strip("[]"))
    if name is not None:
        options += ["--server-name", shlex.quote(name)]
    if tls.client_authority is not None:
        # Where the client certificates are is not known here.
        options += ["--certificate-file", "CLIENT.crt", "--key-file", "CLIENT.key"]
    return options


def _name_to_expect(certificate: Certificate, host: str) -> str | None:
    """A name that the certificate is for; None if it is for the host, or says nothing."""
    try:
        names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    except ExtensionNotFound:
        return None
    if host in map(str, names.get_values_for_type(IPAddress)):
        return None
    domains: list[str] = names.get_values_for_type(DNSName)
    return domains[0].replace("*", _PROGRAM, 1) if domains else None


def _commands(program: str, example: Example | None) -> list[str]:
    if example is None:
        return [f"{program} whoami"]
    keyspace, granted = example.keyspace, shlex.quote(example.granted)
    create = f"{program} keys create --keyspace {keyspace} --account acct_1 --scope {granted}"
    listing = f"{program} keys list --keyspace {keyspace} --account acct_1 --quiet"
    allowed = f'{program} check "$KEY" --keyspace {keyspace} --scope {shlex.quote(example.implied)}'
    commands = [f"KEY=$({create} --quiet)", f"{allowed} --explain"]
    if example.denied is not None:
        denied = shlex.quote(example.denied)
        commands.append(f'{program} check "$KEY" --keyspace {keyspace} --scope {denied} --explain')
    return [*commands, f"{program} keys revoke $({listing})", allowed]


def _target(address: ListenAddress) -> str:
    if isinstance(address, TcpAddress) and address.host.is_unspecified:
        return f"127.0.0.1:{address.port}"
    return str(address)


def _program() -> tuple[list[str], str]:
    """How to call the command from another shell in the directory that the server was
    started in: what to do there first, if anything, and the command."""
    found = shutil.which(_PROGRAM)
    beside = Path(sys.executable).parent / _PROGRAM
    if not beside.exists():
        return [], _PROGRAM
    try:
        below = str(beside.parent.absolute().relative_to(Path.cwd()))
    except ValueError:
        below = ""
    # That it is on our PATH says nothing of the other shell's: `make run` puts it there.
    if below and below == shlex.quote(below):
        return [f'export PATH="$PWD/{below}:$PATH"'], _PROGRAM
    return [], _PROGRAM if found is not None and Path(found) == beside else shlex.quote(str(beside))
