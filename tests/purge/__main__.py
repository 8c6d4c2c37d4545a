"""The ledger of test_ledger.py at full length: `python -m tests.purge [ROWS]`, by default 2,000."""

from __future__ import annotations

import logging
import sys

from tests.purge.test_ledger import purge_all
from tests.support.azurite import Azurite
from tests.support.proxy import FaultProxy

if __name__ == "__main__":
    logging.disable()  # each fault is logged
    with Azurite() as azurite, FaultProxy(azurite.port) as proxy:
        print(purge_all(azurite, proxy, "purge", rows=int(sys.argv[1]) if len(sys.argv) > 1 else 2_000))
