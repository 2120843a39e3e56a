"""Decisions as pure functions and small objects: time and chance are arguments, nothing here waits."""
