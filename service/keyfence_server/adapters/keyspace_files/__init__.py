"""Keyspace files: YAML that people write, and faults that point at the line.

A fault is found in one of three places, and shown in the same way: by the YAML
reader, by the domain's own rules, which need no server, and by a server, whose field
violations carry the same paths as the domain's problems.

`source_text` loads at once. `reading` and `writing` load pydantic and YAML, which takes a
command longer than all the rest of it.
"""
