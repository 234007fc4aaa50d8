"""Helpers without a subject of their own: files, hardware, arrays, errors, version."""
