"""Provide helpers that know nothing of the method: files, hardware, arrays, errors, version."""
