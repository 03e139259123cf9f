"""Between the messages of `keyfence.v1` and the domain's values.

Nothing is decided here. A value that a message can hold and the domain cannot is an
`InvalidInput` that names its field.
"""
