"""Reads, writes and verifies model directories without trusting them. Needs only numpy."""
