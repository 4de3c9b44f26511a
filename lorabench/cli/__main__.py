"""`python -m lorabench.cli`."""

from lorabench.cli.application import main

if __name__ == "__main__":
    main()
