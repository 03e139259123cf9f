"""The messages of `keyfence.v1` as the domain's values, and back.

Nothing is decided here. A value that a message can hold and the domain cannot is an
`InvalidInput` that names its field. `x_of` makes the message of a domain value; `x_from` reads a
message.
"""
