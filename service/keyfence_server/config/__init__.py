"""The server's settings: each is an environment variable, `KEYFENCE_` and a field's name.

A setting that is misspelt, malformed or contradicts another one keeps the server from
starting: ignoring it could leave a door open that its author meant to close. No message
repeats a value that could be a secret.

Each module has one group of settings. `Settings` joins them, and `load_settings` reads them from
the environment. What each setting does stands in docs/operations.md alone, a line for each.
"""

from __future__ import annotations

from keyfence_server.config.environment import InvalidSettings, load_settings, read_settings
from keyfence_server.config.group import PREFIX, CommaSeparated, SettingsGroup
from keyfence_server.config.settings import Settings
from keyfence_server.config.store import DATABASE_FILE
