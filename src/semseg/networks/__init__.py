"""The network family, written once, without an engine."""
