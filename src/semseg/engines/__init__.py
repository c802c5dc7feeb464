"""Engines run networks on devices. Each has one folder, and no code outside it imports its framework."""
