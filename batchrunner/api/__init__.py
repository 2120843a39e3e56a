"""Sending: an attempt goes in, an outcome comes out. This package imports nothing heavy by itself."""
