"""Relevance propagation over a traced graph. Knows no method and no data."""
