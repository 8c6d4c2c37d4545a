"""`python -m tests.support.azurite`: run an Azurite, print its connection string, and stop when the input ends."""

from __future__ import annotations

import sys

from tests.support.azurite import Azurite, AzuriteError


def main() -> int:
    """Run Azurite and return an exit code: 0, or 1 with the reason on stderr where it cannot be run."""
    try:
        with Azurite() as server:
            print(server.connection_string, flush=True)
            sys.stdin.read()
    except (ImportError, AzuriteError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
