"""The commands, one file per group. Each parses, calls one function and prints."""
