"""Relevance propagation over the graph that is recorded of a running network. Knows no method and no data."""
