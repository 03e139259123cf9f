#!/bin/sh
# Makes the secrets of compose.yaml, once, in ./secrets. Nothing that exists is changed.
# Keep a copy of secrets/pepper elsewhere: without it no key can be recognised.
set -eu
umask 077
cd "$(dirname "$0")"
mkdir -p secrets
new() { [ -e "secrets/$1" ] || printf '%s\n' "$2" > "secrets/$1"; }
new pepper "1:$(openssl rand -base64 32)"
new session_key "1:$(openssl rand -base64 32)"
new postgres_password "$(openssl rand -hex 24)"
new database_url "postgresql://keyfence:$(cat secrets/postgres_password)@postgres/keyfence"
[ -e secrets/root_key ] || docker run --rm "${KEYFENCE_IMAGE:-keyfence:latest}" root-key > secrets/root_key
# The user of the image reads them, through the directory that only you can enter.
chmod 0444 secrets/*
