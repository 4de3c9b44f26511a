"""`python -m lorabench`: the command line of the interpreter at hand, whatever the PATH finds first."""

from lorabench.cli import main

main()
