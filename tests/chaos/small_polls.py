"""`python -m chaos.small_polls PROCESS`: it reads a few records at a time and looks at deadlines in
between, as it would between each 20,000 of a backlog of days.
"""

from __future__ import annotations

from sendtrace.cli import cli
from sendtrace.runtime import loop

loop.POLL_LIMIT_RECORDS = 5
loop.ADVANCE_SECONDS = 0.0

if __name__ == "__main__":
    cli()
