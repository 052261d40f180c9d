"""What must stand before the first flow: the environment, servers that answer, and Prefect's own one where no other is
named."""

import logging
import sys
from pathlib import Path

from psomerge.flows.environment.home import check_servers, prepare
from psomerge.flows.environment.prefect_server import start_local


def start_services(home: Path) -> None:
    """Prepares the home and makes sure that Prefect and MLflow can be reached; must come before the first import of
    either.

    Raises:
        SpaceError, ServiceError: as `flows.environment.home.prepare` and `check_servers`.
    """
    stores = prepare(home)
    check_servers(stores)
    debug = "--debug" in sys.argv[1:]
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        # Its page keeps every failure with its traceback; the command line says it in one line.
        logging.getLogger(name).propagate = debug
    logging.raiseExceptions = debug  # nor is it news that a page which cannot be written to gets no log lines
    if stores.prefect is None:
        start_local(home)
