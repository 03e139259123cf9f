"""What keys, scopes, keyspaces and verdicts are. No I/O, no gRPC, no SQL, no clock of its own."""
