"""Comparisons of methods: design, experiments, tables and figure."""
