"""Provide helpers that do not depend on the method: files, hardware, arrays, errors, version."""
