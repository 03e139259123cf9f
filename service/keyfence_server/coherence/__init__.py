"""Who answers from memory, for how long, and from when on nobody does any more.

Here is the place of revisions, leases and the fence, and of nothing else. It knows
the ports and the domain; it must not know SQL, gRPC or the settings.
"""
