"""Engines run a network on a device. One folder each; nothing outside a folder knows its framework."""
