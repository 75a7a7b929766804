"""Measures by which a model is judged: pure functions of its predictions."""
