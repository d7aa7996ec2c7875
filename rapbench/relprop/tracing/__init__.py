"""A network recorded while it runs, turned into a graph of layers, and compared with it."""
