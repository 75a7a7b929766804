"""The benchmark's tables, and what they time."""
