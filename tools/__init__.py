"""What the Makefile runs besides other people's tools. Nothing here is shipped."""
