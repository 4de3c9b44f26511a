"""`python -m lorabench`: the command line of the interpreter at hand, whatever the PATH finds first."""

from lorabench.cli import main

if __name__ == "__main__":
    main()
