"""Generated from `protos/keyfence/v1`: messages, enums and stubs of the API, version 1."""
