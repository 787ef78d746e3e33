"""``python -m e4profile``."""

from e4profile.cli.main import main

main()
