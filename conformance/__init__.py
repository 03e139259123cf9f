"""A grantor that misbehaves, and a judge, for the holder of every client."""
