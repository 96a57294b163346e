"""The one command-line program, one file a command."""
