"""`python -m rapbench`."""

from rapbench.cli import main

main()
