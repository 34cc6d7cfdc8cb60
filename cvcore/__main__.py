"""`python -m cvcore …`"""

from cvcore.cli import main

if __name__ == "__main__":
    main()
