"""``python -m tests.acceptance.faults.dispatcher``: the platform's dispatcher, which may die where it is told to."""

import logging
import os
from pathlib import Path

from aiokafka import AIOKafkaConsumer

from streams.__main__ import main
from tests.acceptance.faults.crashes import Crash
from tests.acceptance.faults.zoo import plant

if __name__ == "__main__":
    crash = Crash(Path(os.environ["FAULTS_CRASH"]))
    crash.watch_database()
    crash.watch_offsets(AIOKafkaConsumer)
    plant(Path(os.environ["FAULTS_BUG"]))
    status = main()
    logging.shutdown()
    os._exit(status)
