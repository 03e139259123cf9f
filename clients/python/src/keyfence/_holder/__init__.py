"""The holder's side of the fence: docs/fence.md explains it."""
