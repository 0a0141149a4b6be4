"""The one command: composes the parts, decides nothing."""
