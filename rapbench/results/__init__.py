"""What is written and what is read: cells with a typed identity, their rows, and which of them belong together."""
