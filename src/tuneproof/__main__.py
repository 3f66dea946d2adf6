"""``python -m tuneproof``."""

from tuneproof.cli import main

if __name__ == "__main__":
    main()
