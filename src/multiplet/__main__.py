"""`python -m multiplet` is `multiplet`."""

from multiplet.cli import main

main()
