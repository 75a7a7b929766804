"""Measurements of trained networks, and reports."""
